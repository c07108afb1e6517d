"""EER and minDCF: our time and SpeechBrain's, side by side.

SpeechBrain's EER loops over twice as many thresholds as there are trials and
its minDCF builds a matrix of trials by thresholds, so both are timed on few
trials; ours also on as many as VoxCeleb1-E has. To run it:

> python benchmarks/metrics.py
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable

import numpy as np
import torch
from speechbrain.utils.metric_stats import EER, minDCF

from speechbrain_ext.files import write_json
from speechbrain_ext.metrics import equal_error_rate, min_dcf
from speechbrain_ext.receipts import versions

N_REPEATS = 3


def draw(n_trials: int) -> tuple[np.ndarray, np.ndarray]:
    """Two overlapping Gaussians, half of the trials targets."""
    generator = np.random.default_rng(0)
    labels = (np.arange(n_trials) % 2).astype(np.int8)
    scores = generator.normal(size=n_trials) + 3 * labels
    return scores.astype(np.float32), labels


def best_of(function: Callable[[], object]) -> tuple[float, object]:
    """Shortest of a few timings in seconds, and the answer."""
    seconds = []
    for _ in range(N_REPEATS):
        start = time.perf_counter()
        answer = function()
        seconds.append(time.perf_counter() - start)
    return min(seconds), answer


def ours(n_trials: int) -> tuple[float, object]:
    """Both of our metrics."""
    scores, labels = draw(n_trials)
    return best_of(
        lambda: (equal_error_rate(scores, labels), min_dcf(scores, labels))
    )


def speechbrains(n_trials: int) -> tuple[float, object]:
    """Both of SpeechBrain's, which take the classes apart."""
    scores, labels = draw(n_trials)
    targets = torch.from_numpy(scores[labels == 1])
    others = torch.from_numpy(scores[labels == 0])
    return best_of(lambda: (EER(targets, others), minDCF(targets, others)))


def main() -> None:
    """Time, compare, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n_trials", type=int, default=600_000)
    parser.add_argument("--n_trials_both", type=int, default=5_000)
    parser.add_argument("--output", default="results/benchmark_metrics.json")
    arguments = parser.parse_args()
    alone, _ = ours(arguments.n_trials)
    quick, answer = ours(arguments.n_trials_both)
    slow, reference = speechbrains(arguments.n_trials_both)
    report = {
        "kind": "benchmark",
        "what": "EER and minDCF together, shortest of "
        f"{N_REPEATS} runs, Gaussian scores, half of them targets",
        "n_trials": arguments.n_trials,
        "ours_seconds": round(alone, 4),
        "n_trials_both": arguments.n_trials_both,
        "ours_seconds_both": round(quick, 5),
        "speechbrain_seconds_both": round(slow, 4),
        "ratio": round(slow / quick),
        "equal": answer == reference,
        "processor": platform.machine(),
        "n_cores": os.cpu_count(),
        "versions": versions(),
    }
    print(f"ours, {arguments.n_trials:,} trials: {alone:.3f} s")
    print(
        f"{arguments.n_trials_both:,} trials: ours {quick:.5f} s, "
        f"SpeechBrain {slow:.3f} s, {slow / quick:.0f} times longer; "
        f"same values: {answer == reference}"
    )
    write_json(arguments.output, report)


if __name__ == "__main__":
    main()
