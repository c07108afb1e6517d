"""Embeddings to pseudo-speakers: k-means, then Ward's tree, one cut.

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

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from speechbrain_ext.clustering import plots
from speechbrain_ext.clustering.churn import (
    churn_figures,
    previous_clusters,
    stability_figures,
)
from speechbrain_ext.clustering.cleaning import (
    KEPT,
    check_rules,
    drop_figures,
    reasons_to_drop,
)
from speechbrain_ext.clustering.k_means import (
    check_assignment,
    cluster_means,
    cut_tree,
    kmeans,
    ward_tree,
)
from speechbrain_ext.clustering.label_metrics import (
    Fit,
    cluster_sizes,
    fit,
    largest_first,
    shape_figures,
    size_figures,
    truth_figures,
)
from speechbrain_ext.clustering.n_clusters import (
    Choice,
    check_criterion,
    choose_n_clusters,
)
from speechbrain_ext.clustering.n_clusters_curves import candidates
from speechbrain_ext.dataio.embedding_files import read_embeddings, rows_for
from speechbrain_ext.dataio.manifest import (
    Manifest,
    read_manifest,
    select,
    write_manifest,
)
from speechbrain_ext.dataio.oracle import true_speakers
from speechbrain_ext.experiment.recipe_run import Stage
from speechbrain_ext.utils.command_line import run
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import atomic_path, write_json
from speechbrain_ext.utils.plotting import save_png
from speechbrain_ext.utils.vectors import normalise
from speechbrain_ext.utils.whitening import check_power, whiten_

logger = logging.getLogger(__name__)

PARAMETERS = (
    "seed n_centroids n_clusters criterion n_clusters_range cosine_threshold "
    "whiten weighted min_cluster_size min_margin max_cluster_size "
    "n_iterations n_restarts assignment stability_seed"
).split()


def main(argv: list[str] | None = None) -> None:
    """Cluster, clean, name, measure and write; a finished folder stays."""
    stage = Stage(__file__, argv)
    settings = stage.settings
    train = read_manifest(settings["train_annotation"], "utterances")
    check_numbers(settings, len(train))
    x = unit_embeddings(train, settings)
    speakers, previous = None, None
    if settings["oracle"]:
        speakers = true_speakers(settings["oracle"], train)
    if settings["previous_labels"]:
        previous = previous_clusters(settings["previous_labels"], train)
    if stage.is_done(inputs_of(settings)):
        return
    labels, choice = cluster(x, settings)
    found = fit(x, labels, cluster_means(x, labels, labels.max() + 1))
    reason = reasons_to_drop(
        labels,
        found.margin,
        settings["min_cluster_size"],
        settings["min_margin"],
        settings["max_cluster_size"],
    )
    figures = measure(labels, found, reason, speakers)
    figures.update(agreements(x, labels, previous, settings))
    for name, value in figures.items():
        logger.info(f"{name}: {value:g}")
    parameters = {key: settings[key] for key in PARAMETERS}
    summary = {"figures": figures, "parameters": parameters}
    names = write_labels(stage.folder, train, labels, found, reason)
    names += write_summary(stage.folder, labels, found, reason, summary, choice)
    stage.finish(names, true_labels=False, **figures)


def unit_embeddings(train: Manifest, settings: dict[str, Any]) -> np.ndarray:
    """Embeddings of the manifest's utterances, scaled to length one [N, D]."""
    folder = settings["embeddings_folder"]
    vectors, index = read_embeddings(folder)
    rows = rows_for(index, train.ids, folder)
    x = normalise(vectors, rows)
    return x if settings["whiten"] is None else whiten_(x, settings["whiten"])


def inputs_of(settings: dict[str, Any]) -> dict[str, Any]:
    """Files read, by the key that names them."""
    folder = Path(settings["embeddings_folder"])
    inputs = {
        "train_annotation": settings["train_annotation"],
        "embeddings": folder / "embeddings.npy",
        "embeddings_ids": folder / "embeddings.csv",
    }
    for key in ("oracle", "previous_labels"):
        if settings[key]:
            inputs[key] = settings[key]
    return inputs


def check_numbers(settings: dict[str, Any], n_utterances: int) -> None:
    """Refuse counts that cannot be met, before any work.

    Raises
    ------
    InputError
        Naming the key, its value and the rule.
    """
    check_assignment(settings["assignment"])
    if settings["whiten"] is not None:
        check_power(settings["whiten"])
    n_centroids = settings["n_centroids"]
    least = 2
    if settings["n_clusters"] != "auto":
        _need(settings, "n_clusters", 2, n_utterances - 1)
        least = settings["n_clusters"]
    if n_centroids is not None:
        _need(settings, "n_centroids", least, n_utterances)
    if settings["n_clusters"] == "auto":
        check_criterion(settings["criterion"], settings["cosine_threshold"])
        candidates(n_centroids or n_utterances, settings["n_clusters_range"])
    for key in ("n_iterations", "n_restarts"):
        _need(settings, key, 1, None)
    check_rules(
        settings["min_cluster_size"],
        settings["min_margin"],
        settings["max_cluster_size"],
    )
    if settings["stability_seed"] is not None and n_centroids is None:
        raise InputError(
            f"stability_seed is {settings['stability_seed']} and n_centroids "
            "null: Ward's tree alone draws nothing; leave one of them out"
        )


def _need(
    settings: dict[str, Any], key: str, low: int, high: int | None
) -> None:
    value = settings[key]
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        rule = {
            "n_clusters": "auto, or 2 or more: one cluster teaches nothing",
            "n_centroids": f"null, or at least n_clusters, {low}",
        }.get(key, f"a whole number, {low} or more")
        raise InputError(f"{key} is {value!r}: it must be {rule}; set --{key}")
    if high is not None and value > high:
        raise InputError(
            f"{key} is {value} and the most that these utterances allow is "
            f"{high} (clusters are fewer than utterances); set --{key} to "
            f"{high} or less" + (", or null" if key == "n_centroids" else "")
        )


def cluster(
    x: np.ndarray, settings: dict[str, Any]
) -> tuple[np.ndarray, Choice | None]:
    """Cluster of each unit embedding [N], by one level or two.

    Also how their number was chosen, None where it was given.
    """
    seed = int(settings["seed"])
    leaves, leaf_of, weights = x, np.arange(len(x)), None
    if settings["n_centroids"] is not None:
        leaves, leaf_of, _ = kmeans(
            x,
            settings["n_centroids"],
            seed=seed,
            n_iterations=settings["n_iterations"],
            n_restarts=settings["n_restarts"],
            assignment=settings["assignment"],
        )
    sizes = np.bincount(leaf_of)
    if settings["weighted"]:
        weights = sizes
    tree = ward_tree(leaves, weights)
    choice, n_clusters = None, settings["n_clusters"]
    if n_clusters == "auto":
        choice = choose_n_clusters(
            tree,
            leaves,
            sizes,
            weights,
            x,
            leaf_of,
            settings["criterion"],
            settings["n_clusters_range"],
            settings["cosine_threshold"],
            seed,
        )
        n_clusters = choice.n_clusters
    return cut_tree(tree, n_clusters)[leaf_of], choice


def measure(
    labels: np.ndarray,
    found: Fit,
    reason: np.ndarray,
    speakers: np.ndarray | None,
) -> dict[str, float]:
    """Figures of what is kept, against the truth when it is given."""
    kept = reason == KEPT
    figures = {
        **size_figures(labels[kept]),
        **drop_figures(reason),
        **shape_figures(Fit(found.cosine[kept], found.margin[kept])),
    }
    if speakers is not None:
        figures.update(truth_figures(labels[kept], speakers[kept]))
    return figures


def agreements(
    x: np.ndarray,
    labels: np.ndarray,
    previous: tuple[np.ndarray, np.ndarray] | None,
    settings: dict[str, Any],
) -> dict[str, float]:
    """Agreement with another seed's clusters and with the round before's."""
    figures: dict[str, float] = {}
    if settings["stability_seed"] is not None:
        others = {
            "seed": settings["stability_seed"],
            "n_clusters": int(labels.max()) + 1,
        }
        again, _ = cluster(x, {**settings, **others})
        figures.update(stability_figures(labels, again))
    if previous is not None:
        rows, clusters = previous
        figures.update(churn_figures(labels[rows], clusters))
    return figures


def write_labels(
    folder: Path,
    train: Manifest,
    labels: np.ndarray,
    found: Fit,
    reason: np.ndarray,
) -> list[str]:
    """What is kept, with its label and margin; what is not, with its reason."""
    kept = reason == KEPT
    names = np.array([f"pseudo{i:05d}" for i in range(labels.max() + 1)])
    margin = found.margin.astype(np.float64).round(6)
    labelled = select(train, kept).table.assign(
        spk_id=names[largest_first(labels[kept])], margin=margin[kept]
    )
    write_manifest(folder / "pseudo_labels.csv", labelled, "pseudo_labels")
    dropped = pd.DataFrame(
        {
            "ID": train.ids[~kept],
            "cluster_size": np.bincount(labels)[labels[~kept]],
            "margin": margin[~kept],
            "reason": reason[~kept],
        }
    )
    with atomic_path(folder / "dropped.csv") as part:
        dropped.to_csv(part, index=False)
    return ["pseudo_labels.csv", "dropped.csv"]


def write_summary(
    folder: Path,
    labels: np.ndarray,
    found: Fit,
    reason: np.ndarray,
    summary: dict[str, Any],
    choice: Choice | None,
) -> list[str]:
    """Figures and settings, sizes and cohesion a cluster, the pictures."""
    kept = reason == KEPT
    ranked = largest_first(labels[kept])
    sizes = cluster_sizes(ranked)
    cohesion = np.bincount(ranked, found.cosine[kept]) / sizes
    content = {
        **summary,
        "sizes": sizes.tolist(),
        "cohesion": cohesion.round(4).tolist(),
        "choice": choice.as_json() if choice else None,
    }
    write_json(folder / "clusters.json", content)
    figure = plots.cluster_sizes({folder.name: sizes})
    save_png(figure, folder / "cluster_sizes.png")
    names = ["clusters.json", "cluster_sizes.png"]
    if choice:
        figure = plots.cluster_number(
            choice.numbers,
            choice.curves,
            choice.by_criterion,
            choice.n_clusters,
        )
        save_png(figure, folder / "cluster_number.png")
        names.append("cluster_number.png")
    return names


if __name__ == "__main__":
    run(main)
