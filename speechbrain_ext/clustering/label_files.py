"""Output files of clustering: labels, dropped utterances, statistics."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from speechbrain_ext.clustering import plots
from speechbrain_ext.clustering.cleaning import KEPT, REASONS, kept_rows
from speechbrain_ext.clustering.label_metrics import (
    Fit,
    cluster_sizes,
    largest_first,
)
from speechbrain_ext.clustering.n_clusters import Choice
from speechbrain_ext.dataio.columns import BLOCK
from speechbrain_ext.dataio.manifest import Manifest, select, write_manifest
from speechbrain_ext.utils.files import atomic_path, write_json
from speechbrain_ext.utils.plotting import save_png
from speechbrain_ext.utils.vectors import flat_nonzero, row_blocks, taken


def write_labels(
    folder: Path,
    train: Manifest,
    labels: np.ndarray,
    found: Fit,
    reason: np.ndarray,
) -> list[str]:
    """Write kept utterances with labels, and dropped ones with reasons.

    Arguments
    ---------
    folder : Path
        Where ``pseudo_labels.csv`` and ``dropped.csv`` go.
    train : Manifest
        The utterances [N].
    labels : numpy.ndarray
        Cluster of each [N], 0 to K - 1.
    found : Fit
        Their cosines and margins.
    reason : numpy.ndarray
        Why each is dropped [N], from `reasons_to_drop`.

    Returns
    -------
    list of str
        The names written.
    """
    rows = kept_rows(reason)
    rank = largest_first(taken(labels, rows))
    names = np.array(
        [f"pseudo{i:05d}" for i in range(labels.max() + 1)], object
    )

    def labelled() -> Iterator[pd.DataFrame]:
        for first in range(0, len(rows), BLOCK):
            some = rows[first : first + BLOCK]
            yield select(train, some).table.assign(
                spk_id=names[rank[first : first + BLOCK]],
                margin=_rounded(found.margin[some]),
            )

    write_manifest(folder / "pseudo_labels.csv", labelled(), "pseudo_labels")
    with atomic_path(folder / "dropped.csv") as part:
        _write_dropped(part, train, labels, found, reason)
    return ["pseudo_labels.csv", "dropped.csv"]


def _write_dropped(
    path: Path,
    train: Manifest,
    labels: np.ndarray,
    found: Fit,
    reason: np.ndarray,
) -> None:
    rows = flat_nonzero(lambda part: reason[part] != KEPT, len(labels))
    sizes, words = np.bincount(labels), np.array(REASONS, object)
    # One block at least, for the header.
    for first in range(0, max(len(rows), 1), BLOCK):
        some = rows[first : first + BLOCK]
        table = {
            "ID": train.ids[some],
            "cluster_size": sizes[labels[some]],
            "margin": _rounded(found.margin[some]),
            "reason": words[reason[some]],
        }
        pd.DataFrame(table).to_csv(
            path, mode="a", index=False, header=not first
        )


def _rounded(margin: np.ndarray) -> np.ndarray:
    return margin.astype(np.float64).round(6)


def write_summary(
    folder: Path,
    labels: np.ndarray,
    found: Fit,
    reason: np.ndarray,
    summary: dict[str, Any],
    choice: Choice | None,
) -> list[str]:
    """Write statistics, settings, cluster sizes and cohesion, and plots.

    Arguments
    ---------
    folder : Path
        Where ``clusters.json`` and the plots go.
    labels : numpy.ndarray
        Cluster of each utterance [N], 0 to K - 1.
    found : Fit
        Their cosines and margins.
    reason : numpy.ndarray
        Why each is dropped [N], from `reasons_to_drop`.
    summary : dict
        Further parts of ``clusters.json``.
    choice : Choice, optional
        How the number of clusters was chosen, if it was.

    Returns
    -------
    list of str
        The names written.
    """
    rows = kept_rows(reason)
    ranked = largest_first(taken(labels, rows))
    sizes = cluster_sizes(ranked)
    cohesion = np.zeros(len(sizes))
    for part in row_blocks(len(rows)):
        cosine = found.cosine[rows[part]]
        cohesion += np.bincount(ranked[part], cosine, len(sizes)) / sizes
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


def write_files(
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
