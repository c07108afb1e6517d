"""Numbers that no training can use are refused by name."""

import pytest

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.validation import (
    check_counts,
    check_positive,
    check_shares,
)


def test_what_is_in_range_passes():
    check_counts({"n": 1, "m": 0, "other": None}, n=1, m=0)
    check_positive({"a": 1e-9, "b": 3, "c": float("inf"), "d": -1}, *"abc")


@pytest.mark.parametrize("value", [0, -3, 2.5, None, "3"])
def test_a_count_is_whole_and_at_least_its_bound(value):
    with pytest.raises(InputError, match=f"n is {value}.*1 or more.*--n$"):
        check_counts({"n": value}, n=1)


@pytest.mark.parametrize("value", [0, -0.5, None, "0.1", float("nan")])
def test_a_positive_number_is_above_nought(value):
    with pytest.raises(InputError, match=f"a is {value}.*above 0.*--a$"):
        check_positive({"a": value}, "a")


@pytest.mark.parametrize("value", [-0.1, 1.1, None, "0.9", float("nan")])
def test_a_share_is_from_nought_to_one(value):
    check_shares({"a": 0, "b": 0.5, "c": 1}, *"abc")
    with pytest.raises(InputError, match=f"a is {value}.*from 0 to 1.*--a$"):
        check_shares({"a": value}, "a")
