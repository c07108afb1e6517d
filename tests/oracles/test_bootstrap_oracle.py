"""A drawing against the list it stands for, written out copy by copy."""

import numpy as np
import pytest

from speechbrain_ext.verification.bootstrap import Units, replicates

PRIOR = 0.2


def written_out(drawn, labels, enrol, test):
    """Rows of the trials, each as often as the drawn speakers make it."""
    rows = []
    for row in range(len(labels)):
        if enrol[row] == test[row]:
            times = sum(1 for one in drawn if one == enrol[row])
        else:
            times = sum(
                1
                for one in drawn
                for other in drawn
                if (one, other) == (enrol[row], test[row])
            )
        rows += [row] * times
    return rows


def naive_rates(scores, labels):
    """Interpolated EER and least cost, threshold by threshold."""
    targets = [s for s, label in zip(scores, labels, strict=True) if label]
    others = [s for s, label in zip(scores, labels, strict=True) if not label]
    points = [
        (
            sum(1 for s in targets if s <= at) / len(targets),
            sum(1 for s in others if s > at) / len(others),
        )
        for at in [-np.inf, *sorted(set(scores))]
    ]
    cost = min(PRIOR * miss + (1 - PRIOR) * alarm for miss, alarm in points)
    for (miss, alarm), (more, less) in zip(
        points[:-1], points[1:], strict=True
    ):
        if less <= more:
            # Where the segment meets the diagonal.
            part = (alarm - miss) / ((alarm - miss) + (more - less))
            return miss + part * (more - miss), cost
    raise AssertionError("the curves do not cross")


def draw(seed, name):
    generator = np.random.default_rng(seed)
    n_trials, n_units = 60, 7
    enrol, test = generator.integers(0, n_units, (2, n_trials))
    if name == "speakers":
        labels = (enrol == test).astype(int)
    else:
        labels = generator.integers(0, 2, n_trials)
    enrol[0], test[0], labels[0] = n_units - 1, n_units - 1, 1
    scores = np.round(generator.normal(size=n_trials) + labels, 1)
    return scores, labels, Units(name, enrol, test)


@pytest.mark.parametrize("name", ["speakers", "utterances"])
@pytest.mark.parametrize("seed", range(3))
def test_a_drawing_is_the_list_of_its_copies(seed, name):
    scores, labels, units = draw(seed, name)
    found = replicates(scores, labels, units, (PRIOR,), 30, seed=seed)
    generator = np.random.default_rng(seed)
    expected = []
    for drawn in generator.integers(0, units.count, (30, units.count)):
        rows = written_out(drawn, labels, units.enrol, units.test)
        if len(set(labels[rows])) == 2:
            expected.append(naive_rates(scores[rows].tolist(), labels[rows]))
    eers, costs = np.transpose(expected)
    np.testing.assert_allclose(found.eer, eers, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(found.costs[0], costs, rtol=1e-12)


def test_single_trials_are_drawn_one_by_one():
    scores, labels, _ = draw(5, "utterances")
    alone = Units("trials", np.arange(60), np.arange(60))
    found = replicates(scores, labels, alone, (PRIOR,), 20, seed=9)
    generator = np.random.default_rng(9)
    for number, rows in enumerate(generator.integers(0, 60, (20, 60))):
        eer, cost = naive_rates(scores[rows].tolist(), labels[rows])
        assert found.eer[number] == pytest.approx(eer, rel=1e-12)
        assert found.costs[0][number] == pytest.approx(cost, rel=1e-12)
