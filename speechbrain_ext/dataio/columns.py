"""Columns of tables of a hundred million rows: of text, and kept in files.

All texts of a column lie end to end in one array of bytes, and a second array
says where each ends. Such arrays may be mapped from a file, and processes share
them: unlike a list of strings, reading them writes nothing.

The CSV of a large manifest is parsed once. Its columns then lie in a hidden
folder beside it, as plain arrays, which every later command and every process
of a machine maps: they share the system's one copy, and none has it as its own
memory. The folder may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
import pandas as pd

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import read_json, write_json
from speechbrain_ext.utils.vectors import large_array, row_blocks, taken

# Texts that are Python strings at once, while a column is read or compared.
BLOCK = 2**17
_RECORD = "columns.json"
_VERSION = 1
_BUCKETS = 256  # parts that are sorted apart, by the first byte of a hash
_KEY = "ID"  # the column that rows are found by


class HashIndex(NamedTuple):
    """Rows by the hash of their text: hashes [N], sorted, and rows [N]."""

    hashes: np.ndarray
    rows: np.ndarray


class TextColumn(Sequence[str]):
    """Column of texts [N], stored as bytes; indexed as an array of strings.

    An integer gives a string, a slice or an array of rows an array of strings.

    Arguments
    ---------
    data : numpy.ndarray
        The texts in UTF-8, end to end, uint8; may be memory-mapped.
    bounds : numpy.ndarray
        Where each text begins and ends [N + 1], int64.
    rows : numpy.ndarray, optional
        Which of these texts the column has, in which order; all when None.
    index : HashIndex, optional
        Of the texts, if it was made before.

    Example
    -------
    >>> column = TextColumn.of(["b", "à", "b"])
    >>> len(column), column[1], column[[2, 1]].tolist()
    (3, 'à', ['b', 'à'])
    >>> column.find(["à", "c"]).tolist()
    [1, -1]
    """

    def __init__(
        self,
        data: np.ndarray,
        bounds: np.ndarray,
        rows: np.ndarray | None = None,
        index: HashIndex | None = None,
    ):
        # Plain views: each access of a memory map would make a new object.
        self.data, self.bounds = np.asarray(data), np.asarray(bounds)
        self.rows = rows
        self._bytes = self.data.data
        self._given = index

    @classmethod
    def of(cls, texts: Iterable[str]) -> TextColumn:
        """Pack texts into a column."""
        return cls(*packed(list(texts)))

    # As of an array of strings, for functions that take either.
    dtype = np.dtype(object)

    def __len__(self) -> int:
        return len(self.bounds) - 1 if self.rows is None else len(self.rows)

    @overload
    def __getitem__(self, key: int) -> str: ...

    @overload
    def __getitem__(self, key: Any) -> Any: ...

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, (int, np.integer)):
            row = key if key >= 0 else key + len(self)
            if not 0 <= row < len(self):
                raise IndexError(f"row {key} of {len(self)}")
            if self.rows is not None:
                row = self.rows[row]
            start, stop = self.bounds[row], self.bounds[row + 1]
            return str(self._bytes[start:stop], "utf-8")
        return np.asarray(self.take(key), dtype=object)

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), BLOCK):
            yield from self._strings(slice(first, first + BLOCK))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        if copy is False:
            raise ValueError("strings are made anew for each array")
        found = np.empty(len(self), dtype=object)
        for first in range(0, len(self), BLOCK):
            part = slice(first, first + BLOCK)
            found[part] = self._strings(part)
        return found if dtype is None else found.astype(dtype, copy=False)

    def __eq__(self, other: Any) -> Any:
        return np.asarray(self) == np.asarray(other)

    def __ne__(self, other: Any) -> Any:
        return np.asarray(self) != np.asarray(other)

    __hash__ = None  # type: ignore[assignment]

    def tolist(self) -> list[str]:
        """Return all texts [N]."""
        return list(self)

    def take(self, rows: Any) -> TextColumn:
        """Return the column of some rows: indices, a mask or a slice.

        It costs eight bytes a row, as the texts stay where they are.
        """
        if isinstance(rows, slice) and rows == slice(None):
            return self
        if self.rows is not None:
            is_many = isinstance(rows, np.ndarray) and rows.dtype != bool
            chosen = taken(self.rows, rows) if is_many else self.rows[rows]
        elif isinstance(rows, slice):
            chosen = np.arange(*rows.indices(len(self)))
        else:
            rows = np.asarray(rows)
            if not rows.size and rows.dtype != bool:
                rows = rows.astype(np.int64)
            is_mask = rows.dtype == bool
            chosen = np.flatnonzero(rows) if is_mask else rows
            if is_mask and len(rows) != len(self):
                raise IndexError(f"a mask of {len(rows)} for {len(self)} rows")
            if len(chosen) and chosen.min() < 0:
                chosen = np.where(chosen < 0, chosen + len(self), chosen)
            if len(chosen) and not (
                0 <= chosen.min() and chosen.max() < len(self)
            ):
                raise IndexError(f"a row that is not one of {len(self)}")
        return TextColumn(self.data, self.bounds, chosen)

    def is_same(self, other: Any) -> bool:
        """Return whether another column has these texts in this order.

        Example
        -------
        >>> TextColumn.of(["a"]).is_same(TextColumn.of(["a", "b"]))
        False
        """
        if not isinstance(other, TextColumn) or len(self) != len(other):
            return False
        for first in range(0, len(self), BLOCK):
            part = slice(first, first + BLOCK)
            (mine, sizes), (theirs, lengths) = (
                column._raw(part) for column in (self, other)
            )
            if not np.array_equal(sizes, lengths) or mine != theirs:
                return False
        return True

    def find(self, texts: Any) -> np.ndarray:
        """Return the rows of texts [M]; -1 where there is no such text.

        Of equal texts the first row counts. Columns in one order, as of one
        corpus, are compared and not searched.
        """
        if self.is_same(texts):
            rows = large_array(len(self), np.int64)
            for part in row_blocks(len(rows)):
                rows[part] = np.arange(part.start, part.stop)
            return rows
        if not isinstance(texts, TextColumn):
            texts = np.asarray(texts, dtype=object)
        found = large_array(len(texts), np.int64)
        for first in range(0, len(texts), BLOCK):
            part = slice(first, first + BLOCK)
            found[part] = self._find(texts[part])
        return found

    def find_one(self, text: str) -> int:
        """Return the row of a text, or -1.

        Example
        -------
        >>> TextColumn.of(["a", "b"]).find_one("b")
        1
        """
        if not isinstance(text, str):
            return -1
        number = hashes_of([text])[0]
        hashes, rows = self.hash_index
        place = int(hashes.searchsorted(number))
        while place < len(hashes) and hashes[place] == number:
            row = int(rows[place])
            if self[row] == text:
                return row
            place += 1
        return -1

    def repeated(self) -> np.ndarray:
        """Return the rows of texts that an earlier row has too, in order.

        Example
        -------
        >>> TextColumn.of(["a", "b", "a", "a"]).repeated().tolist()
        [2, 3]
        """
        hashes, rows = self.hash_index
        pairs = []
        for first in range(0, len(hashes), BLOCK):
            part = hashes[first : first + BLOCK + 1]
            same = first + np.flatnonzero(part[1:] == part[:-1])
            pairs += [rows[same], rows[same + 1]]
        suspects = np.unique(np.concatenate(pairs)) if pairs else rows[:0]
        again = pd.Series(self[suspects], dtype=object).duplicated()
        return suspects[again.to_numpy()]

    def codes(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the distinct texts [K], sorted, and the number of each [N].

        Example
        -------
        >>> names, codes = TextColumn.of(["b", "a", "b"]).codes()
        >>> names.tolist(), codes.tolist()
        (['a', 'b'], [1, 0, 1])
        """
        known: dict[str, int] = {}
        codes = large_array(len(self), np.int64)
        for first in range(0, len(self), BLOCK):
            part = slice(first, first + BLOCK)
            local, names = pd.factorize(self[part])
            numbers = [known.setdefault(name, len(known)) for name in names]
            codes[part] = np.array(numbers, dtype=np.int64)[local]
        names = np.array(list(known), dtype=object)
        order = np.argsort(names, kind="stable")
        rank = np.empty(len(names), dtype=np.int64)
        rank[order] = np.arange(len(names))
        return names[order], taken(rank, codes) if len(codes) else codes

    @functools.cached_property
    def hash_index(self) -> HashIndex:
        """Rows by the hash of their text."""
        if self._given is not None:
            return self._given
        hashes = np.empty(len(self), dtype=np.uint64)
        for first in range(0, len(self), BLOCK):
            part = slice(first, first + BLOCK)
            hashes[part] = hashes_of(self[part])
        order = np.argsort(hashes, kind="stable")
        return HashIndex(hashes[order], order)

    def _find(self, texts: np.ndarray) -> np.ndarray:
        """Find the rows of strings [M]."""
        if not len(self):
            return np.full(len(texts), -1)
        numbers = hashes_of(texts)
        hashes, rows = self.hash_index
        place = np.minimum(hashes.searchsorted(numbers), len(hashes) - 1)
        found = np.where(hashes[place] == numbers, rows[place], -1)
        there = np.flatnonzero(found >= 0)
        # Texts of one hash are rare; all are compared, so none is confused.
        wrong = self[found[there]] != texts[there]
        for row in there[np.asarray(wrong, dtype=bool)]:
            found[row] = self.find_one(texts[row])
        return found

    def _raw(self, part: slice) -> tuple[bytes, np.ndarray]:
        """Return the bytes of some rows, end to end, and their lengths."""
        starts, stops = self._bounds_of(part)
        if self.rows is None:
            first, last = (starts[0], stops[-1]) if len(starts) else (0, 0)
            return bytes(self._bytes[first:last]), stops - starts
        spans = zip(starts.tolist(), stops.tolist(), strict=True)
        return b"".join(self._bytes[a:b] for a, b in spans), stops - starts

    def _strings(self, part: slice) -> list[str]:
        spans = zip(*(b.tolist() for b in self._bounds_of(part)), strict=True)
        return [str(self._bytes[a:b], "utf-8") for a, b in spans]

    def _bounds_of(self, part: slice) -> tuple[np.ndarray, np.ndarray]:
        if self.rows is None:
            first, last, _ = part.indices(len(self))
            bounds = np.asarray(self.bounds[first : last + 1])
            return bounds[:-1], bounds[1:]
        rows = self.rows[part]
        return self.bounds[rows], self.bounds[rows + 1]


def packed(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return texts [N] as bytes end to end, and bounds [N + 1].

    Example
    -------
    >>> packed(["ab", "", "c"])[1].tolist()
    [0, 2, 2, 3]
    """
    whole = "".join(texts).encode("utf-8")
    sizes = np.fromiter(map(len, texts), np.int64, len(texts))
    if sizes.sum() != len(whole):
        # Letters of several bytes.
        raw = (text.encode("utf-8") for text in texts)
        sizes = np.fromiter(map(len, raw), np.int64, len(texts))
    bounds = np.zeros(len(texts) + 1, dtype=np.int64)
    np.cumsum(sizes, out=bounds[1:])
    return np.frombuffer(whole, dtype=np.uint8), bounds


def hashes_of(texts: Iterable[str]) -> np.ndarray:
    """Return the hashes [N], uint64, of texts [N]; the same in each run.

    Example
    -------
    >>> first, second = hashes_of(["a", "b"])
    >>> bool(first == second)
    False
    """
    digests = (
        hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest()
        for text in texts
    )
    return np.frombuffer(b"".join(digests), dtype="<u8")


Column = TextColumn | np.ndarray


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
