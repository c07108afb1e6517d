"""Partial whitening against its definition."""

import numpy as np
import pytest
import torch

from speechbrain_ext.utils import vectors
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.vectors import unit_rows
from speechbrain_ext.utils.whitening import (
    fold_whitening_,
    standard_whitening,
    whiten_,
    whiten_together,
    whitening,
)


@pytest.fixture
def x():
    generator = np.random.default_rng(0)
    scale = np.exp(-np.arange(12) / 3)
    return unit_rows(generator.normal(size=(500, 12)) * scale + 0.3)


@pytest.mark.parametrize("power", [0, 0.5, 1])
def test_components_are_divided_by_a_power_of_their_deviation(x, power):
    centred = x.astype(np.float64) - x.mean(axis=0)
    _, s, v = np.linalg.svd(centred, full_matrices=False)
    wanted = (centred @ v.T) / s**power
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    found = whiten_(x.copy(), power)
    np.testing.assert_allclose(found @ found.T, wanted @ wanted.T, atol=1e-5)


def test_after_full_whitening_all_directions_have_equal_variance(x):
    spread = np.linalg.svd(x - x.mean(axis=0), compute_uv=False)
    assert spread[0] > 20 * spread[-1]
    even = np.linalg.svd(whiten_(x, 1.0), compute_uv=False)
    assert even[0] < 2 * even[-1]


def test_rows_are_overwritten_block_by_block(x, monkeypatch):
    wanted = whiten_(x.copy(), 0.5)
    monkeypatch.setattr(vectors, "_BLOCK", 12 * 7)
    found = whiten_(x, 0.5)
    assert found is x
    np.testing.assert_allclose(found @ found.T, wanted @ wanted.T, atol=1e-5)


def test_a_direction_without_variance_stays_finite(x):
    x[:, 3:] = 0
    found = whiten_(x, 1.0)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("power", [-0.1, 1.5, "much", float("nan"), True])
def test_a_power_out_of_range_is_refused(x, power):
    with pytest.raises(InputError, match="whiten is .*from 0.*--whiten"):
        whiten_(x, power)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", ["linear", "convolution"])
def test_a_folded_model_gives_whitened_embeddings(x, kind, bias):
    torch.manual_seed(0)
    if kind == "linear":
        last = torch.nn.Linear(8, 12, bias=bias)
    else:
        last = torch.nn.Conv1d(8, 12, kernel_size=1, bias=bias)
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU(), last)
    if kind == "convolution":
        model.insert(2, torch.nn.Unflatten(1, (8, 1)))
    heard = torch.randn(5, 8)
    before = model(heard).detach().numpy().reshape(5, 12)
    found = whitening(x, 0.5)
    fold_whitening_(model, found)
    after = model(heard).detach().numpy().reshape(5, 12)
    wanted = (before - found.mean) @ found.matrix
    np.testing.assert_allclose(after, wanted, atol=1e-4 * np.abs(wanted).max())


def test_only_a_last_linear_layer_of_that_size_can_be_whitened(x):
    found = whitening(x, 0.5)
    with pytest.raises(InputError, match="linear layer of 12 outputs"):
        fold_whitening_(torch.nn.Linear(8, 11), found)
    with pytest.raises(InputError, match="Flatten does not end"):
        fold_whitening_(torch.nn.Flatten(), found)


def test_standard_whitening_is_whitening_of_standardised_columns(x):
    x = x * np.geomspace(1, 1e3, 12)
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    then = whitening(z, 0.5)
    wanted = (z - then.mean) @ then.matrix
    mean, matrix = standard_whitening(x, 0.5)
    found = (x - mean) @ matrix
    np.testing.assert_allclose(found @ found.T, wanted @ wanted.T, atol=1e-6)
    # A channel's unit is of no account.
    other = standard_whitening(x * np.geomspace(9, 1e-3, 12), 0.5)
    again = (x * np.geomspace(9, 1e-3, 12) - other.mean) @ other.matrix
    np.testing.assert_allclose(again @ again.T, wanted @ wanted.T, atol=1e-6)


def test_a_constant_column_stays_finite_and_says_nothing(x):
    x[:, 3] = 7
    mean, matrix = standard_whitening(x, 0.5)
    assert np.isfinite(matrix).all()
    np.testing.assert_allclose((x - mean)[:, 3], 0, atol=1e-6)


def test_sets_are_whitened_by_the_statistics_of_all(x):
    mean, matrix = standard_whitening(x, 0.5)
    wanted = (x - mean) @ matrix
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    first, second = whiten_together([x[:200], x[200:]], 0.5)
    found = np.concatenate([first, second])
    np.testing.assert_allclose(found, wanted, atol=1e-5)
