"""Embeddings as arrays: read in blocks, checked, scaled to length one.

Whatever reads an embedding to compare it comes through here, so that a zero
or broken one is found, and named, before it becomes a score.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike, reserve

# Elements of the largest temporary matrix, on a CPU and on a GPU.
_BLOCK = 2**23
_BLOCK_GPU = 2**27
LARGE = 2**25  # bytes of an array that is better in a file than in memory
_NUMBERS = 8  # elements for a row of one number and its temporary ones
_LARGEST = 1e15  # values whose squares, summed, stay within float32
_scratch: ContextVar[str | None] = ContextVar("scratch", default=None)


def as_matrix(values: Any) -> NDArray:
    """Convert embeddings [N, D] to an array; a memory map stays one.

    Example
    -------
    >>> as_matrix(torch.zeros(2, 3)).shape
    (2, 3)
    """
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().float().numpy()
    if values.ndim != 2:
        raise InputError(
            f"embeddings have shape {list(values.shape)}; they must be "
            "[N, D]; give one row for each utterance"
        )
    return values


def checked_rows(rows: NDArray, n_rows: int) -> NDArray:
    """Return rows as an array; raise InputError unless all of them exist.

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
    if len(rows) and (rows.min() < 0 or rows.max() >= n_rows):
        trial = int(np.flatnonzero((rows < 0) | (rows >= n_rows))[0])
        raise InputError(
            f"trial {trial} uses embedding row {rows[trial]} of {n_rows}; "
            "trials and embeddings must be of the same utterances; give the "
            "embeddings of this list"
        )
    return rows


def unit_rows(
    values: NDArray,
    rows: NDArray | None = None,
    whitening: tuple[NDArray, NDArray] | None = None,
    ids: Any = None,
    out: NDArray | None = None,
) -> NDArray:
    """Scale embeddings to length one, so that distance ranks as cosine.

    Read and scaled in blocks: beside the result nothing of its size is held,
    so ``values`` may be memory-mapped.

    Arguments
    ---------
    values : numpy.ndarray
        Embeddings [N, D].
    rows : numpy.ndarray, optional
        Which of them, in which order [R]; all when None.
    whitening : tuple of numpy.ndarray, optional
        Mean [D] and matrix [D, D] of a `Whitening`, applied before.
    ids : numpy.ndarray or TextColumn, optional
        Utterances [R], for the message.
    out : numpy.ndarray, optional
        Where the result goes [R, D], float32; a `large_array` if None.

    Returns
    -------
    numpy.ndarray
        [R, D], float32.

    Raises
    ------
    InputError
        A length is zero or not finite, naming the row and its utterance.

    Example
    -------
    >>> unit_rows(np.float32([[3, 4], [0, 2]]))
    array([[0.6, 0.8],
           [0. , 1. ]], dtype=float32)
    """
    n_rows = len(values) if rows is None else len(rows)
    unit = out
    if unit is None:
        unit = large_array((n_rows, *values.shape[1:]))
    for block in row_blocks(n_rows, max(values[:1].size, 1)):
        own: Any = block if rows is None else rows[block]
        some = np.asarray(values[own], dtype=np.float32)
        if whitening is not None:
            mean, matrix = whitening
            some = ((some - mean) @ matrix).astype(np.float32)
        with np.errstate(over="ignore"):
            length = np.linalg.norm(some, axis=1, keepdims=True)
        usable = np.isfinite(length[:, 0]) & (length[:, 0] > 0)
        if not usable.all():
            # Squares of 1e25 are beyond float32, those of 1e-25 are 0.
            exact = some.astype(np.float64)
            length = np.linalg.norm(exact, axis=1, keepdims=True)
            usable = np.isfinite(length[:, 0]) & (length[:, 0] > 0)
        if not usable.all():
            first = int(np.flatnonzero(~usable)[0])
            name = "" if ids is None else f", of {str(ids[block][first])!r},"
            row = block.start + first if rows is None else own[first]
            raise InputError(
                f"embedding row {row}{name} has length "
                f"{length[first, 0]}; a cosine needs a finite length above "
                "0; extract it again, which names what is to blame: the model "
                "or the audio"
            )
        unit[block] = some / length
    return unit


@contextmanager
def scratch_folder(folder: PathLike) -> Iterator[None]:
    """Let `large_array` put its files into a folder, inside of a block.

    Arguments
    ---------
    folder : str or os.PathLike
        Where there is room for some numbers a row.

    Example
    -------
    >>> with scratch_folder(getfixture("tmp_path")):
    ...     large_array(3).shape
    (3,)
    """
    token = _scratch.set(str(folder))
    try:
        yield
    finally:
        _scratch.reset(token)


def large_array(
    shape: int | tuple[int, ...], dtype: Any = np.float32
) -> NDArray:
    """Return an array in memory or, if it is large, in a file without a name.

    The pages of the file are memory that the system takes back at need, so
    that a process does not grow with its rows. The file goes with the array.
    It lies in the `scratch_folder`, outside of one in the system's folder for
    temporary files.

    Arguments
    ---------
    shape : int or tuple of int
        Of the array.
    dtype : numpy.dtype or type
        Of its values, which are anything at first.

    Raises
    ------
    OSError
        The disk has no room.

    Example
    -------
    >>> large_array((2, 3), np.int64).shape
    (2, 3)
    """
    sizes = shape if isinstance(shape, tuple) else (shape,)
    n_bytes = np.dtype(dtype).itemsize * math.prod(sizes)
    if n_bytes < LARGE:
        return np.empty(sizes, dtype=dtype)
    folder = _scratch.get() or tempfile.gettempdir()
    # Of a process that is killed before the file has lost its name,
    # `remove_leftovers` knows it.
    prefix = f".rows.part{os.getpid()}-"
    with tempfile.NamedTemporaryFile(dir=folder, prefix=prefix) as file:
        reserve(file.name, n_bytes)
        # A plain view: each access of a memory map would make a new object.
        return np.asarray(np.memmap(file.name, dtype, "r+", shape=sizes))


def by_blocks(
    function: Callable[..., NDArray],
    *arrays: Any,
    dtype: Any,
    row_size: int = _NUMBERS,
) -> NDArray:
    """Apply a function of rows to blocks of them; the result may be large.

    Arguments
    ---------
    function : callable
        Takes a block of each array, and returns as many values.
    *arrays : numpy.ndarray
        [N, ...] each.
    dtype : numpy.dtype or type
        Of the result.
    row_size : int
        Elements that a row needs in the largest temporary matrix.

    Returns
    -------
    numpy.ndarray
        [N], from `large_array`.

    Example
    -------
    >>> by_blocks(np.add, np.arange(3), np.ones(3), dtype=int).tolist()
    [1, 2, 3]
    """
    found = large_array(len(arrays[0]), dtype)
    for part in row_blocks(len(found), row_size):
        found[part] = function(*(array[part] for array in arrays))
    return found


def flat_nonzero(condition: Callable[[slice], NDArray], n_rows: int) -> NDArray:
    """Return the rows that fulfil a condition, in order; they may be many.

    Arguments
    ---------
    condition : callable
        Takes a slice of the rows, and returns which of them do.
    n_rows : int
        N.

    Returns
    -------
    numpy.ndarray
        Rows [M], int64, from `large_array`.

    Example
    -------
    >>> x = np.array([3, 1, 4])
    >>> flat_nonzero(lambda rows: x[rows] > 2, 3).tolist()
    [0, 2]
    """
    parts = list(row_blocks(n_rows))
    found = large_array(
        sum(int(np.count_nonzero(condition(rows))) for rows in parts), np.int64
    )
    done = 0
    for rows in parts:
        some = rows.start + np.flatnonzero(condition(rows))
        found[done : done + len(some)] = some
        done += len(some)
    return found


def has_repeats(values: NDArray) -> bool:
    """Return whether a value is there twice; sort the values [N] in place.

    Example
    -------
    >>> has_repeats(np.array([2, 1, 2])), has_repeats(np.arange(3))
    (True, False)
    """
    values.sort()
    before = values[:-1]
    return any(
        bool((values[1:][rows] == before[rows]).any())
        for rows in row_blocks(len(before))
    )


def used_rows(n_rows: int, *sides: NDArray) -> NDArray:
    """Return which of N rows some sides name, each once, in order.

    Arguments
    ---------
    n_rows : int
        N.
    *sides : numpy.ndarray
        Rows [M] each; a row may be there many times.

    Example
    -------
    >>> used_rows(4, np.array([3, 1, 3]), np.array([1]))
    array([1, 3])
    """
    # A mark for each row, not a sort of all sides.
    used = np.zeros(n_rows, dtype=bool)
    for side in sides:
        for part in row_blocks(len(side)):
            used[side[part]] = True
    return np.flatnonzero(used)


def taken(values: NDArray, rows: NDArray) -> NDArray:
    """Return values [N] at rows [M], which may be many: ``values[rows]``.

    Example
    -------
    >>> taken(np.array([5, 6]), np.array([1, 1, 0])).tolist()
    [6, 6, 5]
    """
    return by_blocks(values.take, rows, dtype=values.dtype)


def inner_products(
    vectors: NDArray, enrol_rows: NDArray, test_rows: NDArray
) -> NDArray:
    """Compute the inner product of the two vectors of each trial.

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

    def products(enrol: NDArray, test: NDArray) -> NDArray:
        return np.einsum("md,md->m", vectors[enrol], vectors[test])

    return by_blocks(
        products,
        enrol_rows,
        test_rows,
        dtype=np.float32,
        row_size=max(vectors.shape[1], 1),
    )


def row_blocks(
    n_rows: int, row_size: int = _NUMBERS, device: torch.device | None = None
) -> Iterator[slice]:
    """Yield slices of rows that keep a temporary matrix small.

    Arguments
    ---------
    n_rows : int
        Rows to cover.
    row_size : int
        Elements that a row needs in the temporary matrix.
    device : torch.device, optional
        Where that matrix lies; None is the CPU.

    Example
    -------
    >>> list(row_blocks(20000, 512))
    [slice(0, 16384, None), slice(16384, 20000, None)]
    """
    on_cpu = device is None or device.type == "cpu"
    step = max((_BLOCK if on_cpu else _BLOCK_GPU) // row_size, 1)
    for first in range(0, n_rows, step):
        yield slice(first, min(first + step, n_rows))


def check_vectors(x: np.ndarray, ids: np.ndarray | None = None) -> np.ndarray:
    """Convert vectors [N, D] to float32; refuse any that cannot be clustered.

    Arguments
    ---------
    x : numpy.ndarray
        [N, D]
    ids : numpy.ndarray, optional
        Utterances [N], for the message.

    Returns
    -------
    numpy.ndarray
        [N, D], float32.

    Raises
    ------
    InputError
        Not a matrix of 2 or more rows, NaN or infinity, or all rows equal.
    """
    x = np.ascontiguousarray(x, dtype=np.float32)
    if x.ndim != 2 or len(x) < 2:
        raise InputError(
            f"vectors have shape {x.shape}; clustering takes [N, D] with N of "
            "2 or more; give more vectors"
        )
    parts = list(row_blocks(len(x), x[0].size))
    bad = np.concatenate(
        [
            rows.start + np.flatnonzero(~np.isfinite(x[rows]).all(axis=1))
            for rows in parts
        ]
    )
    if len(bad):
        row = int(bad[0])
        name = f"row {row}" if ids is None else f"that of {str(ids[row])!r}"
        raise InputError(
            f"{len(bad)} of {len(x)} vectors hold NaN or infinity, the "
            f"first is {name}; the embedder has diverged; "
            "train it again at a lower learning rate"
        )
    if all((x[rows] == x[0]).all() for rows in parts):
        raise InputError(
            f"all {len(x)} vectors are equal; the embedder has collapsed; "
            "look at its training log and train it again"
        )
    return x


def check_squares(x: np.ndarray) -> None:
    """Raise InputError if squared distances of vectors overflow float32.

    Arguments
    ---------
    x : numpy.ndarray
        [N, D], finite.

    Raises
    ------
    InputError
        With the largest value.

    Example
    -------
    >>> check_squares(np.ones((3, 2)))
    """
    blocks = row_blocks(len(x), x[0].size)
    largest = max(float(np.abs(x[rows]).max()) for rows in blocks)
    if largest > _LARGEST:
        raise InputError(
            f"vectors reach {largest:.3g}; their squared distances are beyond "
            f"float32 above {_LARGEST:g}; scale them to length one (unit_rows)"
        )
