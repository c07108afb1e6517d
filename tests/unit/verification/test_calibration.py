"""Calibration recovers what is known and survives what is odd."""

import numpy as np
import pytest

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.verification.calibration import fit_calibration
from speechbrain_ext.verification.cllr import cllr, min_cllr
from speechbrain_ext.verification.metrics import (
    actual_dcf,
    min_dcf,
    normalised_dcf,
)

DISTANCE = 2.0


def draw(n_target, n_nontarget, seed=0):
    """Scores of unit spread whose log-likelihood ratio is known."""
    generator = np.random.default_rng(seed)
    labels = np.repeat([1, 0], [n_target, n_nontarget])
    scores = generator.normal(size=len(labels)) + DISTANCE * labels
    return scores, labels, DISTANCE * (scores - DISTANCE / 2)


@pytest.mark.parametrize("prior", [0.05, 0.5])
def test_known_ratios_are_recovered_whatever_the_scores_unit(prior):
    scores, labels, llrs = draw(20000, 60000)
    found = fit_calibration(7 * scores[:, None] - 30, labels, p_target=prior)
    assert np.abs(found(7 * scores[:, None] - 30) - llrs).mean() < 0.1


def test_neither_the_number_of_trials_nor_their_order_matters():
    scores, labels, _ = draw(500, 1500)
    one = fit_calibration(scores[:, None], labels)
    order = np.random.default_rng(1).permutation(2000)
    many = np.tile(order, 3)
    # More of one class alone does not move the prior either.
    more = np.append(many, np.flatnonzero(labels == 0))
    for rows in (order, many, more):
        again = fit_calibration(scores[rows, None], labels[rows])
        assert again.weights == pytest.approx(one.weights, rel=1e-3)
        assert again.offset == pytest.approx(one.offset, rel=1e-3)


def test_calibration_of_other_trials_costs_little_more_than_the_best():
    scores, labels, _ = draw(2000, 20000)
    found = fit_calibration(scores[:, None], labels, p_target=0.05)
    scores, labels, _ = draw(2000, 20000, seed=1)
    llrs = found(scores[:, None])
    best = normalised_dcf(min_dcf(llrs, labels, 0.05)[0], 0.05)
    assert actual_dcf(llrs, labels, 0.05) < best + 0.03
    assert cllr(llrs, labels) < min_cllr(llrs, labels) + 0.02
    assert cllr(scores, labels) > min_cllr(scores, labels) + 0.05


def test_a_shift_of_scores_by_quality_is_corrected():
    generator = np.random.default_rng(9)
    scores, labels, _ = draw(3000, 9000)
    quality = generator.normal(size=12000)
    features = np.stack([scores - 1.5 * quality, quality], axis=1)
    names = ("score", "quality")
    found = fit_calibration(features, labels, names, 0.2)
    assert found.weights[1] == pytest.approx(1.5 * found.weights[0], rel=0.1)
    alone = fit_calibration(features[:, :1], labels, p_target=0.2)
    better = min_cllr(found(features), labels)
    assert better < min_cllr(alone(features[:, :1]), labels) - 0.1
    assert found.in_words().count("quality") == 1


def test_a_quality_that_does_not_vary_has_no_weight():
    scores, labels, _ = draw(300, 900)
    features = np.stack([scores, np.full(1200, 1.386)], axis=1)
    found = fit_calibration(features, labels, ("score", "quality"))
    alone = fit_calibration(scores[:, None], labels)
    assert found.weights[1] == 0
    assert found.weights[0] == pytest.approx(alone.weights[0])
    assert found.offset == pytest.approx(alone.offset)


def test_classes_that_separate_give_finite_ratios():
    scores = np.append(np.linspace(0, 0.4, 50), np.linspace(0.6, 1, 50))
    labels = np.repeat([0, 1], 50)
    llrs = fit_calibration(scores[:, None], labels)(scores[:, None])
    assert np.isfinite(llrs).all()
    assert (np.diff(llrs) > 0).all()


@pytest.mark.parametrize("kind", ["upside down", "constant"])
def test_a_warning_tells_of_scores_that_say_nothing(kind, caplog):
    scores, labels, _ = draw(50, 50)
    scores = -scores if kind == "upside down" else np.ones(100)
    found = fit_calibration(scores[:, None], labels)
    assert "a higher score does not mean a likelier target" in caplog.text
    assert np.isfinite(found(scores[:, None])).all()


def test_one_class_is_refused():
    with pytest.raises(InputError, match="need both classes"):
        fit_calibration(np.ones((3, 1)), [1, 1, 1])
