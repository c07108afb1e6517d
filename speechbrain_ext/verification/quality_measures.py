"""Quality measures of utterances: how far a score can be trusted.

Durations, lengths of embeddings and means of cohort scores, after Thienpondt,
Desplanques and Demuynck, "The IDLab VoxCeleb Speaker Recognition Challenge
2020 system description". Of each the smaller and the larger of a trial's two
sides are taken, so that enrolment and test may be swapped.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray


def quality_measures(
    of_utterances: Mapping[str, NDArray],
    enrol_rows: NDArray,
    test_rows: NDArray,
) -> tuple[list[str], NDArray]:
    """Return the smaller and the larger measure of each trial's two sides.

    Arguments
    ---------
    of_utterances : mapping of str to numpy.ndarray
        Measures of each utterance [U].
    enrol_rows, test_rows : numpy.ndarray
        Rows of the two sides of each trial [M].

    Returns
    -------
    names : list of str
        Two for each measure [2 Q].
    features : numpy.ndarray
        [M, 2 Q], float32.

    Example
    -------
    >>> one, two = np.array([0]), np.array([1])
    >>> quality_measures({"log s": np.array([2.0, 1.0])}, one, two)
    (['smaller log s', 'larger log s'], array([[1., 2.]], dtype=float32))
    """
    names, columns = [], []
    for name, values in of_utterances.items():
        enrol, test = values[enrol_rows], values[test_rows]
        names += [f"smaller {name}", f"larger {name}"]
        columns += [np.minimum(enrol, test), np.maximum(enrol, test)]
    return names, np.stack(columns, axis=1).astype(np.float32)
