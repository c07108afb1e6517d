"""Error rates of verification scores: EER, by two definitions, and minDCF.

One sort replaces the loop over thresholds, so 600,000 trials take a fraction
of a second; EER and minDCF are SpeechBrain's, ties and rounding included.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.isotonic import isotonic_regression

from speechbrain_ext.utils.errors import InputError

# Names of the two equal error rates in a result.
EER_DEFINITION = "SpeechBrain: mean of both error rates where nearest"
HULL_DEFINITION = "where the ROC's convex hull has equal error rates"


def error_rates(
    scores: ArrayLike | torch.Tensor, labels: ArrayLike | torch.Tensor
) -> tuple[NDArray, NDArray, NDArray]:
    """Compute miss and false-alarm rates at each distinct score: the DET curve.

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
    values, is_target = checked_trials(scores, labels)
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
    """Compute the equal error rate, from 0 to 1, and its threshold.

    Defined as in ``speechbrain.utils.metric_stats.EER``: candidates are the
    distinct scores and the midpoints between them; the first with the
    smallest gap between miss and false-alarm rate is taken, and the EER is
    the mean of the two rates there.

    Arguments
    ---------
    scores : array or torch.Tensor
        One score a trial [N]; higher means more alike.
    labels : array or torch.Tensor
        1 or true for target, 0 or false for non-target [N].

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


class Shares(NamedTuple):
    """Shares of each class at each distinct score, all [M].

    ``target`` and ``nontarget`` sum to 1; ``posterior`` is the share of
    targets after pool-adjacent-violators, both classes weighing the same.
    """

    target: NDArray
    nontarget: NDArray
    posterior: NDArray


def isotonic_shares(
    scores: ArrayLike | torch.Tensor, labels: ArrayLike | torch.Tensor
) -> Shares:
    """Fit the best monotonic calibration by pooling adjacent violators.

    Fawcett and Niculescu-Mizil, "PAV and the ROC convex hull", Machine
    Learning 2007: where the posterior steps are the vertices of the hull.

    Arguments
    ---------
    scores : array or torch.Tensor
        One score a trial [N]; higher means more alike.
    labels : array or torch.Tensor
        1 for target, 0 for non-target [N].

    Returns
    -------
    Shares
        By rising score.

    Raises
    ------
    InputError
        As in `error_rates`.

    Example
    -------
    >>> isotonic_shares([0.1, 0.2, 0.3, 0.9], [0, 1, 0, 1]).posterior
    array([0. , 0.5, 0.5, 1. ])
    """
    p_miss, p_fa, _ = error_rates(scores, labels)
    target = np.diff(p_miss, prepend=0)
    nontarget = -np.diff(p_fa, prepend=1)
    weight = target + nontarget
    # The rates' rounding may not turn a pure step into an impure one.
    share = np.where(target > 0, target / weight, 0)
    posterior = isotonic_regression(share, sample_weight=weight)
    return Shares(target, nontarget, np.clip(posterior, 0, 1))


def convex_hull_eer(
    scores: ArrayLike | torch.Tensor, labels: ArrayLike | torch.Tensor
) -> float:
    """Compute the equal error rate on the convex hull of the ROC, from 0 to 1.

    Between two vertices of the hull both rates are interpolated: a decision
    that tosses a coin between two thresholds reaches them. At no threshold
    of the scores are both rates below it. See Brummer and de Villiers, "The
    BOSARIS toolkit", 2011.

    Arguments
    ---------
    scores : array or torch.Tensor
        One score a trial [N]; higher means more alike.
    labels : array or torch.Tensor
        1 for target, 0 for non-target [N].

    Returns
    -------
    float
        0.5 at most: below chance the hull is the diagonal.

    Raises
    ------
    InputError
        As in `error_rates`.

    Example
    -------
    >>> convex_hull_eer([0.1, 0.3, 0.2, 0.9], [0, 0, 1, 1])
    0.25
    """
    return float(crossing(*hull_vertices(scores, labels)))


def hull_vertices(
    scores: ArrayLike | torch.Tensor, labels: ArrayLike | torch.Tensor
) -> tuple[NDArray, NDArray]:
    """Find the corners of the convex hull of the ROC.

    Arguments
    ---------
    scores : array or torch.Tensor
        One score a trial [N]; higher means more alike.
    labels : array or torch.Tensor
        1 for target, 0 for non-target [N].

    Returns
    -------
    p_miss, p_fa : numpy.ndarray
        From accepting everything (0, 1) to rejecting everything (1, 0) [V].

    Example
    -------
    >>> hull_vertices([0.1, 0.2, 0.3, 0.9], [0, 1, 0, 1])
    (array([0. , 0. , 0.5, 1. ]), array([1. , 0.5, 0. , 0. ]))
    """
    target, nontarget, posterior = isotonic_shares(scores, labels)
    ends = np.append(np.flatnonzero(np.diff(posterior) > 0), len(target) - 1)
    p_miss = np.append(0, np.cumsum(target)[ends])
    return p_miss, np.append(1, 1 - np.cumsum(nontarget)[ends])


def crossing(p_miss: NDArray, p_fa: NDArray) -> NDArray:
    """Find where two error rates cross, interpolated between thresholds.

    Arguments
    ---------
    p_miss, p_fa : numpy.ndarray
        Curves of rising misses and falling false alarms [..., M], from
        accepting everything (0, 1) to rejecting everything (1, 0).

    Returns
    -------
    numpy.ndarray
        The common rate of each curve [...].

    Example
    -------
    >>> float(crossing(np.array([0, 0.5, 1]), np.array([1, 0.5, 0])))
    0.5
    """
    after = np.argmax(p_fa <= p_miss, axis=-1)[..., None]
    miss, alarm = (
        [np.take_along_axis(curve, at, axis=-1) for at in (after - 1, after)]
        for curve in (p_miss, p_fa)
    )
    gap, overshoot = alarm[0] - miss[0], miss[1] - alarm[1]
    part = gap / (gap + overshoot)
    return (alarm[0] + part * (alarm[1] - alarm[0]))[..., 0]


def min_dcf(
    scores: ArrayLike | torch.Tensor,
    labels: ArrayLike | torch.Tensor,
    p_target: float = 0.01,
    c_miss: float = 1,
    c_fa: float = 1,
) -> tuple[float, float]:
    """Compute the unnormalised minimum detection cost and its threshold.

    The cost is ``c_miss * p_miss * p_target + c_fa * p_fa * (1 - p_target)``
    as in ``speechbrain.utils.metric_stats.minDCF``. Papers report it divided
    by the cost of the better constant answer: see `normalised_dcf`. Accepting
    everything is a decision too, which SpeechBrain does not count: where it
    is the cheapest, as it may be for ``p_target`` above 1/2, SpeechBrain's
    cost is higher.

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
        At most ``c_miss * p_target``, the cost of rejecting everything, and
        ``c_fa * (1 - p_target)``, that of accepting everything.
    threshold : float
        The lowest that reaches it, in units of the scores; just below the
        lowest score where accepting everything is the cheapest.

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
    check_costs(p_target, c_miss, c_fa)
    p_miss, p_fa, thresholds = error_rates(scores, labels)
    miss, alarm = p_miss.astype(np.float32), p_fa.astype(np.float32)
    cost = _cost(miss, alarm, p_target, c_miss, c_fa)
    best = int(np.argmin(cost))
    accept_all = float(c_fa) * float(1 - p_target)
    if accept_all < float(cost[best]):
        return accept_all, float(np.nextafter(thresholds[0], -np.inf))
    return float(cost[best]), float(thresholds[best])


def _cost(
    p_miss: NDArray, p_fa: NDArray, p_target: float, c_miss: float, c_fa: float
) -> NDArray:
    # Python floats: a NumPy scalar would widen SpeechBrain's float32.
    return float(c_miss) * p_miss * float(p_target) + float(
        c_fa
    ) * p_fa * float(1 - p_target)


def normalised_dcf(
    cost: float, p_target: float = 0.01, c_miss: float = 1, c_fa: float = 1
) -> float:
    """Divide a detection cost by that of the best constant decision.

    NIST's normalisation, ``cost / min(c_miss * p_target, c_fa * (1 -
    p_target))``: 1 is a constant decision. The minDCF of papers and
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
    check_costs(p_target, c_miss, c_fa)
    return cost / min(c_miss * p_target, c_fa * (1 - p_target))


def actual_dcf(
    llrs: ArrayLike | torch.Tensor,
    labels: ArrayLike | torch.Tensor,
    p_target: float = 0.01,
    c_miss: float = 1,
    c_fa: float = 1,
) -> float:
    """Compute the normalised detection cost at Bayes' threshold.

    A trial is accepted when its log-likelihood ratio is above
    ``log(c_fa * (1 - p_target) / (c_miss * p_target))``: what the scores
    cost a user who trusts them. For calibrated scores only.

    Arguments
    ---------
    llrs : array or torch.Tensor
        Natural log-likelihood ratios [N].
    labels : array or torch.Tensor
        1 for target, 0 for non-target [N].
    p_target, c_miss, c_fa : float
        As in `min_dcf`.

    Returns
    -------
    float
        At least the normalised minDCF; above 1 a constant answer is better.

    Raises
    ------
    InputError
        As in `min_dcf`.

    Example
    -------
    >>> actual_dcf([-9, 9, 2, 9], [0, 0, 1, 1])
    50.0
    """
    check_costs(p_target, c_miss, c_fa)
    values, is_target = checked_trials(llrs, labels)
    threshold = np.log(c_fa * (1 - p_target) / (c_miss * p_target))
    accepted = values > threshold
    p_miss = np.count_nonzero(~accepted & is_target) / is_target.sum()
    p_fa = np.count_nonzero(accepted & ~is_target) / (~is_target).sum()
    cost = c_miss * p_miss * p_target + c_fa * p_fa * (1 - p_target)
    return float(normalised_dcf(cost, p_target, c_miss, c_fa))


def thin(p_miss: NDArray, p_fa: NDArray, max_points: int) -> NDArray:
    """Choose points of a DET curve that preserve its shape at every scale.

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


def check_costs(p_target: float, c_miss: float, c_fa: float) -> None:
    if not 0 < p_target < 1:
        raise InputError(
            f"p_target is {p_target}; it must be a probability between 0 and "
            "1; correct it, the usual value is 0.01"
        )
    if not (c_miss > 0 and c_fa > 0):
        raise InputError(
            f"c_miss is {c_miss} and c_fa is {c_fa}; both must be positive; "
            "correct them, the usual value is 1"
        )


def as_array(values: Any) -> NDArray:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        if values.dtype == torch.bfloat16:
            values = values.float()
    return np.asarray(values)


def checked_trials(scores: Any, labels: Any) -> tuple[NDArray, NDArray]:
    """Check scores and labels; return floats and booleans [N]."""
    values, classes = as_array(scores), as_array(labels)
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
            "both classes; give a list that has both"
        )
    return values, classes.astype(bool)


def _refuse(values: NDArray, bad: NDArray, name: str, rule: str) -> None:
    if bad.any():
        index = int(np.flatnonzero(bad)[0])
        raise InputError(
            f"{name}[{index}] is {values[index]}, which {rule} "
            f"({int(bad.sum())} such trial(s)); see how that trial was scored"
        )
