"""Cllr, the cost of log-likelihood ratios, and its minimum.

Brummer and du Preez, "Application-independent evaluation of speaker
detection", Computer Speech and Language 2006, in bits: 0 is a perfect
system, 1 one that says nothing, more than 1 one that misleads.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from speechbrain_ext.verification.metrics import checked_trials, isotonic_shares


def cllr(
    llrs: ArrayLike | torch.Tensor, labels: ArrayLike | torch.Tensor
) -> float:
    r"""Compute Cllr, the cost of log-likelihood ratios over all priors.

    .. math:: C = \frac{1}{2} \left( \frac{1}{N_1} \sum_{i \in 1}
        \log_2 (1 + e^{-l_i}) + \frac{1}{N_0} \sum_{i \in 0}
        \log_2 (1 + e^{l_i}) \right)

    Arguments
    ---------
    llrs : array or torch.Tensor
        Natural log-likelihood ratios [N].
    labels : array or torch.Tensor
        1 for target, 0 for non-target [N].

    Returns
    -------
    float
        Bits.

    Raises
    ------
    InputError
        As in `metrics.error_rates`.

    Example
    -------
    >>> cllr([0.0, 0.0], [0, 1])
    1.0
    """
    values, is_target = checked_trials(llrs, labels)
    values = values.astype(np.float64)
    targets, others = values[is_target], values[~is_target]
    cost = np.logaddexp(0, -targets).mean() + np.logaddexp(0, others).mean()
    return float(cost / (2 * np.log(2)))


def min_cllr(
    scores: ArrayLike | torch.Tensor, labels: ArrayLike | torch.Tensor
) -> float:
    """Compute the minimum Cllr over calibrations that keep the order.

    Pool adjacent violators gives it (`metrics.isotonic_shares`); it needs
    the labels, so this is a bound and no system's cost.

    Arguments
    ---------
    scores : array or torch.Tensor
        One score a trial [N]; higher means more alike.
    labels : array or torch.Tensor
        1 for target, 0 for non-target [N].

    Returns
    -------
    float
        Bits, from 0 to 1.

    Raises
    ------
    InputError
        As in `metrics.error_rates`.

    Example
    -------
    >>> min_cllr([0.1, 0.9], [0, 1])
    0.0
    """
    target, nontarget, posterior = isotonic_shares(scores, labels)
    cost = _bits(target, posterior) + _bits(nontarget, 1 - posterior)
    return float(cost / 2)


def _bits(share: NDArray, probability: NDArray) -> float:
    """Average -log2 of a probability over scores, weighted by their share."""
    there = share > 0
    # With equal priors the posterior of a class is 1 / (1 + e^-llr). Never
    # below a probability's least float: pooling keeps it above 0 here.
    return float(np.sum(share[there] * np.log2(1 / probability[there])))
