"""What is dropped, why, and in which order the rules act."""

import numpy as np
import pytest

from speechbrain_ext.clustering.cleaning import (
    CAPPED,
    KEPT,
    SMALL,
    UNCERTAIN,
    drop_statistics,
    reasons_to_drop,
)
from speechbrain_ext.utils.errors import InputError


def example():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 9, 120)
    labels[:3] = 9
    return labels, generator.normal(0.2, 0.2, 120).round(1)


def loop(labels, margin, min_size, min_margin, max_size):
    reason = [KEPT] * len(labels)

    def members(label):
        return [
            i for i, r in enumerate(reason) if r == KEPT and labels[i] == label
        ]

    for label in set(labels.tolist()):
        if len(members(label)) < min_size:
            for i in members(label):
                reason[i] = SMALL
        for i in members(label):
            if margin[i] < min_margin:
                reason[i] = UNCERTAIN
        if len(members(label)) < min_size:
            for i in members(label):
                reason[i] = SMALL
        best = sorted(members(label), key=lambda i: (-margin[i], i))
        for i in best[max_size:]:
            reason[i] = CAPPED
    return reason


@pytest.mark.parametrize("min_size", [1, 4, 6])
@pytest.mark.parametrize("min_margin", [-1.0, 0.1, 0.2])
@pytest.mark.parametrize("max_size", [3, 8, 100])
def test_reasons_equal_a_loop_over_clusters(min_size, min_margin, max_size):
    labels, margin = example()
    found = reasons_to_drop(labels, margin, min_size, min_margin, max_size)
    expected = loop(labels, margin, min_size, min_margin, max_size)
    assert found.tolist() == expected


def test_without_rules_everything_is_kept():
    labels, margin = example()
    assert (reasons_to_drop(labels, margin) == KEPT).all()


def test_every_dropped_utterance_is_counted_by_its_reason():
    labels, margin = example()
    figures = drop_statistics(reasons_to_drop(labels, margin, 6, 0.1, 7))
    total = figures.pop("n_dropped")
    assert total == sum(figures.values())
    assert all(figures.values())


def test_rules_that_leave_fewer_than_two_clusters_are_refused():
    labels = np.array([0, 0, 0, 1, 1])
    with pytest.raises(InputError, match=r"leave 1 .* \[3, 2\] .*lower them"):
        reasons_to_drop(labels, np.ones(5), min_size=3)
    with pytest.raises(InputError, match="min_margin 2.0 leave 0"):
        reasons_to_drop(labels, np.ones(5), min_margin=2.0)
