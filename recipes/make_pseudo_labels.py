"""Embeddings to pseudo-speakers: k-means, then Ward's tree, one cut.

Embeddings are scaled to length one first, because they are compared by
cosine. A large ``n_centroids`` makes the tree affordable on a million
utterances; with ``n_centroids: null`` the tree grows on the utterances.

To run it:
> python recipes/make_pseudo_labels.py hparams/make_pseudo_labels.yaml \
    --embeddings_folder=exp/embeddings --train_annotation=exp/data/train.csv \
    --n_centroids=2000 --n_clusters=300 --output_folder=exp/pseudo_labels

It writes ``pseudo_labels.csv`` (the rows of train.csv with ``spk_id``, the
largest cluster being pseudo00000), ``dropped.csv`` (utterances of clusters
below ``min_cluster_size``), ``clusters.json`` and ``cluster_sizes.png``.
With ``--oracle`` it also reports NMI, ARI and purity; the labels are the same
without.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from speechbrain_ext import plots
from speechbrain_ext.clustering import (
    check_assignment,
    cluster_means,
    cut_tree,
    kmeans,
    normalise,
    ward_tree,
)
from speechbrain_ext.embeddings import read_embeddings, rows_for
from speechbrain_ext.files import InputError, atomic_path, write_json
from speechbrain_ext.label_quality import (
    cluster_sizes,
    shape_figures,
    size_figures,
    true_speakers,
    truth_figures,
)
from speechbrain_ext.manifest import (
    Manifest,
    read_manifest,
    select,
    write_manifest,
)
from speechbrain_ext.stage import Stage, run

logger = logging.getLogger(__name__)

PARAMETERS = (
    "seed n_centroids n_clusters center weighted min_cluster_size "
    "n_iterations n_restarts assignment"
).split()


def main(argv: list[str] | None = None) -> None:
    """Cluster, name, measure and write; a finished folder is left alone."""
    stage = Stage(__file__, argv)
    settings = stage.settings
    train = read_manifest(settings["train_annotation"], "utterances")
    check_numbers(settings, len(train))
    folder = settings["embeddings_folder"]
    vectors, index = read_embeddings(folder)
    rows = rows_for(index, train.ids, folder)
    x = normalise(vectors, settings["center"], rows)
    speakers = None
    if settings["oracle"]:
        speakers = true_speakers(settings["oracle"], train)
    if stage.is_done(inputs_of(settings)):
        return
    labels = largest_first(cluster(x, settings))
    kept = large_enough(labels, settings["min_cluster_size"])
    figures = measure(x, labels, kept, speakers)
    for name, value in figures.items():
        logger.info(f"{name}: {value:g}")
    parameters = {key: settings[key] for key in PARAMETERS}
    summary = {"figures": figures, "parameters": parameters}
    names = write(stage.folder, train, labels, kept, summary)
    stage.finish(names, true_labels=False, **figures)


def inputs_of(settings: dict[str, Any]) -> dict[str, Any]:
    """Files read, by the key that names them."""
    folder = Path(settings["embeddings_folder"])
    inputs = {
        "train_annotation": settings["train_annotation"],
        "embeddings": folder / "embeddings.npy",
        "embeddings_ids": folder / "embeddings.csv",
    }
    if settings["oracle"]:
        inputs["oracle"] = settings["oracle"]
    return inputs


def check_numbers(settings: dict[str, Any], n_utterances: int) -> None:
    """Refuse counts that cannot be met, before any work.

    Raises
    ------
    InputError
        Naming the key, its value and the rule.
    """
    check_assignment(settings["assignment"])
    n_clusters = settings["n_clusters"]
    n_centroids = settings["n_centroids"]
    _need(settings, "n_clusters", 2, n_utterances)
    if n_centroids is not None:
        _need(settings, "n_centroids", n_clusters, n_utterances)
    for key in ("n_iterations", "n_restarts", "min_cluster_size"):
        _need(settings, key, 1, None)


def _need(
    settings: dict[str, Any], key: str, low: int, high: int | None
) -> None:
    value = settings[key]
    if not isinstance(value, int) or value < low:
        rule = {
            "n_clusters": "2 or more, one cluster teaches nothing",
            "n_centroids": f"null, or at least n_clusters, {low}",
        }.get(key, f"a whole number, {low} or more")
        raise InputError(f"{key} is {value!r}: it must be {rule}; set --{key}")
    if high is not None and value > high:
        raise InputError(
            f"{key} is {value} and there are {high} utterances: fewer "
            f"utterances than clusters; set --{key} to {high} or less"
            + (" (null: no k-means)" if key == "n_centroids" else "")
        )


def cluster(x: np.ndarray, settings: dict[str, Any]) -> np.ndarray:
    """Cluster of each unit embedding [N], by one level or two."""
    if settings["n_centroids"] is None:
        return cut_tree(ward_tree(x), settings["n_clusters"])
    first = kmeans(
        x,
        settings["n_centroids"],
        seed=int(settings["seed"]),
        n_iterations=settings["n_iterations"],
        n_restarts=settings["n_restarts"],
        assignment=settings["assignment"],
    )
    weights = np.bincount(first.labels) if settings["weighted"] else None
    tree = ward_tree(first.centroids, weights)
    return cut_tree(tree, settings["n_clusters"])[first.labels]


def largest_first(labels: np.ndarray) -> np.ndarray:
    """Labels numbered by falling size, then by first appearance."""
    _, first, index, sizes = np.unique(
        labels, return_index=True, return_inverse=True, return_counts=True
    )
    rank = np.empty(len(sizes), dtype=np.int64)
    rank[np.lexsort((first, -sizes))] = np.arange(len(sizes))
    return rank[index]


def large_enough(labels: np.ndarray, min_size: int) -> np.ndarray:
    """Mask [N] of utterances in clusters of ``min_size`` or more."""
    sizes = np.bincount(labels)
    if (sizes >= min_size).sum() < 2:
        raise InputError(
            f"min_cluster_size is {min_size} and the two largest clusters "
            f"have {sizes[0]} and {sizes[1]} utterances: fewer than 2 are "
            "left; lower --min_cluster_size or --n_clusters"
        )
    return sizes[labels] >= min_size


def measure(
    x: np.ndarray,
    labels: np.ndarray,
    kept: np.ndarray,
    speakers: np.ndarray | None,
) -> dict[str, float]:
    """Figures of the kept clusters, against the truth when it is given."""
    x, labels = x[kept], labels[kept]
    centroids = cluster_means(x, labels, labels.max() + 1)
    figures = {
        **size_figures(labels),
        "n_dropped": int((~kept).sum()),
        **shape_figures(x, labels, centroids),
    }
    if speakers is not None:
        figures.update(truth_figures(labels, speakers[kept]))
    return figures


def write(
    folder: Path,
    train: Manifest,
    labels: np.ndarray,
    kept: np.ndarray,
    summary: dict[str, Any],
) -> list[str]:
    """Labels, dropped utterances, the summary and sizes as a picture."""
    sizes = cluster_sizes(labels[kept])
    names = np.array([f"pseudo{i:05d}" for i in range(len(sizes))])
    labelled = select(train, kept).table.assign(spk_id=names[labels[kept]])
    write_manifest(folder / "pseudo_labels.csv", labelled, "pseudo_labels")
    with atomic_path(folder / "dropped.csv") as part:
        size = np.bincount(labels)[labels[~kept]]
        dropped = pd.DataFrame({"ID": train.ids[~kept], "cluster_size": size})
        dropped.to_csv(part, index=False)
    write_json(folder / "clusters.json", {**summary, "sizes": sizes.tolist()})
    plots.save_png(
        plots.cluster_sizes({folder.name: sizes}), folder / "cluster_sizes.png"
    )
    return (
        "pseudo_labels.csv dropped.csv clusters.json cluster_sizes.png".split()
    )


if __name__ == "__main__":
    run(main)
