"""Error rates of verification scores: EER, minDCF and their intervals.

One sort replaces the loop over thresholds, so 600,000 trials take a fraction
of a second; the values are SpeechBrain's, ties and rounding included.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from speechbrain_ext.files import InputError

# More distinct scores than this are thinned for the bootstrap.
_MAX_THRESHOLDS = 4096
_CHUNK = 100  # replicates held in memory at once


def error_rates(
    scores: ArrayLike | torch.Tensor, labels: ArrayLike | torch.Tensor
) -> tuple[NDArray, NDArray, NDArray]:
    """Miss and false-alarm rates at every distinct score: the DET curve.

    A trial is accepted when its score is above the threshold, as in
    SpeechBrain: a target at the threshold is a miss.

    Arguments
    ---------
    scores : array or torch.Tensor
        One score a trial [N]; higher means more alike.
    labels : array or torch.Tensor
        1 for target, 0 for non-target [N].

    Returns
    -------
    p_miss : numpy.ndarray
        Share of targets rejected [M], increasing to 1, float64.
    p_fa : numpy.ndarray
        Share of non-targets accepted [M], decreasing to 0, float64.
    thresholds : numpy.ndarray
        Distinct scores [M], increasing, in the scores' own precision.

    Raises
    ------
    InputError
        Lengths differ, there is no trial or only one class, a score is not
        finite, or a label is neither 0 nor 1.

    Example
    -------
    >>> p_miss, p_fa, thresholds = error_rates([0.9, 0.4, 0.4], [1, 1, 0])
    >>> p_miss, p_fa, thresholds
    (array([0.5, 1. ]), array([0., 0.]), array([0.4, 0.9]))
    """
    values, is_target = _checked(scores, labels)
    order = np.argsort(values)
    values, is_target = values[order], is_target[order]
    last_of_tie = np.append(np.flatnonzero(values[1:] > values[:-1]), -1)
    n_below = np.arange(1, len(values) + 1)[last_of_tie]
    misses = np.cumsum(is_target)[last_of_tie]
    n_target = int(misses[-1])
    rejected = n_below - misses
    n_nontarget = len(values) - n_target
    p_fa = (n_nontarget - rejected) / n_nontarget
    return misses / n_target, p_fa, values[last_of_tie]


def equal_error_rate(
    scores: ArrayLike | torch.Tensor, labels: ArrayLike | torch.Tensor
) -> tuple[float, float]:
    """Equal error rate, as a fraction from 0 to 1, and its threshold.

    Defined as in ``speechbrain.utils.metric_stats.EER``: candidates are the
    distinct scores and the midpoints between them; the first with the
    smallest gap between miss and false-alarm rate is taken, and the EER is
    the mean of the two rates there.

    Arguments
    ---------
    scores : array or torch.Tensor
        One score a trial [N]; higher means more alike.
    labels : array or torch.Tensor
        1 for target, 0 for non-target [N].

    Returns
    -------
    eer : float
        0.0099 is the 0.99 % of a paper.
    threshold : float
        In units of the scores.

    Raises
    ------
    InputError
        As in `error_rates`.

    Example
    -------
    >>> equal_error_rate([0.1, 0.3, 0.2, 0.9], [0, 0, 1, 1])
    (0.5, 0.2)
    """
    p_miss, p_fa, thresholds = error_rates(scores, labels)
    miss, alarm = p_miss.astype(np.float32), p_fa.astype(np.float32)
    # The gap falls, then rises: only the thresholds on either side of the
    # crossing can be nearest. SpeechBrain compares a gap rounded to float32
    # with one that is not, which decides ties; so do we.
    crossing = int(np.argmax(p_fa < p_miss))
    best = max(crossing - 1, 0)
    if _gap(miss, alarm, crossing) < _exact_gap(miss, alarm, best):
        best = crossing
    eer = (float(alarm[best]) + float(miss[best])) / 2
    threshold = thresholds[best]
    rounded_down = _gap(miss, alarm, best) < _exact_gap(miss, alarm, best)
    if rounded_down and best + 1 < len(thresholds):
        above = thresholds[best + 1]
        middle = (threshold + above) / 2
        threshold = middle if middle < above else threshold
    return eer, float(threshold)


def _gap(miss: NDArray, alarm: NDArray, index: int) -> float:
    return float(np.abs(alarm[index] - miss[index]))


def _exact_gap(miss: NDArray, alarm: NDArray, index: int) -> float:
    return abs(float(alarm[index]) - float(miss[index]))


def min_dcf(
    scores: ArrayLike | torch.Tensor,
    labels: ArrayLike | torch.Tensor,
    p_target: float = 0.01,
    c_miss: float = 1,
    c_fa: float = 1,
) -> tuple[float, float]:
    """Minimum detection cost, not normalised, and its threshold.

    The cost is ``c_miss * p_miss * p_target + c_fa * p_fa * (1 - p_target)``
    as in ``speechbrain.utils.metric_stats.minDCF``. Papers report it divided
    by the cost of the better constant answer: see `normalised_dcf`.

    Arguments
    ---------
    scores : array or torch.Tensor
        One score a trial [N]; higher means more alike.
    labels : array or torch.Tensor
        1 for target, 0 for non-target [N].
    p_target : float
        Prior probability of a target trial.
    c_miss : float
        Cost of a miss.
    c_fa : float
        Cost of a false alarm.

    Returns
    -------
    cost : float
        At most ``c_miss * p_target``, the cost of rejecting everything.
    threshold : float
        The lowest that reaches it, in units of the scores.

    Raises
    ------
    InputError
        As in `error_rates`, or ``p_target`` or a cost is out of range.

    Example
    -------
    >>> cost, threshold = min_dcf([0.1, 0.3, 0.2, 0.9], [0, 0, 1, 1])
    >>> round(cost, 6), threshold
    (0.005, 0.3)
    """
    _check_costs(p_target, c_miss, c_fa)
    p_miss, p_fa, thresholds = error_rates(scores, labels)
    miss, alarm = p_miss.astype(np.float32), p_fa.astype(np.float32)
    cost = _cost(miss, alarm, p_target, c_miss, c_fa)
    best = int(np.argmin(cost))
    return float(cost[best]), float(thresholds[best])


def _cost(
    p_miss: NDArray, p_fa: NDArray, p_target: float, c_miss: float, c_fa: float
) -> NDArray:
    # Python floats, for a NumPy scalar would widen the float32 of SpeechBrain.
    return float(c_miss) * p_miss * float(p_target) + float(
        c_fa
    ) * p_fa * float(1 - p_target)


def normalised_dcf(
    cost: float, p_target: float = 0.01, c_miss: float = 1, c_fa: float = 1
) -> float:
    """A detection cost over that of the better constant answer.

    NIST's normalisation, ``cost / min(c_miss * p_target, c_fa * (1 -
    p_target))``: 1 is a system that hears nothing. The minDCF of papers and
    of our result files is this one.

    Arguments
    ---------
    cost : float
        As `min_dcf` returns it.
    p_target, c_miss, c_fa : float
        As given to `min_dcf`.

    Returns
    -------
    float
        From 0 to 1 for a minimum cost.

    Example
    -------
    >>> normalised_dcf(0.005)
    0.5
    """
    _check_costs(p_target, c_miss, c_fa)
    return cost / min(c_miss * p_target, c_fa * (1 - p_target))


def bootstrap_intervals(
    scores: ArrayLike | torch.Tensor,
    labels: ArrayLike | torch.Tensor,
    p_target: float = 0.01,
    c_miss: float = 1,
    c_fa: float = 1,
    n_replicates: int = 1000,
    seed: int = 0,
) -> tuple[tuple[float, float], tuple[float, float]]:
    """95 % percentile intervals of EER and minDCF, by bootstrap over trials.

    Target and non-target trials are drawn anew, each class keeping its size
    (Efron, Annals of Statistics 1979). A draw is one multinomial over the
    distinct scores, thinned to at most some 4,000 that are even in the logit
    of either error rate, so its cost does not grow with the list. Trials are
    taken as independent though they share speakers: the true intervals are
    wider.

    Arguments
    ---------
    scores : array or torch.Tensor
        One score a trial [N]; higher means more alike.
    labels : array or torch.Tensor
        1 for target, 0 for non-target [N].
    p_target, c_miss, c_fa : float
        As in `min_dcf`.
    n_replicates : int
        Number of draws, at least 1.
    seed : int
        Seed of the draws.

    Returns
    -------
    eer : tuple of float
        Low and high ends, fractions as in `equal_error_rate`.
    cost : tuple of float
        Low and high ends, not normalised, as in `min_dcf`.

    Raises
    ------
    InputError
        As in `min_dcf`, or ``n_replicates`` is below 1.

    Example
    -------
    >>> labels = np.arange(100) % 2
    >>> scores = np.sin(np.arange(100)) + labels
    >>> low, high = bootstrap_intervals(scores, labels)[0]
    >>> low < equal_error_rate(scores, labels)[0] < high
    True
    """
    _check_costs(p_target, c_miss, c_fa)
    if n_replicates < 1:
        raise InputError(
            f"n_bootstrap is {n_replicates}, at least 1 is needed; 1000 "
            "gives steady intervals"
        )
    p_miss, p_fa, _ = error_rates(scores, labels)
    n_target = int(np.asarray(_to_numpy(labels)).sum())
    n_nontarget = len(_to_numpy(labels)) - n_target
    kept = thin(p_miss, p_fa, _MAX_THRESHOLDS)
    targets = np.diff(p_miss[kept], prepend=0)
    nontargets = np.diff(1 - p_fa[kept], prepend=0)
    generator = np.random.default_rng(seed)
    eers, costs = [], []
    for first in range(0, n_replicates, _CHUNK):
        size = min(_CHUNK, n_replicates - first)
        miss = _draw(generator, n_target, targets, size)
        alarm = 1 - _draw(generator, n_nontarget, nontargets, size)
        nearest = np.argmin(np.abs(alarm - miss), axis=1)[:, None]
        both = np.take_along_axis(miss + alarm, nearest, axis=1)
        eers.append(both[:, 0] / 2)
        cost = _cost(miss, alarm, p_target, c_miss, c_fa)
        costs.append(cost.min(axis=1))
    return _percentiles(eers), _percentiles(costs)


def _draw(
    generator: np.random.Generator, n: int, shares: NDArray, size: int
) -> NDArray:
    """Cumulative shares [size, M] of multinomial draws of n trials."""
    counts = generator.multinomial(n, shares / shares.sum(), size=size)
    return np.cumsum(counts, axis=1) / n


def _percentiles(replicates: list[NDArray]) -> tuple[float, float]:
    low, high = np.percentile(np.concatenate(replicates), [2.5, 97.5])
    return float(low), float(high)


def thin(p_miss: NDArray, p_fa: NDArray, max_points: int) -> NDArray:
    """Points of a DET curve that keep its shape at every scale.

    Arguments
    ---------
    p_miss, p_fa : numpy.ndarray
        As `error_rates` returns them [M].
    max_points : int
        Points to keep, at most (one more for the end of the curve).

    Returns
    -------
    numpy.ndarray
        Indices, increasing, even in the logit of either error rate; all of
        them when M is at most ``max_points``.

    Example
    -------
    >>> p = np.linspace(0.001, 1, 1000)
    >>> len(thin(p, 1 - p, 40)) <= 41
    True
    """
    n_points = len(p_miss)
    if n_points <= max_points:
        return np.arange(n_points)
    lowest = np.log(min(p_miss[p_miss > 0][0], p_fa[p_fa > 0][-1]))
    logits = np.linspace(lowest, -lowest, max_points // 2)
    wanted = 1 / (1 + np.exp(-logits))
    by_miss = np.searchsorted(p_miss, wanted)
    by_alarm = np.searchsorted(-p_fa, -wanted)
    kept = np.concatenate([by_miss, by_alarm, [n_points - 1]])
    return np.unique(np.minimum(kept, n_points - 1))


def _check_costs(p_target: float, c_miss: float, c_fa: float) -> None:
    if not 0 < p_target < 1:
        raise InputError(
            f"p_target is {p_target}, a probability between 0 and 1 is "
            "needed; the usual value is 0.01"
        )
    if not (c_miss > 0 and c_fa > 0):
        raise InputError(
            f"c_miss is {c_miss} and c_fa is {c_fa}, both must be positive; "
            "the usual value is 1"
        )


def _to_numpy(values: Any) -> NDArray:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        if values.dtype == torch.bfloat16:
            values = values.float()
    return np.asarray(values)


def _checked(scores: Any, labels: Any) -> tuple[NDArray, NDArray]:
    """Scores as floats and labels as booleans, one a trial."""
    values, classes = _to_numpy(scores), _to_numpy(labels)
    if values.ndim != 1 or values.shape != classes.shape:
        raise InputError(
            f"scores have shape {list(values.shape)} and labels "
            f"{list(classes.shape)}; give one score and one label a trial [N]"
        )
    if len(values) == 0:
        raise InputError("there is no trial to score; give at least two")
    if values.dtype not in (np.float32, np.float64):
        narrow = values.dtype == np.float16
        values = values.astype(np.float32 if narrow else np.float64)
    _refuse(values, ~np.isfinite(values), "scores", "is not a finite number")
    wrong = (classes != 0) & (classes != 1)
    _refuse(classes, wrong, "labels", "is neither 1 (target) nor 0")
    n_target = int(np.count_nonzero(classes))
    if n_target in (0, len(classes)):
        only = "non-target" if n_target == 0 else "target"
        raise InputError(
            f"all {len(classes)} trials are {only} trials; error rates need "
            "both classes, give a list that has both"
        )
    return values, classes.astype(bool)


def _refuse(values: NDArray, bad: NDArray, name: str, rule: str) -> None:
    if bad.any():
        index = int(np.flatnonzero(bad)[0])
        raise InputError(
            f"{name}[{index}] is {values[index]}, which {rule} "
            f"({int(bad.sum())} such trial(s)); see how that trial was scored"
        )
