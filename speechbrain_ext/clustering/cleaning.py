"""Rules that drop unreliable pseudo-labelled utterances.

Three rules, in this order: clusters too small to be a class, utterances that
lie as near to another cluster as to their own, and utterances beyond a cap,
the least certain first.
"""

from __future__ import annotations

import numpy as np

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.groups import place_in_group
from speechbrain_ext.utils.vectors import by_blocks, flat_nonzero, row_blocks

REASONS = ("", "small cluster", "low margin", "over the cap")
KEPT, SMALL, UNCERTAIN, CAPPED = range(4)  # numbers of the reasons


def reasons_to_drop(
    labels: np.ndarray,
    margin: np.ndarray,
    min_size: int = 1,
    min_margin: float | None = None,
    max_size: int | None = None,
) -> np.ndarray:
    """Return the number of the reason to drop each utterance, or `KEPT`.

    A cluster that falls below ``min_size`` because its utterances are
    uncertain is dropped whole.

    Arguments
    ---------
    labels : numpy.ndarray
        Cluster of each utterance [N], 0 to K - 1.
    margin : numpy.ndarray
        `speechbrain_ext.clustering.label_metrics.fit` [N].
    min_size : int
        Least utterances of a cluster.
    min_margin : float, optional
        Least margin of an utterance.
    max_size : int, optional
        Most utterances of a cluster: those of largest margin, of equals the
        first.

    Returns
    -------
    numpy.ndarray
        `KEPT`, `SMALL`, `UNCERTAIN` or `CAPPED` [N], whose words are in
        `REASONS`.

    Raises
    ------
    InputError
        Fewer than two clusters would be left.

    Example
    -------
    >>> labels, margin = np.array([0, 0, 0, 1, 1, 2]), np.arange(6) / 10
    >>> reasons_to_drop(labels, margin, min_size=2, max_size=2).tolist()
    [3, 0, 0, 0, 0, 1]
    """
    sizes = np.bincount(labels)
    reason = by_blocks(
        lambda own: np.where(sizes[own] < min_size, SMALL, KEPT),
        labels,
        dtype=np.uint8,
    )
    if min_margin is not None:
        for rows in row_blocks(len(labels)):
            low = (reason[rows] == KEPT) & (margin[rows] < min_margin)
            reason[rows][low] = UNCERTAIN
        kept = _kept_sizes(labels, reason)
        for rows in row_blocks(len(labels)):
            few = (reason[rows] == KEPT) & (kept[labels[rows]] < min_size)
            reason[rows][few] = SMALL
    if max_size is not None:
        many = _kept_sizes(labels, reason) > max_size
        left = flat_nonzero(
            lambda rows: (reason[rows] == KEPT) & many[labels[rows]],
            len(labels),
        )
        surest_first = np.argsort(-margin[left], kind="stable")
        place = place_in_group(labels[left], surest_first)
        reason[left[place >= max_size]] = CAPPED
    n_left = int((_kept_sizes(labels, reason) > 0).sum())
    if n_left < 2:
        sizes = np.sort(sizes)[::-1]
        raise InputError(
            f"min_cluster_size {min_size} and min_margin {min_margin} leave "
            f"{n_left} cluster(s) of {len(sizes)}, fewer than 2 (the largest "
            f"have {sizes[:2].tolist()} utterances); lower them, or n_clusters"
        )
    return reason


def kept_rows(reason: np.ndarray) -> np.ndarray:
    """Return the rows of the utterances that are not dropped, in order.

    Arguments
    ---------
    reason : numpy.ndarray
        From `reasons_to_drop` [N].

    Example
    -------
    >>> kept_rows(np.array([KEPT, SMALL, KEPT])).tolist()
    [0, 2]
    """
    return flat_nonzero(lambda rows: reason[rows] == KEPT, len(reason))


def _kept_sizes(labels: np.ndarray, reason: np.ndarray) -> np.ndarray:
    """Count the kept utterances of each cluster [K]."""
    sizes = np.zeros(int(labels.max()) + 1, dtype=np.int64)
    for rows in row_blocks(len(labels)):
        kept = labels[rows][reason[rows] == KEPT]
        sizes += np.bincount(kept, minlength=len(sizes))
    return sizes


def drop_statistics(reason: np.ndarray) -> dict[str, int]:
    """Count the dropped utterances, in total and for each reason.

    Example
    -------
    >>> drop_statistics(np.array([KEPT, SMALL, SMALL]))["n_dropped"]
    2
    """
    kept, small, low, capped = np.bincount(reason, minlength=len(REASONS))
    return {
        "n_dropped": int(small + low + capped),
        "n_in_small_clusters": int(small),
        "n_low_margin": int(low),
        "n_over_cap": int(capped),
    }
