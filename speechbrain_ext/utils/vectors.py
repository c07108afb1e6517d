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

from speechbrain_ext.utils.errors import InputError

_BLOCK = 2**23
_BLOCK_GPU = 2**27

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
        Mean [D] and matrix [D, D] of a `Whitening`.

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


def row_blocks(
    n_rows: int, row_size: int, device: torch.device | None = None
) -> Iterator[slice]:
    """Slices of rows that keep a temporary matrix small."""
    on_cpu = device is None or device.type == "cpu"
    step = max((_BLOCK if on_cpu else _BLOCK_GPU) // row_size, 1)
    for first in range(0, n_rows, step):
        yield slice(first, first + step)


def normalise(x: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
    """Embeddings scaled to length one, so that distance ranks as cosine.

    Read and scaled in blocks: beside the result nothing of its size is held,
    so ``x`` may be a memory-map.

    Arguments
    ---------
    x : numpy.ndarray
        Embeddings [N, D].
    rows : numpy.ndarray, optional
        Which embeddings, in which order [M]; all when None.

    Returns
    -------
    numpy.ndarray
        Unit rows [M, D], float32.

    Raises
    ------
    InputError
        A row holds NaN or infinity, or has no direction (all zeros).

    Example
    -------
    >>> normalise(np.array([[3.0, 4.0], [0.0, 2.0]]))
    array([[0.6, 0.8],
           [0. , 1. ]], dtype=float32)
    """
    n_rows = len(x) if rows is None else len(rows)
    unit = np.empty((n_rows, *x.shape[1:]), dtype=np.float32)
    blocks = list(row_blocks(n_rows, max(x[:1].size, 1)))
    for block in blocks:
        unit[block] = x[block if rows is None else rows[block]]
    check_vectors(unit)
    for block in blocks:
        length = np.linalg.norm(unit[block], axis=1, keepdims=True)
        if not length.all():
            raise InputError(
                f"embedding row {block.start + int(np.argmin(length))} is all "
                "zeros and has no direction; extract the embeddings again or "
                "drop the utterance"
            )
        unit[block] /= length
    return unit


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
    blocks = [x[rows] for rows in row_blocks(len(x), x[0].size)]
    bad = ~np.concatenate([np.isfinite(b).all(axis=1) for b in blocks])
    if bad.any():
        raise InputError(
            f"{int(bad.sum())} of {len(x)} vectors hold NaN or infinity, the "
            f"first is row {int(np.argmax(bad))}; the embedder has diverged: "
            "train it again at a lower rate"
        )
    if all((block == x[0]).all() for block in blocks):
        raise InputError(
            f"all {len(x)} vectors are equal: the embedder has collapsed; "
            "look at its training log and train it again"
        )
    return x
