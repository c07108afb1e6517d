"""Speaker-level bootstrap: confidence intervals and paired comparisons.

Trials of one speaker are alike, so a list of 30,000 trials of 25 speakers
says less than 30,000 independent trials would. What is drawn anew, with
replacement, are therefore the speakers (Poh and Bengio, "Estimating the
confidence interval of expected performance curve in biometric authentication
using joint bootstrap", ICASSP 2007; both sides at once, as in Owen, "The
pigeonhole bootstrap", Annals of Applied Statistics 2007). A trial counts as
often as the product of how often its two speakers were drawn says. In a target
trial the two are one, which is drawn once: it counts as often as its speaker.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri, stdtrit

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.verification.metrics import (
    check_costs,
    checked_trials,
    crossing,
    error_rates,
    thin,
)
from speechbrain_ext.verification.records import Estimate, check_number

# More distinct scores than this are thinned.
_MAX_THRESHOLDS = 4096
_WEIGHTS_AT_ONCE = 2**22  # 16 MB for each of a few arrays
# Said where a list's trials rest on one speaker, or one utterance.
LONE = (
    "intervals and p-values tell nothing of others; give a list of more of them"
)


@dataclass(frozen=True)
class Units:
    """Units that a bootstrap draws, and both units of each trial.

    ``name`` is ``speakers``, ``utterances`` or ``trials``; ``enrol`` and
    ``test`` [N] number the units, from 0, of the two sides of each trial.
    """

    name: str
    enrol: NDArray
    test: NDArray

    @property
    def count(self) -> int:
        """Number of units."""
        return 1 + int(max(self.enrol.max(), self.test.max()))

    def of(self, chosen: NDArray) -> Units:
        """Select the units of some of the trials, numbered from 0.

        Example
        -------
        >>> units = Units("speakers", np.array([0, 4]), np.array([2, 4]))
        >>> units.of(np.array([False, True])).count
        1
        """
        both = np.concatenate([self.enrol[chosen], self.test[chosen]])
        _, number = np.unique(both, return_inverse=True)
        return Units(self.name, *np.split(number, 2))


def single_trials(n_trials: int) -> Units:
    """Make each trial its own unit.

    Example
    -------
    >>> single_trials(2).enrol
    array([0, 1])
    """
    return Units("trials", np.arange(n_trials), np.arange(n_trials))


class Replicates(NamedTuple):
    """Error rates of each drawing: EER [R] and unnormalised costs [P, R]."""

    eer: NDArray
    costs: NDArray


def replicates(
    scores: ArrayLike | torch.Tensor,
    labels: ArrayLike | torch.Tensor,
    units: Units,
    p_targets: Sequence[float] = (0.01,),
    n_replicates: int = 1000,
    seed: int = 0,
) -> Replicates:
    """Compute EER and minDCF of ``n_replicates`` drawings.

    Trials are sorted once, and counted between at most some 4,000 thresholds
    that are even in the logit of either error rate. The EER of a drawing is
    interpolated between them. Two systems that are given the same trials,
    units and seed see the same drawings.

    Arguments
    ---------
    scores : array or torch.Tensor
        One score a trial [N]; higher means more alike.
    labels : array or torch.Tensor
        1 for target, 0 for non-target [N].
    units : Units
        What is drawn.
    p_targets : sequence of float
        Priors of minDCF [P], both costs being 1.
    n_replicates : int
        Number of drawings, at least 1.
    seed : int
        Seed of the drawings.

    Returns
    -------
    Replicates
        Of the drawings that have both classes: R may be less than
        ``n_replicates`` where there are few speakers.

    Raises
    ------
    InputError
        As in `metrics.min_dcf`; ``n_replicates`` is below 1, or no drawing
        has both classes.

    Example
    -------
    >>> units = Units("speakers", np.array([0, 0, 1]), np.array([0, 1, 1]))
    >>> replicates([0.9, 0.1, 0.8], [1, 0, 1], units, seed=1).eer.max()
    np.float64(0.0)
    """
    for p_target in p_targets:
        check_costs(p_target, 1, 1)
    _check_replicates(n_replicates)
    eers, costs = [], [np.empty((len(p_targets), 0))]
    for misses, accepted in _drawings(
        scores, labels, units, n_replicates, seed
    ):
        both = (misses[:, -1] > 0) & (accepted[:, 0] > 0)
        p_miss = misses[both] / misses[both, -1:]
        p_fa = accepted[both] / accepted[both, :1]
        eers.append(crossing(p_miss, p_fa))
        if p_targets:
            each = [p * p_miss + (1 - p) * p_fa for p in p_targets]
            costs.append(np.min(each, axis=2))
    eer = np.concatenate(eers)
    if not len(eer):
        raise InputError(
            f"no drawing of {units.count} {units.name} has both target and "
            "non-target trials; an error rate needs both; give a list with "
            f"more {units.name}"
        )
    return Replicates(eer, np.concatenate(costs, axis=1))


def _check_replicates(n_replicates: int) -> None:
    if n_replicates < 1:
        raise InputError(
            f"n_bootstrap is {n_replicates}; it must be 1 or more; give 1000 "
            "for stable intervals"
        )


def _drawings(
    scores: ArrayLike | torch.Tensor,
    labels: ArrayLike | torch.Tensor,
    units: Units,
    n_replicates: int,
    seed: int,
) -> Iterator[tuple[NDArray, NDArray]]:
    """Count missed targets and false alarms at each threshold [R, M + 1].

    From accepting everything to rejecting everything, some drawings at once.
    """
    bins, n_bins = _bins(scores, labels)
    is_target = checked_trials(scores, labels)[1]
    cell = np.where(is_target, bins, n_bins + bins)
    order = np.argsort(cell, kind="stable")
    filled, first = np.unique(cell[order], return_index=True)
    enrol, test = units.enrol[order], units.test[order]
    # One more unit that is always there once: a pair of one unit is one draw.
    test = np.where(enrol == test, units.count, test)
    generator = np.random.default_rng(seed)
    at_once = max(_WEIGHTS_AT_ONCE // len(cell), 1)
    for done in range(0, n_replicates, at_once):
        size = min(at_once, n_replicates - done)
        drawn = _multiplicities(generator, units.count, size)
        weight = np.take(drawn, enrol, axis=1)
        weight *= np.take(drawn, test, axis=1)
        counts = np.zeros((size, 2 * n_bins), dtype=np.int64)
        counts[:, filled] = np.add.reduceat(weight, first, axis=1)
        below = np.cumsum(counts.reshape(size, 2, n_bins), axis=2)
        below = np.pad(below, ((0, 0), (0, 0), (1, 0)))
        yield below[:, 0], below[:, 1, -1:] - below[:, 1]


def _bins(
    scores: ArrayLike | torch.Tensor, labels: ArrayLike | torch.Tensor
) -> tuple[NDArray, int]:
    """Sort trials [N] into bins between thresholds; return also their count."""
    p_miss, p_fa, thresholds = error_rates(scores, labels)
    kept = thresholds[thin(p_miss, p_fa, _MAX_THRESHOLDS)]
    return np.searchsorted(kept, checked_trials(scores, labels)[0]), len(kept)


def _multiplicities(
    generator: np.random.Generator, n_units: int, size: int
) -> NDArray:
    """Draw units and count each; the last column is ones [R, U + 1]."""
    drawn = generator.integers(0, n_units, (size, n_units))
    drawn += n_units * np.arange(size)[:, None]
    counts = np.ones((size, n_units + 1), dtype=np.int32)
    every = np.bincount(drawn.ravel(), minlength=size * n_units)
    counts[:, :-1] = every.reshape(size, n_units)
    return counts


def interval(
    values: NDArray, estimate: float, n_units: int, level: float = 0.95
) -> tuple[float, float]:
    r"""Compute an expanded, bias-corrected percentile interval.

    With z the normal quantile of the drawings' share below the estimate, the
    ends are the quantiles of the drawings at

    .. math:: \Phi\left(2z \mp t_{n-1} \sqrt{n / (n - 1)}\right)

    Bias correction: Efron, "Better bootstrap confidence intervals", JASA
    1987, without acceleration. A minimum cost needs it, for it is smaller in
    a drawing than in the list. Expansion, for few units: Hesterberg, "What
    teachers should know about the bootstrap", The American Statistician 2015.

    Arguments
    ---------
    values : numpy.ndarray
        Of the drawings [R].
    estimate : float
        Of the list itself.
    n_units : int
        What was drawn: the number of speakers, utterances or trials.
    level : float
        Share of lists whose interval shall hold the true value.

    Returns
    -------
    tuple of float
        Low and high end.

    Example
    -------
    >>> low, high = interval(np.arange(1001.0), 500.0, n_units=10**6)
    >>> round(low), round(high)
    (25, 975)
    """
    n_drawn = len(values)
    below = np.mean(values < estimate) + np.mean(values == estimate) / 2
    # A share of 0 or 1 is clipped by half a drawing.
    shift = ndtri(np.clip(below, 0.5 / n_drawn, 1 - 0.5 / n_drawn))
    reach = np.array([-1, 1]) * _reach(n_units, level)
    low, high = np.quantile(values, ndtr(2 * shift + reach))
    return float(low), float(high)


@dataclass(frozen=True)
class Difference(Estimate):
    """Difference of an error rate: the second system minus the first.

    Arguments
    ---------
    value, low, high : float
        The difference and the ends of its 95 % interval.
    p_value : float
        Two-sided probability of so large a difference if there were none.
    """

    p_value: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("p_value", self.p_value, 0, 1)


def lone_units(units: Units, labels: ArrayLike) -> str:
    """Say which trials rest on a single unit, whose interval says nothing.

    Arguments
    ---------
    units : Units
        What is drawn.
    labels : array
        1 for target, 0 for non-target [N].

    Returns
    -------
    str
        Empty if neither class does.

    Example
    -------
    >>> one = Units("speakers", np.array([0, 0]), np.array([0, 1]))
    >>> lone_units(one, [1, 0])
    'all target trials are of one speaker'
    """
    classes = np.asarray(labels)
    for name, chosen in (
        ("target", classes == 1),
        ("non-target", classes == 0),
    ):
        if chosen.any() and units.of(chosen).count == 1:
            return f"all {name} trials are of one {units.name[:-1]}"
    return ""


def interval_in_words(
    units: Units, n_replicates: int, labels: ArrayLike | None = None
) -> str:
    """Describe an interval for a reader, and warn of one on a single unit.

    Example
    -------
    >>> print(interval_in_words(single_trials(9), 100))
    95 % bootstrap over 9 trials (bias-corrected percentiles, 100
    drawings); speakers are not drawn, so it is too narrow
    """
    lacking = {
        "speakers": "",
        "utterances": "; speakers are not known, so it may be too narrow",
        "trials": "; speakers are not drawn, so it is too narrow",
    }
    words = (
        f"95 % bootstrap over {units.count:,} {units.name} (bias-corrected "
        f"percentiles, {n_replicates:,} drawings){lacking[units.name]}"
    )
    lone = "" if labels is None else lone_units(units, labels)
    return f"{words}; {lone}: it tells nothing of others" if lone else words


def difference(
    first: NDArray,
    second: NDArray,
    estimates: tuple[float, float],
    n_units: int,
) -> Difference:
    """Compare two systems on one list by a paired bootstrap.

    Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR
    performance evaluation", ICASSP 2004, with speakers for sentences. The
    p-value is the share of drawings whose difference is at least as far from
    the list's as that is from zero (Efron and Tibshirani, An Introduction to
    the Bootstrap, ch. 16), stretched for few units as the interval is.

    Arguments
    ---------
    first, second : numpy.ndarray
        A rate of each system in the same drawings [R].
    estimates : tuple of float
        Both rates of the list itself.
    n_units : int
        What was drawn: the number of speakers or utterances.

    Returns
    -------
    Difference
        Second minus first: below zero, the second has fewer errors.

    Example
    -------
    >>> noise = np.arange(1001.0) / 1000 - 0.5
    >>> difference(noise, noise / 2 - 3, (0.0, -3.0), 10**6).value
    -3.0
    """
    drawn = second - first
    value = estimates[1] - estimates[0]
    found = Estimate.around(value, interval(drawn, value, n_units))
    reach, normal = _reach(n_units, 0.95), -ndtri(0.025)
    away = np.abs(drawn - value) * reach / normal
    as_far = np.count_nonzero(away >= abs(value))
    p_value = (1 + as_far) / (1 + len(drawn))
    return Difference(value, found.low, found.high, float(p_value))


def _reach(n_units: int, level: float) -> float:
    """Return half an interval in standard deviations, about 1.96."""
    n_free = max(n_units - 1, 1)
    return stdtrit(n_free, (1 + level) / 2) * np.sqrt(1 + 1 / n_free)
