"""Time of clustering at scale: Ward's tree, k-means, and both together.

Each part runs in a process of its own, whose peak memory is its own: Ward's
tree at several sizes (scikit-learn's beside it at one size), exact beside
approximate k-means, centroids weighted by their sizes beside equal ones, and
the whole stage on a synthetic VoxCeleb2, the number of speakers unknown, with
one level of k-means beside it. Small by default; the size of VoxCeleb2 takes
the better part of an hour on two cores, and 1.3 GB of disk. To run it:

> python benchmarks/clustering.py
> python benchmarks/clustering.py --full
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from benchmarks.measuring import alone, peak_mb
from recipes import make_pseudo_labels
from speechbrain_ext.clustering import cut_tree, kmeans, ward_tree
from speechbrain_ext.clustering.label_metrics import truth_statistics
from speechbrain_ext.dataio.manifest import write_manifest
from speechbrain_ext.utils.files import read_json, reserve, write_json
from speechbrain_ext.utils.provenance import versions
from speechbrain_ext.utils.vectors import unit_rows

SEED = 1986
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SMALL = {
    "ward_sizes": [1000, 2000, 4000],
    "both_size": 4000,
    "n_compared": 10_000,
    "n_utterances": 20_000,
    "n_speakers": 110,
    "n_centroids": 1000,
}
FULL = {
    "ward_sizes": [12_500, 25_000, 50_000],
    "both_size": 12_000,
    "n_compared": 50_000,
    "n_utterances": 1_092_009,
    "n_speakers": 5994,
    "n_centroids": 50_000,
}
SESSIONS = 24  # videos of a speaker in VoxCeleb2, on average
SESSION_SPREAD, UTTERANCE_SPREAD = 0.6, 0.8  # a speaker's own spread is 1


def draw_corpus(
    folder: Path, n_utterances: int, n_speakers: int, dimension: int = 256
) -> None:
    """Write synthetic embeddings of the shape of VoxCeleb2's.

    A speaker's share of the utterances is log-normal. An embedding is its
    speaker's centre, around one of two (women and men), plus its session's
    offset, plus noise of its own, some utterances being noisier than others;
    the variance falls along the dimensions, as principal components' does.
    Written: ``embeddings.npy`` [N, D] float32 and ``speakers.npy`` [N].
    """
    generator = np.random.default_rng(SEED)
    share = np.exp(0.7 * generator.normal(size=n_speakers))
    speaker = generator.choice(n_speakers, n_utterances, p=share / share.sum())
    speaker[:n_speakers] = np.arange(n_speakers)
    speaker = generator.permutation(speaker)
    session = speaker * SESSIONS + generator.integers(0, SESSIONS, n_utterances)
    scale = np.exp(-np.arange(dimension) / 50).astype(np.float32)

    def gaussian(*shape: int) -> np.ndarray:
        return generator.normal(size=shape).astype(np.float32) * scale

    centre = gaussian(n_speakers, dimension)
    centre += gaussian(2, dimension)[generator.integers(0, 2, n_speakers)]
    offset = SESSION_SPREAD * gaussian(n_speakers * SESSIONS, dimension)
    np.save(folder / "speakers.npy", speaker)
    x = np.lib.format.open_memmap(
        folder / "embeddings.npy", "w+", np.float32, (n_utterances, dimension)
    )
    reserve(folder / "embeddings.npy", x.offset + x.nbytes)
    for first in range(0, n_utterances, 2**15):
        rows = slice(first, min(first + 2**15, n_utterances))
        noise = gaussian(rows.stop - first, dimension)
        noise *= np.exp(0.3 * generator.normal(size=(len(noise), 1)))
        x[rows] = centre[speaker[rows]] + offset[session[rows]]
        x[rows] += UTTERANCE_SPREAD * noise
    x.flush()


@contextmanager
def timed(report: dict[str, Any], name: str) -> Iterator[None]:
    """Time a block and report its seconds under a name."""
    start = time.perf_counter()
    yield
    report[f"{name}_seconds"] = round(time.perf_counter() - start, 2)
    print(f"{name}: {report[f'{name}_seconds']} s", flush=True)


def rows_to_join(folder: Path | None, n_rows: int) -> np.ndarray:
    """Draw unit vectors, with or without the structure of a corpus."""
    if folder is None:
        shape = (n_rows, 256)
        return unit_rows(np.random.default_rng(SEED).normal(size=shape))
    x = np.load(folder / "embeddings.npy", mmap_mode="r")
    return unit_rows(x, np.arange(n_rows))


def ward(folder: Path | None, n_rows: int) -> dict[str, Any]:
    """Time our tree and measure its peak memory."""
    x = rows_to_join(folder, n_rows)
    report: dict[str, Any] = {"n": n_rows}
    before = peak_mb()
    with timed(report, "ours"):
        ward_tree(x)
    report["peak_mb"] = round(peak_mb())
    report["peak_mb_above_input"] = round(peak_mb() - before)
    return report


def ward_and_scikit_learn(folder: Path | None, n_rows: int) -> dict[str, Any]:
    """Time both trees in one process and compare them."""
    x = rows_to_join(folder, n_rows)
    report: dict[str, Any] = {"n": n_rows}
    with timed(report, "ours"):
        tree = ward_tree(x)
    report["ours_peak_mb"] = round(peak_mb())
    n_clusters = n_rows // 20
    with timed(report, "scikit_learn"):
        theirs = AgglomerativeClustering(n_clusters).fit_predict(x)
    report["scikit_learn_peak_mb"] = round(peak_mb())
    ratio = report["scikit_learn_seconds"] / report["ours_seconds"]
    report["ratio"] = round(ratio, 2)
    ours = cut_tree(tree, n_clusters)
    report["ari"] = float(adjusted_rand_score(theirs, ours))
    return report


def assignments(folder: Path, n_rows: int) -> dict[str, Any]:
    """Compare exact and approximate k-means, 20 rows for each cluster."""
    x = rows_to_join(folder, n_rows)
    report: dict[str, Any] = {"n": n_rows, "n_centroids": n_rows // 20}
    for name in ("exact", "approximate"):
        with timed(report, name):
            result = kmeans(x, n_rows // 20, SEED, assignment=name)
        report[f"{name}_inertia"] = result.inertia
    ratio = report["approximate_inertia"] / report["exact_inertia"]
    report["inertia_ratio"] = round(ratio, 5)
    return report


def two_levels(
    x: np.ndarray,
    speakers: np.ndarray,
    n_centroids: int,
    n_clusters: list[int],
) -> dict[str, Any]:
    """Compute NMI of one level, and of two levels with and without weights.

    Two levels cut at several numbers of clusters, each beside k-means.
    """
    first = kmeans(x, n_centroids, SEED)
    trees = {
        "weighted": ward_tree(first.centroids, np.bincount(first.labels)),
        "equal": ward_tree(first.centroids),
    }
    report: dict[str, Any] = {"n": len(x), "n_centroids": n_centroids}
    for n in n_clusters:
        found = {
            name: cut_tree(tree, n)[first.labels]
            for name, tree in trees.items()
        }
        found["one level"] = kmeans(x, n, SEED).labels
        report[f"nmi, {n} clusters"] = {
            name: round(normalized_mutual_info_score(speakers, labels), 4)
            for name, labels in found.items()
        }
    return report


def weights(n_utterances: int, n_speakers: int) -> dict[str, Any]:
    """Run `two_levels` on a corpus with twenty utterances per centroid."""
    # As many clusters as speakers; the paper's 7,500 for 5,994.
    numbers = [n_speakers, round(n_speakers * 7500 / 5994)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw_corpus(folder, n_utterances, n_speakers)
        x = rows_to_join(folder, n_utterances)
        speakers = np.load(folder / "speakers.npy")
    return two_levels(x, speakers, n_utterances // 20, numbers)


def write_manifests(folder: Path) -> None:
    """Write the inputs of the recipe except ``embeddings.npy``."""
    speakers = np.load(folder / "speakers.npy")
    ids = np.array([f"{i:07d}" for i in range(len(speakers))])
    rows = pd.DataFrame({"ID": ids, "duration": 1.0, "wav": ids + ".wav"})
    rows = rows.assign(start=0, stop=16_000)
    write_manifest(folder / "train.csv", rows, "utterances")
    names = np.array([f"s{i:05d}" for i in range(speakers.max() + 1)])
    oracle = pd.DataFrame({"ID": ids, "spk_id": names[speakers]})
    write_manifest(folder / "oracle.csv", oracle, "oracle")
    index = pd.DataFrame({"ID": ids, "row": np.arange(len(ids))})
    write_manifest(folder / "embeddings.csv", index, "embeddings")


def stage(folder: Path, n_centroids: int, assignment: str) -> dict[str, Any]:
    """Run the recipe on the whole corpus with an automatic cluster number."""
    report: dict[str, Any] = {"assignment": assignment}
    values = {
        "embeddings_folder": folder,
        "train_annotation": folder / "train.csv",
        "oracle": folder / "oracle.csv",
        "output_folder": folder / "labels",
        "n_centroids": n_centroids,
        "n_clusters": "auto",
        "assignment": assignment,
    }
    leaf = "hparams/make_pseudo_labels.yaml"
    with timed(report, "stage"):
        make_pseudo_labels.main(
            [leaf, *(f"--{key}={value}" for key, value in values.items())]
        )
    report["peak_mb"] = round(peak_mb())
    clusters = read_json(folder / "labels" / "clusters.json")
    choice = clusters["choice"]
    report["figures"] = clusters["statistics"]
    report["numbers"] = choice["by_criterion"]
    report["certain"] = choice["certain"]
    return report


def one_level(folder: Path, n_clusters: int, assignment: str) -> dict[str, Any]:
    """Cluster the whole corpus into speakers by k-means alone."""
    report: dict[str, Any] = {"n_clusters": n_clusters}
    x = unit_rows(np.load(folder / "embeddings.npy", mmap_mode="r"))
    with timed(report, "one_level"):
        found = kmeans(x, n_clusters, SEED, assignment=assignment)
    speakers = np.load(folder / "speakers.npy")
    report["figures"] = truth_statistics(found.labels, speakers)
    return report


def whole(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the recipe, then k-means alone with the number that it found."""
    alone(write_manifests, folder)
    two = alone(stage, folder, arguments.n_centroids, arguments.assignment)
    found = two["figures"]["n_clusters"]
    print(f"{found} clusters of {arguments.n_speakers} speakers", flush=True)
    one = alone(one_level, folder, found, arguments.assignment)
    return {
        "n_utterances": arguments.n_utterances,
        "n_speakers": arguments.n_speakers,
        "n_clusters_over_speakers": round(found / arguments.n_speakers, 3),
        "n_centroids": arguments.n_centroids,
        "two_levels": two,
        "one_level": one,
    }


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse sizes; with --full, the others default to VoxCeleb2's."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--ward_sizes", type=int, nargs="+")
    for name in [name for name in SMALL if name != "ward_sizes"]:
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--assignment", default="approximate")
    parser.add_argument(
        "--output", default="results/benchmarks/clustering.json"
    )
    arguments = parser.parse_args(argv)
    for name, size in (FULL if arguments.full else SMALL).items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, size)
    return arguments


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run all parts, each in its own process."""
    alone(draw_corpus, folder, arguments.n_utterances, arguments.n_speakers)
    report: dict[str, Any] = {}
    for name, where in {"speakers": folder, "no structure": None}.items():
        sizes = [alone(ward, where, n) for n in arguments.ward_sizes]
        both = alone(ward_and_scikit_learn, where, arguments.both_size)
        report[f"ward, {name}"] = {"sizes": sizes, "both": both}
    n_compared = arguments.n_compared
    report["k-means"] = alone(assignments, folder, n_compared)
    share = n_compared / arguments.n_utterances
    few = max(round(arguments.n_speakers * share), 20)
    report["weights"] = alone(weights, n_compared, few)
    report["synthetic VoxCeleb2"] = whole(folder, arguments)
    return report


def main(argv: list[str] | None = None) -> None:
    """Draw, time, compare, print and write."""
    arguments = parse(argv)
    with tempfile.TemporaryDirectory() as folder:
        report = measure(arguments, Path(folder))
    report = {
        "kind": "benchmark",
        "what": "clustering of synthetic embeddings of 256 dimensions",
        **report,
        "device": DEVICE,
        "processor": platform.machine(),
        "n_cores": os.cpu_count(),
        "n_threads": torch.get_num_threads(),
        "versions": versions(),
    }
    write_json(arguments.output, report)
    print(f"written: {arguments.output}")


if __name__ == "__main__":
    main()
