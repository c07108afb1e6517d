"""Arrays and tables in parts: folders that are read as if they were one file.

Where a file may be, ``train.csv`` or ``embeddings.npy``, a folder of that name
may be: with parts ``000000.csv`` or ``000000.npy`` and so on, and their index
``shards.json``, ``{"shards": [{"name": "000000.csv"}, ...]}``. Rows are counted
through all parts, in the order of the index.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from speechbrain_ext.utils.files import (
    SHARDS,
    PathLike,
    atomic_path,
    move_synced,
    parts_of,
    reserve,
    write_json,
)
from speechbrain_ext.utils.vectors import row_blocks


class ShardedRows:
    """Arrays [N_i, ...] that are read, and written, as one [N, ...].

    Arguments
    ---------
    parts : sequence of numpy.ndarray
        They may be memory-mapped; sizes of a row are equal.

    Raises
    ------
    ValueError
        They are not.

    Example
    -------
    >>> whole = ShardedRows([np.zeros((2, 3)), np.ones((4, 3))])
    >>> whole.shape, whole[[5, 0]][:, 0].tolist(), whole[1:3].shape
    ((6, 3), [1.0, 0.0], (2, 3))
    """

    def __init__(self, parts: Sequence[np.ndarray]):
        self.parts = list(parts)
        sizes = {(part.shape[1:], part.dtype) for part in self.parts}
        if len(sizes) != 1:
            raise ValueError(f"its parts have rows of kinds {sorted(sizes)}")
        self.dtype = self.parts[0].dtype
        self.ends = np.cumsum([len(part) for part in self.parts])
        self.shape = (int(self.ends[-1]), *self.parts[0].shape[1:])
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape))

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, tuple) and key[0] == slice(None):
            return ShardedRows([part[key] for part in self.parts])
        if isinstance(key, (int, np.integer)):
            return self[np.array([key])][0]
        rows = self._rows(key)
        found = np.empty((len(rows), *self.shape[1:]), dtype=self.dtype)
        for part, here, there in self._places(rows):
            found[here] = part[there]
        return found

    def __setitem__(self, key: Any, values: np.ndarray) -> None:
        for part, here, there in self._places(self._rows(key)):
            part[there] = values[here]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        if copy is False:
            raise ValueError("parts are copied into one array")
        found = np.concatenate(self.parts)
        return found if dtype is None else found.astype(dtype, copy=False)

    def mean(self, axis: int, dtype: Any = None) -> np.ndarray:
        """Return the mean of the rows, ``axis`` 0."""
        if axis:
            raise ValueError(f"axis is {axis}; the mean of rows has 0")
        total = np.zeros(self.shape[1:], dtype=dtype)
        for rows in row_blocks(len(self), max(self.size // len(self), 1)):
            total += self[rows].sum(axis=0, dtype=dtype)
        return total / len(self)

    def flush(self) -> None:
        """Write what the maps of the parts hold."""
        for part in self.parts:
            if isinstance(part, np.memmap):
                part.flush()

    def _rows(self, key: Any) -> np.ndarray:
        """Return a slice, mask or indices as rows of the whole."""
        if isinstance(key, slice):
            return np.arange(*key.indices(len(self)))
        rows = np.asarray(key)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        if len(rows) and not -len(self) <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"a row that is not one of {len(self)}")
        return np.where(rows < 0, rows + len(self), rows).astype(np.int64)

    def _places(
        self, rows: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield each part with its places in ``rows`` and its own rows."""
        shard = np.searchsorted(self.ends, rows, side="right")
        for number in np.unique(shard):
            here = np.flatnonzero(shard == number)
            part = self.parts[number]
            yield part, here, rows[here] - (self.ends[number] - len(part))


def open_rows(path: PathLike) -> Any:
    """Map a .npy file [N, ...], or a folder of such parts.

    Arguments
    ---------
    path : str or os.PathLike
        The file, or the folder.

    Returns
    -------
    numpy.memmap or ShardedRows

    Raises
    ------
    InputError
        A folder has no index, or one that is wrong.
    OSError, ValueError, EOFError
        A file is missing or is no array, or parts differ.

    Example
    -------
    >>> path = getfixture("tmp_path") / "x.npy"
    >>> np.save(path, np.eye(2))
    >>> open_rows(path).shape
    (2, 2)
    """
    parts = [np.load(file, mmap_mode="r") for file in parts_of(path)]
    return ShardedRows(parts) if Path(path).is_dir() else parts[0]


@contextmanager
def new_rows(
    path: PathLike, shape: tuple[int, ...], shard_rows: int | None = None
) -> Iterator[Any]:
    """Yield a float32 array that becomes a file, or a folder of parts.

    Arguments
    ---------
    path : str or os.PathLike
        Its final name, if the block succeeds.
    shape : tuple of int
        [N, ...].
    shard_rows : int, optional
        Rows of a part; one file if None.

    Yields
    ------
    numpy.memmap or ShardedRows
        To be filled.

    Raises
    ------
    OSError
        The disk has no room.

    Example
    -------
    >>> path = getfixture("tmp_path") / "x.npy"
    >>> with new_rows(path, (3, 2), shard_rows=2) as rows:
    ...     rows[np.arange(3)] = np.arange(6).reshape(3, 2)
    >>> open_rows(path)[2].tolist(), len(open_rows(path).parts)
    ([4.0, 5.0], 2)
    """
    if shard_rows is None:
        with atomic_path(path) as part:
            whole = _new_array(part, shape)
            yield whole
            whole.flush()
        return
    with new_shards(path) as (folder, names):
        parts = []
        for number, first in enumerate(range(0, shape[0], shard_rows)):
            names.append(f"{number:06d}.npy")
            size = min(shard_rows, shape[0] - first)
            parts.append(_new_array(folder / names[-1], (size, *shape[1:])))
        rows = ShardedRows(parts)
        yield rows
        rows.flush()


def _new_array(path: Path, shape: tuple[int, ...]) -> np.memmap:
    array = np.lib.format.open_memmap(path, "w+", np.float32, shape)
    reserve(path, path.stat().st_size)
    return array


@contextmanager
def new_shards(path: PathLike) -> Iterator[tuple[Path, list[str]]]:
    """Yield a folder for parts, which takes its name if the block succeeds.

    Arguments
    ---------
    path : str or os.PathLike
        Its final name; what is there is replaced.

    Yields
    ------
    tuple of (pathlib.Path, list of str)
        The folder, and the parts' names, to be appended to.

    Example
    -------
    >>> path = getfixture("tmp_path") / "t.csv"
    >>> with new_shards(path) as (folder, names):
    ...     _ = (folder / "a.csv").write_text("ID\\n")
    ...     names.append("a.csv")
    >>> [part.name for part in parts_of(path)]
    ['a.csv']
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{path.stem}.part{os.getpid()}-"
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=path.parent))
    names: list[str] = []
    try:
        yield folder, names
        shards = [{"name": name} for name in names]
        write_json(folder / SHARDS, {"shards": shards})
        os.chmod(folder, 0o755)
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        move_synced(folder, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
