"""The rule that ends the rounds."""

import pytest

from speechbrain_ext.clustering.stopping import decide


def rule(churns, max_rounds=9, tolerance=0.1, floor=0.02):
    return decide(churns, max_rounds, tolerance, floor)


def test_a_first_round_is_always_planned_and_a_second_after_it():
    assert rule([])[:2] == (1, False)
    assert rule([0.3])[:2] == (2, False)


@pytest.mark.parametrize(
    ("churns", "chosen", "words"),
    [
        ([0.3, 0.28], 2, "does not fall by more than 0.1"),
        ([0.3, 0.27], 2, "does not fall"),
        ([0.3, 0.3], 2, "does not fall"),
        # By chance: it was by 1.4 % on MiniVox, after the best round of all.
        ([0.3, 0.32], 2, "does not fall"),
        ([0.3, 0.34], 1, "rises, so round 1 is taken"),
        ([0.02], 1, "is stable"),
        ([0.3, 0.1, 0.01], 3, "is stable"),
    ],
)
def test_rounds_stop_with_a_reason(churns, chosen, words):
    decision = rule(churns)
    assert decision.stopped and decision.n_rounds == len(churns)
    assert decision.chosen == chosen
    assert words in decision.reason


def test_rounds_go_on_while_churn_falls_until_max_rounds():
    falling = [0.4, 0.3, 0.2, 0.1]
    for n in range(1, 5):
        assert rule(falling[:n])[:2] == (n + 1, False)
    ended = rule(falling, max_rounds=4)
    assert ended[:3] == (4, True, 4) and "max_rounds" in ended.reason
    assert rule([0.4], max_rounds=1)[:3] == (1, True, 1)
