"""Read what torch saved, as tensors and plain values only.

A pickle can run any function when it is opened. With ``weights_only`` torch
opens tensors, numbers, text and their containers, and refuses all else. It does
not look at the checksums that it writes: a flipped bit would give another
weight without a word, and is found here.
"""

from __future__ import annotations

import pickle
import struct
import zipfile
from typing import Any

import torch

from speechbrain_ext.utils.files import PathLike

# What torch raises depends on which byte of a file is wrong.
_ERRORS = (
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
)


def read_saved(path: PathLike) -> tuple[Any, str]:
    """Return what torch saved, on the CPU, and why it cannot be read.

    Arguments
    ---------
    path : str or os.PathLike
        A file, or what should be one.

    Returns
    -------
    tuple
        The content and an empty reason, or None and the reason, of one line.

    Example
    -------
    >>> path = getfixture("tmp_path") / "x.pt"
    >>> torch.save({"a": torch.ones(2)}, path)
    >>> read_saved(path)
    ({'a': tensor([1., 1.])}, '')
    >>> read_saved(path.parent)[1][:25]
    '[Errno 21] Is a directory'
    """
    try:
        if wrong := _wrong_checksum(path):
            return None, wrong
        return torch.load(path, map_location="cpu", weights_only=True), ""
    except _ERRORS as error:
        return None, (str(error).splitlines() or [type(error).__name__])[0]


def _wrong_checksum(path: PathLike) -> str:
    """Return which part of a file is not as it was written; empty: none."""
    with open(path, "rb") as stream:
        # Files of old versions of torch are no archives.
        if stream.read(4) != b"PK\x03\x04":
            return ""
    with zipfile.ZipFile(path) as archive:
        bad = archive.testzip()
    return f"it is damaged: the checksum of {bad} differs" if bad else ""


def read_state(path: PathLike) -> tuple[dict[str, torch.Tensor], str]:
    """Return a dict of tensors that torch saved, and why it cannot be read.

    Example
    -------
    >>> path = getfixture("tmp_path") / "x.pt"
    >>> torch.save([torch.ones(2)], path)
    >>> read_state(path)
    ({}, 'it is not a dict of tensors')
    """
    found, reason = read_saved(path)
    if reason:
        return {}, reason
    if not isinstance(found, dict) or not all(
        isinstance(value, torch.Tensor) for value in found.values()
    ):
        return {}, "it is not a dict of tensors"
    return found, ""
