"""Read and write labelled utterances in the formats of other tools.

``speechbrain``
    ``pseudo_labels.csv``, which SpeechBrain's VoxCeleb recipes take as well.
``list``
    Lines ``label path``, as the released code of Miara et al. (Interspeech
    2024) and other trainers read them; a path is our ID.
``kaldi``
    A folder with ``utt2spk``, ``spk2utt`` and ``wav.scp``.
``wespeaker``
    A folder with ``raw.list``, an utterance of JSON a line, and ``utt2spk``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from speechbrain_ext.dataio.manifest import (
    DATA_ROOT,
    Manifest,
    read_manifest,
    select,
    write_manifest,
)
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike, write_text

CSV, LIST = "pseudo_labels.csv", "labels.txt"
_RAW, _UTT2SPK, _SPK2UTT, _SCP = "raw.list", "utt2spk", "spk2utt", "wav.scp"
# A space at either end, or a character that some tool takes for a line end.
_LOST = r"^\s|\s$|[\n\v\f\r\x1c-\x1e\x85\u2028\u2029]"
_FILES = {
    "speechbrain": CSV,
    "list": LIST,
    "kaldi": _UTT2SPK,
    "wespeaker": _RAW,
}


def write_labels(
    folder: PathLike, labels: Manifest, label_format: str
) -> list[str]:
    """Write labelled utterances in one of the `FORMATS`.

    Arguments
    ---------
    folder : str or os.PathLike
        Where the files go.
    labels : Manifest
        Kind ``"pseudo_labels"``; Kaldi and wespeaker get its audio files as
        its ``data_root`` has them.
    label_format : str
        A key of `FORMATS`.

    Returns
    -------
    list of str
        The names written.

    Raises
    ------
    InputError
        The format is unknown, or an ID or a label has a space or a line
        break that its columns do not allow.

    Example
    -------
    >>> path = getfixture("tmp_path") / "labels.csv"
    >>> _ = path.write_text("ID,duration,wav,start,stop,spk_id\\n"
    ...                     "a.wav,1.0,$data_root/a.wav,0,16000,s1\\n")
    >>> labels = read_manifest(path, "pseudo_labels")
    >>> write_labels(path.parent, labels, "list")
    ['labels.txt']
    >>> (path.parent / "labels.txt").read_text()
    's1 a.wav\\n'
    """
    check_format(label_format, FORMATS)
    return FORMATS[label_format](Path(folder), labels)


def read_labels(
    path: PathLike,
    label_format: str,
    train: Manifest | None = None,
    data_root: str = DATA_ROOT,
) -> Manifest:
    """Read labelled utterances in one of the `FORMATS`.

    Arguments
    ---------
    path : str or os.PathLike
        The file, or the folder that it is in (`file_of`).
    label_format : str
        A key of `FORMATS`.
    train : Manifest, optional
        Kind ``"utterances"``: where the audio is and how long. Not needed
        for ``speechbrain``, which says it itself.
    data_root : str
        What ``$data_root`` stands for in the audio's paths.

    Returns
    -------
    Manifest
        Kind ``"pseudo_labels"``, in the order of ``train``.

    Raises
    ------
    InputError
        The format is unknown, a line breaks it, or an utterance is there
        twice or not in ``train``.
    """
    file = file_of(path, label_format)
    if label_format == "speechbrain":
        return read_manifest(file, "pseudo_labels", data_root)
    if train is None:
        raise InputError(
            f"{file} does not say how long its utterances are; give the "
            "manifest that has them, --train_annotation (prepare_folder makes "
            "one)"
        )
    return _joined(file, _READERS[label_format](file), train, data_root)


def file_of(path: PathLike, label_format: str) -> Path:
    """Find the file to read: the path itself, or the one in that folder.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> file_of(folder, "kaldi").name
    'utt2spk'
    """
    check_format(label_format, FORMATS)
    path = Path(path)
    return path / _FILES[label_format] if path.is_dir() else path


def check_format(name: str, known: Iterable[str]) -> None:
    """Raise InputError for an unknown format.

    Example
    -------
    >>> check_format("csv", ["list", "kaldi"])
    Traceback (most recent call last):
    speechbrain_ext.utils.errors.InputError: format 'csv' is not one of ...
    """
    if name not in known:
        raise InputError(
            f"format {name!r} is not one of {list(known)}; correct the name"
        )


def _joined(
    path: Path, table: pd.DataFrame, train: Manifest, data_root: str
) -> Manifest:
    """Join labels [M] with the rows of the manifest, in its order."""
    twice = table["ID"].duplicated()
    rows = train.rows_of(table["ID"])
    for bad, rule in ((twice.to_numpy(), "is there twice"), (rows < 0, "")):
        if bad.any():
            name = table["ID"].iloc[int(np.flatnonzero(bad)[0])]
            raise InputError(
                f"{path}: utterance {name!r} "
                f"{rule or 'is not in the training annotation'} "
                f"({int(bad.sum())} such); correct the one or the other"
            )
    order = np.argsort(rows, kind="stable")
    found = select(train, rows[order]).table
    found["spk_id"] = table["spk_id"].to_numpy()[order]
    return Manifest(found, "pseudo_labels", data_root)


def _lines(path: Path) -> list[str]:
    """Read lines without trailing blank ones; only \\n ends a line."""
    try:
        text = path.read_text("utf-8-sig").rstrip("\n")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; correct the path") from None
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8 ({error.reason} at byte {error.start}); "
            "convert it with iconv"
        ) from None
    return text.split("\n") if text else []


def _columns(path: Path, names: list[str]) -> pd.DataFrame:
    """Read two columns; the first one contains no space."""
    lines = pd.Series(_lines(path), dtype=object)
    parts = lines.str.strip().str.split(n=1, expand=True)
    if len(lines) == 0 or parts.shape[1] != 2 or parts[1].isna().any():
        bad = 0 if parts.shape[1] != 2 else int(parts[1].isna().argmax())
        raise InputError(
            f"{path} line {bad + 1}: there must be {' and '.join(names)}, with "
            "a space between them; correct the file"
        )
    parts.columns = pd.Index(names)
    return parts


def _check_spaces(values: np.ndarray, what: str) -> None:
    """Raise InputError for white space that would end a column."""
    spaced = pd.Series(values, dtype=object).str.contains(r"\s")
    if spaced.any():
        raise InputError(
            f"{what} {str(values[int(spaced.argmax())])!r} has a space, which "
            "ends a column in this format; rename it, or take another format"
        )


def _check_line(values: np.ndarray, what: str) -> None:
    """Raise InputError for text that would not survive in a line."""
    bad = pd.Series(values, dtype=object).str.contains(_LOST)
    if bad.any():
        raise InputError(
            f"{what} {str(values[int(bad.argmax())])!r} begins or ends with a "
            "space, or has a line break, which is lost in this format; rename "
            "it, or take speechbrain"
        )


def _two_columns(path: Path, first: np.ndarray, second: np.ndarray) -> str:
    pairs = zip(first, second, strict=True)
    write_text(path, "".join(f"{one} {other}\n" for one, other in pairs))
    return path.name


def _write_csv(folder: Path, labels: Manifest) -> list[str]:
    write_manifest(folder / CSV, labels, "pseudo_labels")
    return [CSV]


def _write_list(folder: Path, labels: Manifest) -> list[str]:
    _check_spaces(labels.spk_id, "label")
    _check_line(labels.ID, "utterance")
    return [_two_columns(folder / LIST, labels.spk_id, labels.ID)]


def _write_kaldi(folder: Path, labels: Manifest) -> list[str]:
    _check_spaces(labels.ID, "utterance")
    _check_spaces(labels.spk_id, "label")
    # Sorted as bytes, as Kaldi's tools require.
    order = np.argsort([name.encode() for name in labels.ids], kind="stable")
    ids, speakers = labels.ids[order], labels.spk_id[order]
    paths = np.array(labels.paths(), dtype=object)[order]
    _check_line(paths, "audio file")
    groups = pd.Series(ids).groupby(speakers).agg(" ".join)
    return [
        _two_columns(folder / _UTT2SPK, ids, speakers),
        _two_columns(folder / _SPK2UTT, groups.index, groups.to_numpy()),
        _two_columns(folder / _SCP, ids, paths),
    ]


def _write_wespeaker(folder: Path, labels: Manifest) -> list[str]:
    _check_spaces(labels.ID, "utterance")
    _check_line(labels.spk_id, "label")
    rows = zip(labels.ids, labels.paths(), labels.spk_id, strict=True)
    lines = [
        json.dumps({"key": key, "wav": wav, "spk": speaker})
        for key, wav, speaker in rows
    ]
    write_text(folder / _RAW, "".join(f"{line}\n" for line in lines))
    return [_RAW, _two_columns(folder / _UTT2SPK, labels.ID, labels.spk_id)]


def _read_list(path: Path) -> pd.DataFrame:
    return _columns(path, ["spk_id", "ID"])


def _read_utt2spk(path: Path) -> pd.DataFrame:
    table = _columns(path, ["ID", "spk_id"])
    more = table["spk_id"].str.contains(r"\s")
    if more.any():
        line = int(more.argmax())
        raise InputError(
            f"{path} line {line + 1}: after the utterance there is "
            f"{table['spk_id'].iloc[line]!r}, and a speaker has no space "
            f"({int(more.sum())} such line(s)); utt2spk has two columns: "
            "correct the file"
        )
    return table


def _read_raw_list(path: Path) -> pd.DataFrame:
    rows = []
    for number, line in enumerate(_lines(path), start=1):
        try:
            entry = json.loads(line)
            rows.append((_name(entry["key"]), _name(entry["spk"])))
        except (json.JSONDecodeError, KeyError, TypeError):
            raise InputError(
                f"{path} line {number}: each line is JSON with key, wav and "
                "spk, names all; wespeaker's tools/make_raw_list.py writes it"
            ) from None
    return pd.DataFrame(rows, columns=["ID", "spk_id"])


def _name(value: Any) -> str:
    """Return a name from JSON; raise TypeError if it is not one."""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise TypeError(value)
    return str(value)


FORMATS: dict[str, Callable[[Path, Manifest], list[str]]] = {
    "speechbrain": _write_csv,
    "list": _write_list,
    "kaldi": _write_kaldi,
    "wespeaker": _write_wespeaker,
}
_READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    "list": _read_list,
    "kaldi": _read_utt2spk,
    "wespeaker": _read_raw_list,
}
