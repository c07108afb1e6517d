"""Exact Ward's tree in memory that grows with N, not with N x N.

`ward_search` finds which clusters join; here are the functions to call.
"""

from __future__ import annotations

import numpy as np
import torch

from speechbrain_ext.clustering.ward_search import Forest
from speechbrain_ext.utils.devices import checked_device
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.precision import full_precision
from speechbrain_ext.utils.terminal import progress_bar
from speechbrain_ext.utils.vectors import check_vectors


def ward_tree(
    x: np.ndarray,
    weights: np.ndarray | None = None,
    device: str | torch.device | None = None,
) -> np.ndarray:
    """Compute the exact Ward's tree of vectors in O(N D) memory.

    Distances are Euclidean: scale speaker embeddings to length one first
    (`whiten` does it too). Cut the tree with `cut_tree`. A million vectors
    are too many: cluster them with `kmeans` and grow the tree on its
    centroids, with ``weights=np.bincount(labels)``.

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
    device : str or torch.device, optional
        Where to search, a GPU if there is one when None; the tree is the same
        but for rounding in double precision.

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
            f"weights have shape {weights.shape} for {len(x)} vectors; one "
            "positive number for each is needed; leave out empty clusters"
        )
    device = checked_device(device)
    bar = progress_bar(total=len(x) - 1, desc="Ward", delay=1)
    with bar, full_precision():
        forest = Forest(x, weights, device)
        while len(forest.node) > 1:
            bar.update(forest.merge_round())
        return forest.tree()


def cut_tree(tree: np.ndarray, n_clusters: int) -> np.ndarray:
    """Cut Ward's tree into a number of clusters.

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
    # Not scipy's fcluster: where merges have equal heights, as of copies, it
    # gives fewer clusters; 100,000 leaves take it 2 to 4 times as long.
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


def check_count(n_clusters: int, n_vectors: int) -> None:
    """Raise InputError if the number of clusters is not from 1 to N."""
    if not 1 <= n_clusters <= n_vectors:
        raise InputError(
            f"{n_clusters} clusters of {n_vectors} utterances: the number "
            "must be 1 or more and there cannot be fewer utterances than "
            f"clusters; ask for at most {n_vectors}, or bring more speech"
        )
