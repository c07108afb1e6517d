"""Origin of a result: hashes of files and versions of packages."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import importlib.metadata
import os
import platform
import shlex
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import (
    PathLike,
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
_PACKAGES = (
    "speechbrain-ext speechbrain torch torchaudio transformers hyperpyyaml "
    "faiss-gpu faiss-cpu scikit-learn numpy pandas"
).split()


def describe_file(path: PathLike) -> dict[str, Any]:
    """Return name, size and SHA-256 of an input or output file."""
    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"{path}: no such file, and this stage reads it; run the stage "
            "that writes it or correct the path"
        )
    return {
        "path": str(path),
        "bytes": path.stat().st_size,
        "sha256": sha256(path),
    }


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


def describe_input(path: PathLike) -> dict[str, Any]:
    """Return name, size and SHA-256 of a file, a YAML with its bases."""
    is_yaml = Path(path).suffix in (".yaml", ".yml")
    return describe_yaml(path) if is_yaml else describe_file(path)


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
