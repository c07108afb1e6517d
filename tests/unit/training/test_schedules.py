"""Schedules: ends, monotony, warm-up."""

import pytest

from speechbrain_ext.training.schedules import cosine, exponential, margin_at

SCHEDULES = [cosine, exponential]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_it_begins_at_start_and_ends_at_end(schedule):
    assert schedule(0, 10, 3.0, 0.5) == 3.0
    assert schedule(9, 10, 3.0, 0.5) == pytest.approx(0.5)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_it_stays_at_end_beyond_the_last_step(schedule):
    assert schedule(25, 10, 3.0, 0.5) == pytest.approx(0.5)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_warm_up_is_linear_from_zero(schedule):
    values = [schedule(step, 20, 4.0, 0.5, 4) for step in range(5)]
    assert values == [0.0, 1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("start", "end"), [(3.0, 0.5), (0.5, 3.0)])
def test_it_is_monotonic_after_the_warm_up(schedule, start, end):
    values = [schedule(step, 20, start, end, 4) for step in range(4, 20)]
    assert values == sorted(values, reverse=start > end)


def test_a_momentum_rises_to_one_exactly():
    assert cosine(99, 100, 0.996, 1.0) == 1.0


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("n_steps", [1, 3])
def test_a_training_shorter_than_its_warm_up_only_warms_up(schedule, n_steps):
    values = [schedule(step, n_steps, 1.0, 0.1, 4) for step in range(n_steps)]
    assert values == [step / 4 for step in range(n_steps)]


def test_the_margin_rises_over_the_given_epochs():
    steps = [margin_at(step, 4, 0.2, [2, 3]) for step in range(16)]
    assert steps[:5] == [0.0] * 5
    assert steps[12:] == [0.2] * 4
    assert steps[8] == pytest.approx(0.1)
    assert all(a < b for a, b in zip(steps[4:12], steps[5:13], strict=True))


def test_a_rise_in_the_first_epoch_starts_with_it():
    assert margin_at(0, 4, 0.2, [1, 1]) == 0
    assert margin_at(3, 4, 0.2, [1, 1]) == pytest.approx(0.15)
    assert margin_at(4, 4, 0.2, [1, 1]) == 0.2


@pytest.mark.parametrize("n_warmup", [0, 4])
def test_a_fall_in_stairs_is_that_of_epochs(n_warmup):
    """x 0.95 after each of five epochs of seven steps, as PyTorch's StepLR."""
    end = 0.95**4
    n_steps = n_warmup + 35
    values = [
        exponential(step, n_steps, 3.0, 3 * end, n_warmup, n_stairs=5)
        for step in range(n_warmup, n_steps)
    ]
    expected = [3 * 0.95 ** (step // 7) for step in range(35)]
    assert values == pytest.approx(expected, rel=1e-12)


def test_one_stair_is_constant():
    values = [exponential(s, 4, 3.0, 0.5, n_stairs=1) for s in range(6)]
    assert values == [3.0] * 6
