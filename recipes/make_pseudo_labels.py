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
import functools
import logging

import numpy as np
import torch
from speechbrain.utils.distributed import run_on_main

from speechbrain_ext.clustering.churn import (
    churn_statistics,
    previous_clusters,
    stability_statistics,
)
from speechbrain_ext.clustering.cleaning import (
    drop_statistics,
    kept_rows,
    reasons_to_drop,
)
from speechbrain_ext.clustering.cluster_rows import cluster_means
from speechbrain_ext.clustering.k_means import kmeans
from speechbrain_ext.clustering.label_files import write_files
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
from speechbrain_ext.dataio.columns import TextColumn
from speechbrain_ext.dataio.embedding_files import (
    Opened,
    check_usable,
    open_for,
)
from speechbrain_ext.dataio.manifest import Manifest, read_manifest
from speechbrain_ext.dataio.oracle import true_speakers
from speechbrain_ext.experiment.recipe_run import RecipeRun
from speechbrain_ext.utils.devices import checked_device
from speechbrain_ext.utils.distributed import gathered_rows, own_rows
from speechbrain_ext.utils.vectors import (
    large_array,
    scratch_folder,
    taken,
    unit_rows,
)
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
    # Of one model or two.
    folders = settings.embeddings_folder, settings.joined_folder
    opened = [open_for(folder, train.ids) for folder in folders if folder]
    speakers, previous = None, None
    if settings.oracle:
        speakers = true_speakers(settings.oracle, train)
    if settings.previous_labels:
        previous = previous_clusters(settings.previous_labels, train)
    check = functools.partial(check_usable, opened, train.ids)
    if recipe.is_done(settings.inputs(), check):
        return
    shape = len(train), sum(vectors.shape[1] for vectors, _ in opened)
    with scratch_folder(recipe.folder):
        x = large_array(shape)
        unit_embeddings(settings, opened, x)
        make_labels(recipe, train, x, speakers, previous)


def make_labels(
    recipe: RecipeRun,
    train: Manifest,
    x: np.ndarray,
    speakers: np.ndarray | None,
    previous: tuple[np.ndarray, TextColumn] | None,
) -> None:
    """Cluster unit embeddings [N, D]; write labels and statistics."""
    settings: MakePseudoLabels = recipe.settings
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
        write_files,
        [recipe.folder, train, labels, found, reason, summary, choice],
    )
    recipe.finish(names, true_labels=False, **statistics)


def unit_embeddings(
    settings: MakePseudoLabels, opened: list[Opened], x: np.ndarray
) -> None:
    """Read the utterances' embeddings, scaled to length one, into ``x``.

    Those of two models are joined: the cosine is then the mean of theirs, and
    errors that they do not share weigh half.
    """
    first = 0
    for vectors, rows in opened:
        part = x[:, first : first + vectors.shape[1]]
        unit_rows(vectors, rows, out=part)
        if settings.whiten is not None:
            whiten_(part, settings.whiten)
        first += vectors.shape[1]
    if len(opened) > 1:
        unit_rows(x, out=x)


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
    return labels if leaf_of is None else taken(labels, leaf_of), choice


def measure(
    labels: np.ndarray,
    found: Fit,
    reason: np.ndarray,
    speakers: np.ndarray | None,
) -> dict[str, float]:
    """Compute statistics of the kept labels, against the truth if given."""
    kept = kept_rows(reason)
    own = taken(labels, kept)
    statistics = {
        **size_statistics(own),
        **drop_statistics(reason),
        **shape_statistics(Fit(*(taken(values, kept) for values in found))),
    }
    if speakers is not None:
        statistics.update(truth_statistics(own, speakers[kept]))
    return statistics


def agreements(
    x: np.ndarray,
    labels: np.ndarray,
    previous: tuple[np.ndarray, TextColumn] | None,
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
        statistics.update(churn_statistics(taken(labels, rows), clusters))
    return statistics


if __name__ == "__main__":
    run(main)
