"""EER, minDCF, their intervals and their refusals."""

import numpy as np
import pytest
import torch

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.verification.cllr import cllr, min_cllr
from speechbrain_ext.verification.metrics import (
    actual_dcf,
    convex_hull_eer,
    equal_error_rate,
    error_rates,
    min_dcf,
    normalised_dcf,
    thin,
)


def overlapping(n_trials, distance=1.5, seed=0):
    generator = np.random.default_rng(seed)
    labels = (generator.random(n_trials) < 0.3).astype(np.int8)
    scores = generator.normal(size=n_trials) + distance * labels
    return scores.astype(np.float32), labels


def test_separated_scores_have_no_error():
    scores, labels = [0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1]
    assert equal_error_rate(scores, labels) == (0.0, 0.2)
    assert min_dcf(scores, labels) == (0.0, 0.2)


def test_equal_scores_are_chance():
    assert equal_error_rate([0.3] * 6, [0, 1, 0, 1, 1, 0])[0] == 0.5


def test_swapped_scores_miss_everything():
    assert equal_error_rate([0.9, 0.8, 0.2, 0.1], [0, 0, 1, 1])[0] == 1.0


def test_a_target_at_the_threshold_is_a_miss():
    p_miss, p_fa, thresholds = error_rates([1, 2, 2, 3], [0, 0, 1, 1])
    np.testing.assert_array_equal(thresholds, [1, 2, 3])
    np.testing.assert_array_equal(p_miss, [0, 0.5, 1])
    np.testing.assert_array_equal(p_fa, [0.5, 0, 0])


@pytest.mark.parametrize("convert", [list, np.float64, torch.tensor])
def test_lists_arrays_and_tensors_give_the_same(convert):
    scores, labels = overlapping(200)
    scores = scores.astype(np.float64)
    expected = equal_error_rate(scores, labels), min_dcf(scores, labels)
    given = convert(scores), convert(labels)
    assert (equal_error_rate(*given), min_dcf(*given)) == expected


def test_half_precision_tensors_are_accepted():
    scores = torch.tensor([0.1, 0.9, 0.3], dtype=torch.bfloat16)
    labels = torch.tensor([False, True, False])
    assert equal_error_rate(scores, labels)[0] == 0


def test_order_of_trials_does_not_matter():
    scores, labels = overlapping(500)
    shuffled = np.random.default_rng(1).permutation(500)
    assert equal_error_rate(scores, labels) == equal_error_rate(
        scores[shuffled], labels[shuffled]
    )


def test_rejecting_everything_bounds_the_cost():
    scores, labels = overlapping(300, distance=0)
    cost, _ = min_dcf(scores, labels, p_target=0.01, c_miss=10)
    assert cost <= np.float32(0.1)
    assert normalised_dcf(0.1, 0.01, c_miss=10) == pytest.approx(1)


def test_costs_are_normalised_by_the_better_constant_answer():
    assert normalised_dcf(0.005, 0.01) == pytest.approx(0.5)
    assert normalised_dcf(0.05, 0.9) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([0.1, 0.2], [1, 1], "all 2 trials are target trials"),
        ([0.1, 0.2], [0, 0], "all 2 trials are non-target trials"),
        ([0.1, 0.2, np.nan], [1, 0, 0], r"scores\[2\] is nan"),
        ([0.1, np.inf, 0.0], [1, 0, 0], r"scores\[1\] is inf"),
        ([0.1, 0.2], [1, 2], r"labels\[1\] is 2"),
        ([0.1, 0.2], [1, 0, 1], r"shape \[2\] and labels \[3\]"),
        ([[0.1, 0.2]], [[1, 0]], r"shape \[1, 2\]"),
        ([], [], "no trial"),
    ],
)
@pytest.mark.parametrize(
    "metric",
    [equal_error_rate, min_dcf, error_rates, convex_hull_eer, actual_dcf]
    + [cllr, min_cllr],
)
def test_bad_trials_are_refused(metric, scores, labels, message):
    with pytest.raises(InputError, match=message):
        metric(np.array(scores), np.array(labels))


@pytest.mark.parametrize(
    ("costs", "message"),
    [({"p_target": 1}, "p_target is 1"), ({"c_fa": 0}, "c_fa is 0")],
)
def test_costs_out_of_range_are_refused(costs, message):
    for function in (min_dcf, actual_dcf):
        with pytest.raises(InputError, match=message):
            function([0.1, 0.2], [0, 1], **costs)


def test_no_threshold_beats_the_hull_in_both_rates():
    for seed in range(20):
        scores, labels = overlapping(60, seed=seed)
        p_miss, p_fa, _ = error_rates(scores, labels)
        least = np.maximum(p_miss, p_fa).min()
        assert least / 2 < convex_hull_eer(scores, labels) <= least + 1e-9


def test_both_definitions_agree_on_many_trials():
    scores, labels = overlapping(50000)
    eer, _ = equal_error_rate(scores, labels)
    assert convex_hull_eer(scores, labels) == pytest.approx(eer, rel=0.02)


def test_below_chance_the_hull_is_the_diagonal():
    assert convex_hull_eer([0.9, 0.8, 0.2, 0.1], [0, 0, 1, 1]) == 0.5
    assert convex_hull_eer([0.3] * 6, [0, 1, 0, 1, 1, 0]) == 0.5


def test_separated_scores_have_no_error_on_the_hull():
    assert convex_hull_eer([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1]) == 0


def test_calibrated_scores_cost_what_their_best_threshold_does():
    generator = np.random.default_rng(0)
    labels = np.repeat([1, 0], 40000)
    # Of equal spread and d apart: the log-likelihood ratio is known.
    d = 2.5
    scores = generator.normal(size=80000) + d * labels
    llrs = d * (scores - d / 2)
    for prior in (0.1, 0.3):
        best = normalised_dcf(min_dcf(llrs, labels, prior)[0], prior)
        actual = actual_dcf(llrs, labels, prior)
        assert best - 1e-6 <= actual < best + 0.01
        assert actual_dcf(llrs + 2, labels, prior) > best + 0.03


def test_accepting_everything_costs_more_than_a_constant_answer():
    assert actual_dcf([9.0, 9.0], [0, 1], 0.01) == pytest.approx(99)
    assert actual_dcf([-9.0, -9.0], [0, 1], 0.01) == pytest.approx(1)


def test_thinning_keeps_the_operating_points():
    scores, labels = overlapping(50000)
    p_miss, p_fa, _ = error_rates(scores, labels)
    kept = thin(p_miss, p_fa, 4096)
    assert len(kept) <= 4097
    assert kept[-1] == len(p_miss) - 1
    whole = np.min(0.01 * p_miss + 0.99 * p_fa)
    thinned = np.min(0.01 * p_miss[kept] + 0.99 * p_fa[kept])
    assert thinned == pytest.approx(whole, rel=5e-3)
    nearest = np.argmin(np.abs(p_fa[kept] - p_miss[kept]))
    eer = (p_fa[kept] + p_miss[kept])[nearest] / 2
    assert eer == pytest.approx(equal_error_rate(scores, labels)[0], rel=5e-3)


def test_thinning_survives_perfect_scores():
    p_miss, p_fa, _ = error_rates(np.arange(6000), np.arange(6000) >= 3000)
    kept = thin(p_miss, p_fa, 100)
    assert 50 < len(kept) <= 101
