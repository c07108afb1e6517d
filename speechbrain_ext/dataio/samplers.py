"""Samplers that balance classes: in an epoch, and in a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.groups import members, place_in_group


class CappedSampler(torch.utils.data.Sampler):
    """Sampler that caps utterances per class per epoch, in random order.

    A class of n utterances contributes min(n, cap) of them to an epoch. With
    a cap below most class sizes, the classes are balanced. No utterance
    occurs twice in an epoch. A large class goes through its utterances in an
    order drawn once, the next ``cap`` of them in each epoch. After any number
    of epochs, the utterances of a class have therefore been used equally
    often, within one.

    The order is a function of seed and epoch alone: a resumed run replays
    it, and several processes share it out.

    Arguments
    ---------
    labels : sequence
        Class of each utterance [N].
    cap : int
        Most utterances of a class in an epoch.
    seed : int
        The run's.

    Raises
    ------
    InputError
        The cap is no whole number above 0.

    Example
    -------
    >>> sampler = CappedSampler(["a"] * 4 + ["b"], cap=2, seed=1)
    >>> sampler.set_epoch(1)
    >>> first = list(sampler)
    >>> sampler.set_epoch(2)
    >>> len(first), len(sampler), sorted({*first, *sampler})
    (3, 3, [0, 1, 2, 3, 4])
    """

    def __init__(self, labels: Sequence | np.ndarray, cap: int, seed: int):
        if not isinstance(cap, int) or cap < 1:
            raise InputError(
                f"max_per_class is {cap}; it must be null or a whole number, "
                "1 or more; correct --max_per_class"
            )
        self.cap = cap
        self.seed = int(seed)
        self.epoch = 1
        _, classes, sizes = np.unique(
            np.asarray(labels), return_inverse=True, return_counts=True
        )
        generator = np.random.default_rng(self.seed)
        shuffled = generator.permutation(len(classes))
        # Size of each utterance's class, and the utterance's place in it.
        self._sizes = sizes[classes]
        self._places = place_in_group(classes, shuffled)
        self._length = int(np.minimum(sizes, cap).sum())

    def __len__(self) -> int:
        return self._length

    def set_epoch(self, epoch: int) -> None:
        """Set the next epoch, counted from 1."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        begin = (self.epoch - 1) * self.cap
        turn = (self._places - begin) % self._sizes
        rows = np.flatnonzero(turn < self.cap)
        generator = np.random.default_rng([self.seed, self.epoch])
        return iter(generator.permutation(rows).tolist())


class DistinctClassSampler(CappedSampler):
    r"""Sampler whose batches have no two utterances of a class.

    Each ``batch_size`` utterances in a row are of different classes, so that
    batches are the same on any number of processes that share them. With c_k
    utterances of class k in an epoch (its size or the cap), an epoch has

    .. math:: M = \max \{m : \sum_k \min(c_k, m) \ge m B\}

    batches of B utterances, which is the most that there can be: a class
    gives at most one utterance to each. What exceeds M B is left out at random;
    utterances of a class of more than M take turns, as under a cap of M.

    Arguments
    ---------
    labels : sequence
        Class of each utterance [N].
    batch_size : int
        Utterances B of a batch of all processes.
    seed : int
        The run's.
    cap : int, optional
        Most utterances of a class in an epoch; None: all.

    Raises
    ------
    InputError
        There are fewer classes than utterances in a batch.

    Example
    -------
    >>> labels = ["a"] * 4 + ["b"] * 3 + ["c"]
    >>> sampler = DistinctClassSampler(labels, batch_size=2, seed=1)
    >>> rows = list(sampler)
    >>> pairs = zip(rows[::2], rows[1::2])
    >>> len(rows), any(labels[one] == labels[two] for one, two in pairs)
    (8, False)
    """

    def __init__(
        self,
        labels: Sequence | np.ndarray,
        batch_size: int,
        seed: int,
        cap: int | None = None,
    ):
        _, classes, sizes = np.unique(
            np.asarray(labels), return_inverse=True, return_counts=True
        )
        if len(sizes) < batch_size:
            raise InputError(
                f"one_per_class is true and batch_size {batch_size}; a batch "
                "needs as many speakers as utterances and the training has "
                f"{len(sizes)}; lower --batch_size, or give "
                "--one_per_class=false"
            )
        most = int(sizes.max()) if cap is None else cap
        super().__init__(labels, most, seed)
        self.batch_size = batch_size
        counts = np.minimum(sizes, most)
        self.n_batches = _most_batches(counts, batch_size)
        self.cap = min(most, self.n_batches)
        self._classes = classes
        self._length = self.n_batches * batch_size

    def __iter__(self) -> Iterator[int]:
        rows = np.fromiter(super().__iter__(), dtype=np.int64)
        # In an order drawn for the epoch already: the last are left out.
        rows = rows[: self._length]
        generator = np.random.default_rng([self.seed, self.epoch, 1])
        batches = _distinct_batches(
            self._classes[rows], self.n_batches, generator
        )
        shuffled = generator.permutation(len(rows))
        order = shuffled[np.argsort(batches[shuffled], kind="stable")]
        return iter(rows[order].tolist())


def _most_batches(counts: np.ndarray, batch_size: int) -> int:
    """Most batches of distinct classes, of which class k gives counts[k]."""
    low, high = 1, int(counts.sum()) // batch_size
    while low < high:
        middle = (low + high + 1) // 2
        if np.minimum(counts, middle).sum() >= middle * batch_size:
            low = middle
        else:
            high = middle - 1
    return low


def _distinct_batches(
    classes: np.ndarray, n_batches: int, generator: np.random.Generator
) -> np.ndarray:
    """Batch of each row [N]: a class is in none twice, and all are as full.

    Classes, in an order drawn at random, fill one place of every batch after
    another; which batch comes when is drawn for each place. A class that
    begins at one place and ends at the next takes there none of the batches
    that it has.
    """
    groups = np.unique(classes, return_inverse=True)[1]
    sorted_rows, starts, sizes = members(groups)
    batches = np.empty(len(classes), dtype=np.int64)
    waiting = generator.permutation(n_batches)
    for group in generator.permutation(len(sizes)):
        size = sizes[group]
        taken, waiting = waiting[:size], waiting[size:]
        missing = size - len(taken)
        if not len(waiting):
            order = generator.permutation(n_batches)
            # Those that the class has come last, so it takes others.
            has = np.zeros(n_batches, dtype=bool)
            has[taken] = missing > 0
            order = order[np.argsort(has[order], kind="stable")]
            more, waiting = order[:missing], order[missing:]
            waiting = generator.permutation(waiting)
            taken = np.concatenate([taken, more])
        own = sorted_rows[starts[group] :][:size]
        batches[own] = taken
    return batches


def draw_of_each(
    labels: Sequence | np.ndarray, most: int, seed: int
) -> np.ndarray:
    """Draw at most a number of rows of each class, in their order.

    Arguments
    ---------
    labels : sequence
        Class of each row [N].
    most : int
        Rows of a class; smaller classes give all of theirs.
    seed : int
        Decides the draw.

    Returns
    -------
    numpy.ndarray
        Rising rows.

    Example
    -------
    >>> draw_of_each(["a", "b", "a", "a"], 3, seed=0).tolist()
    [0, 1, 2, 3]
    """
    return np.sort(list(CappedSampler(labels, most, seed)))
