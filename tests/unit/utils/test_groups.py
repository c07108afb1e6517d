"""Rows by group: members and places."""

import numpy as np
import pytest

from speechbrain_ext.utils.groups import members, place_in_group


@pytest.fixture
def groups():
    return np.random.default_rng(0).integers(0, 7, 200)


def test_members_are_the_rows_of_each_group_in_rising_order(groups):
    rows, starts, sizes = members(groups, n_groups=9)
    assert len(starts) == len(sizes) == 9
    for group, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        expected = np.flatnonzero(groups == group)
        np.testing.assert_array_equal(rows[start : start + size], expected)


def test_places_count_the_rows_of_the_same_group_before(groups):
    order = np.random.default_rng(1).permutation(len(groups))
    place = place_in_group(groups, order)
    seen = dict.fromkeys(range(7), 0)
    for row in order:
        assert place[row] == seen[groups[row]]
        seen[groups[row]] += 1


def test_without_an_order_rows_count_as_they_come(groups):
    place = place_in_group(groups)
    np.testing.assert_array_equal(
        place, place_in_group(groups, np.arange(len(groups)))
    )
    assert (place[np.unique(groups, return_index=True)[1]] == 0).all()
