"""Search for the nearest centroid of each vector, the work of k-means."""

from __future__ import annotations

import math
from collections.abc import Callable

import faiss
import numpy as np
import torch
from tqdm import tqdm

from speechbrain_ext.clustering.cluster_rows import ClusterRows, cluster_means
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.precision import single_precision
from speechbrain_ext.utils.vectors import large_array

_SEARCHED = 2**17  # rows between two steps of the progress bar
# Cells of centroids that an approximate search visits. On 20,000 centroids
# 10 found distances 0.3 % above the least in sum, 20 found 0.1 %.
_N_PROBES = 16
_CELL_ITERATIONS = 5

Assign = Callable[[ClusterRows, torch.Tensor, tqdm], torch.Tensor]


def assign_exactly(
    rows: ClusterRows, centroids: torch.Tensor, bar: tqdm
) -> torch.Tensor:
    """Find the nearest centroid of each row, comparing it with all.

    Products of blocks of rows with all centroids, in full float32: squared
    distances but for the row's own square, around the centroids' mean, where
    they cancel least.

    Arguments
    ---------
    rows : ClusterRows
        N vectors.
    centroids : torch.Tensor
        [K, D], on the device of the rows.
    bar : tqdm.tqdm
        Moved on by the rows that are done.

    Returns
    -------
    torch.Tensor
        Numbers of centroids [N].

    Example
    -------
    >>> rows = ClusterRows(np.float32([[0, 1], [4, 4], [5, 4]]))
    >>> with tqdm(disable=True) as bar:
    ...     assign_exactly(rows, torch.tensor([[4.0, 4.0], [0.0, 0.0]]), bar)
    tensor([1, 0, 0])
    """
    labels = rows.values(torch.int64)
    with single_precision(centroids):
        centre = centroids.double().mean(dim=0).float()
        moved = centroids - centre
        square = moved.square().sum(dim=1)
        scratch = square.new_empty(0)
        for part, block in rows.blocks(max(centroids.shape)):
            # Allocated once: a new one for each block would take its time.
            if not len(scratch):
                scratch = square.new_empty(len(block), len(square))
            distance = torch.addmm(
                square,
                block - centre,
                moved.T,
                alpha=-2,
                out=scratch[: len(block)],
            )
            labels[part] = distance.argmin(dim=1)
            bar.update(len(block))
    return labels


def assign_approximately(
    rows: ClusterRows, centroids: torch.Tensor, bar: tqdm
) -> torch.Tensor:
    """Find the nearest centroid of each row among those of its nearest cells.

    An inverted file over the centroids (Jegou et al., PAMI 2011, section
    IV), searched a cell at a time for all rows of a block, so that the work
    is matrix products. It computes on the CPU.

    Arguments
    ---------
    rows : ClusterRows
        N vectors.
    centroids : torch.Tensor
        [K, D].
    bar : tqdm.tqdm
        Moved on by the rows that are done.

    Returns
    -------
    torch.Tensor
        Numbers of centroids [N].

    Example
    -------
    >>> rows = ClusterRows(np.float32([[0, 1], [4, 4], [5, 4]]))
    >>> with tqdm(disable=True) as bar:
    ...     assign_approximately(rows, torch.tensor([[4.0, 4.0], [0, 0]]), bar)
    tensor([1, 0, 0])
    """
    near = centroids.cpu().numpy()
    means, cell = _cells(near)
    members = [np.flatnonzero(cell == i) for i in range(len(means))]
    n_probes = min(_N_PROBES, len(means))
    labels = large_array(len(rows), np.int64)
    for first in range(0, len(rows), _SEARCHED):
        block = rows.x[first : first + _SEARCHED]
        probes = faiss.knn(block, means, n_probes)[1].ravel()
        order = np.argsort(probes, kind="stable")
        ends = np.searchsorted(probes[order], np.arange(len(means)), "right")
        least = np.full(len(block), np.inf, dtype=np.float32)
        for own, pairs in zip(members, np.split(order, ends[:-1]), strict=True):
            some = pairs // n_probes
            square, place = faiss.knn(block[some], near[own], 1)
            nearer = square[:, 0] < least[some]
            some = some[nearer]
            least[some] = square[nearer, 0]
            labels[first + some] = own[place[nearer, 0]]
        bar.update(len(block))
    return torch.from_numpy(labels).to(rows.device)


def _cells(centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Group centroids into cells; return means [C, D] and assignments."""
    means = centroids[: math.isqrt(len(centroids))]
    for _ in range(_CELL_ITERATIONS):
        cell = faiss.knn(centroids, means, 1)[1][:, 0]
        kept, cell = np.unique(cell, return_inverse=True)
        means = cluster_means(centroids, cell, len(kept))
    return means, cell


ASSIGNMENTS: dict[str, Assign] = {
    "exact": assign_exactly,
    "approximate": assign_approximately,
}


def check_assignment(assignment: str) -> None:
    """Raise InputError for an unknown assignment."""
    if assignment not in ASSIGNMENTS:
        raise InputError(
            f"assignment is {assignment!r}; it must be "
            f"{' or '.join(ASSIGNMENTS)}; correct --assignment"
        )
