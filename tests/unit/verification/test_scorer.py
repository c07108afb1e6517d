"""A scorer gives each back-end the scores of its functions."""

import numpy as np
import pytest

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.vectors import unit_rows
from speechbrain_ext.verification import scorer as scorer_module
from speechbrain_ext.verification.backend import Backend
from speechbrain_ext.verification.cosine import cosine_scores
from speechbrain_ext.verification.protocols import Voices
from speechbrain_ext.verification.score_norm import as_norm
from speechbrain_ext.verification.scorer import Scorer


def draw(n_rows=20, size=6):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(n_rows, size)).astype(np.float32)
    ids = np.array([f"u{n}" for n in range(n_rows)], dtype=object)
    length = np.linalg.norm(x, axis=1)
    voices = Voices(ids, unit_rows(x, np.arange(n_rows)), length, 0)
    cohort = unit_rows(generator.normal(size=(12, size)), np.arange(12))
    pairs = generator.integers(0, n_rows, (2, 60))
    return x, voices, cohort, pairs


def test_scores_equal_those_of_the_public_functions():
    x, voices, cohort, pairs = draw()
    scorer = Scorer(voices, cohort, top_k=5)
    raw = cosine_scores(x, *pairs)
    np.testing.assert_allclose(scorer.scores("raw", *pairs), raw, atol=1e-6)
    expected = as_norm(x, cohort, *pairs, top_k=5)
    found = scorer.scores("as-norm", *pairs)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    whole = as_norm(x, cohort, *pairs, top_k=12)
    found = scorer.scores("s-norm", *pairs)
    np.testing.assert_allclose(found, whole, atol=1e-5)


def test_cohort_scores_are_computed_once(monkeypatch):
    _, voices, cohort, pairs = draw()
    calls = []
    original = scorer_module.cohort_statistics
    monkeypatch.setattr(
        scorer_module,
        "cohort_statistics",
        lambda *args: calls.append(args) or original(*args),
    )
    durations = np.linspace(1, 9, len(voices.ids))
    scorer = Scorer(voices, cohort, 5, durations)
    qmf = Backend("as-norm", "qmf")
    for _ in range(3):
        scorer.scores("as-norm", *pairs)
        scorer.features(qmf, *pairs)
    assert len(calls) == 1


def test_features_are_the_score_and_two_of_each_measure():
    _, voices, cohort, pairs = draw()
    durations = np.linspace(1, 9, len(voices.ids))
    scorer = Scorer(voices, cohort, 5, durations)
    names, found = scorer.features(Backend("as-norm", "qmf"), *pairs)
    assert len(names) == found.shape[1] == 7
    np.testing.assert_array_equal(found[:, 0], scorer.scores("as-norm", *pairs))
    column = names.index("smaller log duration")
    expected = np.log(np.minimum(*durations[pairs]))
    np.testing.assert_allclose(found[:, column], expected, rtol=1e-6)
    column = names.index("larger log magnitude")
    expected = np.log(np.maximum(*voices.magnitude[pairs]))
    np.testing.assert_allclose(found[:, column], expected, rtol=1e-5)


def test_a_learnt_calibration_is_an_affine_map_of_the_features():
    _, voices, cohort, pairs = draw()
    scorer = Scorer(voices, cohort, 5)
    raw = scorer.scores("raw", *pairs)
    labels = (raw + 0.3 * np.sin(99 * raw) > 0.1).astype(int)
    linear = Backend("raw", "linear")
    learnt = scorer.fit(linear, *pairs, labels, 0.2)
    found = scorer.apply(linear, learnt, *pairs)
    expected = learnt.weights[0] * raw + learnt.offset
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(scorer.apply(linear, None, *pairs), raw)


def test_a_missing_cohort_or_annotation_is_named():
    _, voices, cohort, pairs = draw()
    with pytest.raises(InputError, match="need a cohort"):
        Scorer(voices).scores("as-norm", *pairs)
    with pytest.raises(InputError, match="give --annotation"):
        Scorer(voices, cohort, 5).features(Backend("raw", "qmf"), *pairs)
