"""Devices that models compute on."""

from __future__ import annotations

import ctypes
import platform

import torch
from speechbrain.utils.distributed import infer_device

from speechbrain_ext.utils.errors import InputError


def checked_device(device: str | torch.device | None = None) -> torch.device:
    """Return a device; raise InputError if this machine cannot compute on it.

    Arguments
    ---------
    device : str or torch.device, optional
        Such as ``"cpu"`` or ``"cuda:0"``; None: a GPU where there is one, else
        the CPU.

    Returns
    -------
    torch.device

    Raises
    ------
    InputError
        There is no such kind of device, or none here, or it holds no values
        (``"meta"``).

    Example
    -------
    >>> checked_device("cpu")
    device(type='cpu')
    >>> checked_device("gpu")
    Traceback (most recent call last):
    speechbrain_ext.utils.errors.InputError: device is 'gpu'; it must be ...
    """
    try:
        found = torch.device(infer_device() if device is None else device)
        _check_there(found)
    # torch raises errors of many kinds.
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"device is {str(device)!r}; it must be one that this machine can "
            f"compute on, and torch says: {reason.split('. ')[0]}; give "
            f"--device={infer_device()}, or leave it out"
        ) from None
    return found


def _check_there(device: torch.device) -> None:
    if device.type != "cuda":
        torch.empty(1, device=device).cpu()
        return
    # A tensor there would take some hundred megabytes of the GPU.
    n_gpus = torch.cuda.device_count()
    if not torch.cuda.is_available() or (device.index or 0) >= n_gpus:
        raise RuntimeError(f"{n_gpus} GPUs can be used here")


# Of glibc's mallopt: M_TRIM_THRESHOLD, M_TOP_PAD and M_MMAP_MAX.
_KEEPING = {-1: 2**31 - 1, -2: 2**26, -4: 0}


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees, for what it needs next.

    A training on a CPU frees and allocates the same hundreds of megabytes in
    each step. The C library returns large blocks to the system at once and
    gets them back page by page, which took a quarter of the time of a step of
    a small ECAPA-TDNN. The process does not shrink again before it ends.

    Returns
    -------
    bool
        Whether the C library could be told so: it is glibc.

    Example
    -------
    >>> kept = keep_freed_memory()
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(key, value) for key, value in _KEEPING.items())
