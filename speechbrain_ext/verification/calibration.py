"""Calibration: scores to log-likelihood ratios by logistic regression.

A calibrated score says how much more likely a trial is of one speaker than of
two, so that any user's threshold follows from the costs alone.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logit
from sklearn.linear_model import LogisticRegression

from speechbrain_ext.verification.metrics import check_costs, checked_trials

logger = logging.getLogger(__name__)

# Weight of the L2 penalty: negligible unless the classes separate.
_PENALTY = 1e-6


@dataclass(frozen=True)
class Calibration:
    """Affine map from features of a trial to a log-likelihood ratio.

    Arguments
    ---------
    names : tuple of str
        The features: the score first, then quality measures [F].
    weights : numpy.ndarray
        One a feature [F], float64.
    offset : float
        Added to the weighted sum.
    """

    names: tuple[str, ...]
    weights: NDArray
    offset: float

    def __call__(self, features: NDArray) -> NDArray:
        """Map features [M, F] to natural log-likelihood ratios [M], float32."""
        return (features @ self.weights + self.offset).astype(np.float32)

    def in_words(self) -> str:
        """Describe the map for a log."""
        terms = zip(self.weights, self.names, strict=True)
        parts = [f"{weight:+.4g} {name}" for weight, name in terms]
        return f"{' '.join(parts)} {self.offset:+.4g}"


def fit_calibration(
    features: NDArray,
    labels: ArrayLike,
    names: Sequence[str] = ("score",),
    p_target: float = 0.01,
) -> Calibration:
    r"""Learn a calibration by logistic regression, weighted for a prior.

    Brummer and du Preez, Computer Speech and Language 2006, with quality
    measures as further terms as in Thienpondt et al., "The IDLab VoxCeleb
    Speaker Recognition Challenge 2020 system description": with
    :math:`l = w^T x + b` it minimises

    .. math:: \frac{p}{N_1} \sum_{i \in 1} \log(1 + e^{-l_i - \mathrm{logit} p})
        + \frac{1 - p}{N_0} \sum_{i \in 0} \log(1 + e^{l_i + \mathrm{logit} p})

    Arguments
    ---------
    features : numpy.ndarray
        The score, then quality measures, of each trial [M, F].
    labels : array
        1 for target, 0 for non-target [M].
    names : sequence of str
        Of the features [F].
    p_target : float
        The prior p at which decisions matter.

    Returns
    -------
    Calibration
        A feature that does not vary has weight 0.

    Raises
    ------
    InputError
        As in `metrics.error_rates`.

    Example
    -------
    >>> score = np.linspace(-1, 1, 200)[:, None]
    >>> labels = (np.sin(40 * score[:, 0]) + 3 * score[:, 0] > 0).astype(int)
    >>> llr = fit_calibration(score, labels)(score)
    >>> bool((np.diff(llr) > 0).all())
    True
    """
    check_costs(p_target, 1, 1)
    _, is_target = checked_trials(features[:, 0], labels)
    x = features.astype(np.float64)
    centre, spread = x.mean(axis=0), x.std(axis=0)
    varies = spread > 1e-9 * (1 + np.abs(centre))
    spread = np.where(varies, spread, 1)
    each = np.where(
        is_target,
        p_target / is_target.sum(),
        (1 - p_target) / (~is_target).sum(),
    )
    model = LogisticRegression(
        C=1 / _PENALTY, solver="newton-cholesky", tol=1e-9, max_iter=1000
    )
    model.fit((x - centre) / spread * varies, is_target, sample_weight=each)
    weights = model.coef_[0] / spread * varies
    if weights[0] <= 0:
        logger.warning(
            f"calibration gives the score the weight {weights[0]:.3g}: in its "
            "trials, a higher score does not mean a likelier target; check "
            "their labels, or leave the calibration out"
        )
    offset = float(model.intercept_[0] - weights @ centre - logit(p_target))
    return Calibration(tuple(names), weights, offset)
