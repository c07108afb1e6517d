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
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix

from speechbrain_ext.dataio.manifest import Manifest, read_manifest
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike


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
    overlap = contingency_matrix(labels, previous, sparse=True, dtype=float)
    n_now, n_before = overlap.shape
    # Every cluster may also stay alone: together that is worth less than one
    # shared utterance, so a full matching exists and overlap decides.
    alone = coo_array(
        (np.full(n_now, 0.5 / n_now), (np.arange(n_now), np.arange(n_now)))
    )
    choices = csr_array(hstack([overlap, alone]))
    matched = min_weight_full_bipartite_matching(choices, maximize=True)[1]
    return np.where(matched < n_before, matched, -1)


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
    now = np.unique(np.asarray(labels), return_inverse=True)[1]
    before = np.unique(np.asarray(previous), return_inverse=True)[1]
    same = match_clusters(now, before)[now] == before
    nmi, ari = _agreement(now, before)
    return {
        "churn": round(float((~same).mean()), 6),
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
    nmi, ari = _agreement(labels, again)
    return {"stability_nmi": nmi, "stability_ari": ari}


def _agreement(labels: Any, others: Any) -> tuple[float, float]:
    """Compute NMI and ARI of two clusterings."""
    nmi = normalized_mutual_info_score(others, labels)
    return round(float(nmi), 6), round(adjusted_rand_score(others, labels), 6)


def previous_clusters(
    path: PathLike, manifest: Manifest
) -> tuple[np.ndarray, np.ndarray]:
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
    numpy.ndarray
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
    rows = np.flatnonzero(there >= 0)
    if not len(rows):
        raise InputError(
            f"{path} has none of the {len(manifest)} utterances, its first is "
            f"{before.ids[0]!r}; give the pseudo_labels.csv of the round "
            "before, or null"
        )
    return rows, before.spk_id[there[rows]]
