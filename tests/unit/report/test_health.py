"""The rule is true of stored normal and collapsed trainings."""

import numpy as np
import pandas as pd
import pytest

from speechbrain_ext.report.health import (
    VITAL,
    bands_of,
    judged,
    method_of,
    references,
)


def stored(normal):
    """Stored curves as the recipes write them, by name."""
    found = references()
    curves = {}
    for name, rows in found[found.normal == normal].groupby("training"):
        curve = rows.dropna(axis=1, how="all").reset_index(drop=True)
        curves[name] = curve.assign(epoch=np.arange(1, len(curve) + 1))
    return curves


NORMAL, COLLAPSED = stored(1), stored(0)


@pytest.mark.parametrize("name", NORMAL)
def test_a_normal_training_is_healthy(name):
    found = judged(NORMAL[name])
    assert found.is_normal and found.verdict.startswith("Healthy")


@pytest.mark.parametrize("name", COLLAPSED)
def test_a_collapsed_training_is_not_healthy(name):
    found = judged(COLLAPSED[name])
    assert not found.is_normal
    assert "normal trainings at least" in found.verdict


def test_normal_and_collapsed_trainings_of_both_methods_are_stored():
    for curves in (NORMAL, COLLAPSED):
        kinds = {method_of(curve) for curve in curves.values()}
        assert kinds == VITAL.keys()


def test_the_rank_of_a_normal_training_falls_and_the_rule_says_that_it_may():
    """The rule once said that it must not, of the run that it came from."""
    curve = NORMAL["minivox"]
    assert curve.effective_rank.iloc[10] < 0.6 * curve.effective_rank[0]
    assert "effective rank may fall" in judged(curve).rule


def test_a_training_is_judged_by_other_trainings_too():
    """What is stored is not healthy only because it is stored."""
    for name, curve in NORMAL.items():
        if bands_of(curve, without=[name]):
            assert judged(curve, without=[name]).is_normal, name


def test_bands_have_a_value_an_epoch_and_hold_each_stored_curve():
    curve = NORMAL["minivox"]
    bands = bands_of(curve)
    for name in VITAL["dino"]:
        low, high = bands[name]
        assert len(low) == len(curve)
        assert (low <= curve[name] + 1e-6).all()
        assert (high >= curve[name] - 1e-6).all()


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_value_that_vanished_or_is_no_number_fails(value):
    curve = NORMAL["minivox"].assign(spread=value)
    assert judged(curve).failed == ["spread"]


def test_a_training_of_one_epoch_is_judged():
    curve = pd.DataFrame(NORMAL["minivox"].iloc[-1:]).assign(epoch=1)
    assert judged(curve).is_normal
