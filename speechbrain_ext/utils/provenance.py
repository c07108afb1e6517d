"""Origin of a result: hashes of files and versions of packages."""

from __future__ import annotations

import contextlib
import datetime
import functools
import hashlib
import importlib.metadata
import os
import platform
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import (
    PathLike,
    parts_of,
    read_json,
    sha256,
    write_json,
)
from speechbrain_ext.utils.yaml_trees import (
    dumped,
    find_yaml,
    has_base,
    read_yaml,
)

COMMANDS = "commands.json"
# Hidden table of a folder: hashes of large files, and what they were then.
HASHES = ".hashes.json"
_WORTH = 2**20  # bytes of a file whose hash is remembered
# Nanoseconds that a file must have been left alone: a change within the same
# tick of the file system's clock could not be told from none.
_SETTLED = 10**9
_PACKAGES = (
    "speechbrain-ext speechbrain torch torchaudio transformers hyperpyyaml "
    "faiss-gpu faiss-cpu scikit-learn numpy pandas"
).split()


def describe_file(
    path: PathLike, digest: Callable[[PathLike], str] = sha256
) -> dict[str, Any]:
    """Return name, size and SHA-256 of an input or output file.

    Those of a folder of parts are the sizes' sum, and the hash of the parts'
    names and hashes.
    """
    path = Path(path)
    if path.is_dir():
        parts = [describe_file(part, digest) for part in parts_of(path)]
        lines = (f"{Path(p['path']).name} {p['sha256']}\n" for p in parts)
        return {
            "path": str(path),
            "bytes": sum(part["bytes"] for part in parts),
            "sha256": hashlib.sha256("".join(lines).encode()).hexdigest(),
        }
    if not path.is_file():
        raise InputError(
            f"{path}: no such file, and this stage reads it; run the stage "
            "that writes it or correct the path"
        )
    return {
        "path": str(path),
        "bytes": path.stat().st_size,
        "sha256": digest(path),
    }


def known_sha256(path: PathLike, keep: PathLike | None = None) -> str:
    """Return a file's SHA-256, without reading a large file that is the same.

    It is the same if size, inode, and times of change are those of when it was
    hashed. That is remembered in the folder of the stage that wrote it, or
    else in ``keep``; files below a megabyte are always read.

    Arguments
    ---------
    path : str or os.PathLike
        The file.
    keep : str or os.PathLike, optional
        Folder that remembers what this call reads.

    Returns
    -------
    str
        Hexadecimal, as of `speechbrain_ext.utils.files.sha256`.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a"
    >>> _ = path.write_bytes(b"abc")
    >>> known_sha256(path) == sha256(path)
    True
    """
    path = Path(path).absolute()
    state = _state_of(path)
    if state[0] < _WORTH:
        return sha256(path)
    folders = [*path.parents[:2], *([Path(keep)] if keep else [])]
    for folder in folders:
        entry = _remembered(folder).get(_name_in(path, folder))
        if isinstance(entry, list) and entry[:-1] == state:
            return str(entry[-1])
    found = sha256(path)
    if keep:
        remember_hashes(keep, {path: found})
    return found


def remember_hashes(folder: PathLike, hashes: Mapping[Path, str]) -> None:
    """Remember the hashes of large files in a folder, if it can be written.

    Arguments
    ---------
    folder : str or os.PathLike
        The folder.
    hashes : mapping of pathlib.Path to str
        SHA-256 of files, which need not lie in it.
    """
    folder = Path(folder)
    new = {}
    for path, found in hashes.items():
        state = _state_of(path)
        age = time.time_ns() - max(state[1:3])
        if state[0] >= _WORTH and age > _SETTLED:
            new[_name_in(path.absolute(), folder)] = [*state, found]
    # What is done may lie in a read-only folder.
    if new and os.access(folder, os.W_OK):
        write_json(folder / HASHES, {**_remembered(folder), **new})


def _state_of(path: Path) -> list[int]:
    """Return size, times of change of content and inode, and inode."""
    found = path.stat()
    return [
        found.st_size,
        found.st_mtime_ns,
        found.st_ctime_ns,
        found.st_ino,
    ]


def _name_in(path: Path, folder: Path) -> str:
    folder = folder.absolute()
    is_inside = path.is_relative_to(folder)
    return str(path.relative_to(folder) if is_inside else path)


def _remembered(folder: Path) -> dict[str, Any]:
    """Read what a folder remembers; nothing if it is damaged or absent."""
    try:
        found = read_json(folder / HASHES)
    except (InputError, OSError):
        return {}
    return found if isinstance(found, dict) else {}


def describe_yaml(path: PathLike) -> dict[str, Any]:
    """Return name, size and SHA-256 of a YAML, including its bases.

    A YAML without a base is described as any file. With one, size and hash are
    those of its text merged with its bases, so that a change of a base counts.

    Arguments
    ---------
    path : str or os.PathLike
        A path, or a name in the package's ``hparams``.

    Returns
    -------
    dict
        ``path``, ``bytes`` and ``sha256``.

    Raises
    ------
    InputError
        There is no such file, or it is not YAML.

    Example
    -------
    >>> described = describe_yaml("embedders/encoder_mhfa.yaml")
    >>> described["path"].endswith("encoder_mhfa.yaml")
    True
    """
    path = find_yaml(path)
    if not has_base(path):
        return describe_file(path)
    text = dumped(read_yaml(path)).encode("utf-8")
    return {
        "path": str(path),
        "bytes": len(text),
        "sha256": hashlib.sha256(text).hexdigest(),
    }


def describe_input(
    path: PathLike, keep: PathLike | None = None
) -> dict[str, Any]:
    """Return name, size and SHA-256 of a file, a YAML with its bases.

    Arguments
    ---------
    path : str or os.PathLike
        The file.
    keep : str or os.PathLike, optional
        Folder that remembers hashes, as of `known_sha256`.
    """
    if Path(path).suffix in (".yaml", ".yml"):
        return describe_yaml(path)
    return describe_file(path, functools.partial(known_sha256, keep=keep))


def versions() -> dict[str, str]:
    """Return the versions of Python and of packages that affect results."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@contextlib.contextmanager
def recorded_command(folder: PathLike, words: Sequence[str]) -> Iterator[None]:
    """Record a command in a folder: its words, versions, times and end.

    ``commands.json`` there lists all commands that worked in the folder. One
    that was killed has no end.

    Arguments
    ---------
    folder : str or os.PathLike
        What it writes to.
    words : sequence of str
        The command line.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> with recorded_command(folder, ["sbext", "run", "a b"]):
    ...     pass
    >>> found = read_json(folder / "commands.json")[0]
    >>> found["command"], found["end"]
    ("sbext run 'a b'", 'finished')
    """
    path = Path(folder) / COMMANDS
    before = read_json(path) if path.exists() else []
    began = time.monotonic()
    entry: dict[str, Any] = {
        "command": shlex.join(words),
        "folder": os.getcwd(),
        "started": _now(),
        "versions": versions(),
    }
    write_json(path, [*before, entry])
    end = "finished"
    try:
        yield
    except BaseException as error:
        end = f"{type(error).__name__}: {error}".strip(": ")
        raise
    finally:
        seconds = round(time.monotonic() - began, 1)
        entry |= {"ended": _now(), "seconds": seconds, "end": end}
        write_json(path, [*before, entry])


def _now() -> str:
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")
