"""Random numbers of a step, and of a crop, depend on its key alone."""

import numpy as np
import torch

from speechbrain_ext.dataio.audio import RandomCrop
from speechbrain_ext.utils.keyed_random import (
    crop_keys,
    hash_key,
    seed_step,
    splitmix64,
    step_seed,
    uniforms,
)

REFERENCE = [  # of the authors' generator, seed 1234567
    6457827717110365317,
    3203168211198807973,
    9817491932198370423,
    4593380528125082431,
    16408922859458223821,
]


def one_by_one(seed, n):
    """SplitMix64 with a state, in plain integers."""
    word, state, found = 2**64, seed, []
    for _ in range(n):
        state = (state + 0x9E3779B97F4A7C15) % word
        z = state
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % word
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % word
        found.append(z ^ (z >> 31))
    return found


def draw(*key):
    seed_step(*key)
    return torch.rand(4)


def test_a_step_draws_the_same_whatever_was_drawn_before():
    first = draw(1, 7)
    torch.rand(13)
    assert torch.equal(draw(1, 7), first)


def test_seeds_steps_and_processes_draw_differently():
    drawn = [draw(1, 7), draw(2, 7), draw(1, 8), draw(1, 7, 1)]
    for a in range(4):
        for b in range(a):
            assert not torch.equal(drawn[a], drawn[b])


def test_dropout_follows_the_step():
    x = torch.ones(100)
    seed_step(1, 7)
    first = torch.nn.functional.dropout(x)
    seed_step(1, 7)
    assert torch.equal(torch.nn.functional.dropout(x), first)


def test_keys_of_the_same_digits_have_different_seeds():
    keys = [(1, 2), (2, 1), (12,), (1, 2, 3)]
    assert len({step_seed(*key) for key in keys}) == len(keys)
    assert all(0 <= step_seed(*key) < 2**63 for key in keys)


def test_splitmix_gives_the_published_numbers():
    keys = np.array([1234567, 0, 2**64 - 1, 2**63], dtype=np.uint64)
    found = splitmix64(keys, 5)
    assert one_by_one(1234567, 5) == REFERENCE
    assert found.dtype == np.uint64
    for key, row in zip(keys.tolist(), found.tolist(), strict=True):
        assert row == one_by_one(key, 5)


def test_uniform_numbers_lie_from_zero_to_below_one():
    expected = [value >> 11 for value in REFERENCE]
    found = uniforms(np.array([1234567], dtype=np.uint64), 5)
    assert found.dtype == np.float64
    assert (found[0] * 2**53).tolist() == expected
    assert float(np.uint64(2**64 - 1) >> np.uint64(11)) * 2.0**-53 < 1


def test_numbers_of_neighbouring_keys_are_independent():
    u = uniforms(np.arange(20000, dtype=np.uint64), 6)
    counts = np.stack([np.histogram(c, 10, (0, 1))[0] for c in u.T])
    assert np.abs(counts - 2000).max() < 6 * np.sqrt(2000)
    pairs = np.concatenate([u[1:], u[:-1]], axis=1)
    between = np.corrcoef(pairs.T) - np.eye(12)
    assert np.abs(between).max() < 0.035


def test_keys_of_crops_depend_on_utterance_and_view_not_on_the_batch():
    names = ["a", "b", "c"]
    keys = crop_keys(1, 2, names, 6)
    assert keys.shape == (3, 6) and keys.dtype == np.uint64
    assert np.array_equal(crop_keys(1, 2, names[::-1], 6), keys[::-1])
    assert np.array_equal(crop_keys(1, 2, ["b"], 4), keys[1:2, :4])
    others = [crop_keys(2, 2, names, 6), crop_keys(1, 3, names, 6)]
    assert len(np.unique(np.stack([keys, *others]))) == 3 * 3 * 6


def test_augmentation_and_crop_positions_are_drawn_independently():
    names = [f"u{number}" for number in range(2000)]
    crop = RandomCrop([1] * 2, seed=1)
    places = np.array([crop.positions(name, 10**6) for name in names])
    drawn = uniforms(crop_keys(1, 1, names, 2).flatten(), 4).reshape(2000, 8)
    between = np.corrcoef(np.column_stack([places, drawn]).T)[:2, 2:]
    assert np.abs(between).max() < 0.1
    assert hash_key(1, 1, "u0") != hash_key("augment", 1, 1, "u0")
