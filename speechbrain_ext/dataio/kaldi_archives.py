"""Read Kaldi's archives of vectors: .ark, .ark.gz and .scp.

An archive holds vectors or matrices of one row, of floats or doubles, in
binary, compressed or as text, and may be gzipped. An .scp names the byte at
which each begins, in one archive or several, perhaps with a range.

Kaldiio is not used: it unpickles entries of type PKL, which can run foreign
code, runs commands that an .scp names, and accepts a vector that is cut short
or claims -1 values. Tests compare the two readers.
"""

from __future__ import annotations

import contextlib
import gzip
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike

_BINARY = b"\0B"
_GZIP = b"\x1f\x8b"
_AGAIN = "write the archive again"
# Kaldi's names of what is not compressed: type, number of dimensions.
_PLAIN = {
    b"FV": ("<f4", 1),
    b"DV": ("<f8", 1),
    b"FM": ("<f4", 2),
    b"DM": ("<f8", 2),
}
_COMPRESSED = (b"CM", b"CM2", b"CM3")
_LARGEST = 10_000_000  # values of one entry: far beyond any embedding
_PLACE = re.compile(r"(.+):([0-9]+)(\[[0-9:, ]*\])?")

_SPAN = re.compile(r" *([0-9]*) *(?:(:) *([0-9]*) *)?")


def read_ark(path: PathLike) -> tuple[list[str], list[np.ndarray]]:
    """Read the names and vectors [D] of an archive.

    Raises
    ------
    InputError
        An entry is damaged, or something else than a vector; with its name.

    Example
    -------
    >>> path = getfixture("tmp_path") / "x.ark"
    >>> _ = path.write_text("a  [ 1 2 ]\\n")
    >>> read_ark(path)
    (['a'], [array([1., 2.])])
    """
    path = Path(path)
    ids, rows = [], []
    with _named(path), _opened(path) as stream:
        while name := _read_name(stream, path):
            ids.append(name)
            where = f"{path}: {name}"
            rows.append(_as_vector(_read_value(stream, where), where))
    return ids, rows


def read_scp(path: PathLike) -> tuple[list[str], list[np.ndarray]]:
    """Read the names and vectors [D] that an .scp lists, in its order.

    Raises
    ------
    InputError
        A line is not ``name archive:byte`` or ``name archive:byte[range]``,
        or as of `read_ark`.
    """
    ids, rows = [], []
    streams: dict[Path, IO[bytes]] = {}
    with contextlib.ExitStack() as stack:
        for name, ark, offset, span in _read_places(Path(path)):
            if ark not in streams:
                streams[ark] = stack.enter_context(_opened(ark))
            where = f"{ark}: {name}"
            with _named(ark):
                streams[ark].seek(offset)
                value = _read_value(streams[ark], where)
            ids.append(name)
            rows.append(_as_vector(_part(value, span, where), where))
    return ids, rows


def archives_of(path: PathLike) -> list[Path]:
    """List the archives that an .scp names, in the order of their first use."""
    return list(dict.fromkeys(place.ark for place in _read_places(Path(path))))


class _Place(NamedTuple):
    """Archive, byte and range of it in which an utterance's vector lies."""

    name: str
    ark: Path
    offset: int
    span: str


def _read_places(path: Path) -> list[_Place]:
    """Read the lines of an .scp."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except UnicodeDecodeError:
        raise InputError(
            f"{path} is not UTF-8; an .scp is text, write it with copy-vector "
            "ark,scp:"
        ) from None
    found = []
    for number, line in enumerate(lines, start=1):
        name, *rest = line.split(None, 1)
        place = _PLACE.fullmatch(rest[0].strip()) if rest else None
        if place is None:
            raise InputError(
                f"{path} line {number} is {line!r}; it must be `name "
                "archive:byte` or `name archive:byte[range]`, and no command; "
                "write it with copy-vector ark,scp:"
            )
        ark, offset, span = place.groups()
        found.append(_Place(name, Path(ark), int(offset), span or ""))
    return [one._replace(ark=_found(one.ark, path)) for one in found]


def _found(ark: Path, scp: Path) -> Path:
    """Find an archive: where it is said to be, or beside the .scp."""
    # Kaldi's paths are relative to where it ran; a moved folder keeps names.
    for place in (ark, scp.parent / ark, scp.parent / ark.name):
        if place.is_file():
            return place
    raise InputError(
        f"{scp} names {ark}, and there is no such file, nor one of that name "
        f"in {scp.parent}; put it there, or give the .ark itself"
    )


def _opened(path: Path) -> Any:
    """Open an archive, gzipped or not."""
    with open(path, "rb") as stream:
        is_gzip = stream.read(2) == _GZIP
    return gzip.open(path, "rb") if is_gzip else open(path, "rb")


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Raise InputError in place of the errors of a damaged gzip file."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(
            f"{path} is gzipped and damaged ({error}); {_AGAIN}"
        ) from None


def _read_name(stream: IO[bytes], path: Path) -> str:
    """Read the name before the next entry; empty at the end of the file."""
    name = bytearray()
    while (byte := stream.read(1)) not in (b"", b" ", b"\t"):
        name += byte
    try:
        return name.decode().strip()
    except UnicodeDecodeError:
        raise InputError(
            f"{path}: the name {bytes(name[:80])!r} is not UTF-8; rename the "
            "utterance, or give an archive of vectors"
        ) from None


def _read_value(stream: IO[bytes], where: str) -> np.ndarray:
    """Read the vector or matrix at the position of a stream."""
    start = stream.read(2)
    if start != _BINARY:
        return _read_text(start, stream, where)
    kind = bytearray()
    while len(kind) < 4 and (byte := stream.read(1)) not in (b"", b" "):
        kind += byte
    if bytes(kind) in _COMPRESSED:
        return _read_compressed(stream, bytes(kind), where)
    if bytes(kind) not in _PLAIN:
        raise InputError(
            f"{where} is of Kaldi's type {bytes(kind)!r}, not a vector, or it "
            f"is damaged; {_AGAIN} with copy-vector"
        )
    dtype, n_axes = _PLAIN[bytes(kind)]
    shape = [_read_size(stream, where) for _ in range(n_axes)]
    return _read_array(stream, dtype, shape, where)


def _read_size(stream: IO[bytes], where: str) -> int:
    data = stream.read(5)
    if len(data) != 5 or data[:1] != b"\x04":
        raise InputError(f"{where} is cut short or damaged; {_AGAIN}")
    return int(struct.unpack("<i", data[1:])[0])


def _read_array(
    stream: IO[bytes], dtype: str, shape: list[int], where: str
) -> np.ndarray:
    n_values = int(np.prod([int(size) for size in shape], dtype=object))
    if min(shape) < 0 or n_values > _LARGEST:
        raise InputError(
            f"{where} says that it has {' x '.join(map(str, shape))} values, "
            f"and it must be from 0 to {_LARGEST:,}; {_AGAIN}"
        )
    n_bytes = n_values * np.dtype(dtype).itemsize
    data = stream.read(n_bytes)
    if len(data) != n_bytes:
        raise InputError(f"{where} is cut short; {_AGAIN}")
    return np.frombuffer(data, dtype).reshape(shape)


def _read_compressed(stream: IO[bytes], kind: bytes, where: str) -> np.ndarray:
    """Read a matrix as Kaldi's class CompressedMatrix writes it."""
    header = stream.read(16)
    if len(header) != 16:
        raise InputError(f"{where} is cut short; {_AGAIN}")
    lowest, span, n_rows, n_columns = struct.unpack("<ffii", header)
    shape = [n_rows, n_columns]
    if kind != b"CM":
        # CM2 has steps of 16 bits, CM3 of 8.
        dtype, n_steps = ("<u2", 65535) if kind == b"CM2" else ("u1", 255)
        steps = _read_array(stream, dtype, shape, where)
        return (lowest + span / n_steps * steps).astype(np.float32)
    # Each column has four quantiles, between which its bytes are linear.
    marks = _read_array(stream, "<u2", [n_columns, 4], where)
    quantiles = lowest + span / 65535 * marks
    steps = _read_array(stream, "u1", shape[::-1], where)
    values = [
        np.interp(column, (0, 64, 192, 255), quantile)
        for column, quantile in zip(steps, quantiles, strict=True)
    ]
    return np.array(values, dtype=np.float32).reshape(shape[::-1]).T


def _read_text(start: bytes, stream: IO[bytes], where: str) -> np.ndarray:
    """Read ``[ 1 2 ]``, or a matrix of a line a row."""
    text = bytearray(start)
    while b"]" not in text and len(text) < 20 * _LARGEST:
        line = stream.readline(_LARGEST)
        if not line:
            break
        text += line
    opening, _, values = text.partition(b"[")
    values, closing, rest = values.partition(b"]")
    if opening.strip() or not closing or rest.strip():
        raise InputError(
            f"{where} is neither a vector in Kaldi's binary form nor text like "
            f"`[ 0.1 0.2 ]`, or it is cut short; {_AGAIN} with copy-vector"
        )
    lines = bytes(values).splitlines()
    rows = [line.split() for line in lines if line.strip()]
    try:
        found = np.array(rows, dtype=np.float64)
    except ValueError as error:
        raise InputError(
            f"{where} is no row of numbers ({error}); {_AGAIN}"
        ) from None
    return found[0] if len(found) == 1 else found


def _part(value: np.ndarray, span: str, where: str) -> np.ndarray:
    """Return the part that a range such as ``[0:1,0:255]`` names.

    Numbers count from 0, and the last one is part of it.
    """
    parts = span[1:-1].split(",") if span else []
    slices = []
    for axis, part in enumerate(parts):
        size = value.shape[axis] if axis < value.ndim else 0
        low, high = 0, -1
        if found := _SPAN.fullmatch(part):
            first, colon, last = found.groups()
            low = int(first or 0)
            high = int(last or (size - 1 if colon or not first else first))
        if not low <= high < size:
            raise InputError(
                f"{where} has shape {list(value.shape)}, and the .scp wants "
                f"its range {span}; correct the .scp"
            )
        slices.append(slice(low, high + 1))
    return value[tuple(slices)]


def _as_vector(value: np.ndarray, where: str) -> np.ndarray:
    """Return a vector [D] as it is, of a matrix [1, D] its row."""
    if value.ndim == 2 and len(value) == 1:
        value = value[0]
    if value.ndim != 1:
        raise InputError(
            f"{where} is a matrix of shape {list(value.shape)}; an embedding "
            "is a vector, or a matrix of one row: are these features of "
            "frames? give embeddings, or average the rows"
        )
    return value
