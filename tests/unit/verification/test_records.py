"""Estimates, and records restored from plain values."""

import dataclasses
import json

import pytest

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.verification.records import (
    Estimate,
    check_count,
    check_number,
    from_plain,
)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((1.0, 2.0, 3.0), "value is 1.0; it must lie within its interval"),
        ((4.0, 2.0, 3.0), "value is 4.0; it must lie within its interval"),
        ((float("nan"), 2.0, 3.0), "value is nan; it must be a finite number"),
        ((2.0, float("-inf"), 3.0), "low is -inf"),
        ((2.0, 1.0, float("nan")), "high is nan"),
        (("2", 1.0, 3.0), "value is 2; it must be a finite number"),
        ((2.0, None, 3.0), "low is None"),
        ((True, 0.0, 3.0), "value is True"),
    ],
)
def test_an_estimate_refuses_impossible_values(values, message):
    with pytest.raises(InputError, match=message):
        Estimate(*values)


def test_an_estimate_is_frozen_and_shown_with_its_interval():
    found = Estimate(2.0, 1.0, 3.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.value = 2.5
    assert f"{found:.1f}" == "2.0 [1.0, 3.0]"


def test_ends_are_widened_only_where_they_miss_the_value():
    assert Estimate.around(2.0, (1.0, 3.0)) == Estimate(2.0, 1.0, 3.0)
    assert Estimate.around(4.0, (1.0, 3.0)) == Estimate(4.0, 1.0, 4.0)
    assert Estimate.around(0.0, (1.0, 3.0)) == Estimate(0.0, 0.0, 3.0)


@pytest.mark.parametrize("value", [-1, 2.0, True, None, "3"])
def test_a_count_is_a_whole_number_of_0_or_more(value):
    with pytest.raises(InputError, match="n is .*whole number of 0 or more"):
        check_count("n", value)


def test_the_range_of_a_number_is_told():
    with pytest.raises(
        InputError, match="x is 2; .*number of 0 or more and of 1 or less"
    ):
        check_number("x", 2, 0, 1)
    check_number("x", 1, 0, 1)


@dataclasses.dataclass(frozen=True)
class Row:
    name: str
    rates: tuple[Estimate, ...]
    best: Estimate | None = None


@pytest.mark.parametrize(
    "row",
    [Row("a", ()), Row("b", (Estimate(1, 0, 2),), best=Estimate(1, 1, 1))],
)
def test_a_record_is_restored_from_json(row):
    value = json.loads(json.dumps(dataclasses.asdict(row)))
    assert from_plain(Row, value) == row


@pytest.mark.parametrize(
    "value",
    [{"name": "a"}, {"name": "a", "rates": [], "more": 1}, ["a"], None],
)
def test_missing_and_unknown_fields_are_refused(value):
    with pytest.raises(TypeError):
        from_plain(Row, value)
