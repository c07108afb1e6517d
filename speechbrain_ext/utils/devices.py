"""Devices that models compute on, and copies to and from them."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Sequence
from typing import Any

import numpy as np
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


def loader_options(device: torch.device | str) -> dict[str, Any]:
    """Return options of a DataLoader whose batches go to a device.

    Batches for a GPU lie in pinned memory, from which ``to(device,
    non_blocking=True)`` copies while the GPU computes.

    Arguments
    ---------
    device : torch.device or str
        Where to.

    Returns
    -------
    dict of str to Any
        Keyword arguments of `torch.utils.data.DataLoader`.

    Example
    -------
    >>> loader_options("cuda:1"), loader_options("cpu")
    ({'pin_memory': True}, {'pin_memory': False})
    """
    return {"pin_memory": torch.device(device).type == "cuda"}


class HostCopy:
    """Copy of a small tensor on the host, waited for only when it is read.

    A GPU goes on with what comes after the tensor: reading it makes the host
    wait for what came before alone.

    Arguments
    ---------
    value : torch.Tensor
        On any device; its gradient is not kept.

    Example
    -------
    >>> HostCopy(torch.tensor(2.5)).read()
    tensor(2.5000)
    """

    def __init__(self, value: torch.Tensor):
        value = value.detach()
        self._done: torch.cuda.Event | None = None
        if value.device.type != "cuda":
            self._copy = value.cpu()
            return
        self._copy = torch.empty_like(value, device="cpu", pin_memory=True)
        self._copy.copy_(value, non_blocking=True)
        self._done = torch.cuda.Event()
        self._done.record(torch.cuda.current_stream(value.device))

    def read(self) -> torch.Tensor:
        """Return the value, on the CPU."""
        if self._done is not None:
            self._done.synchronize()
        return self._copy


def moved_together(
    arrays: Sequence[np.ndarray], device: torch.device | str
) -> list[torch.Tensor]:
    """Copy arrays to a device in one transfer.

    Arguments
    ---------
    arrays : sequence of numpy.ndarray
        Of any shapes and of types that torch has.
    device : torch.device or str
        Where to.

    Returns
    -------
    list of torch.Tensor
        Of the same types and shapes.

    Example
    -------
    >>> moved_together([np.array([1, 2]), np.array([[0.5]])], "cpu")
    [tensor([1, 2]), tensor([[0.5000]], dtype=torch.float64)]
    """
    # Each begins where any type may: at a multiple of 16 bytes.
    sizes = [array.nbytes for array in arrays]
    ends = np.cumsum([-(-size // 16) * 16 for size in sizes], dtype=int)
    starts = [0, *ends.tolist()]
    whole = torch.empty(starts[-1], dtype=torch.uint8)
    if torch.device(device).type == "cuda":
        whole = whole.pin_memory()
    for array, start in zip(arrays, starts, strict=False):
        part = np.frombuffer(array.tobytes(), dtype=np.uint8)
        whole.numpy()[start : start + array.nbytes] = part
    there = whole.to(device, non_blocking=True)
    return [
        there[start : start + array.nbytes]
        .view(torch.from_numpy(array[:0]).dtype)
        .view(array.shape)
        for array, start in zip(arrays, starts, strict=False)
    ]


# Of glibc's mallopt: M_TRIM_THRESHOLD, M_TOP_PAD and M_MMAP_MAX.
_KEEPING = {-1: 2**31 - 1, -2: 2**26, -4: 0}


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees, for what it needs next.

    Work on a CPU frees and allocates the same hundreds of megabytes in each
    step. The C library returns large blocks to the system at once and gets
    them back page by page, which took a third of the time of a step of
    ECAPA-TDNN (2.4 s against 1.6 s, 256 channels, 12 crops of 3 s). The
    process does not shrink again before it ends: it took 2.5 GB for 1.6 GB.

    Returns
    -------
    bool
        Whether the C library could be told so: it is glibc, and no variable
        ``MALLOC_...`` of the environment tells it otherwise.

    Example
    -------
    >>> kept = keep_freed_memory()
    """
    told = any(name.startswith("MALLOC_") for name in os.environ)
    if told or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(key, value) for key, value in _KEEPING.items())
