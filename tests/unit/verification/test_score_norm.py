"""Cohort statistics: what is refused, what does not matter."""

import numpy as np
import pytest

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.verification import score_norm
from speechbrain_ext.verification.score_norm import cohort_statistics


def vectors(n_rows, size=8, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(size=(n_rows, size)).astype(np.float32)


@pytest.mark.parametrize("top_k", [1, 11])
def test_top_k_must_fit_the_cohort(top_k):
    with pytest.raises(InputError, match=f"top_k is {top_k}.*10"):
        cohort_statistics(vectors(4), vectors(10, seed=1), top_k)


def test_a_cohort_of_one_voice_is_refused():
    cohort = np.repeat(vectors(1), 10, axis=0)
    with pytest.raises(
        InputError, match="4 utterance.*row 0, are all the same"
    ):
        cohort_statistics(vectors(4), cohort, top_k=5)


def test_a_cohort_of_another_embedder_is_refused():
    with pytest.raises(InputError, match="8 dimensions and the cohort has 6"):
        cohort_statistics(vectors(4), vectors(10, size=6), top_k=5)


@pytest.mark.parametrize("top_k", [None, 4])
def test_neither_blocks_nor_order_matter(monkeypatch, top_k):
    x, cohort = vectors(30), vectors(10, seed=1)
    whole = cohort_statistics(x, cohort, top_k)
    monkeypatch.setattr(score_norm, "_SCORES_AT_ONCE", 70)
    order = np.random.default_rng(2).permutation(30)
    again = cohort_statistics(x[order], cohort[::-1].copy(), top_k)
    np.testing.assert_allclose(again.mean, whole.mean[order], atol=1e-6)
    np.testing.assert_allclose(again.std, whole.std[order], atol=1e-6)


def test_the_highest_scores_have_a_higher_mean():
    x, cohort = vectors(30), vectors(10, seed=1)
    highest = cohort_statistics(x, cohort, 3)
    assert (highest.mean > cohort_statistics(x, cohort).mean).all()
