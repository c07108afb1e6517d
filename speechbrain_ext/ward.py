"""Ward's tree, exact, in memory that grows with N and not with N x N.

`clustering` is the module to import; this one holds the algorithm.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from tqdm import tqdm

from speechbrain_ext.files import InputError

_BLOCK = 2**23  # elements of the largest temporary matrix


def ward_tree(x: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Ward's hierarchical clustering, exact, in O(N D) memory.

    Ward, "Hierarchical grouping to optimize an objective function", JASA
    1963: clusters a and b of weights w and means m cost
    ``w_a w_b / (w_a + w_b) |m_a - m_b|^2`` to join, the cheapest pair joins
    first. The cost is reducible (a union is no nearer to a third cluster than
    its parts were), so all reciprocal nearest neighbours may join at once
    (Murtagh, The Computer Journal 1983) and a neighbour stays valid until it
    is itself merged. Equal costs are broken by position, so the tree is a
    function of its input alone.

    Arguments
    ---------
    x : numpy.ndarray
        Vectors [N, D], for instance centroids.
    weights : numpy.ndarray, optional
        What each vector counts for [N], for instance cluster sizes; 1 when
        None.

    Returns
    -------
    numpy.ndarray
        The merges [N - 1, 4] by rising height, as SciPy writes them: the two
        clusters (below N a vector, N + i the result of merge i), the height
        ``sqrt(2 cost)``, the number of vectors inside.

    Raises
    ------
    InputError
        NaN, vectors all equal, or weights that are not N positive numbers.

    Example
    -------
    >>> ward_tree(np.array([[0.0], [9.0], [1.0]])).round(2).tolist()
    [[0.0, 2.0, 1.0, 2.0], [1.0, 3.0, 9.81, 3.0]]
    """
    x = check_vectors(x)
    if weights is None:
        weights = np.ones(len(x))
    weights = np.asarray(weights, dtype=np.float64)
    if weights.shape != (len(x),) or not (
        np.isfinite(weights).all() and (weights > 0).all()
    ):
        raise InputError(
            f"weights of shape {weights.shape} for {len(x)} vectors: one "
            "positive number for each is needed; empty clusters have no place"
        )
    forest = _Forest(x, weights)
    with tqdm(total=len(x) - 1, desc="Ward", delay=1) as bar:
        while len(forest.node) > 1:
            bar.update(forest.merge_round())
    return forest.tree()


class _Forest:
    """The clusters of the moment, one a slot, and the merges so far."""

    def __init__(self, x: np.ndarray, weights: np.ndarray):
        self.n_leaves = len(x)
        self.merges: list[torch.Tensor] = []
        self.n_merges = 0
        self.means = _double(x)
        self.inverse = 1 / torch.as_tensor(weights)
        self.node = torch.arange(len(x))
        self.height = torch.zeros(len(x), dtype=torch.float64)
        self.count = torch.ones(len(x), dtype=torch.float64)
        self.cost = torch.zeros(len(x), dtype=torch.float64)
        self.nearest = torch.zeros(len(x), dtype=torch.long)
        self.stale = torch.ones(len(x), dtype=torch.bool)
        self._prepare_screen()

    def _prepare_screen(self) -> None:
        """Copies in single precision, centred and scaled, for `_bounds`."""
        self.centre = self.means.mean(dim=0)
        self.scale = 1 / (self.means - self.centre).abs().max()
        # Rounding of a product of length D, doubled to be safe.
        self.slack = (self.means.shape[1] + 16) * 2.0**-23
        self.screen = torch.zeros_like(self.means, dtype=torch.float32)
        self.square = torch.zeros(self.n_leaves)
        self._update_screen(torch.arange(self.n_leaves))

    def _update_screen(self, slots: torch.Tensor) -> None:
        moved = (self.means[slots] - self.centre) * self.scale
        self.screen[slots] = moved.float()
        square = moved.square().sum(dim=1) * (1 - self.slack)
        self.square[slots] = square.float()

    def merge_round(self) -> int:
        """Join all reciprocal nearest neighbours; how many pairs."""
        self._find_nearest(self.stale.nonzero()[:, 0])
        slots = torch.arange(len(self.node))
        mutual = (self.nearest[self.nearest] == slots) & (slots < self.nearest)
        first = mutual.nonzero()[:, 0]
        if not len(first):
            # Only among equal costs can neighbours chase one another.
            first = self.cost.argmin()[None]
        second = self.nearest[first]
        self._join(first, second)
        return len(first)

    def _join(self, first: torch.Tensor, second: torch.Tensor) -> None:
        """Merge pairs of slots; the first of each keeps the result."""
        height = (2 * self.cost[first]).sqrt()
        # Rounding must not put a cluster below its parts.
        height = height.maximum(self.height[first])
        height = height.maximum(self.height[second])
        pair = torch.stack([self.node[first], self.node[second]], dim=1)
        left, right = pair.double().sort(dim=1).values.T
        count = self.count[first] + self.count[second]
        self.merges.append(torch.stack([left, right, height, count], dim=1))

        u, v = self.inverse[first, None], self.inverse[second, None]
        self.means[first] = (v * self.means[first] + u * self.means[second]) / (
            u + v
        )
        self.inverse[first] = 1 / (1 / u + 1 / v)[:, 0]
        self.height[first], self.count[first] = height, count
        begin = self.n_leaves + self.n_merges
        self.node[first] = torch.arange(begin, begin + len(first))
        self.n_merges += len(first)
        self._update_screen(first)
        self._forget(first, second)

    def _forget(self, first: torch.Tensor, second: torch.Tensor) -> None:
        """Drop the second slots; who pointed at a merged one is stale."""
        merged = torch.zeros(len(self.node), dtype=torch.bool)
        merged[first] = merged[second] = True
        self.stale = merged | merged[self.nearest]
        keep = torch.ones(len(self.node), dtype=torch.bool)
        keep[second] = False
        position = keep.cumsum(0) - 1
        self.nearest = position[self.nearest]
        for name in (
            "means inverse node height count cost nearest stale screen square"
        ).split():
            setattr(self, name, getattr(self, name)[keep])

    def _find_nearest(self, slots: torch.Tensor) -> None:
        """Each slot's cheapest partner: screened, then exact."""
        for rows in row_blocks(len(slots), len(self.node)):
            block = slots[rows]
            bounds = self._bounds(block)
            guess = self._exact(block, bounds.argmin(dim=1))
            limit = (guess * self.scale**2 * (1 + 1e-6) + 1e-30).float()
            row, column = (bounds <= limit[:, None]).nonzero().T
            cost = self._exact(block[row], column)
            best = _minimum(cost, row, len(block))
            row, column = (i[cost == best[row]] for i in (row, column))
            # Symmetric and different for each partner: equal costs still
            # pair off, many at a time.
            key = self.node[block[row]] ^ self.node[column]
            first = key == _minimum(key, row, len(block))[row]
            self.nearest[block[row[first]]] = column[first]
            self.cost[block] = best

    def _bounds(self, block: torch.Tensor) -> torch.Tensor:
        """Lower bounds, nearly tight, of the scaled costs [B, M]."""
        bounds = torch.addmm(
            self.square, self.screen[block], self.screen.T, alpha=-2
        )
        bounds += self.square[block, None]
        inverse = self.inverse.float()
        bounds /= inverse[block, None] + inverse
        bounds[torch.arange(len(block)), block] = torch.inf
        return bounds

    def _exact(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Cost of joining slots a [P] and b [P], by subtraction."""
        costs = torch.empty(len(a), dtype=torch.float64)
        for rows in row_blocks(len(a), self.means.shape[1]):
            i, j = a[rows], b[rows]
            square = (self.means[i] - self.means[j]).square().sum(dim=1)
            costs[rows] = square / (self.inverse[i] + self.inverse[j])
        return costs

    def tree(self) -> np.ndarray:
        """The merges by rising height, numbered as SciPy does."""
        merges = torch.cat(self.merges)
        # Stable: at equal heights the parts still come before the whole.
        order = merges[:, 2].argsort(stable=True)
        number = torch.arange(2 * self.n_leaves - 1, dtype=torch.float64)
        number[self.n_leaves + order] = number[self.n_leaves :].clone()
        merges = merges[order]
        merges[:, :2] = number[merges[:, :2].long()].sort(dim=1).values
        return merges.numpy()


def cut_tree(tree: np.ndarray, n_clusters: int) -> np.ndarray:
    """Labels for a number of clusters: all but the last merges are done.

    Arguments
    ---------
    tree : numpy.ndarray
        From `ward_tree` [N - 1, 4].
    n_clusters : int
        1 to N.

    Returns
    -------
    numpy.ndarray
        Labels [N], 0 to n_clusters - 1 in order of first appearance.

    Raises
    ------
    InputError
        ``n_clusters`` is below 1 or above N.

    Example
    -------
    >>> cut_tree(ward_tree(np.array([[0.0], [9.0], [1.0]])), 2).tolist()
    [0, 1, 0]
    """
    n_leaves = len(tree) + 1
    check_count(n_clusters, n_leaves)
    n_merges = n_leaves - n_clusters
    above = np.arange(2 * n_leaves - 1)
    done = tree[:n_merges, :2].astype(np.int64)
    above[done] = n_leaves + np.arange(n_merges)[:, None]
    while (above != above[above]).any():
        above = above[above]
    _, first, labels = np.unique(
        above[:n_leaves], return_index=True, return_inverse=True
    )
    return np.argsort(np.argsort(first))[labels]


def check_vectors(x: np.ndarray) -> np.ndarray:
    """Vectors [N, D] as float32, refused if they cannot be clustered.

    Raises
    ------
    InputError
        Not a matrix of 2 or more rows, NaN or infinity, or all rows equal.
    """
    x = np.ascontiguousarray(x, dtype=np.float32)
    if x.ndim != 2 or len(x) < 2:
        raise InputError(
            f"vectors of shape {x.shape}: clustering takes [N, D] with N of "
            "2 or more"
        )
    bad = ~np.isfinite(x).all(axis=1)
    if bad.any():
        raise InputError(
            f"{int(bad.sum())} of {len(x)} vectors hold NaN or infinity, the "
            f"first is row {int(np.argmax(bad))}; the embedder has diverged: "
            "train it again at a lower rate"
        )
    if (x == x[0]).all():
        raise InputError(
            f"all {len(x)} vectors are equal: the embedder has collapsed; "
            "look at its training log and train it again"
        )
    return x


def check_count(n_clusters: int, n_vectors: int) -> None:
    """Refuse a number of clusters below 1 or above that of the vectors."""
    if not 1 <= n_clusters <= n_vectors:
        raise InputError(
            f"{n_clusters} clusters of {n_vectors} utterances: the number "
            "must be 1 or more and there cannot be fewer utterances than "
            f"clusters; ask for at most {n_vectors}, or bring more speech"
        )


def row_blocks(n_rows: int, row_size: int) -> Iterator[slice]:
    """Slices of rows that keep a temporary matrix within 2**23 elements."""
    step = max(_BLOCK // row_size, 1)
    for first in range(0, n_rows, step):
        yield slice(first, first + step)


def _double(x: np.ndarray) -> torch.Tensor:
    return torch.tensor(x, dtype=torch.float64)


def _minimum(
    values: torch.Tensor, group: torch.Tensor, n_groups: int
) -> torch.Tensor:
    """Least value of each group [n_groups]; no group is empty."""
    result = torch.zeros(n_groups, dtype=values.dtype)
    return result.scatter_reduce(0, group, values, "amin", include_self=False)
