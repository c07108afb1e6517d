"""AS-norm against its equation, trial by trial and cohort by cohort."""

import math

import numpy as np
import pytest

from speechbrain_ext import scoring
from speechbrain_ext.scoring import adaptive_s_norm


def cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def statistics_of(utterance, cohort, top_k):
    highest = sorted((cosine(utterance, c) for c in cohort), reverse=True)
    highest = highest[:top_k]
    mean = sum(highest) / top_k
    variance = sum((score - mean) ** 2 for score in highest) / top_k
    return mean, math.sqrt(variance)


def naive_as_norm(embeddings, cohort, enrol_rows, test_rows, top_k):
    scores = []
    for enrol, test in zip(enrol_rows, test_rows, strict=True):
        raw = cosine(embeddings[enrol], embeddings[test])
        mean_e, std_e = statistics_of(embeddings[enrol], cohort, top_k)
        mean_t, std_t = statistics_of(embeddings[test], cohort, top_k)
        scores.append(((raw - mean_e) / std_e + (raw - mean_t) / std_t) / 2)
    return scores


@pytest.mark.parametrize("scores_at_once", [2**24, 50])
@pytest.mark.parametrize("top_k", [2, 5, 12])
def test_as_norm_is_its_equation(monkeypatch, top_k, scores_at_once):
    generator = np.random.default_rng(top_k)
    x = generator.normal(size=(9, 6)).astype(np.float32)
    cohort = generator.normal(size=(12, 6)).astype(np.float32)
    enrol, test = generator.integers(0, 9, (2, 25))
    monkeypatch.setattr(scoring, "_SCORES_AT_ONCE", scores_at_once)
    scores = adaptive_s_norm(x, cohort, enrol, test, top_k)
    expected = naive_as_norm(
        x.tolist(), cohort.tolist(), enrol.tolist(), test.tolist(), top_k
    )
    np.testing.assert_allclose(scores, expected, rtol=2e-4, atol=2e-4)


def test_as_norm_is_symmetric():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(6, 4)).astype(np.float32)
    cohort = generator.normal(size=(8, 4)).astype(np.float32)
    one, other = np.array([0, 1, 2]), np.array([3, 4, 5])
    np.testing.assert_allclose(
        adaptive_s_norm(x, cohort, one, other, 4),
        adaptive_s_norm(x, cohort, other, one, 4),
        rtol=1e-6,
    )
