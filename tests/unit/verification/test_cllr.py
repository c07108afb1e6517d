"""Cllr in closed form, and at its best."""

import numpy as np
import pytest

from speechbrain_ext.verification.cllr import cllr, min_cllr


@pytest.mark.parametrize("ratio", [-3.0, 0.0, 2.0])
def test_one_ratio_for_all_trials_has_the_cost_of_its_formula(ratio):
    cost = (np.log2(1 + np.exp(-ratio)) + np.log2(1 + np.exp(ratio))) / 2
    assert cllr([ratio] * 5, [1, 0, 0, 0, 1]) == pytest.approx(cost)
    # Equal scores say nothing, however they are calibrated.
    assert min_cllr([ratio] * 5, [1, 0, 0, 0, 1]) == pytest.approx(1)


def test_classes_weigh_alike_however_many_trials_they_have():
    few, many = cllr([1, -2], [1, 0]), cllr([1, -2, -2, -2], [1, 0, 0, 0])
    assert few == pytest.approx(many)


def test_ratios_that_mislead_cost_more_than_one_bit():
    assert cllr([-2.0, 2.0], [1, 0]) > 1
    assert min_cllr([-2.0, 2.0], [1, 0]) == pytest.approx(1)


def test_the_least_cost_depends_on_the_order_of_scores_alone():
    scores = np.random.default_rng(0).normal(size=200)
    labels = np.arange(200) % 2
    scores += labels
    least = min_cllr(scores, labels)
    assert min_cllr(np.exp(scores), labels) == pytest.approx(least)
    assert 0 < least < 1 and least <= cllr(scores, labels)
