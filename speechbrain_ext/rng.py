"""Randomness of a training step as a function of the step.

No generator runs from step to step: a resumed run, which begins in the
middle, replays the dropout of each step without any saved state, on every
process.
"""

from __future__ import annotations

import numpy as np
import torch


def step_seed(*key: int) -> int:
    """A 63-bit seed from non-negative integers, different for each key.

    Example
    -------
    >>> step_seed(1986, 7) == step_seed(1986, 7)
    True
    >>> step_seed(1986, 7) == step_seed(1986, 8)
    False
    """
    sequence = np.random.SeedSequence(key)
    return int(sequence.generate_state(1, np.uint64)[0]) >> 1


def seed_step(seed: int, step: int, rank: int = 0) -> None:
    """Seed torch's global generators, of CPU and GPUs, for one step.

    Arguments
    ---------
    seed : int
        The run's seed.
    step : int
        Batches seen before, from 0.
    rank : int
        The process, so that each drops other units.

    Example
    -------
    >>> seed_step(1986, 7)
    >>> first = torch.rand(2)
    >>> seed_step(1986, 7)
    >>> torch.equal(torch.rand(2), first)
    True
    """
    torch.manual_seed(step_seed(seed, step, rank))
