"""Stage records: what a stage was asked to do, and that it finished.

A stage folder holds ``request.json`` from the moment its work begins and
``stage.json`` once it has ended; both are written atomically. The same
request again is skipped when finished and resumed when not; another request
in the same folder is refused, naming the key that differs.
"""

from __future__ import annotations

import logging
import platform
import re
from pathlib import Path
from typing import Any

from speechbrain_ext.commands.folder_lock import LOCK
from speechbrain_ext.experiment.recipe_settings import (
    RECIPE_SETTINGS,
    settings_of,
)
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import (
    PathLike,
    read_json,
    write_json,
    wrong_shape,
)
from speechbrain_ext.utils.provenance import (
    HASHES,
    describe_file,
    describe_input,
    known_sha256,
    remember_hashes,
    versions,
)
from speechbrain_ext.utils.settings import REQUIRED
from speechbrain_ext.utils.yaml_trees import plain

logger = logging.getLogger(__name__)

REQUEST = "request.json"
RECORD = "stage.json"
RESOLVED = "hyperparams.resolved.yaml"
LOG = "log.txt"
# Suffixes of files of numbers, which nobody edits.
NUMBERS = (".ckpt", ".npy", ".pt", ".safetensors")
# Types of what records hold, where others rely on it.
_REQUEST = {
    "recipe": str,
    "inputs": dict,
    "hparams": dict,
    "run_options": dict,
}
_FACTS = {
    "outputs": dict,
    "seconds": (float, int),
    "resumed": bool,
    "n_utterances": int,
    "n_clusters": int,
    "churn": (float, int, type(None)),
    "calibrations": dict,
    "data_in_output": bool,
}
_DESCRIBED = {"path": str, "bytes": int, "sha256": str}
TO_DO, RESUME, DONE, STALE = "to do", "resume", "done", "stale"


def first_difference(old: Any, new: Any, key: str = "") -> str | None:
    """Return the first dotted key in which two requests differ, or None.

    File paths are not compared: a data set may move, its bytes may not.

    Example
    -------
    >>> first_difference({"a": {"lr": 1}}, {"a": {"lr": 2}})
    'a.lr was 1, now 2'
    >>> first_difference({"a": 1}, {"a": 1}) is None
    True
    """
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys(), key=str):
            if "sha256" in old and name == "path":
                continue
            inner = f"{key}.{name}" if key else str(name)
            if name not in old or name not in new:
                there = "absent" if name not in old else repr(old[name])
                here = "absent" if name not in new else repr(new[name])
                return f"{inner} was {there}, now {here}"
            found = first_difference(old[name], new[name], inner)
            if found:
                return found
        return None
    return None if old == new else f"{key} was {old!r}, now {new!r}"


def is_finished(folder: PathLike, request: dict[str, Any]) -> bool:
    """Return whether a folder holds the finished result of a request.

    Arguments
    ---------
    folder : str or os.PathLike
        The stage's output folder.
    request : dict
        Recipe name, inputs (`describe_file`) and resolved hparams.

    Returns
    -------
    bool
        True: finished, skip. False: nothing there, or begun and to resume.

    Raises
    ------
    InputError
        The folder belongs to another request.
    """
    state, reason = state_of(folder, request)
    if state == STALE:
        raise InputError(
            f"{folder} was made by another request: {reason}. "
            f"{_another_precision(reason)}Choose another --output_folder, "
            "move this one aside with --overwrite=True, or, if it is a step of "
            "a run, remove it and type the run's command again"
        )
    if reason:
        logger.warning(f"{folder}: {reason}; the stage is done again")
    return state == DONE


def _another_precision(reason: str) -> str:
    """Return how to embed as before, if the reason is a model's precision."""
    found = re.match(r"applied_precision was ('(\w+)'|absent)", reason)
    if not found:
        return ""
    # Absent: float32, also where an older version was told --precision=bf16.
    return f"Give --eval_precision={found[2] or 'fp32'} to embed as it did. "


def _with_new_keys(request: dict[str, Any]) -> dict[str, Any]:
    """Return an older version's request with keys that are new, at defaults.

    An update would else refuse all runs that were begun before it. Run options
    that change nothing in a recipe were recorded too, and are left out.
    """
    recipe, given = request.get("recipe"), request.get("hparams")
    if recipe not in RECIPE_SETTINGS or not isinstance(given, dict):
        return request
    deciding = settings_of(recipe).deciding_options
    options = request.get("run_options", {})
    options = {k: v for k, v in options.items() if k in deciding}
    request = {k: v for k, v in request.items() if k != "run_options"}
    if options:
        request["run_options"] = options
    known = settings_of(recipe).keys()
    new = {
        key: plain(fact.default)
        for key, fact in known.items()
        if fact.in_record and fact.default is not REQUIRED
    }
    return {**request, "hparams": {**new, **given}}


def state_of(
    folder: PathLike, request: dict[str, Any], whole: bool = True
) -> tuple[str, str]:
    """Return what became of a request, and why it would be done again.

    Arguments
    ---------
    folder : str or os.PathLike
        The stage's output folder.
    request : dict
        As of `is_finished`.
    whole : bool
        False: keys that it lacks are not compared.

    Returns
    -------
    tuple of (str, str)
        ``to do``, ``resume``, ``done``, or ``stale``: the folder belongs to
        another request. The reason of a stale one is the first key that
        differs; of one to be done again, the output that has changed.

    Example
    -------
    >>> state_of("nowhere", {})
    ('to do', '')
    """
    folder = Path(folder)
    if not (folder / REQUEST).exists():
        return TO_DO, ""
    was = _with_new_keys(read_request(folder))
    if not whole:
        was = {key: value for key, value in was.items() if key in request}
    difference = first_difference(was, request)
    if difference:
        return (STALE, difference) if _holds_work(folder) else (TO_DO, "")
    if not (folder / RECORD).exists():
        return RESUME, ""
    record = read_record(folder / RECORD)
    if "outputs" not in record:
        raise _no_record(folder / RECORD, "it has no outputs")
    for name, described in record["outputs"].items():
        if not _unchanged(folder, name, described):
            return TO_DO, f"{name} has changed or is missing"
    return DONE, ""


def check_as_made(path: PathLike, sha: str) -> None:
    """Raise InputError if a file of numbers is not what its stage wrote.

    Arguments
    ---------
    path : str or os.PathLike
        A file that a stage reads. Tables may have been changed by hand; arrays
        and weights (`NUMBERS`) may not: what differs there is damage.
    sha : str
        The SHA-256 that it has now.

    Raises
    ------
    InputError
        The record beside it, or one folder above, has another.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> output = {"path": "a.npy", "sha256": "1"}
    >>> write_json(folder / RECORD, {"outputs": {"a.npy": output}})
    >>> check_as_made(folder / "a.npy", "1")
    >>> check_as_made(folder / "a.npy", "2")
    Traceback (most recent call last):
    speechbrain_ext.utils.errors.InputError: ...a.npy has other bytes than ...
    """
    path = Path(path).absolute()
    if path.suffix not in NUMBERS:
        return
    for folder in path.parents[:2]:
        if not (folder / RECORD).is_file():
            continue
        outputs = read_record(folder / RECORD).get("outputs", {})
        made = outputs.get(path.relative_to(folder).as_posix())
        if made and made["sha256"] != sha:
            raise InputError(
                f"{path} has other bytes than its stage wrote, see "
                f"{folder / RECORD}; it is damaged or was replaced; type the "
                "command that made it again, which makes it anew"
            )
        return


def is_begun(folder: PathLike, request: dict[str, Any]) -> bool:
    """Return whether a folder holds this request, begun and not finished."""
    folder = Path(folder)
    if not (folder / REQUEST).exists() or (folder / RECORD).exists():
        return False
    try:
        was = _with_new_keys(read_request(folder))
        return first_difference(was, request) is None
    except InputError:
        # Damaged: what was begun is not known, and is not gone on with.
        return False


def read_request(folder: PathLike) -> dict[str, Any]:
    """Read what a stage folder was asked for.

    Raises
    ------
    InputError
        It is not JSON, or JSON of another shape.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> write_json(folder / REQUEST, [])
    >>> read_request(folder)
    Traceback (most recent call last):
    speechbrain_ext.utils.errors.InputError: ...request.json: it must be ...
    """
    path = Path(folder) / REQUEST
    try:
        value = read_json(path)
        wrong = wrong_shape(value, _REQUEST, optional=True)
    except InputError as error:
        wrong = str(error).removeprefix(str(path)).partition("; delete")[0]
        wrong = wrong.strip(": ")
    if wrong or not value:
        raise InputError(
            f"{path}: {wrong or 'it is empty'}, so that it is not known what "
            f"{folder} was made by; delete that folder, or move it aside with "
            "--overwrite=True"
        )
    return value


def read_record(path: PathLike) -> dict[str, Any]:
    """Read the record of a finished stage.

    Arguments
    ---------
    path : str or os.PathLike
        Its ``stage.json``.

    Returns
    -------
    dict of str to Any
        The request, ``outputs`` and the facts, as far as they are there.

    Raises
    ------
    InputError
        There is none, or it is not a stage record.

    Example
    -------
    >>> path = getfixture("tmp_path") / "stage.json"
    >>> write_json(path, {"outputs": {"a.csv": None}})
    >>> read_record(path)
    Traceback (most recent call last):
    speechbrain_ext.utils.errors.InputError: ...outputs a.csv: it must be an ...
    """
    value = read_json(path)
    wrong = wrong_shape(value, _REQUEST | _FACTS, optional=True)
    for group in ("inputs", "outputs"):
        found = {} if wrong else value.get(group, {})
        for name, entry in found.items():
            said = wrong_shape(entry, _DESCRIBED, optional=True)
            said = said or wrong_shape(entry, {"sha256": str})
            wrong = wrong or (said and f"{group} {name}: {said}")
    if wrong:
        raise _no_record(path, wrong)
    return value


def _no_record(path: PathLike, wrong: str) -> InputError:
    return InputError(
        f"{path}: {wrong}; it is not a stage record; delete it, and the "
        "command that made its folder writes it again"
    )


def _holds_work(folder: Path) -> bool:
    """Return whether a folder holds more than a stage writes at its start."""
    opened = {REQUEST, RESOLVED, LOG, LOCK, HASHES}
    return any(
        path.name not in opened and path.suffix != ".py"
        for path in folder.iterdir()
    )


def _unchanged(folder: Path, name: str, was: dict[str, Any]) -> bool:
    path = folder / name
    if path.is_dir():
        try:
            return describe_input(path, folder)["sha256"] == was["sha256"]
        except InputError:
            return False
    return (
        path.is_file()
        and path.stat().st_size == was.get("bytes")
        and known_sha256(path, keep=folder) == was["sha256"]
    )


def write_record(
    folder: PathLike,
    request: dict[str, Any],
    outputs: list[str],
    seconds: float,
    facts: dict[str, Any],
) -> None:
    """Write ``stage.json``, the last file of a finished stage.

    Arguments
    ---------
    folder : str or os.PathLike
        The stage's output folder.
    request : dict
        As given to `is_finished`.
    outputs : list of str
        File names inside ``folder``.
    seconds : float
        Time of the attempt that finished.
    facts : dict
        Counts and statistics that later stages and the model card read.
    """
    folder = Path(folder)
    described = {name: describe_file(folder / name) for name in outputs}
    files = {folder / n: e["sha256"] for n, e in described.items()}
    remember_hashes(folder, {p: h for p, h in files.items() if p.is_file()})
    for name, entry in described.items():
        entry["path"] = name
    write_json(
        folder / RECORD,
        {
            **request,
            "outputs": described,
            "seconds": round(seconds, 1),
            "versions": versions(),
            "machine": platform.platform(),
            **facts,
        },
    )


def move_aside(folder: PathLike) -> Path | None:
    """Rename a stage folder, so that starting over loses nothing.

    Returns
    -------
    pathlib.Path or None
        The new name, or None when there was no stage folder to move.
    """
    folder = Path(folder)
    if not (folder / REQUEST).exists():
        return None
    number = 1
    while (aside := folder.with_name(f"{folder.name}.old{number}")).exists():
        number += 1
    folder.rename(aside)
    return aside
