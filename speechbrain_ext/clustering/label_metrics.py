"""Statistics of pseudo-labels: sizes, shapes, agreement with the truth.

The first can be read while choosing a number of clusters without any label;
the second needs true speakers and serves reports only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.metrics import (
    adjusted_rand_score,
    homogeneity_completeness_v_measure,
)
from sklearn.metrics.cluster import contingency_matrix

from speechbrain_ext.utils.devices import checked_device
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.groups import numbered
from speechbrain_ext.utils.precision import full_precision
from speechbrain_ext.utils.terminal import statistics_in_words
from speechbrain_ext.utils.vectors import large_array, row_blocks, taken


def cluster_sizes(labels: Any) -> np.ndarray:
    """Return the number of utterances of each cluster [K], largest first.

    Example
    -------
    >>> cluster_sizes(["b", "a", "b"])
    array([2, 1])
    """
    return np.sort(np.bincount(numbered(np.asarray(labels))))[::-1]


def largest_first(labels: np.ndarray) -> np.ndarray:
    """Renumber labels [N], from 0 on, by falling size, then first appearance.

    Example
    -------
    >>> largest_first(np.array([7, 3, 3, 5])).tolist()
    [1, 0, 0, 2]
    """
    sizes = np.bincount(labels)
    first = np.full(len(sizes), len(labels))
    for part in row_blocks(len(labels)):
        some, place = np.unique(labels[part], return_index=True)
        first[some] = np.minimum(first[some], part.start + place)
    rank = np.empty(len(sizes), dtype=np.int64)
    # Numbers that no row has come last.
    rank[np.lexsort((first, -sizes))] = np.arange(len(sizes))
    return taken(rank, labels)


def size_statistics(labels: Any) -> dict[str, float]:
    """Count utterances, clusters and their sizes.

    Arguments
    ---------
    labels : array-like
        Cluster of each utterance [N], any values.

    Returns
    -------
    dict
        ``n_utterances``, ``n_clusters``, ``size_min``, ``size_median``,
        ``size_max`` and ``n_singletons`` (clusters of one utterance).

    Example
    -------
    >>> size_statistics([0, 0, 0, 1])["size_median"]
    2.0
    """
    sizes = cluster_sizes(labels)
    return {
        "n_utterances": int(sizes.sum()),
        "n_clusters": len(sizes),
        "size_min": int(sizes[-1]),
        "size_median": float(np.median(sizes)),
        "size_max": int(sizes[0]),
        "n_singletons": int((sizes == 1).sum()),
    }


def swallowed_by_one(labels: Any) -> str:
    """Return a warning if one cluster has most utterances; empty if not.

    Such labels tell few speakers apart, and a training on them teaches little.
    Of two clusters one always has half.

    Example
    -------
    >>> swallowed_by_one([0] * 51 + list(range(1, 11)))[:48]
    'the largest of 11 clusters has 51 of 61 utteranc'
    >>> swallowed_by_one([0, 0, 1, 1, 2])
    ''
    """
    sizes = cluster_sizes(labels)
    if len(sizes) < 3 or 2 * sizes[0] <= sizes.sum():
        return ""
    return (
        f"the largest of {len(sizes)} clusters has {sizes[0]:,} of "
        f"{sizes.sum():,} utterances: embeddings of different speakers are "
        "alike; look at the embedder's training, or at silence and copies of "
        "one file; --max_cluster_size caps what such a cluster contributes"
    )


class Fit(NamedTuple):
    """Cosine to the own centroid and margin of each utterance, both [N]."""

    cosine: np.ndarray
    margin: np.ndarray


@full_precision()
def fit(
    x: np.ndarray,
    labels: np.ndarray,
    centroids: np.ndarray,
    device: str | torch.device | None = None,
) -> Fit:
    """Compute each utterance's cosine to its own centroid, and its margin.

    Arguments
    ---------
    x : numpy.ndarray
        Unit embeddings [N, D].
    labels : numpy.ndarray
        Cluster of each [N], 0 to K - 1.
    centroids : numpy.ndarray
        Mean of each cluster [K, D], K of 2 or more.
    device : str or torch.device, optional
        Where to compute: a GPU if there is one when None.

    Returns
    -------
    Fit
        ``cosine`` [N], and ``margin`` [N]: that cosine minus the one to the
        nearest other centroid; negative where an utterance sits in the wrong
        cluster.

    Example
    -------
    >>> x = np.array([[1.0, 0.0], [0.6, 0.8]], dtype=np.float32)
    >>> fit(x, np.array([0, 1]), np.eye(2, dtype=np.float32)).margin.round(2)
    array([1. , 0.2], dtype=float32)
    """
    device = checked_device(device)
    directions = torch.tensor(centroids, device=device)
    directions = torch.nn.functional.normalize(directions)
    found = Fit(large_array(len(x)), large_array(len(x)))
    for rows in row_blocks(len(x), len(directions), device):
        cosines = torch.tensor(x[rows], device=device) @ directions.T
        own_index = torch.as_tensor(labels[rows], device=device)[:, None]
        own = cosines.gather(1, own_index)[:, 0]
        cosines.scatter_(1, own_index, -torch.inf)
        found.cosine[rows] = own.cpu().numpy()
        found.margin[rows] = (own - cosines.amax(dim=1)).cpu().numpy()
    return found


def shape_statistics(found: Fit) -> dict[str, float]:
    """Measure the tightness of clusters and the distance between them.

    A cluster of one utterance has cohesion 1: read these statistics beside
    ``n_singletons``.

    Arguments
    ---------
    found : Fit
        Of the utterances to count.

    Returns
    -------
    dict
        ``cohesion``: mean cosine of an utterance to its own centroid;
        ``margin``: its mean; ``misplaced``: share of negative margins.

    Example
    -------
    >>> shape_statistics(Fit(np.array([0.5, 0.7]), np.array([0.2, -0.1])))
    {'cohesion': 0.6, 'margin': 0.05, 'misplaced': 0.5}
    """
    n_misplaced = sum(
        int(np.count_nonzero(found.margin[rows] < 0))
        for rows in row_blocks(len(found.margin))
    )
    return {
        "cohesion": round(float(found.cosine.mean(dtype=np.float64)), 6),
        "margin": round(float(found.margin.mean(dtype=np.float64)), 6),
        "misplaced": round(n_misplaced / len(found.margin), 6),
    }


def purity(labels: Any, speakers: Any) -> float:
    """Return the share of utterances of their cluster's main speaker.

    Manning, Raghavan and Schuetze, Introduction to Information Retrieval,
    equation 16.1. It is 1 when every cluster is a singleton: read it beside
    the number of clusters.

    Arguments
    ---------
    labels : array-like
        Cluster of each utterance [N].
    speakers : array-like
        True speaker of each utterance [N].

    Returns
    -------
    float
        Above 0, at most 1.

    Example
    -------
    >>> purity([0, 0, 0, 1], ["ann", "ann", "bob", "bob"])
    0.75
    """
    _, _, counts = _commonest(labels, speakers)
    return float(counts.sum() / len(labels))


def _commonest(
    labels: Any, speakers: Any
) -> tuple[int, np.ndarray, np.ndarray]:
    """Count speakers, and find each cluster's most frequent one."""
    shared = contingency_matrix(labels, speakers, sparse=True).tocoo()
    # By cluster, then rising count: the last of each is the most frequent.
    order = np.lexsort((shared.data, shared.row))
    last = np.append(np.diff(shared.row[order]) > 0, True)
    chosen = order[last]
    return shared.shape[1], shared.col[chosen], shared.data[chosen]


def split_and_merged(labels: Any, speakers: Any) -> dict[str, int]:
    """Count speakers that own several clusters, and speakers without one.

    A cluster is its commonest speaker's (of equals, the last in order).

    Arguments
    ---------
    labels : array-like
        Cluster of each utterance [N].
    speakers : array-like
        True speaker of each utterance [N].

    Returns
    -------
    dict
        ``n_split``: speakers with two clusters or more; ``n_merged``:
        speakers with none, who lie in clusters of others.

    Example
    -------
    >>> split_and_merged([0, 1, 2, 2, 2], ["a", "a", "b", "b", "c"])
    {'n_split': 1, 'n_merged': 1}
    """
    n_speakers, owner, _ = _commonest(labels, speakers)
    owned = np.bincount(owner, minlength=n_speakers)
    return {
        "n_split": int((owned > 1).sum()),
        "n_merged": int((owned == 0).sum()),
    }


def truth_statistics(labels: Any, speakers: Any) -> dict[str, float]:
    """Measure how well pseudo-labels agree with true speakers.

    Arguments
    ---------
    labels : array-like
        Cluster of each utterance [N].
    speakers : array-like
        True speaker of each utterance [N].

    Returns
    -------
    dict
        ``n_speakers``, ``nmi`` (mutual information over the arithmetic mean
        of the two entropies: also the V-measure of Rosenberg and Hirschberg
        2007, the harmonic mean of the next two), ``homogeneity`` (are
        clusters of one speaker?), ``completeness`` (are speakers in one
        cluster?), ``ari`` (Hubert and Arabie 1985), ``purity``, and
        `split_and_merged`.

    Raises
    ------
    InputError
        The two differ in length.

    Example
    -------
    >>> found = truth_statistics([0, 0, 1], ["ann", "ann", "bob"])
    >>> found["nmi"], found["ari"], found["n_merged"]
    (1.0, 1.0, 0)
    """
    if len(labels) != len(speakers):
        raise InputError(
            f"there are {len(labels)} labels and {len(speakers)} speakers; "
            "each utterance needs one of both; give both in one order"
        )
    homogeneity, completeness, v_measure = homogeneity_completeness_v_measure(
        speakers, labels
    )
    return {
        "n_speakers": len(np.unique(np.asarray(speakers))),
        "nmi": round(float(v_measure), 6),
        "homogeneity": round(float(homogeneity), 6),
        "completeness": round(float(completeness), 6),
        "ari": round(float(adjusted_rand_score(speakers, labels)), 6),
        "purity": round(purity(labels, speakers), 6),
        **split_and_merged(labels, speakers),
    }


def labels_in_words(statistics: Mapping[str, float]) -> list[str]:
    """Return statistics of pseudo-labels in lines to read.

    Arguments
    ---------
    statistics : mapping of str to float
        Those of `size_statistics` and `shape_statistics`, and any others.

    Example
    -------
    >>> found = {"cohesion": 0.9, "margin": 0, "misplaced": 0, "nmi": 0.5}
    >>> for line in labels_in_words({**size_statistics([0, 0, 0, 1]), **found}):
    ...     print(line)
    4 utterances in 2 clusters of 1 to 3, median 2; 1 of them of one utterance
    cohesion 0.900: mean cosine of an utterance to its cluster's centroid
    0.0 % of the utterances are nearer to the centroid of another cluster
    also: margin 0, NMI 0.5
    """
    told = dict(statistics)
    count, smallest, largest = (
        told.pop(name) for name in ("n_clusters", "size_min", "size_max")
    )
    lines = [
        f"{told.pop('n_utterances'):,} utterances in {count:,} clusters of "
        f"{smallest:,} to {largest:,}, median {told.pop('size_median'):g}; "
        f"{told.pop('n_singletons'):,} of them of one utterance",
        f"cohesion {told.pop('cohesion'):.3f}: mean cosine of an utterance to "
        "its cluster's centroid",
        f"{100 * told.pop('misplaced'):.1f} % of the utterances are nearer to "
        "the centroid of another cluster",
    ]
    # Reasons for which nothing was dropped say nothing.
    rest = {name: v for name, v in told.items() if v or name[:2] != "n_"}
    return [*lines, f"also: {statistics_in_words(rest)}"]
