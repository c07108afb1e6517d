"""Lineage of a model: the stages that led to it, found by hashes of files.

A record names the SHA-256 of what its stage read and wrote. Walking from a
file to the stage that wrote it, to what that read, and so on, gives the very
steps that led to it and no others, whatever else lies in the run's folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from speechbrain_ext.experiment.stage_records import RECORD, read_record
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike
from speechbrain_ext.utils.provenance import describe_file

# A run's stages lie this deep, e.g. round1/model/stage.json.
_PLACES = (RECORD, f"*/{RECORD}", f"*/*/{RECORD}")
# Models of one architecture share the YAML, embeddings of one manifest the
# index: they do not tell who made them.
_SHARED = (".yaml", "embeddings.csv")
UNKNOWN = "inputs_of_unknown_origin"
# Stage records by the SHA-256 of what they made, and by its path.
Makers = dict[str, dict[str, dict[str, Any]]]


def read_lineage(
    made: Mapping[str, Any], folder: PathLike
) -> list[dict[str, Any]]:
    """Return the records of all stages that led to a file, earliest first.

    Arguments
    ---------
    made : mapping
        ``path`` and ``sha256`` of the file.
    folder : str or os.PathLike
        Where the stages' folders are, up to two levels below.

    Returns
    -------
    list of dict
        The stage records, each with its ``folder`` relative to the given one,
        and under `UNKNOWN` the inputs that no stage there wrote; empty when
        none wrote the file.

    Example
    -------
    >>> from speechbrain_ext.utils.files import write_json
    >>> root = getfixture("tmp_path")
    >>> def entry(sha): return {"path": "x", "sha256": sha}
    >>> write_json(root / "a" / "stage.json", {"recipe": "prepare",
    ...     "inputs": {}, "outputs": {"train.csv": entry("1")}})
    >>> write_json(root / "b" / "stage.json", {"recipe": "train",
    ...     "inputs": {"x": entry("1")}, "outputs": {"w.ckpt": entry("2")}})
    >>> [record["recipe"] for record in read_lineage(entry("2"), root)]
    ['prepare', 'train']
    """
    found: dict[str, dict[str, Any]] = {}
    _visit(made, read_makers(folder), found, set())
    return list(found.values())


def read_makers(folder: PathLike) -> Makers:
    """Read the records of the stages in a folder, by the files they made.

    What a stage only copied, or many share, is left out.

    Arguments
    ---------
    folder : str or os.PathLike
        Where the stages' folders are, up to two levels below.

    Returns
    -------
    dict of str to dict of str to dict
        By SHA-256 and by path, relative to the folder, the stage records, each
        with its ``folder``.
    """
    folder = Path(folder)
    makers: Makers = {}
    for pattern in _PLACES:
        for path in sorted(folder.glob(pattern)):
            record = read_record(path)
            record["folder"] = path.parent.relative_to(folder).as_posix()
            given = {entry["sha256"] for entry in _inputs(record).values()}
            for name, output in record.get("outputs", {}).items():
                sha = output["sha256"]
                if sha not in given and not name.endswith(_SHARED):
                    place = f"{record['folder']}/{name}".removeprefix("./")
                    makers.setdefault(sha, {})[place] = record
    return makers


def _inputs(record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the files that a stage read, by name."""
    return record.get("inputs", {})


def _maker(made: Mapping[str, Any], makers: Makers) -> dict[str, Any] | None:
    """Return the record of a file; its path decides between equal files."""
    found = makers.get(made["sha256"])
    if found is None:
        return None
    path = Path(made["path"]).as_posix()
    return found[
        max(found, key=lambda place: path.endswith(place) * len(place))
    ]


def _visit(
    made: Mapping[str, Any],
    makers: Makers,
    found: dict[str, dict[str, Any]],
    begun: set[str],
) -> None:
    """Add the maker of a file to ``found``, after the makers of its inputs."""
    record = _maker(made, makers)
    if record is None or record["folder"] in begun:
        return
    begun.add(record["folder"])
    unknown = []
    for name, given in _inputs(record).items():
        _visit(given, makers, found, begun)
        # True speakers come with a corpus; a stage that uses them records it.
        # Pre-trained encoders are from elsewhere.
        raw = name.split()[0] in ("oracle", "encoder")
        given_raw = raw or given["path"].endswith(_SHARED)
        if given["sha256"] not in makers and not given_raw:
            unknown.append(name)
    found[record["folder"]] = {**record, UNKNOWN: unknown}


def check_made_from(
    folder: PathLike, name: str, path: PathLike, words: str
) -> None:
    """Raise InputError if a stage did not read exactly this file.

    Arguments
    ---------
    folder : str or os.PathLike
        The stage's output folder.
    name : str
        The input, as the stage's record calls it.
    path : str or os.PathLike
        The file.
    words : str
        What is wrong if it was another, for the message.

    Raises
    ------
    InputError
        There is no record, or it names other bytes.

    Example
    -------
    >>> check_made_from("nowhere", "embedder", "a.ckpt", "wrong")
    Traceback (most recent call last):
    speechbrain_ext.utils.errors.InputError: nowhere/stage.json: no such ...
    """
    record = read_record(Path(folder) / RECORD)
    given = record.get("inputs", {}).get(name, {}).get("sha256")
    if given != describe_file(path)["sha256"]:
        raise InputError(f"{folder} was not made from {path}: {words}")


def check_maker_read(
    made: Mapping[str, Any],
    folder: PathLike,
    read: Mapping[str, PathLike],
    words: str,
) -> None:
    """Raise InputError unless the stage that made a file read these files.

    The stage is looked for where the file was, and by the file's hash in
    ``folder``, to which it may have moved.

    Arguments
    ---------
    made : mapping
        ``path`` and ``sha256`` of the file, from a record.
    folder : str or os.PathLike
        Where the stages' folders are, up to two levels below.
    read : mapping of str to path
        Files, by the names that the stage's record has for them.
    words : str
        What the file is for and the way out, for the message.

    Raises
    ------
    InputError
        No such stage is found, or it read other bytes.
    """
    known = [read_makers(Path(made["path"]).parent), read_makers(folder)]
    record = _maker(made, known[0]) or _maker(made, known[1])
    if record is None:
        raise InputError(
            f"no stage record beside {made['path']} or below {folder} tells "
            f"what made it: {words}, or give the folder of its stages as "
            "--run_folder"
        )
    for name, path in read.items():
        given = _inputs(record).get(name, {}).get("sha256")
        if given != describe_file(path)["sha256"]:
            raise InputError(
                f"{made['path']} was not made from {path}: {words}"
            )


def check_unchanged(folder: PathLike, names: list[str]) -> None:
    """Raise InputError if outputs of a stage differ from its record.

    Arguments
    ---------
    folder : str or os.PathLike
        The stage's output folder.
    names : list of str
        Outputs of it.

    Raises
    ------
    InputError
        One is unknown to the record, missing or changed.
    """
    outputs = read_record(Path(folder) / RECORD).get("outputs", {})
    for name in names:
        path = Path(folder) / name
        known = outputs.get(name, {}).get("sha256")
        if known != describe_file(path)["sha256"]:
            raise InputError(
                f"{path} is not what its stage wrote, see {RECORD} beside "
                "it; run that stage again with --overwrite=True"
            )
