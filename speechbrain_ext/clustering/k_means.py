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
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from speechbrain_ext.clustering.assignment import (
    ASSIGNMENTS,
    Assign,
    check_assignment,
)
from speechbrain_ext.clustering.cluster_rows import ClusterRows
from speechbrain_ext.clustering.ward import check_count
from speechbrain_ext.utils.devices import checked_device
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.terminal import progress_bar
from speechbrain_ext.utils.vectors import check_squares, check_vectors

logger = logging.getLogger(__name__)


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
    device: str | torch.device | None = None,
    shared: bool = False,
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
        ``"exact"`` compares each row with each centroid, on the device;
        ``"approximate"`` looks only near the row, on the CPU, which is many
        times faster there where K is large.
    device : str or torch.device, optional
        Where to compute: a GPU if there is one when None. With another one
        labels differ where two centroids are equally near but for rounding.
    shared : bool
        Whether each process of the process group calls it, with rows of its
        own: those of all, in the order of ranks, are clustered. Without a
        process group it changes nothing.

    Returns
    -------
    KMeansResult
        ``centroids`` [K, D], the means of their rows; ``labels`` [N], 0 to
        K - 1; ``inertia``, the sum of squared distances of rows to their
        centroids. Labels are of this process's rows, the rest of all's.

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
    check_assignment(assignment)
    rows = ClusterRows(x, checked_device(device), shared)
    check_count(n_clusters, rows.n_total)
    logger.info(
        f"k-means of {rows.n_total} vectors into {n_clusters} clusters, "
        f"{assignment}, on {rows.device}"
    )
    generator = np.random.default_rng(seed)
    assign = ASSIGNMENTS[assignment]
    total = n_restarts * n_iterations * len(rows)
    bar = progress_bar(total=total, desc="k-means", delay=1, unit_scale=True)
    with bar:
        runs = (
            _lloyd(rows, n_clusters, generator, n_iterations, assign, bar)
            for _ in range(n_restarts)
        )
        return min(runs, key=lambda run: run.inertia)


def _lloyd(
    rows: ClusterRows,
    n_clusters: int,
    generator: np.random.Generator,
    n_iterations: int,
    assign: Assign,
    bar: tqdm,
) -> KMeansResult:
    chosen = generator.choice(rows.n_total, n_clusters, replace=False)
    centroids = rows.take(chosen)
    labels = rows.values(torch.int64).fill_(-1)
    for _ in range(n_iterations):
        was = labels
        labels = _fill_empty(rows, assign(rows, centroids, bar), n_clusters)
        centroids = rows.means(labels, n_clusters)
        if not rows.n_different(labels, was):
            break
    inertia = rows.cost(centroids, labels)
    return KMeansResult(centroids.cpu().numpy(), labels.cpu().numpy(), inertia)


def _fill_empty(
    rows: ClusterRows, labels: torch.Tensor, n_clusters: int
) -> torch.Tensor:
    """Move into each empty cluster the farthest row of a different one."""
    while True:
        empty = (rows.sizes(labels, n_clusters) == 0).nonzero()[:, 0]
        if not len(empty):
            return labels
        means = rows.means(labels, n_clusters)
        distances = rows.square_distances(means, labels)
        far, number = rows.farthest(distances, labels, n_clusters)
        number = number[far > 0]
        # By falling distance, then by row.
        order = np.lexsort((number.cpu(), -far[far > 0].cpu()))[: len(empty)]
        if not len(order):
            raise InputError(
                f"{n_clusters} clusters were asked for and only "
                f"{n_clusters - len(empty)} of the {rows.n_total} vectors are "
                "distinct; ask for fewer clusters or remove the copies"
            )
        place = number[torch.from_numpy(order).to(rows.device)] - rows.first
        own = (place >= 0) & (place < len(rows))
        labels[place[own]] = empty[: len(order)][own]
