"""Columns of a large manifest, kept in files beside it and mapped from there.

A CSV of a hundred million rows is parsed once. Its columns then lie in a
hidden folder beside it, as plain arrays, which every later command and every
process of a machine maps: they share the system's one copy, and none has it
as its own memory. The folder may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import read_json, write_json
from speechbrain_ext.utils.text_column import (
    BLOCK,
    HashIndex,
    TextColumn,
    hashes_of,
    packed,
)

Column = TextColumn | np.ndarray

_RECORD = "columns.json"
_VERSION = 1
_BUCKETS = 256  # parts that are sorted apart, by the first byte of a hash
_KEY = "ID"  # the column that rows are found by


class ColumnWriter:
    """Columns gathered block by block, in memory or in files.

    Arguments
    ---------
    folder : pathlib.Path, optional
        Where the files go; None: in memory.

    Example
    -------
    >>> writer = ColumnWriter(None)
    >>> for block in (["a", "b"], ["c"]):
    ...     writer.add({"ID": np.array(block, object), "row": np.arange(2)})
    >>> writer.columns()["ID"].tolist()
    ['a', 'b', 'c']
    """

    def __init__(self, folder: Path | None = None):
        self.folder = folder
        self._parts: dict[str, list[np.ndarray]] = {}
        self._kinds: dict[str, str] = {}
        self._n_bytes: dict[str, int] = {}
        self._files = contextlib.ExitStack()
        self._streams: dict[str, Any] = {}

    def add(self, block: dict[str, np.ndarray]) -> None:
        """Append rows [B]: strings, or numbers, of each column."""
        for name, values in block.items():
            if values.dtype != object:
                self._append(name, values)
                continue
            data, bounds = packed(values.tolist())
            begun = self._n_bytes.get(name)
            self._append(f"{name}.text", data)
            if begun is None:
                self._append(f"{name}.bounds", bounds)
            else:
                self._append(f"{name}.bounds", bounds[1:] + begun)
            self._n_bytes[name] = (begun or 0) + len(data)
            if name == _KEY and self.folder is not None:
                self._append(f"{name}.unsorted", hashes_of(values))

    def _append(self, part: str, values: np.ndarray) -> None:
        self._kinds[part] = values.dtype.str
        if self.folder is None:
            self._parts.setdefault(part, []).append(values)
            return
        if part not in self._streams:
            stream = open(self.folder / part, "wb")
            self._streams[part] = self._files.enter_context(stream)
        self._streams[part].write(np.ascontiguousarray(values).data)

    def columns(self) -> dict[str, Column]:
        """Return the columns, in memory or mapped; no block may follow."""
        if self.folder is None:
            arrays = {n: np.concatenate(p) for n, p in self._parts.items()}
            return _assembled(arrays)
        self._files.close()
        kinds = self._kinds
        if kinds.pop(f"{_KEY}.unsorted", None):
            kinds |= _sort_hashes(self.folder)
        return _mapped(self.folder, kinds)

    @property
    def kinds(self) -> dict[str, str]:
        """Types of the files, by name."""
        return self._kinds


def kept_columns(
    folder: Path,
    sources: Sequence[Path],
    kind: str,
    fill: Callable[[ColumnWriter], None],
) -> dict[str, Column]:
    """Map the columns of files, which are read again if they have changed.

    Arguments
    ---------
    folder : pathlib.Path
        Where the columns are kept.
    sources : sequence of pathlib.Path
        Files that they come from; size, time and inode tell a change.
    kind : str
        What the files were checked as.
    fill : callable
        Called with a writer, to which it adds all blocks.

    Returns
    -------
    dict of str to TextColumn or numpy.ndarray
        By name.

    Raises
    ------
    InputError
        What ``fill`` raises; nothing is kept then.
    """
    folder.mkdir(exist_ok=True)
    with _alone(folder):
        wanted = {"version": _VERSION, "kind": kind, "of": _states(sources)}
        record = _record(folder)
        if record.pop("files", None) and record == wanted:
            return _mapped(folder, _record(folder)["files"])
        (folder / _RECORD).unlink(missing_ok=True)
        part = folder / "part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        writer = ColumnWriter(part)
        try:
            fill(writer)
            writer.columns()
            for name in writer.kinds:
                os.replace(part / name, folder / name)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        write_json(folder / _RECORD, {**wanted, "files": writer.kinds})
        return _mapped(folder, writer.kinds)


def _states(sources: Sequence[Path]) -> list[list[Any]]:
    found = [(path.name, path.stat()) for path in sources]
    return [[name, s.st_size, s.st_mtime_ns, s.st_ino] for name, s in found]


def _record(folder: Path) -> dict[str, Any]:
    """Read what a folder keeps; nothing if it is damaged or absent."""
    try:
        found = read_json(folder / _RECORD)
    except InputError:
        return {}
    return found if isinstance(found, dict) else {}


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes out, which read what this one writes."""
    with open(folder / "lock", "w") as stream:
        # Some network file systems lock nothing: then each writes the same.
        with contextlib.suppress(OSError):
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _mapped(folder: Path, kinds: dict[str, str]) -> dict[str, Column]:
    return _assembled(
        {
            name: np.memmap(folder / name, np.dtype(kind), "r")
            for name, kind in kinds.items()
        }
    )


def _assembled(arrays: dict[str, np.ndarray]) -> dict[str, Column]:
    """Return columns made of their arrays."""
    columns: dict[str, Column] = {}
    for name, values in arrays.items():
        stem, _, part = name.partition(".")
        if part == "text":
            hashes = arrays.get(f"{stem}.hashes")
            index = None
            if hashes is not None:
                rows = arrays[f"{stem}.rows"]
                index = HashIndex(np.asarray(hashes), np.asarray(rows))
            bounds = arrays[f"{stem}.bounds"]
            columns[stem] = TextColumn(values, bounds, None, index)
        elif not part:
            columns[name] = np.asarray(values)
    return columns


def _sort_hashes(folder: Path) -> dict[str, str]:
    """Sort the hashes of a column in files; memory does not grow with them.

    They are dealt out by their first byte, and each of these parts is sorted.
    """
    path = folder / f"{_KEY}.unsorted"
    n_rows = path.stat().st_size // 8
    sizes = np.zeros(_BUCKETS, dtype=np.int64)
    for _, hashes in _blocks_of(path, n_rows):
        sizes += np.bincount(hashes >> np.uint64(56), minlength=_BUCKETS)
    starts = np.cumsum(sizes) - sizes
    names = (folder / f"{_KEY}.hashes", folder / f"{_KEY}.rows")
    with open(names[0], "w+b") as first, open(names[1], "w+b") as second:
        place = starts.copy()
        for row, hashes in _blocks_of(path, n_rows):
            bucket = (hashes >> np.uint64(56)).astype(np.int64)
            order = np.argsort(bucket, kind="stable")
            ends = np.cumsum(np.bincount(bucket, minlength=_BUCKETS))
            for number, rows in enumerate(np.split(order, ends[:-1])):
                _write_at(first, place[number], hashes[rows])
                _write_at(second, place[number], row + rows)
                place[number] += len(rows)
        for start, size in zip(starts.tolist(), sizes.tolist(), strict=True):
            hashes = _read_at(first, start, size, np.dtype("<u8"))
            rows = _read_at(second, start, size, np.dtype("<i8"))
            order = np.argsort(hashes, kind="stable")
            _write_at(first, start, hashes[order])
            _write_at(second, start, rows[order])
    path.unlink()
    return {f"{_KEY}.hashes": "<u8", f"{_KEY}.rows": "<i8"}


def _blocks_of(path: Path, n_rows: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield numbers of eight bytes in blocks, with the row of the first."""
    with open(path, "rb") as stream:
        for first in range(0, n_rows, 8 * BLOCK):
            yield first, np.fromfile(stream, "<u8", 8 * BLOCK)


def _write_at(stream: Any, place: int, values: np.ndarray) -> None:
    stream.seek(8 * int(place))
    stream.write(np.ascontiguousarray(values).data)


def _read_at(stream: Any, place: int, count: int, kind: np.dtype) -> np.ndarray:
    stream.seek(8 * place)
    return np.frombuffer(stream.read(8 * count), kind)
