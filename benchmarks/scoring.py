"""Time of scoring VoxCeleb1-E, ours and SpeechBrain's.

600,000 trials over 150,000 utterances of 256 dimensions, AS-norm with the 300
highest of 6,000 cohort scores, EER and minDCF, timed in a process of its own,
whose peak memory is its own. Beside it, in the same run: SpeechBrain's EER and
minDCF, whose work grows with the square of the trials, and the per-trial s-norm
of its VoxCeleb recipe, each on the most trials that limits of time and memory
allow. What they would need for all of them is extrapolated, and the file says
so. To run it:

> python benchmarks/scoring.py
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from speechbrain.utils.metric_stats import EER, minDCF

from speechbrain_ext.utils.files import write_json
from speechbrain_ext.utils.provenance import versions
from speechbrain_ext.utils.vectors import inner_products, unit_rows
from speechbrain_ext.verification.bootstrap import Units, replicates
from speechbrain_ext.verification.metrics import (
    convex_hull_eer,
    equal_error_rate,
    min_dcf,
)
from speechbrain_ext.verification.score_norm import (
    cohort_statistics,
    normalised,
)

SEED = 1986
N_SPEAKERS = 1251  # of VoxCeleb1
FIRST_SIZE = 1000  # trials that SpeechBrain's metrics begin with
Drawn = tuple[np.ndarray, np.ndarray, Units, np.ndarray]


def draw(arguments: argparse.Namespace) -> Drawn:
    """Draw embeddings [N, D], cohort [C, D], units of trials, labels [M].

    An embedding is its speaker's centre plus noise; half of the trials are
    targets.
    """
    generator = np.random.default_rng(SEED)
    dimension = arguments.dimension
    shape = (N_SPEAKERS + arguments.n_cohort, dimension)
    centres = generator.normal(size=shape).astype(np.float32)
    # Speakers alternate, so that all have equally many utterances.
    speaker = np.arange(arguments.n_utterances) % N_SPEAKERS
    x = 2 * generator.standard_normal(
        (arguments.n_utterances, dimension), dtype=np.float32
    )
    for first in range(0, len(x), 2**14):
        x[first : first + 2**14] += centres[speaker[first : first + 2**14]]
    labels = np.arange(arguments.n_trials) % 2
    enrol, test = generator.integers(0, len(x), (2, len(labels)))
    apart = test - test % N_SPEAKERS
    target = np.minimum(apart + speaker[enrol], len(x) - 1)
    other = np.minimum(apart + (speaker[enrol] + 1) % N_SPEAKERS, len(x) - 1)
    test = np.where(labels == 1, target, other)
    labels = (speaker[enrol] == speaker[test]).astype(np.int8)
    return x, centres[N_SPEAKERS:], Units("speakers", enrol, test), labels


def peak_mb() -> float:
    """Return the peak memory of this process in MB."""
    status = Path("/proc/self/status").read_text()
    line = next(li for li in status.splitlines() if li.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a fresh process; return its result."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


@contextmanager
def timed(report: dict[str, Any], name: str) -> Iterator[None]:
    """Time a block and report its seconds under a name."""
    start = time.perf_counter()
    yield
    report[f"{name}_seconds"] = round(time.perf_counter() - start, 4)
    print(f"{name}: {report[f'{name}_seconds']} s", flush=True)


def ours(arguments: argparse.Namespace) -> dict[str, Any]:
    """Time all parts at full size, then the optional parts of a result."""
    x, cohort, rows, labels = draw(arguments)
    report: dict[str, Any] = {}
    before = time.perf_counter()
    with timed(report, "scores"):
        vectors = unit_rows(x, np.arange(len(x)))
        raw = inner_products(vectors, rows.enrol, rows.test)
    with timed(report, "as_norm"):
        others = unit_rows(cohort, np.arange(len(cohort)))
        found = cohort_statistics(vectors, others, arguments.top_k)
        scores = normalised(raw, found, rows.enrol, rows.test, "as-norm")
    with timed(report, "eer"):
        report["eer"] = equal_error_rate(scores, labels)[0]
    with timed(report, "min_dcf"):
        report["min_dcf"] = min_dcf(scores, labels)[0]
    report["total_seconds"] = round(time.perf_counter() - before, 2)
    report["peak_mb"] = round(peak_mb())
    speakers = Units(
        "speakers", rows.enrol % N_SPEAKERS, rows.test % N_SPEAKERS
    )
    with timed(report, "hull_eer"):
        report["hull_eer"] = convex_hull_eer(scores, labels)
    with timed(report, "1000_drawings"):
        replicates(scores, labels, speakers, (0.01, 0.05), 1000)
    report["peak_mb_with_drawings"] = round(peak_mb())
    return report


def speechbrain_metric(
    name: str, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Double the trials until the next would exceed the time limit."""
    metric, mine = {
        "EER": (EER, equal_error_rate),
        "minDCF": (minDCF, min_dcf),
    }[name]
    generator = np.random.default_rng(SEED)
    n_trials, seconds = FIRST_SIZE // 2, 0.0
    before = peak = peak_mb()
    while (
        4 * seconds < arguments.limit_seconds
        and before + 4 * (peak - before) < arguments.limit_mb
    ):
        n_trials *= 2
        labels = np.arange(n_trials) % 2
        scores = generator.normal(size=n_trials).astype(np.float32) + 2 * labels
        scores = scores.astype(np.float32)
        targets = torch.from_numpy(scores[labels == 1])
        others = torch.from_numpy(scores[labels == 0])
        start = time.perf_counter()
        theirs = metric(targets, others)
        seconds = time.perf_counter() - start
        peak = peak_mb()
    start = time.perf_counter()
    equal = mine(scores, labels) == theirs
    our_seconds = time.perf_counter() - start
    growth = (arguments.n_trials / n_trials) ** 2
    report: dict[str, Any] = {
        "n_trials": n_trials,
        "speechbrain_seconds": round(seconds, 3),
        "speechbrain_peak_mb": round(peak),
        "ours_seconds": round(our_seconds, 5),
        "ratio": round(seconds / our_seconds),
        "equal": equal,
        "extrapolated": {
            "n_trials": arguments.n_trials,
            "speechbrain_seconds": round(seconds * growth),
            "how": "not measured: it grows with the square of the trials",
        },
    }
    if name == "minDCF":  # a matrix of trials by thresholds
        far = round((peak - before) * growth)
        report["extrapolated"]["speechbrain_mb"] = far
    return report


def speechbrain_s_norm(arguments: argparse.Namespace) -> dict[str, Any]:
    """Normalise as SpeechBrain's recipe: score the cohort for each trial.

    ``recipes/VoxCeleb/SpeakerRec/speaker_verification_cosine.py``: cosine of
    the repeated embedding with the cohort, `torch.topk`, mean, deviation.
    """
    x, cohort, rows, _ = draw(arguments)
    similarity = torch.nn.CosineSimilarity(dim=-1, eps=1e-6)
    everyone = torch.from_numpy(cohort)[:, None]

    def statistics(embedding: torch.Tensor) -> tuple[torch.Tensor, ...]:
        repeated = embedding.repeat(len(everyone), 1, 1)
        scores = similarity(repeated, everyone)
        highest = torch.topk(scores, k=arguments.top_k, dim=0)[0]
        return highest.mean(dim=0), highest.std(dim=0)

    theirs = []
    start = time.perf_counter()
    for enrol, test in zip(rows.enrol, rows.test, strict=True):
        pair = [torch.from_numpy(x[row])[None] for row in (enrol, test)]
        score = similarity(*pair)[0]
        sides = [statistics(embedding) for embedding in pair]
        both = [(score - mean) / std for mean, std in sides]
        theirs.append(float(0.5 * (both[0] + both[1])))
        seconds = time.perf_counter() - start
        if seconds > arguments.limit_seconds:
            break
    n_trials = len(theirs)
    kept = rows.enrol[:n_trials], rows.test[:n_trials]
    mine = as_norm(x, cohort, *kept, arguments.top_k)
    # Their code divides the squares by n - 1.
    mine = mine * np.sqrt((arguments.top_k - 1) / arguments.top_k)
    return {
        "n_trials": n_trials,
        "speechbrain_seconds": round(seconds, 3),
        "largest_difference": float(np.abs(mine - theirs).max()),
        "extrapolated": {
            "n_trials": arguments.n_trials,
            "speechbrain_seconds": round(
                seconds / n_trials * arguments.n_trials
            ),
            "how": "not measured: seconds grow with the trials",
        },
    }


def as_norm(
    x: np.ndarray,
    cohort: np.ndarray,
    enrol: np.ndarray,
    test: np.ndarray,
    top_k: int,
) -> np.ndarray:
    """Time our normalisation on a few trials."""
    used, position = np.unique(np.append(enrol, test), return_inverse=True)
    sides = np.split(position, 2)
    vectors = unit_rows(x, used)
    others = unit_rows(cohort, np.arange(len(cohort)))
    found = cohort_statistics(vectors, others, top_k)
    raw = inner_products(vectors, *sides)
    return normalised(raw, found, *sides, "as-norm")


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the sizes of the synthetic trials."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n_trials", type=int, default=600_000)
    parser.add_argument("--n_utterances", type=int, default=150_000)
    parser.add_argument("--dimension", type=int, default=256)
    parser.add_argument("--n_cohort", type=int, default=6000)
    parser.add_argument("--top_k", type=int, default=300)
    parser.add_argument("--limit_seconds", type=float, default=10.0)
    parser.add_argument("--limit_mb", type=float, default=3000.0)
    parser.add_argument("--output", default="results/benchmarks/scoring.json")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Draw, time, compare, print and write."""
    arguments = parse(argv)
    mine = alone(ours, arguments)
    theirs = {
        name: alone(speechbrain_metric, name, arguments)
        for name in ("EER", "minDCF")
    }
    theirs["s-norm"] = alone(speechbrain_s_norm, arguments)
    parts = {"EER": "eer", "minDCF": "min_dcf", "s-norm": "as_norm"}
    for name, part in parts.items():
        far = theirs[name]["extrapolated"]
        least = max(mine[f"{part}_seconds"], 1e-4)  # the clock's last digit
        far["ratio"] = round(far["speechbrain_seconds"] / least)
        print(
            f"{name}: SpeechBrain {theirs[name]['speechbrain_seconds']} s for "
            f"{theirs[name]['n_trials']:,} trials; for "
            f"{arguments.n_trials:,}, extrapolated, "
            f"{far['speechbrain_seconds']:,} s, {far['ratio']:,} times ours"
        )
    report = {
        "kind": "benchmark",
        "what": "synthetic trials: scores, AS-norm, EER and minDCF",
        **{
            name: getattr(arguments, name)
            for name in "n_trials n_utterances dimension n_cohort top_k".split()
        },
        "ours": mine,
        "speechbrain": theirs,
        "processor": platform.machine(),
        "n_cores": os.cpu_count(),
        "n_threads": torch.get_num_threads(),
        "versions": versions(),
    }
    write_json(arguments.output, report)
    print(f"written: {arguments.output}")


if __name__ == "__main__":
    main()
