"""Churn: the share of pseudo-labels that change between rounds.

Cluster numbers mean nothing across clusterings, so the clusters of two
rounds are matched first, one to one, by the assignment of largest overlap
(Kuhn, "The Hungarian method", Naval Research Logistics 1955). Churn is the
share of utterances that the matching does not cover: 0 when both rounds
group alike. It needs no true label, and when it stops falling, further
rounds no longer make the labels more stable.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import coo_array, csr_array, hstack
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from speechbrain_ext.dataio.columns import TextColumn
from speechbrain_ext.dataio.manifest import Manifest, read_manifest
from speechbrain_ext.utils.distributed import gathered_objects, own_rows
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike
from speechbrain_ext.utils.groups import numbered
from speechbrain_ext.utils.vectors import flat_nonzero, taken

_BLOCK = 2**20  # utterances that are counted at once


def match_clusters(labels: np.ndarray, previous: np.ndarray) -> np.ndarray:
    """Match each cluster with a previous one, by largest overlap.

    Arguments
    ---------
    labels : numpy.ndarray
        Cluster of each utterance [N], 0 to K - 1, none empty.
    previous : numpy.ndarray
        The same utterances' clusters in the round before [N], 0 to J - 1,
        none empty.

    Returns
    -------
    numpy.ndarray
        Earlier cluster of each [K]; -1 where none is left that shares an
        utterance.

    Example
    -------
    >>> now, before = np.array([0, 0, 1, 1, 2]), np.array([1, 1, 0, 0, 0])
    >>> match_clusters(now, before).tolist()
    [1, 0, -1]
    """
    return _matched(overlaps(labels, previous))


def _matched(overlap: coo_array) -> np.ndarray:
    """Match clusters by their counts of shared utterances [K, J]."""
    n_now, n_before = overlap.shape
    # Every cluster may also stay alone: together that is worth less than one
    # shared utterance, so a full matching exists and overlap decides.
    alone = coo_array(
        (np.full(n_now, 0.5 / n_now), (np.arange(n_now), np.arange(n_now)))
    )
    choices = csr_array(hstack([overlap, alone]))
    matched = min_weight_full_bipartite_matching(choices, maximize=True)[1]
    return np.where(matched < n_before, matched, -1)


def overlaps(labels: np.ndarray, previous: np.ndarray) -> coo_array:
    """Count the utterances that each cluster shares with a previous one.

    Several processes each count a part of the utterances.

    Arguments
    ---------
    labels, previous : numpy.ndarray
        As of `match_clusters`.

    Returns
    -------
    scipy.sparse.coo_array
        Counts [K, J], the same in each process.

    Example
    -------
    >>> overlaps(np.array([0, 0, 1]), np.array([1, 1, 0])).toarray().tolist()
    [[0.0, 2.0], [1.0, 0.0]]
    """
    shape = int(labels.max()) + 1, int(previous.max()) + 1
    pairs, counts = [], []
    own = own_rows(len(labels))
    for first in range(own.start, own.stop, _BLOCK):
        rows = slice(first, min(first + _BLOCK, own.stop))
        both = labels[rows].astype(np.int64) * shape[1] + previous[rows]
        found = np.unique(both, return_counts=True)
        pairs.append(found[0])
        counts.append(found[1].astype(float))
    parts = gathered_objects((pairs, counts))
    keys = np.concatenate([p for part, _ in parts for p in part])
    data = np.concatenate([c for _, part in parts for c in part])
    whole = coo_array((data, np.divmod(keys, shape[1])), shape=shape)
    whole.sum_duplicates()
    return whole


def churn_statistics(labels: Any, previous: Any) -> dict[str, float]:
    """Compare two rounds' labels of the same utterances.

    Arguments
    ---------
    labels, previous : array-like
        Cluster of each utterance [N], any values.

    Returns
    -------
    dict
        ``churn``: share of utterances outside matched clusters;
        ``round_nmi``, ``round_ari``: agreement of the two rounds;
        ``n_compared``: N.

    Example
    -------
    >>> churn_statistics(["x", "x", "y", "z"], [5, 5, 7, 7])["churn"]
    0.25
    """
    now, before = _numbers(labels), _numbers(previous)
    overlap = overlaps(now, before)
    matched = _matched(overlap)
    n_same = overlap.data[matched[overlap.row] == overlap.col].sum()
    nmi, ari = _agreement(overlap)
    return {
        "churn": round(1 - float(n_same) / len(now), 6),
        "round_nmi": nmi,
        "round_ari": ari,
        "n_compared": len(now),
    }


def stability_statistics(labels: Any, again: Any) -> dict[str, float]:
    """Compare two clusterings of one round, made from different seeds.

    Example
    -------
    >>> stability_statistics([0, 0, 1], [4, 4, 2])
    {'stability_nmi': 1.0, 'stability_ari': 1.0}
    """
    nmi, ari = _agreement(overlaps(_numbers(labels), _numbers(again)))
    return {"stability_nmi": nmi, "stability_ari": ari}


def _numbers(labels: Any) -> np.ndarray:
    """Return labels [N] of any kind as numbers, 0 to K - 1."""
    if isinstance(labels, TextColumn):
        return labels.codes()[1]
    return numbered(np.asarray(labels))


def _agreement(overlap: coo_array) -> tuple[float, float]:
    """Compute NMI and ARI of two clusterings from what they share [K, J].

    The mutual information over the mean of the two entropies, and the
    adjusted Rand index (Hubert and Arabie, 1985, equation 5).
    """
    rows, columns = (np.asarray(overlap.sum(axis=i)).ravel() for i in (1, 0))
    total = rows.sum()
    share = overlap.data / total
    expected = rows[overlap.row] * columns[overlap.col] / total**2
    mutual = float((share * np.log(share / expected)).sum())
    entropies = [-float((p * np.log(p)).sum()) for p in _shares(rows, columns)]
    mean = sum(entropies) / 2
    nmi = min(max(mutual, 0.0) / mean, 1.0) if mean else 1.0
    # Pairs of utterances: whole numbers, which do not overflow in Python.
    together, first, second, pairs = (
        sum(n * (n - 1) // 2 for n in map(int, counts))
        for counts in (overlap.data, rows, columns, [total])
    )
    chance = first * second / pairs if pairs else 0.0
    most = (first + second) / 2
    ari = (together - chance) / (most - chance) if most != chance else 1.0
    return round(nmi, 6), round(ari, 6)


def _shares(*counts: np.ndarray) -> list[np.ndarray]:
    return [some / some.sum() for some in counts]


def previous_clusters(
    path: PathLike, manifest: Manifest
) -> tuple[np.ndarray, TextColumn]:
    """Read the previous round's clusters of the utterances it kept.

    Arguments
    ---------
    path : str or os.PathLike
        Its ``pseudo_labels.csv``.
    manifest : Manifest
        Utterances of this round [N].

    Returns
    -------
    numpy.ndarray
        Rows of ``manifest`` that were labelled [M].
    TextColumn
        Their names of clusters [M].

    Raises
    ------
    InputError
        No utterance is in both.

    Example
    -------
    >>> import pandas as pd
    >>> path = getfixture("tmp_path") / "pseudo_labels.csv"
    >>> _ = path.write_text(
    ...     "ID,duration,wav,start,stop,spk_id\\n"
    ...     "b,1.0,b.wav,0,16000,pseudo00003\\n"
    ... )
    >>> now = Manifest(pd.DataFrame({"ID": ["a", "b"]}), "utterances")
    >>> rows, clusters = previous_clusters(path, now)
    >>> rows.tolist(), clusters.tolist()
    ([1], ['pseudo00003'])
    """
    before = read_manifest(path, "pseudo_labels")
    there = before.rows_of(manifest.ids)
    rows = flat_nonzero(lambda part: there[part] >= 0, len(there))
    if not len(rows):
        raise InputError(
            f"{path} has none of the {len(manifest)} utterances, its first is "
            f"{before.ids[0]!r}; give the pseudo_labels.csv of the round "
            "before, or null"
        )
    names = before.columns["spk_id"]
    assert isinstance(names, TextColumn)
    return rows, names.take(taken(there, rows))
