"""EERs, DCFs and Cllr against their definitions and against SpeechBrain's.

The naive versions follow the definitions word for word, threshold by
threshold and in exact arithmetic.
"""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from sklearn.isotonic import IsotonicRegression
from speechbrain.utils.metric_stats import EER, minDCF

from speechbrain_ext.verification.cllr import cllr, min_cllr
from speechbrain_ext.verification.metrics import (
    actual_dcf,
    convex_hull_eer,
    equal_error_rate,
    isotonic_shares,
    min_dcf,
    normalised_dcf,
)

KINDS = ("continuous", "tied", "two values", "neighbouring floats")


def draw(kind, n_trials, dtype, seed):
    """Scores and labels, both classes there."""
    generator = np.random.default_rng([KINDS.index(kind), n_trials, seed])
    labels = generator.integers(0, 2, n_trials)
    labels[:2] = 0, 1
    if kind == "continuous":
        scores = generator.normal(size=n_trials) + labels
    elif kind == "tied":
        scores = (generator.integers(0, 6, n_trials) + labels) / 7
    elif kind == "two values":
        scores = generator.integers(0, 2, n_trials) * 0.5
    else:
        # Their midpoints round to one of the two.
        steps = generator.integers(0, 4, n_trials)
        scores = np.float32(1) + steps * np.spacing(np.float32(1))
    return scores.astype(dtype), labels


def naive_rates(scores, labels):
    """Exact rates at each candidate threshold, lowest first."""
    distinct = sorted(set(map(Fraction, map(float, scores))))
    middles = [
        (a + b) / 2 for a, b in zip(distinct[:-1], distinct[1:], strict=True)
    ]
    targets, others = scores[labels == 1], scores[labels == 0]
    for threshold in sorted(distinct + middles):
        missed = sum(1 for score in targets if float(score) <= threshold)
        accepted = sum(1 for score in others if float(score) > threshold)
        yield (
            Fraction(missed, len(targets)),
            Fraction(accepted, len(others)),
        )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n_trials", [2, 5, 17, 40])
@pytest.mark.parametrize("kind", KINDS)
def test_the_definition_in_exact_arithmetic(kind, n_trials, seed):
    scores, labels = draw(kind, n_trials, np.float64, seed)
    rates = list(naive_rates(scores, labels))
    gap = min(abs(alarm - miss) for miss, alarm in rates)
    # Two thresholds may be equally near: float32 rates choose between them.
    allowed = {
        (miss + alarm) / 2 for miss, alarm in rates if abs(alarm - miss) == gap
    }
    eer, _ = equal_error_rate(scores, labels)
    assert any(eer == pytest.approx(float(a), abs=1e-7) for a in allowed)
    cost, _ = min_dcf(scores, labels, p_target=0.25, c_miss=2, c_fa=3)
    expected = min(
        2 * miss * Fraction(1, 4) + 3 * alarm * Fraction(3, 4)
        for miss, alarm in rates
    )
    assert cost == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_trials", [2, 3, 4, 7, 12, 25, 60, 200])
@pytest.mark.parametrize("kind", KINDS)
def test_equal_to_speechbrain_to_the_last_bit(kind, n_trials, dtype):
    for seed in range(12):
        scores, labels = draw(kind, n_trials, dtype, seed)
        targets = torch.from_numpy(scores[labels == 1])
        others = torch.from_numpy(scores[labels == 0])
        assert equal_error_rate(scores, labels) == EER(targets, others)
        for costs in (
            {},
            {"p_target": 0.05},
            {"p_target": 0.5, "c_miss": 10, "c_fa": 0.5},
        ):
            ours = min_dcf(scores, labels, **costs)
            theirs = minDCF(targets, others, **costs)
            # Theirs does not count accepting everything.
            prior, c_fa = costs.get("p_target", 0.01), costs.get("c_fa", 1)
            if theirs[0] > c_fa * (1 - prior):
                assert ours[0] == c_fa * (1 - prior)
                assert ours[1] < scores.min()
            else:
                assert ours == theirs


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n_trials", [2, 5, 17, 40])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("p_target", [0.01, 0.5, 0.75, 0.99])
def test_accepting_everything_is_a_decision(p_target, kind, n_trials, seed):
    for sign in (1, -1):  # scores that help, and scores that mislead
        scores, labels = draw(kind, n_trials, np.float64, seed)
        scores *= sign
        rates = [*naive_rates(scores, labels), (Fraction(0), Fraction(1))]
        prior = Fraction(p_target)
        expected = min(m * prior + a * (1 - prior) for m, a in rates)
        cost, threshold = min_dcf(scores, labels, p_target)
        assert cost == pytest.approx(float(expected), rel=1e-6)
        constant = float(expected / min(prior, 1 - prior))
        normalised = normalised_dcf(cost, p_target)
        assert normalised == pytest.approx(constant, rel=1e-6)
        assert normalised <= 1 + 1e-6
        # The threshold decides so that this is the cost.
        p_miss = (scores[labels == 1] <= threshold).mean()
        p_fa = (scores[labels == 0] > threshold).mean()
        reached = p_miss * p_target + p_fa * (1 - p_target)
        assert reached == pytest.approx(cost, rel=1e-6)


def naive_hull_eer(scores, labels):
    """Lowest meeting with the diagonal of any two points' segment."""
    points = [*naive_rates(scores, labels), (Fraction(0), Fraction(1))]
    best = Fraction(1)
    for miss, alarm in points:
        for other_miss, other_alarm in points:
            gap, overshoot = alarm - miss, other_miss - other_alarm
            if gap >= 0 and overshoot >= 0 and gap + overshoot > 0:
                part = gap / (gap + overshoot)
                best = min(best, miss + part * (other_miss - miss))
            elif gap == 0:
                best = min(best, miss)
    return best


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n_trials", [2, 5, 17, 30])
@pytest.mark.parametrize("kind", KINDS)
def test_the_hulls_eer_in_exact_arithmetic(kind, n_trials, seed):
    scores, labels = draw(kind, n_trials, np.float64, seed)
    expected = float(naive_hull_eer(scores, labels))
    assert convex_hull_eer(scores, labels) == pytest.approx(expected, abs=1e-12)


def naive_pools(scores, labels):
    """Pool adjacent violators: (targets, non-targets) of each pool."""
    pools = []
    for score in sorted(set(scores.tolist())):
        there = labels[scores == score]
        pools.append([int(there.sum()), int((1 - there).sum())])
        while len(pools) > 1 and (
            pools[-2][0] * sum(pools[-1]) >= pools[-1][0] * sum(pools[-2])
        ):
            last = pools.pop()
            pools[-1] = [a + b for a, b in zip(pools[-1], last, strict=True)]
    return pools


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n_trials", [2, 5, 17, 40])
@pytest.mark.parametrize("kind", KINDS)
def test_the_least_cllr_is_that_of_pooled_scores(kind, n_trials, seed):
    scores, labels = draw(kind, n_trials, np.float64, seed)
    n_target = int(labels.sum())
    n_nontarget = n_trials - n_target
    bits = 0.0
    for targets, others in naive_pools(scores, labels):
        share, other = targets / n_target, others / n_nontarget
        for part in (share, other):
            if part:
                bits += part * math.log2((share + other) / part)
    assert min_cllr(scores, labels) == pytest.approx(bits / 2, abs=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(5))
def test_cllr_is_its_sum(seed, dtype):
    scores, labels = draw("continuous", 40, dtype, seed)
    costs = [[], []]
    for llr, label in zip((8 * scores).tolist(), labels, strict=True):
        sign = -1 if label else 1
        costs[label].append(math.log2(1 + math.exp(sign * llr)))
    expected = sum(sum(c) / len(c) for c in costs) / 2
    assert cllr(8 * scores, labels) == pytest.approx(expected, rel=1e-6)
    assert min_cllr(scores, labels) <= cllr(scores, labels)


def test_huge_ratios_do_not_overflow():
    assert cllr([-1e4, 1e4], [0, 1]) == 0
    assert cllr([1e4, -1e4], [0, 1]) == pytest.approx(1e4 / math.log(2))


@pytest.mark.parametrize("seed", range(5))
def test_the_actual_cost_counts_errors_at_bayes_threshold(seed):
    llrs, labels = draw("tied", 40, np.float64, seed)
    llrs = 7 * llrs - 3
    threshold = math.log(0.9 / 0.1)
    misses = sum(1 for llr in llrs[labels == 1] if llr <= threshold)
    alarms = sum(1 for llr in llrs[labels == 0] if llr > threshold)
    p_miss, p_fa = misses / labels.sum(), alarms / (1 - labels).sum()
    expected = (0.1 * p_miss + 0.9 * p_fa) / 0.1
    assert actual_dcf(llrs, labels, 0.1) == pytest.approx(expected)


def test_our_pools_are_scikit_learns():
    scores, labels = draw("tied", 200, np.float64, 1)
    n = np.array([(labels == 0).sum(), (labels == 1).sum()])
    model = IsotonicRegression()
    fitted = model.fit_transform(scores, labels, sample_weight=1 / n[labels])
    found = isotonic_shares(scores, labels).posterior
    _, position = np.unique(scores, return_inverse=True)
    np.testing.assert_allclose(found[position], fitted, atol=1e-12)
