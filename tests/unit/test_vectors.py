"""Gathering embeddings: blocks, types, and what is refused."""

import numpy as np
import pytest
import torch

from speechbrain_ext import vectors
from speechbrain_ext.files import InputError
from speechbrain_ext.vectors import (
    as_matrix,
    checked_rows,
    inner_products,
    mean_vector,
    unit_rows,
)


def embeddings(n_rows, size=8, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(size=(n_rows, size)).astype(np.float32)


@pytest.mark.parametrize("value", [0, np.nan, np.inf])
def test_a_useless_embedding_is_named_by_its_row(value):
    x = embeddings(5)
    x[3] = value
    with pytest.raises(InputError, match="row 3 has length"):
        unit_rows(x, np.array([1, 3]))


def test_an_embedding_at_the_mean_is_useless_too():
    x = embeddings(5)
    with pytest.raises(InputError, match="row 2 has length 0"):
        unit_rows(x, np.arange(5), mean=x[2])


def test_the_mean_is_subtracted_before_scaling():
    x = embeddings(4)
    mean = x.mean(axis=0)
    expected = (x - mean) / np.linalg.norm(x - mean, axis=1, keepdims=True)
    np.testing.assert_allclose(unit_rows(x, np.arange(4), mean), expected)


@pytest.mark.parametrize("row", [-1, 5])
def test_a_row_outside_is_refused(row):
    with pytest.raises(InputError, match=f"trial 1 uses .* row {row} of 5"):
        checked_rows([0, row], 5)


def test_one_vector_is_no_matrix():
    with pytest.raises(InputError, match=r"shape \[3\]"):
        as_matrix(torch.zeros(3))


def test_the_mean_does_not_depend_on_blocks(monkeypatch):
    x = embeddings(50) + 3
    whole = mean_vector(x)
    monkeypatch.setattr(vectors, "BLOCK", 7)
    np.testing.assert_allclose(mean_vector(x), whole, rtol=1e-6)
    np.testing.assert_allclose(whole, x.mean(axis=0), rtol=1e-5)


def test_inner_products_do_not_depend_on_blocks(monkeypatch):
    x = embeddings(20)
    enrol, test = np.random.default_rng(1).integers(0, 20, (2, 300))
    whole = inner_products(x, enrol, test)
    monkeypatch.setattr(vectors, "BLOCK", 7)
    np.testing.assert_array_equal(inner_products(x, enrol, test), whole)
    expected = (x[enrol] * x[test]).sum(axis=1)
    np.testing.assert_allclose(whole, expected, rtol=1e-5, atol=1e-6)
