"""Clusters of a run to browse and to listen to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from speechbrain_ext.clustering.label_metrics import cluster_sizes
from speechbrain_ext.dataio.manifest import Manifest, read_manifest
from speechbrain_ext.dataio.oracle import true_speakers
from speechbrain_ext.experiment.artifacts import LabelArtifacts
from speechbrain_ext.report.clips import ClipCutter
from speechbrain_ext.report.page import Block, Clips, Fold, Table
from speechbrain_ext.utils.files import read_json

_MOST_ROWS = 200
_CLIPS = 3  # of a cluster
_UNKNOWN = "–"


class Clusters(NamedTuple):
    """Clusters of the training utterances.

    ``labels``, a manifest of N utterances with their clusters; ``margin``
    [N], how much nearer each is to its own cluster than to the next, NaN where
    unknown; ``cohesion`` of each cluster by its name; ``speakers`` [N], the
    true ones, None if unknown.
    """

    labels: Manifest
    margin: np.ndarray
    cohesion: dict[str, float]
    speakers: np.ndarray | None

    def rows_of(self, name: str) -> np.ndarray:
        """Return the rows of a cluster, the surest first."""
        rows = np.flatnonzero(self.labels.spk_id == name)
        return rows[np.argsort(-self.margin[rows], kind="stable")]


def read_clusters(
    artifacts: LabelArtifacts, data_root: str, oracle: str | None
) -> Clusters:
    """Read the clusters that a step left.

    Arguments
    ---------
    artifacts : LabelArtifacts
        Files of the step.
    data_root : str
        What ``$data_root`` in the manifest stands for.
    oracle : str, optional
        File of true speakers.

    Returns
    -------
    Clusters
    """
    labels = read_manifest(artifacts.labels, "pseudo_labels", data_root)
    if "margin" in labels.columns:
        margin = labels.margin
    else:
        margin = np.full(len(labels), np.nan)
    # Clusters are named by falling size, in the order of ``cohesion``.
    names = np.unique(labels.spk_id)
    cohesion = {}
    if artifacts.clusters.exists():
        stored = read_json(artifacts.clusters).get("cohesion") or []
        if len(stored) == len(names):
            cohesion = dict(zip(names, stored, strict=True))
    speakers = None if oracle is None else true_speakers(oracle, labels)
    return Clusters(labels, margin, cohesion, speakers)


def cluster_blocks(clusters: Clusters, cutter: ClipCutter) -> list[Block]:
    """Return a table of the clusters, and some of them to listen to."""
    blocks: list[Block] = []
    groups = [
        (words, clips)
        for words, rows in examples(clusters)
        if (clips := _cut(clusters, rows, cutter))
    ]
    if groups:
        caption = (
            "Three utterances each, cut to their first seconds: the surest, "
            "one in the middle and the least sure. Do they sound alike?"
        )
        blocks.append(Clips("Listen to clusters", caption, groups))
    table = cluster_table(clusters)
    note = "size, cohesion, margin and, where known, purity"
    blocks.append(Fold("Browse clusters", note, [table]))
    return blocks


def _cut(
    clusters: Clusters, rows: Sequence[int], cutter: ClipCutter
) -> list[Any]:
    """Return clips of utterances, with what is known of each."""
    found = []
    for row in rows:
        words = f"margin {clusters.margin[row]:.2f}"
        if clusters.speakers is not None:
            words += f", speaker {clusters.speakers[row]}"
        words += f", in {clusters.labels.spk_id[row]}"
        found.append(cutter.cut(clusters.labels, row, words))
    return [clip for clip in found if clip is not None]


def _spread(rows: np.ndarray) -> list[int]:
    """Return the first, middle and last of some rows."""
    places = np.linspace(0, len(rows) - 1, _CLIPS).round().astype(int)
    return [int(rows[place]) for place in dict.fromkeys(places)]


def examples(clusters: Clusters) -> list[tuple[str, list[int]]]:
    """Choose utterances to listen to.

    Arguments
    ---------
    clusters : Clusters
        Of N utterances.

    Returns
    -------
    list of (str, list of int)
        Words on a cluster or speaker, and rows of three utterances: the
        largest and the least sure cluster and, where true speakers are known,
        the most mixed cluster and the most split speaker.
    """
    labels = clusters.labels.spk_id
    names, number, sizes = np.unique(
        labels, return_inverse=True, return_counts=True
    )
    if len(names) == 0:
        return []
    largest = names[np.argmax(sizes)]
    found = [
        (
            f"Largest cluster: {largest}, {sizes.max():,} utterances",
            _spread(clusters.rows_of(largest)),
        )
    ]
    big = sizes >= _CLIPS
    means = np.bincount(number, clusters.margin) / sizes
    if big.any() and np.isfinite(means).all():
        least = names[np.argmin(np.where(big, means, np.inf))]
        mean = np.where(big, means, np.inf).min()
        words = f"Least sure cluster: {least}, mean margin {mean:.2f}"
        found.append((words, _spread(clusters.rows_of(least))))
    if clusters.speakers is not None:
        found += _mixed(clusters, names[big]) + _split(clusters)
    return found


def _firsts(rows: np.ndarray, values: np.ndarray) -> list[int]:
    """Return the first row of each of the commonest values."""
    kinds, first, counts = np.unique(
        values[rows], return_index=True, return_counts=True
    )
    order = np.argsort(-counts, kind="stable")[:_CLIPS]
    return [int(rows[first[place]]) for place in order]


def _mixed(
    clusters: Clusters, names: np.ndarray
) -> list[tuple[str, list[int]]]:
    """Choose voices of the cluster that holds most true speakers."""
    assert clusters.speakers is not None
    counts = {
        name: len(np.unique(clusters.speakers[clusters.labels.spk_id == name]))
        for name in names
    }
    if not counts or max(counts.values()) < 2:
        return []
    name = max(counts, key=lambda key: counts[key])
    words = f"Cluster that merges most voices: {name}, {counts[name]} speakers"
    rows = clusters.rows_of(name)
    return [(words, _firsts(rows, clusters.speakers))]


def _split(clusters: Clusters) -> list[tuple[str, list[int]]]:
    """Choose utterances of the speaker that lies in most clusters."""
    assert clusters.speakers is not None
    labels = clusters.labels.spk_id
    pairs = np.unique(
        np.stack([clusters.speakers.astype(str), labels.astype(str)]), axis=1
    )
    speakers, counts = np.unique(pairs[0], return_counts=True)
    if counts.max(initial=0) < 2:
        return []
    speaker = speakers[np.argmax(counts)]
    words = f"Speaker split most: {speaker}, in {counts.max()} clusters"
    rows = np.flatnonzero(clusters.speakers.astype(str) == speaker)
    return [(words, _firsts(rows, labels))]


def cluster_table(clusters: Clusters) -> Table:
    """Return a row for each cluster, the largest and the least sure ones.

    Arguments
    ---------
    clusters : Clusters
        Of N utterances.

    Returns
    -------
    Table
    """
    labels = clusters.labels.spk_id
    names, number, sizes = np.unique(
        labels, return_inverse=True, return_counts=True
    )
    margins = np.bincount(number, clusters.margin, len(names)) / sizes
    shown = np.argsort(-sizes, kind="stable")
    caption = f"All {len(names):,} clusters"
    if len(names) > _MOST_ROWS:
        half = _MOST_ROWS // 2
        unsure = np.argsort(margins, kind="stable")
        shown = np.array(list(dict.fromkeys([*shown[:half], *unsure]))[:200])
        caption = (
            f"The {half} largest and the {half} least sure of {len(names):,} "
            "clusters"
        )
    caption += (
        ". Cohesion: mean cosine to the cluster's centre; margin: how much "
        "nearer an utterance is to it than to the next. High is good."
    )
    rows = []
    for place in shown:
        row = {
            "cluster": str(names[place]),
            "utterances": f"{sizes[place]:,}",
            "cohesion": _number(clusters.cohesion.get(names[place])),
            "margin": _number(margins[place]),
        }
        if clusters.speakers is not None:
            row |= _truth(clusters.speakers[number == place])
        rows.append(row)
    if clusters.speakers is not None:
        caption += " Purity: share of its commonest speaker."
    return Table("Clusters", rows, caption)


def _truth(speakers: np.ndarray) -> dict[str, str]:
    """Describe a cluster by the true speakers of its utterances."""
    sizes = cluster_sizes(speakers)
    purity = sizes[0] / sizes.sum()
    return {"purity": f"{purity:.2f}", "speakers": f"{len(sizes):,}"}


def _number(value: float | None) -> str:
    known = value is not None and np.isfinite(value)
    return f"{value:.2f}" if known else _UNKNOWN
