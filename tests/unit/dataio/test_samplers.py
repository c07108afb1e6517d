"""CappedSampler: counts, order, several processes, resumption."""

import numpy as np
import pytest
from speechbrain.dataio.sampler import DistributedSamplerWrapper

from speechbrain_ext.dataio.samplers import CappedSampler
from speechbrain_ext.utils.errors import InputError

LABELS = np.array(["a"] * 10 + ["b"] * 3 + ["c"] + ["d"] * 4)


def epoch(sampler, number):
    sampler.set_epoch(number)
    return list(sampler)


def counts(rows):
    names, found = np.unique(LABELS[rows], return_counts=True)
    return dict(zip(names.tolist(), found.tolist(), strict=True))


@pytest.mark.parametrize(
    ("cap", "expected"),
    [
        (1, {"a": 1, "b": 1, "c": 1, "d": 1}),
        (3, {"a": 3, "b": 3, "c": 1, "d": 3}),
        (99, {"a": 10, "b": 3, "c": 1, "d": 4}),
    ],
)
def test_an_epoch_has_at_most_the_cap_from_each_class(cap, expected):
    sampler = CappedSampler(LABELS, cap, seed=1)
    for number in range(1, 9):
        rows = epoch(sampler, number)
        assert len(rows) == len(set(rows)) == len(sampler)
        assert counts(rows) == expected


def test_utterances_of_a_class_are_heard_equally_often():
    sampler = CappedSampler(LABELS, 3, seed=1)
    heard = np.zeros(len(LABELS), dtype=int)
    for number in range(1, 40):
        heard[epoch(sampler, number)] += 1
        for name in "abcd":
            own = heard[name == LABELS]
            assert own.max() - own.min() <= 1


def test_the_order_depends_on_seed_and_epoch_alone():
    first, second = (CappedSampler(LABELS, 3, seed=1) for _ in range(2))
    epoch(first, 1)
    assert epoch(first, 5) == epoch(second, 5)
    assert epoch(first, 5) != epoch(first, 6)
    assert epoch(CappedSampler(LABELS, 3, seed=2), 5) != epoch(first, 5)


def test_rows_are_shuffled_over_classes():
    sampler = CappedSampler(LABELS, 99, seed=1)
    rows = epoch(sampler, 1)
    assert sorted(rows) == list(range(len(LABELS))) != rows


def test_processes_share_the_epoch():
    parts = []
    for rank in (0, 1):
        sampler = CappedSampler(LABELS, 3, seed=1)
        part = DistributedSamplerWrapper(
            sampler, num_replicas=2, rank=rank, shuffle=False, drop_last=True
        )
        parts.append(epoch(part, 4))
    whole = epoch(CappedSampler(LABELS, 3, seed=1), 4)
    assert [rows for pair in zip(*parts, strict=True) for rows in pair] == whole


@pytest.mark.parametrize("cap", [0, -1, 2.5, "2"])
def test_a_cap_below_one_is_refused(cap):
    with pytest.raises(InputError, match="max_per_class is"):
        CappedSampler(LABELS, cap, seed=1)
