"""Precision inside a block, and as it was after it."""

import pytest
import torch

from speechbrain_ext.utils.precision import full_precision, single_precision


@pytest.fixture
def medium():
    """Products of reduced precision, as a training may have set."""
    was = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision(was)


def test_products_are_full_inside_and_as_before_after_an_error(medium):
    with pytest.raises(ZeroDivisionError), full_precision():
        assert torch.get_float32_matmul_precision() == "highest"
        raise ZeroDivisionError
    assert torch.get_float32_matmul_precision() == "medium"


def test_autocast_is_off_inside_and_on_again_after():
    x = torch.ones(2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert (x @ x).dtype == torch.bfloat16
        with single_precision(x):
            assert (x @ x).dtype == torch.float32
        assert (x @ x).dtype == torch.bfloat16
