"""Rows grouped by label: the members of each group and their places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from speechbrain_ext.utils.vectors import taken


class Members(NamedTuple):
    """Rows of each group; those of group k: ``rows[starts[k]:][:sizes[k]]``.

    Arguments
    ---------
    rows : numpy.ndarray
        All rows [N], group by group, in each group in rising order.
    starts : numpy.ndarray
        Where each group begins in ``rows`` [K].
    sizes : numpy.ndarray
        Rows of each group [K].
    """

    rows: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray


def numbered(labels: np.ndarray) -> np.ndarray:
    """Return labels as numbers [N], 0 to K - 1, in the order of the labels.

    Arguments
    ---------
    labels : numpy.ndarray
        Of any type that sorts [N]. Whole numbers from 0 on are not sorted, so
        that memory does not grow with them.

    Example
    -------
    >>> numbered(np.array(["b", "a", "b"])).tolist()
    [1, 0, 1]
    >>> numbered(np.array([7, 2, 7])).tolist()
    [1, 0, 1]
    """
    is_whole = labels.dtype.kind in "iu" and len(labels)
    if not is_whole or labels.min() < 0 or labels.max() >= 2**24:
        return np.unique(labels, return_inverse=True)[1]
    rank = np.cumsum(np.bincount(labels) > 0) - 1
    return taken(rank, labels)


def members(groups: Sequence | np.ndarray, n_groups: int = 0) -> Members:
    """Sort rows by their group.

    Arguments
    ---------
    groups : sequence of int
        Group of each row [N], 0 to K - 1.
    n_groups : int
        K, if the last groups may be empty.

    Returns
    -------
    Members

    Example
    -------
    >>> found = members([1, 0, 1])
    >>> found.rows.tolist(), found.starts.tolist(), found.sizes.tolist()
    ([1, 0, 2], [0, 1], [1, 2])
    """
    sizes = np.bincount(groups, minlength=n_groups)
    rows = np.argsort(groups, kind="stable")
    return Members(rows, np.cumsum(sizes) - sizes, sizes)


def place_in_group(
    groups: Sequence | np.ndarray, order: np.ndarray | None = None
) -> np.ndarray:
    """Return the place of each row among the rows of its group, from 0.

    Arguments
    ---------
    groups : sequence of int
        Group of each row [N], 0 to K - 1.
    order : numpy.ndarray, optional
        All rows [N]; of one group, the one that comes first here has place
        0. Without, rows count in rising order.

    Returns
    -------
    numpy.ndarray
        Places [N].

    Example
    -------
    >>> place_in_group([1, 0, 1]).tolist()
    [0, 0, 1]
    >>> place_in_group([1, 0, 1], order=np.array([2, 1, 0])).tolist()
    [1, 0, 0]
    """
    groups = np.asarray(groups)
    if order is None:
        order = np.arange(len(groups))
    within, starts, sizes = members(groups[order])
    place = np.empty(len(groups), dtype=np.int64)
    place[order[within]] = np.arange(len(groups)) - np.repeat(starts, sizes)
    return place
