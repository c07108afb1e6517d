"""Cluster embeddings into pseudo-speakers: k-means, then Ward's tree.

Embeddings are scaled to length one first, because they are compared by
cosine. A large ``n_centroids`` makes the tree affordable on a million
utterances; with ``n_centroids: null`` the tree grows on the utterances.

To run it:
> python recipes/make_pseudo_labels.py hparams/make_pseudo_labels.yaml \
    --embeddings_folder=exp/embeddings --train_annotation=exp/data/train.csv \
    --n_centroids=2000 --n_clusters=300 --output_folder=exp/pseudo_labels

It writes ``pseudo_labels.csv`` (the rows of train.csv with ``spk_id``, the
largest cluster being pseudo00000, and ``margin``, how much nearer an utterance
is to its cluster than to the next), ``dropped.csv`` (utterances that the
cleaning rules leave out, and why), ``clusters.json`` and ``cluster_sizes.png``.
With ``n_clusters: auto`` their number is judged from the tree, and
``cluster_number.png`` shows by what. With ``--previous_labels``, those of the
round before, it reports how many utterances changed cluster; with ``--oracle``
also NMI, ARI and the like, and the labels are the same without.
"""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from speechbrain.utils.distributed import run_on_main

from speechbrain_ext.clustering.churn import (
    churn_statistics,
    previous_clusters,
    stability_statistics,
)
from speechbrain_ext.clustering.cleaning import (
    KEPT,
    drop_statistics,
    reasons_to_drop,
)
from speechbrain_ext.clustering.cluster_rows import cluster_means
from speechbrain_ext.clustering.k_means import kmeans
from speechbrain_ext.clustering.label_files import write_labels, write_summary
from speechbrain_ext.clustering.label_metrics import (
    Fit,
    fit,
    labels_in_words,
    shape_statistics,
    size_statistics,
    swallowed_by_one,
    truth_statistics,
)
from speechbrain_ext.clustering.n_clusters import (
    Choice,
    choose_n_clusters,
)
from speechbrain_ext.clustering.n_clusters_curves import candidates
from speechbrain_ext.clustering.settings import MakePseudoLabels
from speechbrain_ext.clustering.ward import cut_tree, ward_tree
from speechbrain_ext.commands.command_line import run
from speechbrain_ext.dataio.embedding_files import read_embeddings, rows_for
from speechbrain_ext.dataio.manifest import (
    Manifest,
    read_manifest,
)
from speechbrain_ext.dataio.oracle import true_speakers
from speechbrain_ext.experiment.recipe_run import RecipeRun
from speechbrain_ext.utils.devices import checked_device
from speechbrain_ext.utils.distributed import gathered_rows, own_rows
from speechbrain_ext.utils.vectors import check_vectors, unit_rows
from speechbrain_ext.utils.whitening import whiten_

logger = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    """Cluster, clean, name and measure; write labels and statistics."""
    recipe = RecipeRun(__file__, MakePseudoLabels, argv)
    settings: MakePseudoLabels = recipe.settings
    train = read_manifest(settings.train_annotation, "utterances")
    settings.check_numbers(len(train))
    if settings.n_clusters == "auto":
        candidates(
            settings.n_centroids or len(train), settings.n_clusters_range
        )
    x = unit_embeddings(train, settings)
    speakers, previous = None, None
    if settings.oracle:
        speakers = true_speakers(settings.oracle, train)
    if settings.previous_labels:
        previous = previous_clusters(settings.previous_labels, train)
    if recipe.is_done(settings.inputs()):
        return
    device = checked_device(recipe.options.device)
    labels, choice = cluster(x, settings, device)
    means = cluster_means(x, labels, labels.max() + 1)
    found = fit(x, labels, means, device)
    reason = reasons_to_drop(
        labels,
        found.margin,
        settings.min_cluster_size,
        settings.min_margin,
        settings.max_cluster_size,
    )
    if swallowed := swallowed_by_one(labels):
        logger.warning(swallowed)
    statistics = measure(labels, found, reason, speakers)
    statistics.update(agreements(x, labels, previous, settings, device))
    for line in labels_in_words(statistics):
        logger.info(line)
    summary = {"statistics": statistics, "parameters": settings.record()}
    names = run_on_main(
        write, [recipe.folder, train, labels, found, reason, summary, choice]
    )
    recipe.finish(names, true_labels=False, **statistics)


def unit_embeddings(train: Manifest, settings: MakePseudoLabels) -> np.ndarray:
    """Read the utterances' embeddings [N, D], scaled to length one.

    Those of two models are joined: the cosine is then the mean of theirs, and
    errors that they do not share weigh half.
    """
    parts = []
    for folder in (settings.embeddings_folder, settings.joined_folder):
        if folder is not None:
            vectors, index = read_embeddings(folder)
            rows = rows_for(index, train.ids, folder)
            x = check_vectors(unit_rows(vectors, rows, ids=train.ids))
            if settings.whiten is not None:
                x = whiten_(x, settings.whiten)
            parts.append(x)
    return parts[0] if len(parts) == 1 else unit_rows(np.hstack(parts))


def cluster(
    x: np.ndarray, settings: MakePseudoLabels, device: torch.device
) -> tuple[np.ndarray, Choice | None]:
    """Cluster unit embeddings, on one level or two.

    Processes of torchrun share the work of k-means.

    Returns the cluster of each [N], and how their number was chosen, None
    where it was given.
    """
    leaves = x
    leaf_of: np.ndarray | None = None
    if settings.n_centroids is not None:
        leaves, own_leaf, _ = kmeans(
            x[own_rows(len(x))],
            settings.n_centroids,
            seed=settings.seed,
            n_iterations=settings.n_iterations,
            n_restarts=settings.n_restarts,
            assignment=settings.assignment,
            device=device,
            shared=True,
        )
        leaf_of = gathered_rows(own_leaf)
    weights = None
    # Without k-means each leaf is an utterance and all weigh alike.
    if settings.weighted and leaf_of is not None:
        weights = np.bincount(leaf_of)
    tree = ward_tree(leaves, weights, device)
    choice, n_clusters = None, settings.n_clusters
    if n_clusters == "auto":
        choice = choose_n_clusters(
            tree,
            x,
            leaf_of,
            settings.weighted,
            settings.criterion,
            settings.n_clusters_range,
            settings.cosine_threshold,
            settings.seed,
            device,
        )
        n_clusters = choice.n_clusters
    labels = cut_tree(tree, n_clusters)
    return labels if leaf_of is None else labels[leaf_of], choice


def write(
    folder: Path,
    train: Manifest,
    labels: np.ndarray,
    found: Fit,
    reason: np.ndarray,
    summary: dict[str, Any],
    choice: Choice | None,
) -> list[str]:
    """Write labels, what is dropped and the summary; return the names."""
    names = write_labels(folder, train, labels, found, reason)
    return names + write_summary(folder, labels, found, reason, summary, choice)


def measure(
    labels: np.ndarray,
    found: Fit,
    reason: np.ndarray,
    speakers: np.ndarray | None,
) -> dict[str, float]:
    """Compute statistics of the kept labels, against the truth if given."""
    kept = reason == KEPT
    statistics = {
        **size_statistics(labels[kept]),
        **drop_statistics(reason),
        **shape_statistics(Fit(found.cosine[kept], found.margin[kept])),
    }
    if speakers is not None:
        statistics.update(truth_statistics(labels[kept], speakers[kept]))
    return statistics


def agreements(
    x: np.ndarray,
    labels: np.ndarray,
    previous: tuple[np.ndarray, np.ndarray] | None,
    settings: MakePseudoLabels,
    device: torch.device,
) -> dict[str, float]:
    """Compare the clusters with another seed's and the previous round's."""
    statistics: dict[str, float] = {}
    if settings.stability_seed is not None:
        other = dataclasses.replace(
            settings,
            seed=settings.stability_seed,
            n_clusters=int(labels.max()) + 1,
        )
        again, _ = cluster(x, other, device)
        statistics.update(stability_statistics(labels, again))
    if previous is not None:
        rows, clusters = previous
        statistics.update(churn_statistics(labels[rows], clusters))
    return statistics


if __name__ == "__main__":
    run(main)
