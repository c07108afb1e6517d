"""Gathering embeddings: blocks, types, and what is refused."""

import functools
import os
import signal
import tracemalloc

import numpy as np
import pytest
import torch

from speechbrain_ext.utils import vectors
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import remove_leftovers
from speechbrain_ext.utils.vectors import (
    as_matrix,
    check_squares,
    check_vectors,
    checked_rows,
    inner_products,
    large_array,
    scratch_folder,
    unit_rows,
)
from speechbrain_ext.utils.whitening import whiten_, whitening


def embeddings(n_rows, size=8, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(size=(n_rows, size)).astype(np.float32)


@pytest.mark.parametrize("value", [0, np.nan, np.inf])
def test_the_row_of_an_embedding_of_length_0_or_not_finite_is_named(value):
    x = embeddings(5)
    x[3] = value
    with pytest.raises(InputError, match="row 3 has length"):
        unit_rows(x, np.array([1, 3]))


def test_an_embedding_equal_to_the_mean_is_refused():
    x = embeddings(5)
    with pytest.raises(InputError, match="row 2 has length 0"):
        unit_rows(x, np.arange(5), (x[2], np.eye(x.shape[1])))


def test_whitening_comes_before_scaling():
    x = embeddings(9)
    mean, matrix = whitening(x, 0.5)
    moved = (x - mean) @ matrix
    expected = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    found = unit_rows(x, np.arange(9), (mean, matrix))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("row", [-1, 5])
def test_a_row_beyond_the_matrix_is_refused(row):
    with pytest.raises(InputError, match=f"trial 1 uses .* row {row} of 5"):
        checked_rows([0, row], 5)


def test_a_single_vector_is_refused_as_a_matrix():
    with pytest.raises(InputError, match=r"shape \[3\]"):
        as_matrix(torch.zeros(3))


def test_inner_products_do_not_depend_on_blocks(monkeypatch):
    x = embeddings(20)
    enrol, test = np.random.default_rng(1).integers(0, 20, (2, 300))
    whole = inner_products(x, enrol, test)
    monkeypatch.setattr(vectors, "_BLOCK", 7 * 8)
    np.testing.assert_array_equal(inner_products(x, enrol, test), whole)
    expected = (x[enrol] * x[test]).sum(axis=1)
    np.testing.assert_allclose(whole, expected, rtol=1e-5, atol=1e-6)


def test_unit_rows_have_length_one_and_their_direction():
    x = np.random.default_rng(0).normal(size=(20, 5)) * 7
    unit = unit_rows(x)
    assert unit.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, rtol=1e-6)
    cosine = (unit * x).sum(axis=1) / np.linalg.norm(x, axis=1)
    np.testing.assert_allclose(cosine, 1, rtol=1e-6)


def test_a_zero_row_is_refused_by_its_number():
    x = np.ones((4, 3))
    x[2] = 0
    with pytest.raises(InputError, match="row 2 has length 0"):
        unit_rows(x)


def test_chosen_rows_are_scaled_in_their_order_from_a_memory_map(
    tmp_path, monkeypatch
):
    x = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    rows = np.random.default_rng(1).permutation(50)[:30]
    monkeypatch.setattr(vectors, "_BLOCK", 28)
    np.testing.assert_array_equal(unit_rows(mapped, rows), unit_rows(x[rows]))
    np.testing.assert_array_equal(mapped, x)


def test_scaling_and_whitening_hold_no_second_copy(tmp_path, monkeypatch):
    monkeypatch.setattr(vectors, "_BLOCK", 2**17)
    np.save(tmp_path / "x.npy", np.ones((20_000, 100), dtype=np.float32))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r+")
    mapped[:, 0] = np.arange(20_000)
    tracemalloc.start()
    try:
        unit = whiten_(unit_rows(mapped), 0.5)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert unit.nbytes <= peak < 1.5 * unit.nbytes


@pytest.mark.parametrize("scale", [1e25, 1e-25])
def test_vectors_of_any_length_have_their_direction(scale):
    x = np.random.default_rng(0).normal(size=(5, 3))
    expected = x / np.linalg.norm(x, axis=1, keepdims=True)
    found = unit_rows((x * scale).astype(np.float32))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_vectors_whose_distances_overflow_are_told_from_equal_ones():
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    with pytest.raises(InputError, match="vectors reach .*e.25; .* length one"):
        check_squares(x * np.float32(1e25))
    check_vectors(x * np.float32(1e25))
    with pytest.raises(InputError, match="all 5 vectors are equal"):
        check_vectors(np.ones((5, 3)))


def test_an_error_names_the_utterance_where_it_is_known():
    x, ids = embeddings(4), np.array(["a", "b/c.wav", "d"], dtype=object)
    x[3] = 0
    with pytest.raises(InputError, match="row 3, of 'b/c.wav', has length 0"):
        unit_rows(x, np.array([0, 3, 1]), ids=ids)
    x[3, 1] = np.inf
    with pytest.raises(InputError, match="the first is that of 'd'"):
        check_vectors(x[1:], ids)


def test_the_file_of_an_array_that_a_kill_leaves_is_a_leftover(
    tmp_path, monkeypatch
):
    """It may be as large as the embeddings, and nothing removed it."""
    monkeypatch.setattr(vectors, "LARGE", 1)
    process = os.fork()
    if not process:
        kill = functools.partial(os.kill, os.getpid(), signal.SIGKILL)
        vectors.reserve = lambda *_: kill()
        with scratch_folder(tmp_path):
            large_array(3)
    os.waitpid(process, 0)
    assert len(list(tmp_path.iterdir())) == 1
    assert len(remove_leftovers(tmp_path)) == 1
    assert not list(tmp_path.iterdir())
