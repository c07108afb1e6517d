"""Random numbers of a step depend on its key alone."""

import torch

from speechbrain_ext.rng import seed_step, step_seed


def draw(*key):
    seed_step(*key)
    return torch.rand(4)


def test_a_step_replays_whatever_was_drawn_before():
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


def test_keys_that_share_numbers_have_different_seeds():
    keys = [(1, 2), (2, 1), (12,), (1, 2, 3)]
    assert len({step_seed(*key) for key in keys}) == len(keys)
    assert all(0 <= step_seed(*key) < 2**63 for key in keys)
