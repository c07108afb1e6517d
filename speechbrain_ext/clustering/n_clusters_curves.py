"""Label-free curves over the number of clusters of one Ward tree.

Each curve has a value for each candidate number. The tree is grown once;
a candidate costs a cut, which is linear in the leaves. Leaves are vectors or
k-means centroids, each standing for ``sizes`` unit embeddings of mean
``leaves``; so cosines between utterances follow from means alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from speechbrain_ext.clustering.ward import cut_tree, ward_tree
from speechbrain_ext.utils.devices import checked_device
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.terminal import progress_bar
from speechbrain_ext.utils.vectors import row_blocks

RATIO = 1.05  # ratio of one candidate to the one before
MIN_LEAVES = 20


def candidates(
    n_leaves: int, limits: Sequence[int] | None = None
) -> np.ndarray:
    """List the numbers of clusters to try, 5 % apart.

    Arguments
    ---------
    n_leaves : int
        Leaves of the tree.
    limits : sequence of int, optional
        The least and the largest; without, 1 to 50 % of the leaves: beyond,
        half of the leaves are too few to be clustered.

    Returns
    -------
    numpy.ndarray
        Rising numbers, 2 or more.

    Raises
    ------
    InputError
        Too few leaves, or limits that the tree does not have.

    Example
    -------
    >>> candidates(100, (10, 12)).tolist()
    [10, 11, 12]
    """
    if n_leaves < MIN_LEAVES:
        raise InputError(
            f"n_clusters is auto and there are {n_leaves} vectors; it takes "
            f"{MIN_LEAVES} to judge the number of clusters; give a number "
            "with --n_clusters"
        )
    if limits is None:
        limits = (max(2, n_leaves // 100), n_leaves // 2)
    most = n_leaves // 2
    if np.shape(limits) != (2,) or not 2 <= limits[0] < limits[1] <= most:
        raise InputError(
            f"n_clusters_range is {limits}; it must be null or two rising "
            f"numbers from 2 to {most}, half of the {n_leaves} vectors of the "
            "tree; correct --n_clusters_range"
        )
    low, high = limits
    n_steps = int(np.ceil(np.log(high / low) / np.log(RATIO))) + 1
    return np.unique(np.rint(np.geomspace(low, high, n_steps)).astype(int))


def gap_curve(tree: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Compute the gap between the merges below and above each number.

    Arguments
    ---------
    tree : numpy.ndarray
        `speechbrain_ext.clustering.ward_tree` [N - 1, 4].
    numbers : numpy.ndarray
        Candidates [C].

    Returns
    -------
    numpy.ndarray
        Height of the merge that leaves the candidate before over that of
        the merge that leaves this one [C]; 1 for the first.

    Example
    -------
    >>> tree = ward_tree(np.array([[0.0], [1.0], [8.0], [9.0]]))
    >>> gap_curve(tree, np.array([1, 2, 3])).round(1).tolist()
    [1.0, 11.3, 1.0]
    """
    heights = np.maximum(tree[:, 2], 1e-6 * tree[-1, 2])
    at = heights[len(tree) - numbers]
    return np.concatenate([[1.0], at[:-1] / at[1:]])


def cosine_curve(
    tree: np.ndarray,
    leaves: np.ndarray,
    sizes: np.ndarray,
    numbers: np.ndarray,
) -> np.ndarray:
    """Compute the mean cosine between the utterances that merges join.

    Arguments
    ---------
    tree : numpy.ndarray
        `speechbrain_ext.clustering.ward_tree` [N - 1, 4].
    leaves : numpy.ndarray
        Means of unit embeddings [N, D].
    sizes : numpy.ndarray
        Embeddings of each leaf [N].
    numbers : numpy.ndarray
        Candidates [C].

    Returns
    -------
    numpy.ndarray
        Of the merges from each candidate's number to the one before it [C];
        for the first, of the next merge.

    Example
    -------
    >>> x = np.array([[1, 0], [1, 0], [0, 1], [0, 1.0]], dtype=np.float32)
    >>> cosine_curve(ward_tree(x), x, np.ones(4), np.array([2, 3])).tolist()
    [0.0, 1.0]
    """
    cosines = merge_cosines(tree, leaves, sizes)
    n_leaves = len(tree) + 1
    before = np.concatenate([[numbers[0] - 1], numbers[:-1]])
    sums = np.concatenate([[0.0], np.cumsum(cosines)])
    total = sums[n_leaves - before] - sums[n_leaves - numbers]
    return total / (numbers - before)


def merge_cosines(
    tree: np.ndarray, leaves: np.ndarray, sizes: np.ndarray
) -> np.ndarray:
    """Compute the mean cosine across each merge [N - 1]."""
    n_leaves = len(leaves)
    left, right = torch.as_tensor(tree[:, :2].astype(np.int64)).T
    count = torch.zeros(2 * n_leaves - 1, dtype=torch.float64)
    count[:n_leaves] = torch.as_tensor(sizes)
    total = torch.zeros(2 * n_leaves - 1, leaves.shape[1])
    total[:n_leaves] = torch.tensor(leaves) * count[:n_leaves, None].float()
    known = torch.zeros(2 * n_leaves - 1, dtype=torch.bool)
    known[:n_leaves] = True
    cosines = torch.zeros(n_leaves - 1, dtype=torch.float64)
    waiting = torch.arange(n_leaves - 1)
    while len(waiting):
        ready = known[left[waiting]] & known[right[waiting]]
        rows, waiting = waiting[ready], waiting[~ready]
        a, b = left[rows], right[rows]
        dots = (total[a] * total[b]).sum(dim=1)
        cosines[rows] = dots / (count[a] * count[b])
        total[n_leaves + rows] = total[a] + total[b]
        count[n_leaves + rows] = count[a] + count[b]
        known[n_leaves + rows] = True
    return cosines.numpy()


def silhouette_curve(
    tree: np.ndarray,
    leaves: np.ndarray,
    sizes: np.ndarray,
    sample: np.ndarray,
    leaf_of: np.ndarray,
    numbers: np.ndarray,
    device: str | torch.device | None = None,
) -> np.ndarray:
    """Compute the mean silhouette of a sample, by cosine distance.

    Rousseeuw, "Silhouettes", Journal of Computational and Applied
    Mathematics 1987. Exact for each utterance of the sample: the mean cosine
    to all members of a cluster is the product with the members' mean.

    Arguments
    ---------
    tree : numpy.ndarray
        `speechbrain_ext.clustering.ward_tree` [N - 1, 4].
    leaves : numpy.ndarray
        Means of unit embeddings [N, D].
    sizes : numpy.ndarray
        Embeddings of each leaf [N].
    sample : numpy.ndarray
        Unit embeddings [S, D] out of those.
    leaf_of : numpy.ndarray
        Leaf of each [S].
    numbers : numpy.ndarray
        Candidates [C].

    device : str or torch.device, optional
        Where to compute: a GPU if there is one when None.

    Returns
    -------
    numpy.ndarray
        Means over the sample [C]; an utterance alone in its cluster counts
        as 0.

    Example
    -------
    >>> x = np.array([[1, 0], [1, 0], [0, 1], [0, 1.0]], dtype=np.float32)
    >>> tree, all_of_it = ward_tree(x), np.arange(4)
    >>> silhouette_curve(
    ...     tree, x, np.ones(4), x, all_of_it, np.array([2, 3])
    ... ).tolist()
    [1.0, 0.5]
    """
    device = checked_device(device)
    weight = torch.as_tensor(sizes, dtype=torch.float64, device=device)
    sums = torch.tensor(leaves, device=device).double() * weight[:, None]
    points = torch.tensor(sample, device=device)
    leaf = torch.as_tensor(leaf_of, device=device)
    values = []
    for number in progress_bar(numbers, desc="silhouette", delay=1):
        labels = torch.as_tensor(cut_tree(tree, int(number)), device=device)
        total = sums.new_zeros(int(number), sums.shape[1])
        total.index_add_(0, labels, sums)
        counts = torch.bincount(labels, weight)
        own = labels[leaf]
        values.append(_silhouette(points, own, total.float(), counts.float()))
    return np.array(values)


def _silhouette(
    points: torch.Tensor,
    own: torch.Tensor,
    total: torch.Tensor,
    counts: torch.Tensor,
) -> float:
    score = points.new_zeros(len(points))
    for rows in row_blocks(len(points), len(total), points.device):
        dots = points[rows] @ total.T
        label = own[rows, None]
        inside = dots.gather(1, label)[:, 0]
        # The utterance itself, with cosine 1, is not its own neighbour.
        others = counts[label[:, 0]] - 1
        a = 1 - (inside - 1) / others.clamp(min=1)
        b = (1 - dots / counts).scatter(1, label, torch.inf).amin(dim=1)
        value = (b - a) / torch.maximum(a, b).clamp(min=1e-12)
        score[rows] = torch.where(others > 0, value, 0.0)
    return float(score.double().mean())


def agreement_curve(
    tree: np.ndarray,
    leaves: np.ndarray,
    sizes: np.ndarray,
    weights: np.ndarray | None,
    numbers: np.ndarray,
    seed: int,
    n_halvings: int = 2,
    device: str | torch.device | None = None,
) -> np.ndarray:
    """Compute the agreement of clusters from two halves of the leaves.

    Lange, Roth, Braun and Buhmann, "Stability-based validation of clustering
    solutions", Neural Computation 2004: the halves are clustered apart, each
    leaf is classified by its nearest neighbour in the other half, and the
    two groupings are compared (ARI, a leaf counting as its utterances). Both
    halves are cut at the height of the whole's cut over the square root of
    2, since Ward's costs grow with the utterances; a speaker who is missing
    from one half is thus not sought there.

    Arguments
    ---------
    tree : numpy.ndarray
        `speechbrain_ext.clustering.ward_tree` of ``leaves`` [N - 1, 4].
    leaves : numpy.ndarray
        Vectors [N, D].
    sizes : numpy.ndarray
        Utterances of each leaf [N].
    weights : numpy.ndarray, optional
        What the tree was weighted with.
    numbers : numpy.ndarray
        Candidates [C].
    seed : int
        Decides the halves.
    n_halvings : int
        Random halvings to take the mean over; each costs half a tree.
    device : str or torch.device, optional
        Where to compute: a GPU if there is one when None.

    Returns
    -------
    numpy.ndarray
        Adjusted Rand index [C], 1 when halves agree, 0 as chance would.

    Example
    -------
    >>> generator = np.random.default_rng(0)
    >>> x = np.repeat(np.eye(3), 20, axis=0) * 5
    >>> x = (x + generator.normal(size=x.shape)).astype(np.float32)
    >>> curve = agreement_curve(
    ...     ward_tree(x), x, np.ones(60), None, np.array([2, 3, 6]), seed=0
    ... )
    >>> int(curve.argmax())
    1
    """
    n_leaves = len(leaves)
    heights = tree[:, 2]
    # The cut lies between the last merge done and the first one not done.
    cuts = np.sqrt(
        heights[n_leaves - numbers - 1] * heights[n_leaves - numbers]
    )
    generator = np.random.default_rng(seed)
    total = np.zeros(len(numbers))
    for _ in range(n_halvings):
        order = generator.permutation(n_leaves)
        halves = [
            _Half(leaves, sizes, weights, rows, checked_device(device))
            for rows in (
                np.sort(order[: n_leaves // 2]),
                np.sort(order[n_leaves // 2 :]),
            )
        ]
        one, two = halves
        one.look_at(two)
        two.look_at(one)
        for i, cut in enumerate(cuts / np.sqrt(2)):
            a, b = one.labels(cut), two.labels(cut)
            total[i] += weighted_ari(a, b[one.nearest], one.sizes)
            total[i] += weighted_ari(b, a[two.nearest], two.sizes)
    return total / (2 * n_halvings)


class _Half:
    """Half of the leaves, with its own Ward tree."""

    def __init__(
        self,
        leaves: np.ndarray,
        sizes: np.ndarray,
        weights: np.ndarray | None,
        rows: np.ndarray,
        device: torch.device,
    ):
        self.leaves = torch.tensor(leaves[rows], device=device)
        self.sizes = np.asarray(sizes, dtype=np.float64)[rows]
        self.tree = ward_tree(
            leaves[rows],
            None if weights is None else weights[rows],
            device,
        )
        self.nearest = np.zeros(len(rows), dtype=np.int64)

    def look_at(self, other: _Half) -> None:
        """Find each leaf's nearest neighbour in the other half."""
        square = other.leaves.square().sum(dim=1)
        blocks = row_blocks(len(self.leaves), len(square), square.device)
        for rows in blocks:
            distance = square - 2 * self.leaves[rows] @ other.leaves.T
            self.nearest[rows] = distance.argmin(dim=1).cpu().numpy()

    def labels(self, height: float) -> np.ndarray:
        """Return the clusters after all merges up to a height."""
        done = int(np.searchsorted(self.tree[:, 2], height, side="right"))
        return cut_tree(self.tree, len(self.tree) + 1 - done)


def weighted_ari(
    labels: np.ndarray, others: np.ndarray, sizes: np.ndarray
) -> float:
    """Compute the adjusted Rand index of rows with multiplicities.

    Hubert and Arabie, "Comparing partitions", Journal of Classification
    1985, equation 5; the utterances of a row share both labels.

    Example
    -------
    >>> weighted_ari(np.array([0, 1]), np.array([1, 0]), np.array([3.0, 2.0]))
    1.0
    """

    def pairs(counts: np.ndarray) -> float:
        return float((counts * (counts - 1) / 2).sum())

    _, cell = np.unique(
        labels.astype(np.int64) * (int(others.max()) + 1) + others,
        return_inverse=True,
    )
    together = pairs(np.bincount(cell, sizes))
    first, second = (pairs(np.bincount(by, sizes)) for by in (labels, others))
    chance = first * second / pairs(np.asarray([sizes.sum()]))
    most = (first + second) / 2
    return 1.0 if most == chance else (together - chance) / (most - chance)
