"""Random numbers that depend on a key, not on what was drawn before.

No generator runs from step to step: a resumed run, which begins in the
middle, replays the dropout of each step and the crops and augmentation of
each utterance without any saved state, on any number of processes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX = (
    (np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)),
    (np.uint64(27), np.uint64(0x94D049BB133111EB)),
)


def hash_key(*parts: int | str) -> int:
    """Hash parts to a 64-bit key, the same on every machine (BLAKE2b).

    Example
    -------
    >>> hash_key(1986, 1, "a") == hash_key(1986, 1, "a")
    True
    >>> hash_key(1986, 1, "a") == hash_key(1986, 1, "b")
    False
    """
    text = "/".join(str(part) for part in parts)
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def splitmix64(keys: np.ndarray, n: int) -> np.ndarray:
    """Return the first outputs of SplitMix64, one generator for each key.

    Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
    OOPSLA 2014: output i mixes the bits of key + i * gamma, so that all
    outputs of all generators come from one array expression.

    Arguments
    ---------
    keys : np.ndarray
        Seeds [...], uint64.
    n : int
        Outputs a seed.

    Returns
    -------
    np.ndarray
        Outputs [..., n], uint64.

    Example
    -------
    >>> print(splitmix64(np.array([1234567], dtype=np.uint64), 2))
    [[6457827717110365317 3203168211198807973]]
    """
    counter = np.arange(1, n + 1, dtype=np.uint64)
    bits = keys[..., None] + counter * _GAMMA
    for shift, factor in _MIX:
        bits = (bits ^ (bits >> shift)) * factor
    return bits ^ (bits >> np.uint64(31))


def uniforms(keys: np.ndarray, n: int) -> np.ndarray:
    """Return uniform numbers, each a pure function of its key and column.

    Arguments
    ---------
    keys : np.ndarray
        [B], uint64.
    n : int
        Numbers a key.

    Returns
    -------
    np.ndarray
        [B, n], float64 in [0, 1): the upper 53 bits of `splitmix64`.

    Example
    -------
    >>> keys = np.array([3, 4], dtype=np.uint64)
    >>> bool((uniforms(keys, 5)[1, :2] == uniforms(keys[1:], 2)).all())
    True
    """
    return (splitmix64(keys, n) >> np.uint64(11)) * 2.0**-53


def crop_keys(
    seed: int, epoch: int, utterances: Sequence[str], n_views: int
) -> np.ndarray:
    """Make the random key of each crop of each utterance.

    A crop's key is that of its utterance and view, whatever else is in the
    batch. The streams have nothing in common with those of crop positions.

    Arguments
    ---------
    seed : int
        The run's seed.
    epoch : int
        From 1.
    utterances : sequence of str
        IDs of B utterances.
    n_views : int
        Crops an utterance.

    Returns
    -------
    np.ndarray
        [B, n_views], uint64.

    Example
    -------
    >>> both = crop_keys(1986, 1, ["a", "b"], 6)
    >>> bool((both[1, :2] == crop_keys(1986, 1, ["b"], 2)).all())
    True
    """
    hashes = [hash_key("augment", seed, epoch, name) for name in utterances]
    return splitmix64(np.array(hashes, dtype=np.uint64), n_views)


def step_seed(*key: int) -> int:
    """Make a 63-bit seed from non-negative integers.

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
