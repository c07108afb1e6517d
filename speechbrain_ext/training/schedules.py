"""Schedules as pure functions of the step: resuming needs no state."""

from __future__ import annotations

import math
from collections.abc import Sequence


def cosine(
    step: int, n_steps: int, start: float, end: float, n_warmup: int = 0
) -> float:
    """Linear warm-up to ``start``, then half a cosine down to ``end``.

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
    """Linear change from ``start`` to ``end``, then constant ``end``.

    The teacher's temperature of Caron et al., ICCV 2021 (appendix).

    Arguments
    ---------
    step : int
        Optimiser step, from 0.
    n_steps : int
        Steps until ``end``; with 0 it holds from the first step.
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
    step: int,
    n_steps: int,
    start: float,
    end: float,
    n_warmup: int = 0,
    n_stairs: int = 0,
) -> float:
    """Linear warm-up to ``start``, then geometric decay to ``end``.

    It falls by a constant factor a step or, with ``n_stairs``, a stair. A fall
    by 0.95 after each of n epochs is ``n_stairs = n`` and
    ``end = 0.95**(n - 1) * start``: the first epoch has ``start``.

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
    n_stairs : int
        Parts of equal length, after the warm-up, in each of which the value
        is constant; 0: it falls from step to step.

    Returns
    -------
    float
        The value to use in this step.

    Example
    -------
    >>> [round(exponential(s, 5, 1.0, 0.01, 2), 3) for s in range(6)]
    [0.0, 0.5, 1.0, 0.1, 0.01, 0.01]
    >>> [exponential(s, 6, 1.0, 0.25, n_stairs=3) for s in range(7)]
    [1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 0.25]
    """
    if step < n_warmup:
        return start * step / n_warmup
    if n_stairs:
        stair = (step - n_warmup) * n_stairs // max(n_steps - n_warmup, 1)
        step, n_steps, n_warmup = min(stair, n_stairs - 1), n_stairs, 0
    return start * (end / start) ** _progress(step, n_steps, n_warmup)


def _progress(step: int, n_steps: int, n_warmup: int) -> float:
    """Return the completed share of the steps after warm-up, 0 to 1."""
    # The last step gets 1 itself.
    span = max(n_steps - 1 - n_warmup, 1)
    return min((step - n_warmup) / span, 1.0)


def margin_at(
    step: int, steps_per_epoch: int, margin: float, rise: Sequence[int] | None
) -> float:
    """Return the margin for an optimiser step.

    Arguments
    ---------
    step : int
        From 0.
    steps_per_epoch : int
        Optimiser steps.
    margin : float
        The margin after the rise, radians.
    rise : sequence of int, optional
        Epochs [a, b], from 1: the margin is 0 before epoch a and rises
        linearly from its beginning to the end of epoch b. None: the margin is
        constant.

    Returns
    -------
    float
        Radians.

    Example
    -------
    >>> [round(margin_at(s, 10, 0.2, [2, 3]), 3) for s in (0, 10, 20, 30)]
    [0.0, 0.0, 0.1, 0.2]
    >>> margin_at(0, 10, 0.2, None)
    0.2
    """
    if rise is None:
        return margin
    first, last = rise
    begin = (first - 1) * steps_per_epoch
    n_steps = (last - first + 1) * steps_per_epoch
    return linear(max(step - begin, 0), n_steps, 0.0, margin)
