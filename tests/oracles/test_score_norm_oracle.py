"""Z-, T-, S- and AS-norm against their equations, trial by trial."""

import math

import numpy as np
import pytest

from speechbrain_ext.utils.vectors import unit_rows
from speechbrain_ext.verification import score_norm
from speechbrain_ext.verification.cosine import cosine_scores
from speechbrain_ext.verification.score_norm import (
    as_norm,
    cohort_statistics,
    normalised,
)


def cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def statistics_of(utterance, cohort, top_k):
    highest = sorted((cosine(utterance, c) for c in cohort), reverse=True)
    highest = highest[:top_k]
    mean = sum(highest) / top_k
    variance = sum((score - mean) ** 2 for score in highest) / top_k
    return mean, math.sqrt(variance)


def naive(kind, embeddings, cohort, enrol_rows, test_rows, top_k):
    scores = []
    for enrol, test in zip(enrol_rows, test_rows, strict=True):
        raw = cosine(embeddings[enrol], embeddings[test])
        mean_e, std_e = statistics_of(embeddings[enrol], cohort, top_k)
        mean_t, std_t = statistics_of(embeddings[test], cohort, top_k)
        z, t = (raw - mean_e) / std_e, (raw - mean_t) / std_t
        scores.append({"z-norm": z, "t-norm": t}.get(kind, (z + t) / 2))
    return scores


def draw(seed):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(9, 6)).astype(np.float32)
    cohort = generator.normal(size=(12, 6)).astype(np.float32)
    enrol, test = generator.integers(0, 9, (2, 25))
    return x, cohort, enrol, test


@pytest.mark.parametrize("scores_at_once", [2**24, 50])
@pytest.mark.parametrize("top_k", [2, 5, 12])
def test_as_norm_is_its_equation(monkeypatch, top_k, scores_at_once):
    x, cohort, enrol, test = draw(top_k)
    monkeypatch.setattr(score_norm, "_SCORES_AT_ONCE", scores_at_once)
    scores = as_norm(x, cohort, enrol, test, top_k)
    expected = naive("as-norm", x.tolist(), cohort.tolist(), enrol, test, top_k)
    np.testing.assert_allclose(scores, expected, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("kind", ["z-norm", "t-norm", "s-norm"])
def test_other_norms_use_the_whole_cohort(kind):
    x, cohort, enrol, test = draw(7)
    every = np.arange(9), np.arange(12)
    found = cohort_statistics(
        unit_rows(x, every[0]), unit_rows(cohort, every[1])
    )
    raw = cosine_scores(x, enrol, test)
    scores = normalised(raw, found, enrol, test, kind)
    expected = naive(kind, x.tolist(), cohort.tolist(), enrol, test, 12)
    np.testing.assert_allclose(scores, expected, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("kind", ["s-norm", "as-norm"])
def test_enrolment_and_test_may_be_swapped(kind):
    x, cohort, enrol, test = draw(3)
    found = cohort_statistics(x, cohort, 4)
    raw = cosine_scores(x, enrol, test)
    one = normalised(raw, found, enrol, test, kind)
    other = normalised(raw, found, test, enrol, kind)
    np.testing.assert_allclose(one, other, rtol=1e-6)


def test_z_norm_of_swapped_sides_is_t_norm():
    x, cohort, enrol, test = draw(4)
    found = cohort_statistics(x, cohort)
    raw = cosine_scores(x, enrol, test)
    one = normalised(raw, found, enrol, test, "z-norm")
    other = normalised(raw, found, test, enrol, "t-norm")
    np.testing.assert_array_equal(one, other)
    assert (
        np.abs(one - normalised(raw, found, test, enrol, "z-norm")).max() > 0.1
    )
