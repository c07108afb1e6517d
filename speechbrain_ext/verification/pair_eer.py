"""Equal error rate of pairs of crops: verification without labels."""

from __future__ import annotations

import numpy as np

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.verification.metrics import equal_error_rate


def pair_eer(
    first: np.ndarray, second: np.ndarray, n_others: int = 100
) -> float:
    """Return the EER of telling crops of one utterance from two utterances.

    Target trials are the two crops of each utterance, non-target trials its
    first crop with the second crops of the utterances that follow. Of a
    speaker this says as much as the two crops differ in all else: their
    channel and noise, by augmentation, and their words. They must not share
    what tells the utterance and not the speaker, such as a length of its own.

    Arguments
    ---------
    first, second : numpy.ndarray
        Embeddings [N, D] of length one of two crops of N utterances, which
        are in random order.
    n_others : int
        Number of non-target trials of each utterance, N - 1 at most.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    InputError
        There are fewer than two utterances.

    Example
    -------
    >>> first = np.array([[1.0, 0], [0, 1], [-1, 0]])
    >>> pair_eer(first, first), pair_eer(first, -first)
    (0.0, 1.0)
    """
    n_pairs = len(first)
    if n_pairs < 2:
        raise InputError(
            f"n_pairs is {n_pairs}; an error rate takes two utterances or "
            "more; shorten the crops"
        )
    targets = np.einsum("nd,nd->n", first, second)
    others = [
        np.einsum("nd,nd->n", first, np.roll(second, -shift, axis=0))
        for shift in range(1, min(n_others, n_pairs - 1) + 1)
    ]
    scores = np.concatenate([targets, *others])
    return equal_error_rate(scores, np.arange(len(scores)) < n_pairs)[0]
