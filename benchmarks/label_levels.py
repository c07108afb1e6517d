"""Pseudo-labels of a run against true speakers, by level and number.

For the embeddings of each system of a finished `run_rounds` whose corpus has
an oracle: NMI of one level (k-means) and of two (k-means, then Ward's tree,
with centroids weighted or equal), of Ward's tree alone, of that on whitened
embeddings, and what each label-free criterion says of the number of speakers.
To run it:

> PYTHONPATH=. python benchmarks/label_levels.py exp/minivox
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import normalized_mutual_info_score

from benchmarks.clustering import SEED, two_levels
from speechbrain_ext.clustering import cut_tree, kmeans, ward_tree
from speechbrain_ext.clustering.n_clusters import choose_n_clusters
from speechbrain_ext.dataio.embedding_files import read_embeddings, rows_for
from speechbrain_ext.dataio.manifest import read_manifest
from speechbrain_ext.dataio.oracle import true_speakers
from speechbrain_ext.utils.files import write_json
from speechbrain_ext.utils.provenance import versions
from speechbrain_ext.utils.vectors import unit_rows
from speechbrain_ext.utils.whitening import whiten_

POWERS = (0.25, 0.5, 0.75, 1.0)


def numbers(
    x: np.ndarray, leaf_of: np.ndarray, leaves: np.ndarray
) -> dict[str, Any]:
    """Choose the number of clusters of a tree by each criterion."""
    sizes = np.bincount(leaf_of)
    tree = ward_tree(leaves, sizes)
    choice = choose_n_clusters(tree, x, leaf_of, weighted=True, seed=SEED)
    return {**choice.by_criterion, "certain": choice.certain}


def compare(
    folder: Path, corpus: Path, n_centroids: int, n_clusters: list[int]
) -> dict[str, Any]:
    """Measure the clusters of one system's training embeddings."""
    vectors, index = read_embeddings(folder)
    train = read_manifest(corpus / "train.csv", "utterances")
    x = unit_rows(vectors, rows_for(index, train.ids, folder))
    speakers = true_speakers(corpus / "oracle.csv", train)
    n_speakers = len(np.unique(speakers))
    several = [n_speakers, *n_clusters]
    report = two_levels(x, speakers, n_centroids, several)
    report["n_speakers"] = n_speakers
    tree = ward_tree(x)
    for n in several:
        labels = cut_tree(tree, n)
        nmi = round(normalized_mutual_info_score(speakers, labels), 4)
        report[f"nmi, {n} clusters"]["ward alone"] = nmi
    report["number, tree of utterances"] = numbers(x, np.arange(len(x)), x)
    for power in POWERS:
        labels = cut_tree(ward_tree(whiten_(x.copy(), power)), n_speakers)
        nmi = round(normalized_mutual_info_score(speakers, labels), 4)
        report[f"nmi, whitened {power}, {n_speakers} clusters"] = nmi
    first = kmeans(x, n_centroids, SEED)
    report["number, tree of centroids"] = numbers(
        x, first.labels, first.centroids
    )
    return report


def main(argv: list[str] | None = None) -> None:
    """Compare each system, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="output_folder of run_rounds")
    parser.add_argument("--n_centroids", type=int, default=900)
    parser.add_argument("--n_clusters", type=int, nargs="*", default=[200, 400])
    parser.add_argument(
        "--output", default="results/benchmarks/label_levels.json"
    )
    arguments = parser.parse_args(argv)
    folders = sorted(arguments.run.glob("*/train_embeddings"))
    systems = {
        folder.parent.name: compare(
            folder,
            arguments.run / "corpus",
            arguments.n_centroids,
            arguments.n_clusters,
        )
        for folder in folders
    }
    report = {
        "kind": "benchmark",
        "what": f"pseudo-labels of {arguments.run.name} by levels and number",
        "systems": systems,
        "versions": versions(),
    }
    write_json(arguments.output, report)
    print(f"written: {arguments.output}")


if __name__ == "__main__":
    main()
