"""Samplers: counts, order, several processes, resumption."""

import numpy as np
import pytest
from speechbrain.dataio.sampler import DistributedSamplerWrapper

from speechbrain_ext.dataio.samplers import (
    CappedSampler,
    DistinctClassSampler,
)
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


def distinct(labels=LABELS, batch_size=2, seed=1, cap=None):
    return DistinctClassSampler(labels, batch_size, seed, cap)


def batches(sampler, number, labels=LABELS):
    rows = np.array(epoch(sampler, number))
    return labels[rows].reshape(-1, sampler.batch_size)


def most_batches(counts, batch_size):
    """As many batches as the classes of most utterances left can fill."""
    left, n_batches = sorted(counts), 0
    while sum(count > 0 for count in left) >= batch_size:
        left = sorted(left)
        left[-batch_size:] = [count - 1 for count in left[-batch_size:]]
        n_batches += 1
    return n_batches


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("cap", [None, 3])
def test_a_batch_has_distinct_classes_and_there_are_as_many_as_can_be(
    seed, cap
):
    generator = np.random.default_rng(seed)
    counts = generator.integers(1, 15, size=9)
    labels = np.repeat(np.arange(9), counts)
    batch_size = int(generator.integers(2, 10))
    sampler = distinct(labels, batch_size, seed, cap)
    given = counts if cap is None else np.minimum(counts, cap)
    for number in range(1, 6):
        rows = epoch(sampler, number)
        assert len(rows) == len(set(rows)) == len(sampler)
        found = labels[rows].reshape(-1, batch_size)
        assert all(len(set(batch)) == batch_size for batch in found.tolist())
        assert len(found) == most_batches(given.tolist(), batch_size)
        assert (np.bincount(labels[rows], minlength=9) <= given).all()


def test_one_class_of_most_utterances_gives_one_to_each_batch():
    # 8 others fill the other place of 8 batches; 10 of "a" take turns.
    heard = set()
    for number in range(1, 4):
        found = batches(distinct(), number)
        assert len(found) == 8
        assert sorted(found.ravel().tolist()).count("a") == 8
        heard |= set(np.flatnonzero(LABELS == "a")) & set(
            epoch(distinct(), number)
        )
    assert len(heard) == 10


def test_as_many_classes_as_places_fill_every_batch_of_the_rarest():
    assert sorted(batches(distinct(batch_size=4), 1).ravel()) == list("abcd")


def test_fewer_classes_than_places_are_refused_in_one_line():
    with pytest.raises(InputError) as caught:
        distinct(batch_size=5)
    assert str(caught.value) == (
        "one_per_class is true and batch_size 5; a batch needs as many "
        "speakers as utterances and the training has 4; lower --batch_size, "
        "or give --one_per_class=false"
    )


def test_batches_of_distinct_classes_depend_on_seed_and_epoch_alone():
    first, second = distinct(), distinct()
    epoch(first, 1)
    assert epoch(first, 5) == epoch(second, 5) != epoch(first, 6)
    assert epoch(distinct(seed=2), 5) != epoch(first, 5)


@pytest.mark.parametrize("n_processes", [2, 8])
def test_processes_share_batches_of_distinct_classes(n_processes):
    labels = np.arange(70) % 20
    whole = epoch(distinct(labels, 8), 4)
    parts = []
    for rank in range(n_processes):
        part = DistributedSamplerWrapper(
            distinct(labels, 8),
            num_replicas=n_processes,
            rank=rank,
            shuffle=False,
            drop_last=True,
        )
        parts.append(epoch(part, 4))
    assert [row for one in zip(*parts, strict=True) for row in one] == whole


def test_two_classes_meet_no_more_often_than_by_chance():
    labels = np.repeat(np.arange(30), 20)
    met = np.zeros((30, 30))
    for number in range(1, 21):
        for batch in batches(distinct(labels, 10), number, labels):
            met[np.ix_(batch, batch)] += 1
    pairs = met[np.triu_indices(30, 1)]
    # 20 epochs of 60 batches, of which a pair shares 10 x 9 / (30 x 29).
    assert pairs.mean() == pytest.approx(1200 * 90 / 870)
    assert pairs.std() < 0.25 * pairs.mean()
