"""Arithmetic precision, set for a block of code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed


@contextmanager
def full_precision() -> Iterator[None]:
    """Compute products in full float32 inside a block."""
    was = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(was)


def single_precision(x: torch.Tensor) -> torch.autocast:
    """Switch autocast off on the device of ``x`` inside a block."""
    return torch.autocast(x.device.type, enabled=False)
