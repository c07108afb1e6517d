"""What a result was made from: hashes of files, versions of packages."""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path
from typing import Any

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike, sha256

_PACKAGES = (
    "speechbrain-ext speechbrain torch torchaudio transformers hyperpyyaml "
    "faiss-gpu faiss-cpu scikit-learn numpy pandas"
).split()


def describe_file(path: PathLike) -> dict[str, Any]:
    """Give name, size and SHA-256 of an input or output file."""
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


def versions() -> dict[str, str]:
    """Give the versions of Python and of the packages that decide a result."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
