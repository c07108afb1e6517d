"""K-means for many vectors and many clusters.

Pseudo-labels come from two levels: k-means, then Ward's tree over centroids.

Two levels beat one on speaker embeddings (Miara et al., Interspeech 2024):
k-means makes many small pure groups, Ward's method joins them. Both lower
the same cost, the squared distance of embeddings to their cluster's mean, so
centroids stay means (they are not scaled back to length one) and each
carries its size into the tree.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import NamedTuple

import faiss
import numpy as np
import torch
from tqdm import tqdm

from speechbrain_ext.clustering.ward import check_count
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.vectors import (
    check_squares,
    check_vectors,
    row_blocks,
)

logger = logging.getLogger(__name__)

_SEARCHED = 2**17  # rows between two steps of the progress bar
# Cells of centroids that an approximate search visits. On 20,000 centroids
# 10 found distances 0.3 % above the least in sum, 20 found 0.1 %.
_N_PROBES = 16
_CELL_ITERATIONS = 5


class KMeansResult(NamedTuple):
    """Result of k-means: centroids [K, D], labels [N] and the cost."""

    centroids: np.ndarray
    labels: np.ndarray
    inertia: float


def kmeans(
    x: np.ndarray,
    n_clusters: int,
    seed: int,
    n_iterations: int = 25,
    n_restarts: int = 1,
    assignment: str = "exact",
) -> KMeansResult:
    """Cluster vectors by Lloyd's k-means; no cluster is ever empty.

    Distances are Euclidean and vectors are used as given. Speaker embeddings
    are compared by cosine: scale them to length one first (`whiten` does it
    too), so that the nearest in distance is the nearest in cosine.

    It starts from distinct random rows; an empty cluster takes the row
    farthest from its own mean. (k-means++ was no better: on clustered rows,
    20 to 100 a cluster, its inertia after 25 iterations differed by -0.7 to
    +0.2 %, and it costs another N K D products that cannot be batched.)

    Arguments
    ---------
    x : numpy.ndarray
        Vectors [N, D], float32; one row an utterance.
    n_clusters : int
        K, from 1 to N.
    seed : int
        Decides the starting rows: the same seed gives the same clusters.
    n_iterations : int
        At most; stops early when no label changes.
    n_restarts : int
        Runs from other starting rows, of which the one of least inertia is
        kept.
    assignment : str
        ``"exact"`` compares each row with each centroid, on a GPU if faiss
        has one; ``"approximate"`` looks only near the row, on the CPU, which
        is many times faster where K is large.

    Returns
    -------
    KMeansResult
        ``centroids`` [K, D], the means of their rows; ``labels`` [N], 0 to
        K - 1; ``inertia``, the sum of squared distances of rows to their
        centroids.

    Raises
    ------
    InputError
        NaN, vectors all equal, fewer (distinct) vectors than K, K < 1, or an
        unknown assignment.

    Example
    -------
    >>> x = np.array([[0.0], [0.1], [5.0]], dtype=np.float32)
    >>> result = kmeans(x, n_clusters=2, seed=0)
    >>> bool(result.labels[0] == result.labels[1] != result.labels[2])
    True
    """
    x = check_vectors(x)
    check_squares(x)
    check_count(n_clusters, len(x))
    _check_assignment(assignment)
    assign = ASSIGNMENTS[assignment]
    logger.info(
        f"k-means of {len(x)} vectors into {n_clusters} clusters, "
        f"{assignment}; faiss sees {faiss.get_num_gpus()} GPU(s)"
    )
    generator = np.random.default_rng(seed)
    total = n_restarts * n_iterations * len(x)
    with tqdm(total=total, desc="k-means", delay=1, unit_scale=True) as bar:
        runs = (
            _lloyd(x, n_clusters, generator, n_iterations, assign, bar)
            for _ in range(n_restarts)
        )
        return min(runs, key=lambda run: run.inertia)


def _lloyd(
    x: np.ndarray,
    n_clusters: int,
    generator: np.random.Generator,
    n_iterations: int,
    assign: Callable[[np.ndarray, np.ndarray, tqdm], np.ndarray],
    bar: tqdm,
) -> KMeansResult:
    centroids = x[generator.choice(len(x), n_clusters, replace=False)]
    labels = np.full(len(x), -1)
    for _ in range(n_iterations):
        was = labels
        labels = _fill_empty(x, assign(x, centroids, bar), n_clusters)
        centroids = cluster_means(x, labels, n_clusters)
        if np.array_equal(labels, was):
            break
    inertia = float(_square_distances(x, centroids, labels).sum())
    return KMeansResult(centroids, labels, inertia)


def _assign_exactly(
    x: np.ndarray, centroids: np.ndarray, bar: tqdm
) -> np.ndarray:
    """Find the nearest centroid of each row [N], on a GPU if faiss has one."""
    index = _flat_index(centroids)
    labels = np.empty(len(x), dtype=np.int64)
    for first in range(0, len(x), _SEARCHED):
        block = slice(first, first + _SEARCHED)
        found = index.search(x[block], 1)[1]
        labels[block] = found[:, 0]
        bar.update(len(found))
    return labels


def _flat_index(vectors: np.ndarray) -> faiss.Index:
    index: faiss.Index = faiss.IndexFlatL2(vectors.shape[1])
    if faiss.get_num_gpus():
        resources = faiss.StandardGpuResources()
        resources.setTempMemory(2**29)  # a training may be using the rest
        index = faiss.index_cpu_to_gpu(resources, 0, index)
    index.add(np.ascontiguousarray(vectors))
    return index


def _assign_approximately(
    x: np.ndarray, centroids: np.ndarray, bar: tqdm
) -> np.ndarray:
    """Find each row's nearest centroid [N] among its nearest cells.

    An inverted file over the centroids (Jegou et al., PAMI 2011, section
    IV), searched a cell at a time for all rows of a block, so that the work
    is matrix products.
    """
    means, cell = _cells(centroids)
    members = [np.flatnonzero(cell == i) for i in range(len(means))]
    n_probes = min(_N_PROBES, len(means))
    labels = np.empty(len(x), dtype=np.int64)
    for first in range(0, len(x), _SEARCHED):
        block = x[first : first + _SEARCHED]
        probes = faiss.knn(block, means, n_probes)[1].ravel()
        order = np.argsort(probes, kind="stable")
        ends = np.searchsorted(probes[order], np.arange(len(means)), "right")
        least = np.full(len(block), np.inf, dtype=np.float32)
        for own, pairs in zip(members, np.split(order, ends[:-1]), strict=True):
            rows = pairs // n_probes
            square, place = faiss.knn(block[rows], centroids[own], 1)
            nearer = square[:, 0] < least[rows]
            rows = rows[nearer]
            least[rows] = square[nearer, 0]
            labels[first + rows] = own[place[nearer, 0]]
        bar.update(len(block))
    return labels


def _cells(centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Group centroids into cells; return means [C, D] and assignments."""
    means = centroids[: math.isqrt(len(centroids))]
    for _ in range(_CELL_ITERATIONS):
        cell = faiss.knn(centroids, means, 1)[1][:, 0]
        kept, cell = np.unique(cell, return_inverse=True)
        means = cluster_means(centroids, cell, len(kept))
    return means, cell


ASSIGNMENTS = {
    "exact": _assign_exactly,
    "approximate": _assign_approximately,
}


def _check_assignment(assignment: str) -> None:
    """Raise InputError for an unknown assignment."""
    if assignment not in ASSIGNMENTS:
        raise InputError(
            f"assignment is {assignment!r}; it must be "
            f"{' or '.join(ASSIGNMENTS)}; correct --assignment"
        )


def _fill_empty(
    x: np.ndarray, labels: np.ndarray, n_clusters: int
) -> np.ndarray:
    """Move into each empty cluster the farthest row of a different one."""
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
    """Compute the mean of each cluster's rows, in double precision.

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
    """Compute the squared distance of each row to its centroid [N]."""
    result = np.empty(len(x))
    for rows in row_blocks(len(x), x.shape[1]):
        offset = x[rows].astype(np.float64) - centroids[labels[rows]]
        result[rows] = np.einsum("nd,nd->n", offset, offset)
    return result
