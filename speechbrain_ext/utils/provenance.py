"""Origin of a result: hashes of files and versions of packages."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from pathlib import Path
from typing import Any

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike, sha256
from speechbrain_ext.utils.yaml_trees import (
    dumped,
    find_yaml,
    has_base,
    read_yaml,
)

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
