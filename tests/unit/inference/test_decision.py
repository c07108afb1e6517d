"""The decision of a shared model: its threshold, and what is refused."""

import math

import pytest

from speechbrain_ext.inference.decision import checked_decision
from speechbrain_ext.utils.errors import InputError


@pytest.mark.parametrize("prior", [0.5, 0.01, 0.9])
def test_at_the_threshold_both_answers_are_equally_likely(prior):
    decision = checked_decision(8.0, -4.0, prior, "")
    odds = prior / (1 - prior) * math.exp(8 * decision.threshold - 4)
    assert odds == pytest.approx(1)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (("8", -4.0, 0.5), "weight is '8'; it must be a number"),
        ((8.0, math.inf, 0.5), "offset is inf"),
        ((8.0, -4.0, True), "prior is True"),
        ((8.0, -4.0, 0), "prior is 0; it must be a probability"),
        ((8.0, -4.0, 1), "prior is 1; it must be a probability"),
        ((-8.0, -4.0, 0.5), "a higher score would mean less alike"),
    ],
)
def test_a_decision_that_makes_no_sense_is_refused(values, words):
    with pytest.raises(InputError, match=words):
        checked_decision(*values, "pairs")
