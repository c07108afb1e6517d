"""Arithmetic precision, set for a block of code.

Importing SpeechBrain lets CUDA round the factors of float32 products to TF32,
which keeps 10 of 23 bits. Training is content with that; where a result is
promised in float32 one of the two contexts here is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from speechbrain.utils.autocast import AMPConfig


@contextmanager
def full_precision() -> Iterator[None]:
    """Compute products and convolutions in full float32 inside a block.

    As a decorator it does so for a function. What autograd computes later,
    outside of the block, is not changed. Every flag is as it was after it.

    Example
    -------
    >>> with full_precision():
    ...     torch.backends.cuda.matmul.allow_tf32
    False
    """
    products = _or_none(torch.get_float32_matmul_precision)
    convolutions = _or_none(lambda: torch.backends.cudnn.allow_tf32)
    # From torch 2.9 on these stand for several, which may differ.
    backends = torch.backends
    parts: list[Any] = [
        getattr(owner, name)
        for owner, name in (
            (backends.cuda, "matmul"),
            (backends.mkldnn, "matmul"),
            (backends.cudnn, "conv"),
            (backends.cudnn, "rnn"),
        )
        if hasattr(getattr(owner, name, None), "fp32_precision")
    ]
    were = [part.fp32_precision for part in parts]
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        if products is not None:
            torch.set_float32_matmul_precision(products)
        if convolutions is not None:
            torch.backends.cudnn.allow_tf32 = convolutions
        for part, was in zip(parts, were, strict=True):
            if part.fp32_precision != was:
                part.fp32_precision = was


def _or_none(read: Callable[[], Any]) -> Any:
    """Read a flag; None where torch finds that its parts differ."""
    try:
        return read()
    except RuntimeError:
        return None


@contextmanager
def single_precision(x: torch.Tensor) -> Iterator[None]:
    """Compute in full float32 inside a block: neither autocast nor TF32.

    Arguments
    ---------
    x : torch.Tensor
        On the device whose autocast is switched off.
    """
    with torch.autocast(x.device.type, enabled=False), full_precision():
        yield


def mixed_precision(
    name: str, device: str | torch.device
) -> AbstractContextManager[Any]:
    """Return a context in which products and convolutions are of a precision.

    Weights stay as they are, and so do sums and norms, as torch's autocast has
    it. Blocks of the two other contexts stay in float32.

    Arguments
    ---------
    name : str
        ``"fp32"``, with which nothing changes, ``"bf16"`` or ``"fp16"``, as in
        SpeechBrain's ``--precision``.
    device : str or torch.device
        What is computed on.

    Returns
    -------
    context manager

    Example
    -------
    >>> x = torch.ones(2, 2)
    >>> with mixed_precision("bf16", x.device):
    ...     (x @ x).dtype
    torch.bfloat16
    """
    dtype = AMPConfig.from_name(name).dtype
    if dtype == torch.float32:
        return nullcontext()
    return torch.autocast(torch.device(device).type, dtype=dtype)


def at_least_single(x: torch.Tensor) -> torch.Tensor:
    """Return numbers of half precision in float32, and others as they are.

    Example
    -------
    >>> at_least_single(torch.ones(2, dtype=torch.bfloat16)).dtype
    torch.float32
    """
    return x.float() if x.dtype.itemsize < 4 else x
