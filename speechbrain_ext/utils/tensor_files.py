"""Reading of weights that ``torch.save`` wrote, with a check for damage."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import torch

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike

# What torch.load raises for a damaged file, and for one of something else.
_BROKEN = (
    EOFError,
    KeyError,
    OSError,
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    IndexError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)


def load_state(path: PathLike, way_out: str) -> dict[str, torch.Tensor]:
    """Read a state dict that ``torch.save`` wrote, to the CPU.

    Torch does not look at the checksums that it writes, and a flipped bit
    would give another weight without a word. They are checked here.

    Arguments
    ---------
    path : str or os.PathLike
        The file. Code in it is not run.
    way_out : str
        What to do if it is damaged, for the message.

    Returns
    -------
    dict of str to torch.Tensor
        What was saved.

    Raises
    ------
    InputError
        The file is missing, damaged or no state dict.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.ckpt"
    >>> torch.save({"x": torch.ones(2)}, path)
    >>> load_state(path, "train again")
    {'x': tensor([1., 1.])}
    >>> _ = path.write_bytes(path.read_bytes()[:-9])
    >>> load_state(path, "train again")
    Traceback (most recent call last):
    speechbrain_ext.utils.errors.InputError: ...a.ckpt is damaged ...
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; {way_out}")
    try:
        wrong = _checksum_wrong(path)
        if not wrong:
            state = torch.load(path, map_location="cpu", weights_only=True)
            if isinstance(state, dict) and all(
                isinstance(value, torch.Tensor) for value in state.values()
            ):
                return state
            wrong = "it holds other things than weights by name"
    except _BROKEN as error:
        size = path.stat().st_size
        wrong = str(error).strip().split("\n")[0][:100] if size else "empty"
    raise InputError(f"{path} is damaged ({wrong}); {way_out}")


def _checksum_wrong(path: Path) -> str:
    """Return which part of a file is not as it was written; empty: none."""
    with open(path, "rb") as stream:
        # Files of old versions of torch are no archives.
        if stream.read(4) != b"PK\x03\x04":
            return ""
    with zipfile.ZipFile(path) as archive:
        bad = archive.testzip()
    return f"the checksum of {bad} differs" if bad else ""
