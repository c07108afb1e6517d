"""Schedules: pure functions of the step, so that resuming needs no state."""

from __future__ import annotations

import math
from collections.abc import Sequence

from speechbrain_ext.utils.errors import InputError


def cosine(
    step: int, n_steps: int, start: float, end: float, n_warmup: int = 0
) -> float:
    """Linear warm-up from zero to ``start``, then half a cosine to ``end``.

    Loshchilov and Hutter, "SGDR", ICLR 2017, Eq. 5 without restarts; the
    learning rate and teacher momentum of Caron et al., ICCV 2021.

    Arguments
    ---------
    step : int
        Optimiser step, from 0.
    n_steps : int
        Steps of the whole training, warm-up included.
    start : float
        Value at the end of the warm-up.
    end : float
        Value at the last step and after.
    n_warmup : int
        Steps of warm-up.

    Returns
    -------
    float
        The value to use in this step.

    Example
    -------
    >>> [round(cosine(s, 5, 1.0, 0.0, n_warmup=2), 2) for s in range(6)]
    [0.0, 0.5, 1.0, 0.5, 0.0, 0.0]
    """
    if step < n_warmup:
        return start * step / n_warmup
    progress = _progress(step, n_steps, n_warmup)
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def linear(step: int, n_steps: int, start: float, end: float) -> float:
    """From ``start`` to ``end`` in a straight line, then ``end``.

    The teacher's temperature in Caron et al., ICCV 2021 (appendix), by step.

    Arguments
    ---------
    step : int
        Optimiser step, from 0.
    n_steps : int
        Steps until ``end``; 0 is there from the first.
    start : float
        Value at step 0.
    end : float
        Value at step ``n_steps`` and after.

    Returns
    -------
    float
        The value to use in this step.

    Example
    -------
    >>> [linear(s, 4, 1.0, 3.0) for s in (0, 1, 4, 9)]
    [1.0, 1.5, 3.0, 3.0]
    >>> linear(0, 0, 1.0, 3.0)
    3.0
    """
    if step >= n_steps:
        return end
    return start + (end - start) * step / n_steps


def exponential(
    step: int, n_steps: int, start: float, end: float, n_warmup: int = 0
) -> float:
    """Linear warm-up from zero to ``start``, then a geometric fall to ``end``.

    A constant factor a step; "x 0.95 per epoch" over n epochs is
    ``end = 0.95**n * start``, spread evenly over the steps.

    Arguments
    ---------
    step : int
        Optimiser step, from 0.
    n_steps : int
        Steps of the whole training, warm-up included.
    start : float
        Value at the end of the warm-up, positive.
    end : float
        Value at the last step and after, positive.
    n_warmup : int
        Steps of warm-up.

    Returns
    -------
    float
        The value to use in this step.

    Example
    -------
    >>> [round(exponential(s, 5, 1.0, 0.01, 2), 3) for s in range(6)]
    [0.0, 0.5, 1.0, 0.1, 0.01, 0.01]
    """
    if step < n_warmup:
        return start * step / n_warmup
    return start * (end / start) ** _progress(step, n_steps, n_warmup)


def _progress(step: int, n_steps: int, n_warmup: int) -> float:
    """How much of what follows the warm-up is over, 0..1."""
    # The last step gets 1 itself.
    span = max(n_steps - 1 - n_warmup, 1)
    return min((step - n_warmup) / span, 1.0)


def margin_at(
    step: int, steps_per_epoch: int, margin: float, rise: Sequence[int] | None
) -> float:
    """Margin of an optimiser step.

    Arguments
    ---------
    step : int
        From 0.
    steps_per_epoch : int
        Optimiser steps.
    margin : float
        The margin after the rise, radians.
    rise : sequence of int, optional
        Epochs [a, b], from 1: the margin is 0 before epoch a and rises in a
        line through it and the following up to the end of epoch b. None:
        there is no rise.

    Returns
    -------
    float
        Radians.

    Raises
    ------
    InputError
        ``rise`` is no such pair.

    Example
    -------
    >>> [round(margin_at(s, 10, 0.2, [2, 3]), 3) for s in (0, 10, 20, 30)]
    [0.0, 0.0, 0.1, 0.2]
    >>> margin_at(0, 10, 0.2, None)
    0.2
    """
    if rise is None:
        return margin
    first, last = check_rise(rise)
    begin = (first - 1) * steps_per_epoch
    n_steps = (last - first + 1) * steps_per_epoch
    return linear(max(step - begin, 0), n_steps, 0.0, margin)


def check_rise(rise: Sequence[int]) -> tuple[int, int]:
    """The first and the last epoch of a margin's rise, if it is a pair.

    Example
    -------
    >>> check_rise([2, 5])
    (2, 5)
    """
    whole = isinstance(rise, (list, tuple)) and all(
        isinstance(epoch, int) for epoch in rise
    )
    if not whole or len(rise) != 2 or not 1 <= rise[0] <= rise[1]:
        raise InputError(
            f"margin_rise is {rise}; it must be null or two epochs from 1, "
            "the first no later than the last, e.g. --margin_rise='[2, 5]'"
        )
    return rise[0], rise[1]
