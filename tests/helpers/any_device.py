"""Devices of a test: the CPU and, where there is one, a GPU."""

import contextlib
import os

import pandas as pd
import pytest
import torch

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=pytest.mark.skipif(
            not torch.cuda.is_available(), reason="there is no GPU"
        ),
    ),
]


@contextlib.contextmanager
def repeatable(device):
    """Kernels of a GPU that sum in the same order each time, if it has them."""
    if device == "cpu":
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(False)


def assert_same_tables(first, second, device):
    """Bit by bit on a CPU; on a GPU some kernels sum in any order."""
    if device == "cpu":
        assert first.equals(second)
    else:
        pd.testing.assert_frame_equal(first, second, rtol=1e-3, atol=1e-4)


def assert_same_states(first, second, device):
    """The same of named tensors."""
    assert first.keys() == second.keys()
    for name, value in first.items():
        if device == "cpu":
            assert torch.equal(value, second[name]), name
        else:
            torch.testing.assert_close(
                value, second[name], rtol=1e-3, atol=1e-4, msg=name
            )
