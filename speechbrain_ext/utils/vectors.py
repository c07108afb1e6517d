"""Embeddings gathered block by block, each scaled to length one.

Whatever reads an embedding to compare it comes through here, so that a zero
or broken one is found, and named, before it becomes a score.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from speechbrain_ext.utils.files import InputError

BLOCK = 16384  # rows gathered at once


def as_matrix(values: Any) -> NDArray:
    """Embeddings [N, D] as an array, a memory-mapped one as it is.

    Example
    -------
    >>> as_matrix(torch.zeros(2, 3)).shape
    (2, 3)
    """
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().float().numpy()
    if values.ndim != 2:
        raise InputError(
            f"embeddings have shape {list(values.shape)}; one row an "
            "utterance [N, D] is needed"
        )
    return values


def checked_rows(rows: NDArray, n_rows: int) -> NDArray:
    """Row numbers, each of which is there.

    Raises
    ------
    InputError
        Naming the first that is not.

    Example
    -------
    >>> checked_rows([0, 2], 3)
    array([0, 2])
    """
    rows = np.asarray(rows)
    bad = (rows < 0) | (rows >= n_rows)
    if bad.any():
        trial = int(np.flatnonzero(bad)[0])
        raise InputError(
            f"trial {trial} uses embedding row {rows[trial]} of {n_rows}; "
            "the trials and the embeddings are not of the same utterances"
        )
    return rows


def unit_rows(
    values: NDArray,
    rows: NDArray,
    whitening: tuple[NDArray, NDArray] | None = None,
) -> NDArray:
    """Some embeddings, whitened if asked for, each of length 1.

    Arguments
    ---------
    values : numpy.ndarray
        Embeddings [N, D]; may be memory-mapped.
    rows : numpy.ndarray
        Which of them [R].
    whitening : tuple of numpy.ndarray, optional
        Mean [D] and matrix [D, D] of `speechbrain_ext.utils.whitening.Whitening`.

    Returns
    -------
    numpy.ndarray
        [R, D], float32.

    Raises
    ------
    InputError
        A length is zero or not finite, naming the row.

    Example
    -------
    >>> unit_rows(np.float32([[3, 4], [0, 2]]), np.array([0]))
    array([[0.6, 0.8]], dtype=float32)
    """
    gathered = np.asarray(values[rows], dtype=np.float32)
    if whitening is not None:
        mean, matrix = whitening
        gathered = ((gathered - mean) @ matrix).astype(np.float32)
    norms = np.linalg.norm(gathered, axis=1, keepdims=True)
    usable = np.isfinite(norms[:, 0]) & (norms[:, 0] > 0)
    if not usable.all():
        first = int(np.flatnonzero(~usable)[0])
        raise InputError(
            f"embedding row {rows[first]} has length {norms[first, 0]}; a "
            "cosine needs a finite length above 0, extract it again or look "
            "at its audio"
        )
    return gathered / norms


def blocks_of(n_rows: int) -> Iterator[slice]:
    """Slices that cover ``n_rows`` rows, some thousands at once.

    Example
    -------
    >>> list(blocks_of(20000))
    [slice(0, 16384, None), slice(16384, 32768, None)]
    """
    for first in range(0, n_rows, BLOCK):
        yield slice(first, first + BLOCK)


def inner_products(
    vectors: NDArray, enrol_rows: NDArray, test_rows: NDArray
) -> NDArray:
    """Inner product of the two vectors of each trial.

    Arguments
    ---------
    vectors : numpy.ndarray
        One row an utterance [U, D], float32.
    enrol_rows, test_rows : numpy.ndarray
        Rows of the two sides of each trial [M].

    Returns
    -------
    numpy.ndarray
        Scores [M], float32.

    Example
    -------
    >>> x = np.float32([[1, 0], [0.6, 0.8]])
    >>> inner_products(x, np.array([0, 1]), np.array([1, 1]))
    array([0.6, 1. ], dtype=float32)
    """
    scores = np.empty(len(enrol_rows), dtype=np.float32)
    for part in blocks_of(len(scores)):
        left, right = vectors[enrol_rows[part]], vectors[test_rows[part]]
        scores[part] = np.einsum("md,md->m", left, right)
    return scores
