"""Sampler that caps utterances per class per epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.groups import place_in_group


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
