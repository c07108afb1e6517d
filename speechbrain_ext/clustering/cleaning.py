"""Rules that drop unreliable pseudo-labelled utterances.

Three rules, in this order: clusters too small to be a class, utterances that
lie as near to another cluster as to their own, and utterances beyond a cap,
the least certain first.
"""

from __future__ import annotations

import numpy as np

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.groups import place_in_group

SMALL, UNCERTAIN, CAPPED = "small cluster", "low margin", "over the cap"
KEPT = ""


def reasons_to_drop(
    labels: np.ndarray,
    margin: np.ndarray,
    min_size: int = 1,
    min_margin: float | None = None,
    max_size: int | None = None,
) -> np.ndarray:
    """Return the reason to drop each utterance, or an empty one.

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
        `SMALL`, `UNCERTAIN`, `CAPPED` or the empty text [N].

    Raises
    ------
    InputError
        Fewer than two clusters would be left.

    Example
    -------
    >>> labels, margin = np.array([0, 0, 0, 1, 1, 2]), np.arange(6) / 10
    >>> reasons_to_drop(labels, margin, min_size=2, max_size=2).tolist()
    ['over the cap', '', '', '', '', 'small cluster']
    """
    reason = np.full(len(labels), KEPT, dtype=object)
    reason[np.bincount(labels)[labels] < min_size] = SMALL
    if min_margin is not None:
        reason[(reason == KEPT) & (margin < min_margin)] = UNCERTAIN
        sizes = np.bincount(labels[reason == KEPT], minlength=labels.max() + 1)
        reason[(reason == KEPT) & (sizes[labels] < min_size)] = SMALL
    if max_size is not None:
        left = np.flatnonzero(reason == KEPT)
        surest_first = np.argsort(-margin[left], kind="stable")
        place = place_in_group(labels[left], surest_first)
        reason[left[place >= max_size]] = CAPPED
    n_left = len(np.unique(labels[reason == KEPT]))
    if n_left < 2:
        sizes = np.sort(np.bincount(labels))[::-1]
        raise InputError(
            f"min_cluster_size {min_size} and min_margin {min_margin} leave "
            f"{n_left} cluster(s) of {len(sizes)}, fewer than 2 (the largest "
            f"have {sizes[:2].tolist()} utterances); lower them, or n_clusters"
        )
    return reason


def drop_statistics(reason: np.ndarray) -> dict[str, int]:
    """Count the dropped utterances, in total and for each reason.

    Example
    -------
    >>> drop_statistics(np.array(["", SMALL, SMALL], dtype=object))["n_dropped"]
    2
    """
    return {
        "n_dropped": int((reason != KEPT).sum()),
        "n_in_small_clusters": int((reason == SMALL).sum()),
        "n_low_margin": int((reason == UNCERTAIN).sum()),
        "n_over_cap": int((reason == CAPPED).sum()),
    }
