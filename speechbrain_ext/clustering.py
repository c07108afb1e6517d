"""Pseudo-labels: k-means, then Ward's tree over its centroids.

Two levels beat one on speaker embeddings (Miara et al., Interspeech 2024):
k-means makes many small pure groups, Ward's method joins them. Both lower
the same cost, the squared distance of embeddings to their cluster's mean, so
centroids stay means (they are not scaled back to length one) and each
carries its size into the tree.
"""

from __future__ import annotations

from typing import NamedTuple

import faiss
import numpy as np
import torch
from tqdm import tqdm

from speechbrain_ext.files import InputError
from speechbrain_ext.forest import row_blocks
from speechbrain_ext.ward import (
    check_count,
    check_vectors,
    cut_tree,
    ward_tree,
)

__all__ = [
    "KMeansResult",
    "cluster_means",
    "cut_tree",
    "kmeans",
    "normalise",
    "ward_tree",
]


class KMeansResult(NamedTuple):
    """Centroids [K, D] (means of their rows), labels [N] and the cost."""

    centroids: np.ndarray
    labels: np.ndarray
    inertia: float


def normalise(x: np.ndarray, center: bool = False) -> np.ndarray:
    """Embeddings scaled to length one, so that distance ranks as cosine.

    Arguments
    ---------
    x : numpy.ndarray
        Embeddings [N, D].
    center : bool
        Subtract the mean embedding first.

    Returns
    -------
    numpy.ndarray
        Unit rows [N, D], float32.

    Raises
    ------
    InputError
        A row holds NaN or infinity, or has no direction (all zeros).

    Example
    -------
    >>> normalise(np.array([[3.0, 4.0], [0.0, 2.0]]))
    array([[0.6, 0.8],
           [0. , 1. ]], dtype=float32)
    """
    x = check_vectors(x)
    if center:
        x = x - x.mean(axis=0, dtype=np.float64).astype(np.float32)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    if not length.all():
        raise InputError(
            f"embedding row {int(np.argmin(length))} is all zeros and has no "
            "direction; extract the embeddings again or drop the utterance"
        )
    return x / length


def kmeans(
    x: np.ndarray,
    n_clusters: int,
    seed: int,
    n_iterations: int = 25,
    n_restarts: int = 1,
) -> KMeansResult:
    """Lloyd's k-means on all rows, never with an empty cluster.

    Starts from distinct random rows; an empty cluster takes the row farthest
    from its own mean. Rows are used as given: `normalise` them first.

    Arguments
    ---------
    x : numpy.ndarray
        Vectors [N, D], float32.
    n_clusters : int
        K.
    seed : int
        Decides the starting rows.
    n_iterations : int
        At most; stops early when no label changes.
    n_restarts : int
        Runs, of which the one of least inertia is kept.

    Returns
    -------
    KMeansResult
        Exactly K clusters.

    Raises
    ------
    InputError
        NaN, vectors all equal, fewer (distinct) vectors than K, or K < 1.

    Example
    -------
    >>> x = np.array([[0.0], [0.1], [5.0]], dtype=np.float32)
    >>> result = kmeans(x, n_clusters=2, seed=0)
    >>> bool(result.labels[0] == result.labels[1] != result.labels[2])
    True
    """
    x = check_vectors(x)
    check_count(n_clusters, len(x))
    generator = np.random.default_rng(seed)
    with tqdm(total=n_restarts * n_iterations, desc="k-means", delay=1) as bar:
        runs = (
            _lloyd(x, n_clusters, generator, n_iterations, bar)
            for _ in range(n_restarts)
        )
        return min(runs, key=lambda run: run.inertia)


def _lloyd(
    x: np.ndarray,
    n_clusters: int,
    generator: np.random.Generator,
    n_iterations: int,
    bar: tqdm,
) -> KMeansResult:
    centroids = x[generator.choice(len(x), n_clusters, replace=False)]
    labels = np.full(len(x), -1)
    for _ in range(n_iterations):
        bar.update()
        was = labels
        index = faiss.IndexFlatL2(x.shape[1])
        index.add(np.ascontiguousarray(centroids))
        labels = _fill_empty(x, index.search(x, 1)[1][:, 0], n_clusters)
        centroids = cluster_means(x, labels, n_clusters)
        if np.array_equal(labels, was):
            break
    inertia = float(_square_distances(x, centroids, labels).sum())
    return KMeansResult(centroids, labels, inertia)


def _fill_empty(
    x: np.ndarray, labels: np.ndarray, n_clusters: int
) -> np.ndarray:
    """Give each empty cluster the farthest row of another, one a donor."""
    while True:
        sizes = np.bincount(labels, minlength=n_clusters)
        empty = np.flatnonzero(sizes == 0)
        if not len(empty):
            return labels
        means = cluster_means(x, labels, n_clusters)
        distance = _square_distances(x, means, labels)
        order = np.argsort(-distance, kind="stable")
        # The first row of each cluster in that order is its farthest.
        farthest = order[np.sort(np.unique(labels[order], True)[1])]
        farthest = farthest[distance[farthest] > 0][: len(empty)]
        if not len(farthest):
            raise InputError(
                f"{n_clusters} clusters were asked for and only "
                f"{n_clusters - len(empty)} of the {len(x)} vectors are "
                "distinct; ask for fewer clusters or remove the copies"
            )
        labels[farthest] = empty[: len(farthest)]


def cluster_means(
    x: np.ndarray, labels: np.ndarray, n_clusters: int
) -> np.ndarray:
    """Mean of each cluster's rows, summed in double precision.

    Arguments
    ---------
    x : numpy.ndarray
        Vectors [N, D].
    labels : numpy.ndarray
        Cluster of each row [N], 0 to K - 1.
    n_clusters : int
        K.

    Returns
    -------
    numpy.ndarray
        Means [K, D], float32; zeros where a cluster is empty.

    Example
    -------
    >>> cluster_means(np.array([[1.0], [3.0]]), np.array([1, 1]), 2)
    array([[0.],
           [2.]], dtype=float32)
    """
    index = torch.as_tensor(labels)
    sums = torch.zeros(n_clusters, x.shape[1], dtype=torch.float64)
    for rows in row_blocks(len(x), x.shape[1]):
        block = torch.tensor(x[rows], dtype=torch.float64)
        sums.index_add_(0, index[rows], block)
    sizes = torch.bincount(index, minlength=n_clusters).clamp(min=1)
    return (sums / sizes[:, None]).float().numpy()


def _square_distances(
    x: np.ndarray, centroids: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    """Squared distance of each row to its centroid [N], by subtraction."""
    result = np.empty(len(x))
    for rows in row_blocks(len(x), x.shape[1]):
        offset = x[rows].astype(np.float64) - centroids[labels[rows]]
        result[rows] = np.einsum("nd,nd->n", offset, offset)
    return result
