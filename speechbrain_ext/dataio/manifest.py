"""Manifests: CSV files that recipes pass to each other.

One utterance a row, SpeechBrain's columns ``ID,duration,wav,start,stop`` with
``$data_root`` in ``wav``, whose files lie below it; ``start`` and ``stop``
count samples at 16 kHz, and ``duration``, in seconds, must be their distance.
A training manifest has no speaker column: true speakers live in
``oracle.csv`` (``ID,spk_id``), which no training stage of ours can read
through `read_manifest` with kind ``"utterances"``. Pseudo-labels may carry a
``margin``: how much nearer an utterance is to its cluster than to the next.
"""

from __future__ import annotations

import itertools
import os
import posixpath
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import pandas as pd

from speechbrain_ext.dataio.columns import (
    BLOCK,
    Column,
    ColumnWriter,
    TextColumn,
    hashes_of,
    kept_columns,
)
from speechbrain_ext.dataio.shards import new_shards
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike, atomic_path, parts_of
from speechbrain_ext.utils.vectors import has_repeats

SAMPLE_RATE = 16000
DATA_ROOT = "$data_root"
_UTTERANCE = {
    "ID": "str",
    "duration": "float64",
    "wav": "str",
    "start": "int64",
    "stop": "int64",
}
# Seconds by which a duration may differ from stop - start: other tools round.
_TOLERANCE = 0.05
_LONGEST = 24 * 3600  # seconds that nobody takes for a length in seconds
_RATES = (8000, 11025, 12000, 22050, 24000, 32000, 44100, 48000)  # Hz
_UP = "root"  # stands for $data_root while a path is normalised
_TWICE = "is there twice"
_LEAVES = "is outside of $data_root, which it begins with"
# Bytes of a CSV whose columns are kept in files: half a million rows.
LARGE = 2**26
# kind -> the columns of its files, with their types.
KINDS: dict[str, dict[str, str]] = {
    "utterances": _UTTERANCE,
    "pseudo_labels": {**_UTTERANCE, "spk_id": "str"},
    "oracle": {"ID": "str", "spk_id": "str"},
    "embeddings": {"ID": "str", "row": "int64"},
}
# Columns that a kind may also have.
OPTIONAL: dict[str, dict[str, str]] = {"pseudo_labels": {"margin": "float64"}}


class Manifest(Mapping):
    """Checked manifest, stored by columns.

    It is a mapping from ID to the row's other values, so that SpeechBrain's
    ``DynamicItemDataset`` takes it as its data. Columns are arrays, of text
    too: a row is read in microseconds, and the workers of a loader share the
    memory of all of them.

    Arguments
    ---------
    table : pandas.DataFrame or mapping of str to column
        Columns of one of `KINDS`, already checked.
    kind : str
        A key of `KINDS`.
    data_root : str
        What ``$data_root`` in ``wav`` stands for.

    Example
    -------
    >>> rows = [{"ID": "a", "duration": 1.0, "wav": "$data_root/a.wav",
    ...          "start": 0, "stop": 16000}]
    >>> manifest = Manifest(pd.DataFrame(rows), "utterances", "/data")
    >>> manifest["a"]["wav"], manifest.entry(0)["stop"]
    ('/data/a.wav', 16000)
    >>> from speechbrain.dataio.dataset import DynamicItemDataset
    >>> DynamicItemDataset(manifest, output_keys=["id", "stop"])[0]
    {'id': 'a', 'stop': 16000}
    """

    def __init__(
        self,
        table: pd.DataFrame | Mapping[str, Column],
        kind: str,
        data_root: str = DATA_ROOT,
    ):
        if isinstance(table, pd.DataFrame):
            table = {name: _column(table[name]) for name in table.columns}
        self.columns = dict(table)
        self.kind = kind
        self.data_root = data_root
        self._others = {n: c for n, c in self.columns.items() if n != "ID"}

    @property
    def ids(self) -> TextColumn:
        """IDs of the utterances [N]."""
        ids = self.columns["ID"]
        assert isinstance(ids, TextColumn)
        return ids

    @property
    def table(self) -> pd.DataFrame:
        """Copy of all rows; large manifests are better read in `blocks`."""
        return _frame(self.columns)

    def blocks(self) -> Iterator[pd.DataFrame]:
        """Yield all rows as tables of some thousands."""
        for first in range(0, len(self), BLOCK):
            part = slice(first, first + BLOCK)
            yield _frame({n: c[part] for n, c in self.columns.items()})

    def __len__(self) -> int:
        return len(self.columns["ID"])

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __getitem__(self, key: str) -> dict[str, Any]:
        row = self.ids.find_one(key)
        if row < 0:
            raise KeyError(key)
        return self.entry(row)

    def __getattr__(self, name: str) -> np.ndarray:
        if name.startswith("_") or name not in self.columns:
            raise AttributeError(name)
        return np.asarray(self.columns[name])

    def entry(self, row: int) -> dict[str, Any]:
        """Return the values of a row besides its ID."""
        values = {n: _builtin(c[row]) for n, c in self._others.items()}
        if "wav" in values:
            values["wav"] = values["wav"].replace(DATA_ROOT, self.data_root, 1)
        return values

    def paths(self, rows: Any = slice(None)) -> list[str]:
        """List the audio files of rows, all [N], with ``$data_root`` filled."""
        wavs = self.columns["wav"]
        assert isinstance(wavs, TextColumn)
        return [
            wav.replace(DATA_ROOT, self.data_root, 1) for wav in wavs.take(rows)
        ]

    def rows_of(self, ids: Any) -> np.ndarray:
        """Return the rows of ``ids`` [M]; -1 where an ID is unknown."""
        return self.ids.find(ids)

    def speakers(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the speakers' names [K], sorted, and each row's number [N]."""
        names = self.columns["spk_id"]
        assert isinstance(names, TextColumn)
        return names.codes()

    def with_columns(self, kind: str, **columns: Any) -> Manifest:
        """Return a manifest of another kind, with further columns [N].

        Example
        -------
        >>> utterances = Manifest(pd.DataFrame({"ID": ["a"]}), "utterances")
        >>> labelled = utterances.with_columns("pseudo_labels", spk_id=["x"])
        >>> labelled.spk_id
        array(['x'], dtype=object)
        """
        more = {name: _column(values) for name, values in columns.items()}
        return Manifest({**self.columns, **more}, kind, self.data_root)


def read_manifest(
    path: PathLike, kind: str, data_root: PathLike = DATA_ROOT
) -> Manifest:
    """Read and check a manifest.

    A large one (`LARGE`) is parsed once, and then mapped from files beside it:
    see `speechbrain_ext.dataio.columns`.

    Arguments
    ---------
    path : str or os.PathLike
        A CSV file, or a folder of such (`speechbrain_ext.dataio.shards`).
    kind : str
        ``"utterances"``, ``"pseudo_labels"``, ``"oracle"`` or
        ``"embeddings"``.
    data_root : str or os.PathLike
        What ``$data_root`` in ``wav`` stands for.

    Returns
    -------
    Manifest
        The rows in file order.

    Raises
    ------
    InputError
        File, columns or a row break the contract; rows are numbered as an
        editor does, the header being line 1.

    Example
    -------
    >>> path = getfixture("tmp_path") / "oracle.csv"
    >>> _ = path.write_text("ID,spk_id\\na,s1\\n")
    >>> read_manifest(path, "oracle").spk_id
    array(['s1'], dtype=object)
    """
    _need_kind(kind)
    path = Path(path)
    try:
        # Numbers are parsed by the reader: of bad ones it knows no row.
        columns = _read_columns(path, kind, as_text=False)
    except (ValueError, InputError):
        columns = _read_columns(path, kind, as_text=True)
    return Manifest(columns, kind, str(data_root))


def _read_columns(path: Path, kind: str, as_text: bool) -> dict[str, Column]:
    """Read the columns of a manifest, or map those that were kept."""
    files = parts_of(path)

    def fill(writer: ColumnWriter) -> None:
        sizes = dict.fromkeys(files, 0)
        for where, table in _read_blocks(files, {} if as_text else KINDS[kind]):
            names = _checked_columns(where.path, kind, table)
            writer.add(_typed(where, table, names))
            sizes[where.path] += len(table)
        _refuse_repeated(sizes, writer.columns()["ID"])

    try:
        n_bytes = sum(file.stat().st_size for file in files)
    except OSError:
        n_bytes = 0
    if n_bytes >= LARGE and os.access(path.parent, os.W_OK):
        folder = path.with_name(f".{path.name}.columns")
        return kept_columns(folder, files, kind, fill)
    writer = ColumnWriter()
    fill(writer)
    return writer.columns()


class _Where(NamedTuple):
    """Place of a block of rows: its file, and the rows before it there."""

    path: Path
    first: int


def _read_blocks(
    files: Iterable[Path], types: Mapping[str, str]
) -> Iterator[tuple[_Where, pd.DataFrame]]:
    """Yield the rows of CSV files in blocks: text, but for columns of types."""
    numbers = {name: kind for name, kind in types.items() if kind != "str"}
    dtype: Any = defaultdict(lambda: object, numbers)
    for path in files:
        first = 0
        try:
            with pd.read_csv(
                path,
                dtype=dtype,
                keep_default_na=False,
                encoding="utf-8",
                chunksize=BLOCK,
            ) as reader:
                for table in reader:
                    yield _Where(path, first), table
                    first += len(table)
        except FileNotFoundError:
            raise InputError(
                f"{path}: no such manifest; make it with one of the prepare "
                "recipes or correct the path"
            ) from None
        except (
            pd.errors.EmptyDataError,
            pd.errors.ParserError,
            UnicodeDecodeError,
        ) as error:
            raise InputError(
                f"{path} is not a CSV manifest ({error}); make it again"
            ) from None
        if not first:
            raise InputError(f"{path} has a header and no rows; make it again")


def write_manifest(
    path: PathLike, rows: Any, kind: str, shard_rows: int | None = None
) -> None:
    """Check rows by the rules of their kind and write them atomically.

    Arguments
    ---------
    path : str or os.PathLike
        The CSV file to write.
    rows : Manifest, pandas.DataFrame, list of dict or iterator of DataFrame
        The rows, at once or in blocks; extra columns are refused so that a
        label cannot slip into a training manifest.
    kind : str
        As in `read_manifest`.
    shard_rows : int, optional
        Rows of a part, if ``path`` is to be a folder of parts.

    Raises
    ------
    InputError
        The rows break the contract.
    """
    _need_kind(kind)
    path = Path(path)
    if shard_rows is None:
        with atomic_path(path) as part:
            _write_csv(path, [part], rows, kind, None)
        return
    with new_shards(path) as (folder, names):
        # As many as there are rows, at most: endless.
        parts = (folder / f"{number:06d}.csv" for number in itertools.count())
        written = _write_csv(path, parts, rows, kind, shard_rows)
        names += [part.name for part in written]


def _write_csv(
    path: Path,
    parts: Iterable[Path],
    rows: Any,
    kind: str,
    shard_rows: int | None,
) -> list[Path]:
    """Write checked rows into files of ``shard_rows``; return these files."""
    with tempfile.TemporaryFile(dir=path.parent) as hashes:
        return _write_blocks(path, parts, rows, kind, shard_rows, hashes)


def _write_blocks(
    path: Path,
    parts: Iterable[Path],
    rows: Any,
    kind: str,
    shard_rows: int | None,
    hashes: IO[bytes],
) -> list[Path]:
    written: list[Path] = []
    first, names = 0, iter(parts)
    for table in _blocks_to_write(rows, shard_rows or BLOCK):
        columns = _checked_columns(path, kind, table)
        typed = _typed(_Where(path, first), table, columns)
        hashes.write(hashes_of(typed["ID"]).data)
        is_new = not written or bool(shard_rows and not first % shard_rows)
        if is_new:
            written.append(next(names))
        # Columns of objects are written faster than inferred ones.
        with open(written[-1], "a", encoding="utf-8", newline="") as stream:
            pd.DataFrame(typed).to_csv(stream, index=False, header=is_new)
        first += len(table)
    if not first:
        raise InputError(f"{path}: there are no rows to write; give some")
    hashes.flush()
    # Mapped: memory does not grow with the rows.
    if has_repeats(np.memmap(hashes, "<u8", "r+")):
        tables = (table for _, table in _read_blocks(written, {}))
        ids = TextColumn.of(name for table in tables for name in table["ID"])
        _refuse_repeated({path: len(ids)}, ids)
    return written


def _blocks_to_write(rows: Any, grain: int) -> Iterator[pd.DataFrame]:
    """Yield rows in blocks, none of which goes over a multiple of ``grain``."""
    tables: Iterable[pd.DataFrame]
    if isinstance(rows, Manifest):
        tables = rows.blocks()
    elif isinstance(rows, Iterator):
        tables = rows
    else:
        is_table = isinstance(rows, pd.DataFrame)
        tables = [rows if is_table else pd.DataFrame(rows)]
    n_before = 0
    for table in tables:
        while len(table):
            count = min(grain - n_before % grain, BLOCK)
            block, table = table.iloc[:count], table.iloc[count:]
            n_before += len(block)
            yield block


def select(manifest: Manifest, rows: np.ndarray) -> Manifest:
    """Select rows of a manifest by indices or mask, in their order."""
    rows = np.asarray(rows)
    chosen = {
        name: column.take(rows)
        if isinstance(column, TextColumn)
        else column[rows]
        for name, column in manifest.columns.items()
    }
    return Manifest(chosen, manifest.kind, manifest.data_root)


def _column(values: Any) -> Column:
    """Return values [N] as a column: text, or numbers."""
    if isinstance(values, (TextColumn, np.ndarray)) and values.dtype != object:
        return values
    array = np.asarray(values)
    if array.dtype.kind in "biuf":
        return array
    return TextColumn.of(str(value) for value in values)


def _frame(columns: Mapping[str, Any]) -> pd.DataFrame:
    """Return columns as a table, texts as Python strings."""
    return pd.DataFrame(
        {
            name: pd.Series(np.asarray(c), dtype=c.dtype)
            for name, c in columns.items()
        }
    )


def _builtin(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _need_kind(kind: str) -> None:
    if kind not in KINDS:
        raise InputError(
            f"manifest kind {kind!r} is not one of {list(KINDS)}; correct it"
        )


def _checked_columns(
    path: PathLike, kind: str, table: pd.DataFrame
) -> dict[str, str]:
    """Return the required and optional columns of a table, with types."""
    wanted, found = list(KINDS[kind]), list(table.columns)
    if kind == "utterances" and "spk_id" in found:
        raise InputError(
            f"{path} has a column spk_id; a training manifest must not have "
            "it; remove it: true speakers belong in oracle.csv, "
            "pseudo-speakers in a manifest of kind pseudo_labels"
        )
    optional = OPTIONAL.get(kind, {})
    if set(found) - optional.keys() != set(wanted):
        may = f" and may have {list(optional)}" if optional else ""
        raise InputError(
            f"{path} has columns {found}; a manifest of kind {kind} has "
            f"{wanted}{may}; make it again or correct its columns"
        )
    present = {name: optional[name] for name in optional if name in found}
    return {**KINDS[kind], **present}


def _typed(
    where: _Where, table: pd.DataFrame, columns: dict[str, str]
) -> dict[str, np.ndarray]:
    """Check every row; return the columns in the types of their kind."""
    typed: dict[str, np.ndarray] = {}
    for name, dtype in columns.items():
        values = table[name]
        if dtype == "str":
            typed[name] = values.to_numpy(dtype=object)
            bad = typed[name] == ""
            rule = "is empty"
            if "\0" in "".join(values):
                bad = values.str.contains("\0", regex=False)
                rule = "has a zero byte, the file is damaged"
        else:
            numbers = pd.to_numeric(values, errors="coerce")
            bad = ~np.isfinite(numbers.to_numpy(dtype="float64"))
            if dtype == "int64":
                bad = bad | (numbers % 1 != 0)
            typed[name] = numbers.where(~bad, 0).astype(dtype).to_numpy()
            rule = f"is not a {'whole ' if dtype == 'int64' else ''}number"
        _refuse(where, table, bad, name, rule)
    ids = pd.Series(typed["ID"], dtype=object)
    _refuse(where, table, ids.duplicated(), "ID", _TWICE)
    if "stop" in columns:
        _check_spans(where, table, typed)
        wavs = pd.Series(typed["wav"], dtype=object)
        _refuse(where, table, _leaves_root(wavs), "wav", _LEAVES)
    return typed


def _refuse_repeated(sizes: Mapping[Path, int], ids: Column) -> None:
    """Raise InputError if an ID is there twice, in one file or in two."""
    assert isinstance(ids, TextColumn)
    again = ids.repeated()
    if not len(again):
        return
    ends = np.cumsum(list(sizes.values()))
    number = int(np.searchsorted(ends, again[0], side="right"))
    path = list(sizes)[number]
    row = int(again[0] - (ends[number] - sizes[path]))
    raise InputError(
        f"{path.name} row {row + 2}: ID {ids[int(again[0])]!r} {_TWICE} "
        f"({len(again)} such row(s)); correct the file or make it again"
    )


def _check_spans(
    where: _Where, table: pd.DataFrame, typed: dict[str, np.ndarray]
) -> None:
    """Raise InputError unless start, stop and duration go together."""
    start, stop = typed["start"], typed["stop"]
    _refuse(where, table, start < 0, "start", "is below 0")
    _refuse(where, table, stop <= start, "stop", "is not after start")
    duration = typed["duration"]
    _refuse(where, table, duration <= 0, "duration", "is not above 0")
    n_frames = stop - start
    bad = np.abs(duration - n_frames / SAMPLE_RATE) > _TOLERANCE
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        rule = _contradiction(duration[row], n_frames[row])
        _refuse(where, table, bad, "duration", rule)


def _contradiction(duration: float, n_frames: int) -> str:
    """Return what is wrong with a duration, and which units explain it."""
    seconds = n_frames / SAMPLE_RATE
    rule = (
        f"is not the length of start to stop, {n_frames} samples at 16 kHz or "
        f"{seconds:.3f} s"
    )
    # Rounded seconds may be a second off.
    if abs(n_frames - duration) <= 1:
        unit = "duration is" if n_frames > _LONGEST else "start and stop are"
        wrong = "samples" if n_frames > _LONGEST else "seconds"
        return f"{rule}; it seems that {unit} in {wrong}"
    for rate in _RATES:
        if abs(n_frames / rate - duration) <= _TOLERANCE:
            return f"{rule}; it seems that start and stop count at {rate} Hz"
    return rule


def _leaves_root(wavs: pd.Series) -> np.ndarray:
    """Return which files [N] are named by ``$data_root`` and lie above it."""
    above = np.array(
        [".." in wav and wav.startswith(DATA_ROOT) for wav in wavs], dtype=bool
    )
    for row in np.flatnonzero(above):
        # Names like `a..wav` and ways down and up again are fine.
        below = f"/{_UP}{wavs.iloc[row][len(DATA_ROOT) :]}"
        above[row] = not posixpath.normpath(below).startswith(f"/{_UP}/")
    return above


def _refuse(
    where: _Where, table: pd.DataFrame, bad: Any, name: str, rule: str
) -> None:
    bad = np.asarray(bad, dtype=bool)
    if not bad.any():
        return
    row = int(np.flatnonzero(bad)[0])
    value = _builtin(table[name].iloc[row])
    among = ""
    if where.first or len(table) == BLOCK:
        among = (
            f" in rows {where.first + 2:,} to {where.first + len(bad) + 1:,}"
        )
    raise InputError(
        f"{where.path.name} row {where.first + row + 2}: {name} {value!r} "
        f"{rule} ({int(bad.sum())} such row(s){among}); correct the file or "
        "make it again"
    )
