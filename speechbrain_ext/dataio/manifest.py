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

import functools
import posixpath
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike, atomic_path

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
_LEAVES = "is outside of $data_root, which it begins with"
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
    """Checked manifest, stored in memory by columns.

    It is a mapping from ID to the row's other values, so that SpeechBrain's
    ``DynamicItemDataset`` takes it as its data; a million rows cost the
    columns alone, not a million dicts.

    Arguments
    ---------
    table : pandas.DataFrame
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
    >>> manifest["a"]["wav"]
    '/data/a.wav'
    >>> from speechbrain.dataio.dataset import DynamicItemDataset
    >>> DynamicItemDataset(manifest, output_keys=["id", "stop"])[0]
    {'id': 'a', 'stop': 16000}
    """

    def __init__(
        self, table: pd.DataFrame, kind: str, data_root: str = DATA_ROOT
    ):
        self.table = table
        self.kind = kind
        self.data_root = data_root
        self._columns = [name for name in table.columns if name != "ID"]
        self._index = pd.Index(table["ID"])

    def __len__(self) -> int:
        return len(self.table)

    def __iter__(self) -> Iterator[str]:
        return iter(self.table["ID"])

    def __getitem__(self, key: str) -> dict[str, Any]:
        row = self._index.get_loc(key)
        values = {
            name: _builtin(self.table[name].iat[row]) for name in self._columns
        }
        if "wav" in values:
            values["wav"] = values["wav"].replace(DATA_ROOT, self.data_root, 1)
        return values

    def __getattr__(self, name: str) -> np.ndarray:
        if name.startswith("_") or name not in self.table.columns:
            raise AttributeError(name)
        return self.table[name].to_numpy()

    @functools.cached_property
    def ids(self) -> np.ndarray:
        """IDs of the utterances [N]."""
        # Cached: pandas makes a million strings anew at every call.
        return self.table["ID"].to_numpy()

    def paths(self) -> list[str]:
        """List the audio files [N], with ``$data_root`` filled in."""
        return [
            wav.replace(DATA_ROOT, self.data_root, 1)
            for wav in self.table["wav"]
        ]

    def rows_of(self, ids: Any) -> np.ndarray:
        """Return the rows of ``ids`` [M]; -1 where an ID is unknown."""
        return self._index.get_indexer(pd.Index(ids))


def read_manifest(
    path: PathLike, kind: str, data_root: PathLike = DATA_ROOT
) -> Manifest:
    """Read and check a manifest.

    Arguments
    ---------
    path : str or os.PathLike
        A CSV file.
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
    try:
        # Text first: a bad number must be reported by its row, not as a
        # parser's stack.
        table = pd.read_csv(
            path, dtype=str, keep_default_na=False, encoding="utf-8"
        )
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
    columns = _checked_columns(path, kind, table)
    if table.empty:
        raise InputError(f"{path} has a header and no rows; make it again")
    return Manifest(_typed(path, table, columns), kind, str(data_root))


def write_manifest(path: PathLike, rows: Any, kind: str) -> None:
    """Check rows by the rules of their kind and write them atomically.

    Arguments
    ---------
    path : str or os.PathLike
        The CSV file to write.
    rows : Manifest, pandas.DataFrame or list of dict
        The rows; extra columns are refused so that a label cannot slip into
        a training manifest.
    kind : str
        As in `read_manifest`.

    Raises
    ------
    InputError
        The rows break the contract.
    """
    _need_kind(kind)
    table = rows.table if isinstance(rows, Manifest) else pd.DataFrame(rows)
    if table.empty:
        raise InputError(f"{path}: there are no rows to write; give some")
    columns = _checked_columns(path, kind, table)
    table = _typed(path, table, columns)
    with atomic_path(path) as part:
        table.to_csv(part, index=False)


def select(manifest: Manifest, rows: np.ndarray) -> Manifest:
    """Select rows of a manifest by indices or mask, in their order."""
    table = (
        manifest.table.loc[rows]
        if rows.dtype == bool
        else (manifest.table.iloc[rows])
    )
    return Manifest(
        table.reset_index(drop=True), manifest.kind, manifest.data_root
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
    path: PathLike, table: pd.DataFrame, columns: dict[str, str]
) -> pd.DataFrame:
    """Check every row; return the table in the types of its kind."""
    typed = {}
    for name, dtype in columns.items():
        values = table[name]
        if dtype == "str":
            # One shared Python string per value: 1.1 M rows stay < 0.4 GB.
            typed[name] = values.astype(object)
            bad = values.astype(object) == ""
            rule = "is empty"
            if "\0" in "".join(values):
                bad = values.str.contains("\0", regex=False)
                rule = "has a zero byte, the file is damaged"
        else:
            numbers = pd.to_numeric(values, errors="coerce")
            bad = ~np.isfinite(numbers.to_numpy(dtype="float64"))
            if dtype == "int64":
                bad = bad | (numbers % 1 != 0)
            typed[name] = numbers.where(~bad, 0).astype(dtype)
            rule = f"is not a {'whole ' if dtype == 'int64' else ''}number"
        _refuse(path, table, np.asarray(bad), name, rule)
    result = pd.DataFrame(typed)
    _refuse(path, table, result["ID"].duplicated(), "ID", "is there twice")
    if "stop" in columns:
        _check_spans(path, table, result)
        _refuse(path, table, _leaves_root(result["wav"]), "wav", _LEAVES)
    return result


def _check_spans(
    path: PathLike, table: pd.DataFrame, result: pd.DataFrame
) -> None:
    """Raise InputError unless start, stop and duration go together."""
    start, stop = result["start"], result["stop"]
    _refuse(path, table, start < 0, "start", "is below 0")
    _refuse(path, table, stop <= start, "stop", "is not after start")
    duration = result["duration"]
    _refuse(path, table, duration <= 0, "duration", "is not above 0")
    n_frames = stop - start
    bad = (duration - n_frames / SAMPLE_RATE).abs() > _TOLERANCE
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        rule = _contradiction(duration.iloc[row], n_frames.iloc[row])
        _refuse(path, table, bad, "duration", rule)


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
    rooted = wavs.str.startswith(DATA_ROOT)
    above = np.array(rooted & wavs.str.contains("..", regex=False))
    for row in np.flatnonzero(above):
        # Names like `a..wav` and ways down and up again are fine.
        below = f"/{_UP}{wavs.iloc[row][len(DATA_ROOT) :]}"
        above[row] = not posixpath.normpath(below).startswith(f"/{_UP}/")
    return above


def _refuse(
    path: PathLike, table: pd.DataFrame, bad: Any, name: str, rule: str
) -> None:
    bad = np.asarray(bad, dtype=bool)
    if not bad.any():
        return
    row = int(np.flatnonzero(bad)[0])
    value = _builtin(table[name].iloc[row])
    raise InputError(
        f"{Path(path).name} row {row + 2}: {name} {value!r} {rule} "
        f"({int(bad.sum())} such row(s)); correct the file or make it again"
    )
