"""EER and minDCF against their definitions and against SpeechBrain's.

The naive versions follow the definitions word for word, threshold by
threshold and in exact arithmetic.
"""

from fractions import Fraction

import numpy as np
import pytest
import torch
from speechbrain.utils.metric_stats import EER, minDCF

from speechbrain_ext.metrics import (
    bootstrap_intervals,
    equal_error_rate,
    min_dcf,
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
            assert ours == minDCF(targets, others, **costs)


def test_intervals_of_resampled_trials():
    """Trials drawn one by one, class by class, and measured one by one."""
    scores, labels = draw("continuous", 150, np.float64, seed=0)
    generator = np.random.default_rng(5)
    classes = [np.flatnonzero(labels == label) for label in (0, 1)]
    eers, costs = [], []
    for _ in range(1500):
        rows = np.concatenate(
            [generator.choice(rows, len(rows)) for rows in classes]
        )
        eers.append(equal_error_rate(scores[rows], labels[rows])[0])
        costs.append(min_dcf(scores[rows], labels[rows], p_target=0.3)[0])
    eer, cost = bootstrap_intervals(
        scores, labels, p_target=0.3, n_replicates=3000
    )
    # The sampling error of such percentiles is about 0.004.
    assert eer == pytest.approx(np.percentile(eers, [2.5, 97.5]), abs=0.016)
    assert cost == pytest.approx(np.percentile(costs, [2.5, 97.5]), abs=0.016)
