"""Vectors to cluster: on a device, read in blocks, held by many processes.

Sums are of whole numbers, so they do not depend on the order: a mean is the
same bit by bit on any number of processes, and on a GPU at each run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
import torch.distributed
from torch.distributed import ReduceOp

from speechbrain_ext.utils.vectors import large_array, row_blocks

_BITS = 62  # of a sum of whole numbers, without the sign
_EXACT = 4  # elements that one takes in double precision, with its copies
_SHARE_OF_GPU = 0.5  # of its free memory that vectors may take


class ClusterRows:
    """Vectors of this process, and sums over those of all processes.

    Arguments
    ---------
    x : numpy.ndarray
        Vectors [N, D], float32; those of this process where ``shared``.
    device : str or torch.device
        Where to compute. A GPU holds the vectors if they fill at most half of
        its free memory; otherwise each block is copied there when it is used.
    shared : bool
        Whether the processes of the process group each hold a part, in the
        order of their ranks. All must then call the same methods.

    Example
    -------
    >>> rows = ClusterRows(np.float32([[1.0], [3.0]]))
    >>> rows.means(torch.tensor([1, 1]), 2)
    tensor([[0.],
            [2.]])
    """

    def __init__(
        self,
        x: np.ndarray,
        device: str | torch.device = "cpu",
        shared: bool = False,
    ):
        self.x = x
        self.device = torch.device(device)
        self.shared = shared and torch.distributed.is_initialized()
        self._there = self._resident()
        counts = self._counts_of_processes()
        rank = torch.distributed.get_rank() if self.shared else 0
        self.first, self.n_total = sum(counts[:rank]), sum(counts)
        largest = max(
            (float(np.abs(x[r]).max()) for r in row_blocks(len(x), x[:1].size)),
            default=0.0,
        )
        most = torch.tensor(largest, dtype=torch.float64, device=self.device)
        self._largest = float(self._reduce(most, ReduceOp.MAX))

    def __len__(self) -> int:
        return len(self.x)

    def _resident(self) -> torch.Tensor | None:
        """Copy all vectors to the GPU, if there is one and they fit."""
        if self.device.type != "cuda":
            return None
        free = torch.cuda.mem_get_info(self.device)[0]
        if self.x.nbytes > _SHARE_OF_GPU * free:
            return None
        return torch.tensor(self.x, device=self.device)

    def values(self, dtype: torch.dtype) -> torch.Tensor:
        """Return room for a number of each row [N], on the device.

        On a CPU many are kept in a file, so that memory does not grow with
        the rows.

        Example
        -------
        >>> ClusterRows(np.ones((2, 1), np.float32)).values(torch.int64).shape
        torch.Size([2])
        """
        if self.device.type != "cpu":
            return torch.empty(len(self), dtype=dtype, device=self.device)
        kind = torch.empty(0, dtype=dtype).numpy().dtype
        return torch.from_numpy(large_array(len(self), kind))

    def _counts_of_processes(self) -> list[int]:
        if not self.shared:
            return [len(self.x)]
        counts = torch.zeros(
            torch.distributed.get_world_size(),
            dtype=torch.int64,
            device=self.device,
        )
        counts[torch.distributed.get_rank()] = len(self.x)
        return self.total(counts).tolist()

    def _reduce(
        self, value: torch.Tensor, how: ReduceOp.RedOpType
    ) -> torch.Tensor:
        if self.shared:
            torch.distributed.all_reduce(value, op=how)
        return value

    def total(self, value: torch.Tensor) -> torch.Tensor:
        """Sum a value over the processes, in place.

        Example
        -------
        >>> ClusterRows(np.ones((2, 1), np.float32)).total(torch.tensor(5))
        tensor(5)
        """
        return self._reduce(value, ReduceOp.SUM)

    def blocks(self, row_size: int) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield slices of the rows with their vectors on the device.

        Arguments
        ---------
        row_size : int
            Elements that a row needs in the largest temporary matrix.

        Example
        -------
        >>> rows = ClusterRows(np.ones((2, 3), np.float32))
        >>> [block.shape for _, block in rows.blocks(3)]
        [torch.Size([2, 3])]
        """
        for part in row_blocks(len(self), max(row_size, 1), self.device):
            if self._there is not None:
                yield part, self._there[part]
            else:
                yield part, torch.tensor(self.x[part], device=self.device)

    def take(self, chosen: np.ndarray) -> torch.Tensor:
        """Return rows by their numbers among those of all processes [C, D].

        Example
        -------
        >>> rows = ClusterRows(np.float32([[1.0], [3.0]]))
        >>> rows.take(np.array([1]))
        tensor([[3.]])
        """
        own = (chosen >= self.first) & (chosen < self.first + len(self))
        taken = np.zeros((len(chosen), self.x.shape[1]), dtype=np.float32)
        taken[own] = self.x[chosen[own] - self.first]
        # Each is of one process: sums with zeros are exact.
        return self.total(torch.from_numpy(taken).to(self.device))

    def sizes(self, labels: torch.Tensor, n_clusters: int) -> torch.Tensor:
        """Count the rows of each cluster [K].

        Example
        -------
        >>> rows = ClusterRows(np.float32([[1.0], [3.0]]))
        >>> rows.sizes(torch.tensor([1, 1]), 2)
        tensor([0, 2])
        """
        return self.total(torch.bincount(labels, minlength=n_clusters))

    def means(self, labels: torch.Tensor, n_clusters: int) -> torch.Tensor:
        """Compute the mean of each cluster's rows.

        Sums are of 62 bits, of which the largest possible takes all: as exact
        as double precision, whatever the order.

        Arguments
        ---------
        labels : torch.Tensor
            Cluster of each row [N], 0 to K - 1.
        n_clusters : int
            K.

        Returns
        -------
        torch.Tensor
            [K, D], float32; zeros where a cluster is empty.
        """
        sizes = self.sizes(labels, n_clusters)
        bound = float(sizes.max()) * self._largest
        scale = 2.0 ** (_BITS - math.ceil(math.log2(bound or 1.0)))
        shape = n_clusters, self.x.shape[1]
        sums = torch.zeros(shape, dtype=torch.int64, device=self.device)
        for part, block in self.blocks(_EXACT * shape[1]):
            whole = (block.double() * scale).round().long()
            sums.index_add_(0, labels[part], whole)
        counts = sizes.clamp(min=1)[:, None]
        return (self.total(sums).double() / counts / scale).float()

    def cost(self, centroids: torch.Tensor, labels: torch.Tensor) -> float:
        """Sum the squared distances of all rows to their centroids.

        Arguments
        ---------
        centroids : torch.Tensor
            [K, D]
        labels : torch.Tensor
            [N]

        Example
        -------
        >>> rows = ClusterRows(np.float32([[1.0], [3.0]]))
        >>> rows.cost(torch.zeros(1, 1), torch.tensor([0, 0]))
        10.0
        """
        whole = torch.zeros((), dtype=torch.float64, device=self.device)
        for part, block in self.blocks(_EXACT * centroids.shape[1]):
            whole += _squares(block, centroids[labels[part]]).sum()
        return float(self.total(whole))

    def n_different(self, labels: torch.Tensor, others: torch.Tensor) -> int:
        """Count the rows, of all processes, whose labels [N] differ.

        Example
        -------
        >>> rows = ClusterRows(np.ones((2, 1), np.float32))
        >>> rows.n_different(torch.tensor([0, 1]), torch.tensor([0, 2]))
        1
        """
        count = torch.zeros((), dtype=torch.int64, device=self.device)
        for part in row_blocks(len(self), device=self.device):
            count += (labels[part] != others[part]).sum()
        return int(self.total(count))

    def square_distances(
        self, centroids: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        """Compute the squared distance of each row to its centroid.

        Arguments
        ---------
        centroids : torch.Tensor
            [K, D]
        labels : torch.Tensor
            [N]

        Returns
        -------
        torch.Tensor
            [N], in double precision.

        Example
        -------
        >>> rows = ClusterRows(np.float32([[1.0], [3.0]]))
        >>> rows.square_distances(torch.zeros(1, 1), torch.tensor([0, 0]))
        tensor([1., 9.], dtype=torch.float64)
        """
        result = self.values(torch.float64)
        for part, block in self.blocks(_EXACT * centroids.shape[1]):
            result[part] = _squares(block, centroids[labels[part]])
        return result

    def farthest(
        self, distances: torch.Tensor, labels: torch.Tensor, n_clusters: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Find the farthest row of each cluster, the first of equal ones.

        Arguments
        ---------
        distances : torch.Tensor
            From the centroids [N].
        labels : torch.Tensor
            [N]
        n_clusters : int
            K.

        Returns
        -------
        tuple of torch.Tensor
            The distance [K], -1 of an empty cluster, and the number of the row
            among those of all processes [K].

        Example
        -------
        >>> rows = ClusterRows(np.zeros((3, 1), np.float32))
        >>> rows.farthest(torch.tensor([1.0, 4, 4]), torch.tensor([0, 0, 0]), 1)
        (tensor([4.]), tensor([1]))
        """
        far = distances.new_full((n_clusters,), -1)
        far.scatter_reduce_(0, labels, distances, "amax")
        far = self._reduce(far, ReduceOp.MAX)
        row = labels.new_full((n_clusters,), self.n_total)
        for part in row_blocks(len(self), device=self.device):
            own = labels[part]
            number = torch.arange(len(own), device=self.device)
            number += self.first + part.start
            number[distances[part] < far[own]] = self.n_total
            row.scatter_reduce_(0, own, number, "amin")
        return far, self._reduce(row, ReduceOp.MIN)


def _squares(block: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    """Compute squared distances [B] of rows to vectors, both [B, D]."""
    return (block.double() - centroids).square_().sum(dim=1)


def cluster_means(
    x: np.ndarray, labels: np.ndarray, n_clusters: int
) -> np.ndarray:
    """Compute the mean of each cluster's rows, exact to float32.

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
    return ClusterRows(x).means(index, n_clusters).numpy()
