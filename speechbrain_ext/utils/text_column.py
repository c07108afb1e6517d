"""Columns of text that take little memory: a hundred million names.

All texts lie end to end in one array of bytes, and a second array says where
each ends. Such arrays may be mapped from a file, and processes share them:
unlike a list of strings, reading them writes nothing.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, overload

import numpy as np
import pandas as pd

# Texts that are Python strings at once, while a column is read or compared.
BLOCK = 2**17


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
            chosen = self.rows[rows]
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
            chosen = np.where(chosen < 0, chosen + len(self), chosen)
            if len(chosen) and not 0 <= chosen.min() <= chosen.max() < len(
                self
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
            return np.arange(len(self))
        if not isinstance(texts, TextColumn):
            texts = np.asarray(texts, dtype=object)
        found = np.empty(len(texts), dtype=np.int64)
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
        codes = np.empty(len(self), dtype=np.int64)
        for first in range(0, len(self), BLOCK):
            part = slice(first, first + BLOCK)
            local, names = pd.factorize(self[part])
            numbers = [known.setdefault(name, len(known)) for name in names]
            codes[part] = np.array(numbers, dtype=np.int64)[local]
        names = np.array(list(known), dtype=object)
        order = np.argsort(names, kind="stable")
        rank = np.empty(len(names), dtype=np.int64)
        rank[order] = np.arange(len(names))
        return names[order], rank[codes] if len(codes) else codes

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
