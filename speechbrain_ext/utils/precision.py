"""Arithmetic precision, set for a block of code.

Importing SpeechBrain lets CUDA round the factors of float32 products to TF32,
which keeps 10 of 23 bits. Training is content with that; where a result is
promised in float32 one of the two contexts here is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed


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
