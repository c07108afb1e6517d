"""Mixtures of two Gaussians: fitting, and where they cross."""

from __future__ import annotations

import dataclasses
import math
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

# Shares of values in the lower Gaussian at the starts of the fit; the last
# ones are for small upper modes.
_SPLITS = (0.3, 0.5, 0.7, 0.9, 0.97)
_N_FITTED = 100_000
_LEAST_MEMBERS = 5
_GRID = 512
# Quantile of the reference above which values count as similar to it.
_LOWER_TAIL = 0.2


@dataclasses.dataclass(frozen=True)
class Mixture:
    """Two weighted Gaussians; the first has the lower mean.

    Arguments
    ---------
    weights, means, stds : tuple of float
        Those of the lower and of the upper Gaussian.

    Example
    -------
    >>> pair = Mixture((0.5, 0.5), (-1.0, 3.0), (0.5, 0.5))
    >>> pair.crossing(), pair.has_two_modes()
    (1.0, True)
    >>> pair.lower_share(np.array([-9.0, 1.0, 9.0])).round(3).tolist()
    [1.0, 0.5, 0.0]
    """

    weights: tuple[float, float]
    means: tuple[float, float]
    stds: tuple[float, float]

    def crossing(self) -> float | None:
        r"""Return the point between the means where both are equally likely.

        The root of

        .. math:: x^2 \left(\frac{1}{2 s_2^2} - \frac{1}{2 s_1^2}\right)
            + x \left(\frac{\mu_1}{s_1^2} - \frac{\mu_2}{s_2^2}\right)
            + \frac{\mu_2^2}{2 s_2^2} - \frac{\mu_1^2}{2 s_1^2}
            + \ln \frac{w_1 s_2}{w_2 s_1} = 0

        whose left side falls all the way between the means. It is solved for
        x - mu_1, in the form without a division by the difference of the
        variances: the equation is linear if they are equal.

        Returns
        -------
        float or None
            None if one Gaussian is likelier all the way.
        """
        (w1, w2), (s1, s2) = self.weights, self.stds
        gap = self.means[1] - self.means[0]
        a = 0.5 / s2**2 - 0.5 / s1**2
        b = -gap / s2**2
        c = 0.5 * (gap / s2) ** 2 + math.log(w1 * s2 / (w2 * s1))
        if c <= 0 or (a * gap + b) * gap + c >= 0:
            return None
        # Opposite signs at the ends: the discriminant is positive, b is
        # negative, and of the two roots this one lies between.
        return self.means[0] + 2 * c / (-b + math.sqrt(b * b - 4 * a * c))

    def has_two_modes(self, depth: float = 0.2) -> bool:
        """Return whether the density has a valley between the means.

        Two Gaussians fit a single skewed mode best too, and then cross in
        the middle of it; only a valley shows two kinds of values.

        Arguments
        ---------
        depth : float
            Least depth of the valley below the lower mode, as a share of
            that mode's density.

        Returns
        -------
        bool
        """
        lower, upper = self._densities(np.linspace(*self.means, _GRID))
        density = lower + upper
        left = np.maximum.accumulate(density)
        right = np.maximum.accumulate(density[::-1])[::-1]
        return bool((density <= (1 - depth) * np.minimum(left, right)).any())

    def lower_share(self, x: np.ndarray) -> np.ndarray:
        """Return the posterior [N] of the lower Gaussian at each x [N].

        Beyond a mean the value at that mean is taken: the wider Gaussian is
        the likelier one on both sides, and a very low value would otherwise
        belong to the upper one.
        """
        lower, upper = self._densities(np.clip(x, *self.means), log=True)
        with np.errstate(over="ignore"):
            return 1 / (1 + np.exp(upper - lower))

    def densities(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the weighted densities [N] of both at each x [N]."""
        lower, upper = self._densities(x)
        return lower, upper

    def _densities(self, x: np.ndarray, log: bool = False) -> list[np.ndarray]:
        logs = [
            math.log(weight / (std * math.sqrt(2 * math.pi)))
            - 0.5 * ((x - mean) / std) ** 2
            for weight, mean, std in zip(
                self.weights, self.means, self.stds, strict=True
            )
        ]
        return logs if log else [np.exp(values) for values in logs]


def fit_mixture(x: np.ndarray) -> Mixture | None:
    """Fit two Gaussians by maximum likelihood, from several fixed starts.

    EM (scikit-learn's) starts from the moments of the lower and the upper
    part of the sorted values, split in five places; the likeliest fit is
    taken. Nothing is random: the same values in any order give the same fit.
    Of more than 100,000 values, 100,000 are used, evenly spaced by rank.

    Arguments
    ---------
    x : numpy.ndarray
        Finite values [N].

    Returns
    -------
    Mixture or None
        None if there are no two distinct Gaussians of five values or more
        each, for instance because the values are few or all the same.

    Example
    -------
    >>> x = np.concatenate([np.linspace(-1, 1, 60), np.linspace(8, 9, 40)])
    >>> np.round(fit_mixture(x).means, 2).tolist()
    [0.0, 8.5]
    >>> fit_mixture(np.ones(100)) is None
    True
    """
    x = np.sort(np.asarray(x, dtype=np.float64))
    if len(x) < 2 * _LEAST_MEMBERS:
        return None
    center, scale = float(x.mean()), float(x.std())
    if scale <= 1e-6 * max(abs(center), 1.0):
        return None
    ranks = np.linspace(0, len(x) - 1, min(len(x), _N_FITTED))
    z = (x[ranks.round().astype(int)] - center) / scale
    found = [_fit_from(z, split) for split in _SPLITS]
    fits = [fit for fit in found if fit is not None]
    if not fits:
        return None
    _, best = max(fits, key=lambda fit: fit[0])
    lower, upper = np.argsort(best.means_[:, 0])
    return Mixture(
        _pair(best.weights_, lower, upper),
        _pair(center + scale * best.means_[:, 0], lower, upper),
        _pair(
            scale * np.sqrt(best.covariances_[:, 0, 0]),
            lower,
            upper,
        ),
    )


def fit_beside(
    x: np.ndarray, reference: np.ndarray, distance: float = 2.5
) -> Mixture | None:
    r"""Fit the Gaussian of a reference to x, and another to the rest of x.

    With Q the 0.2 quantile of the reference, the share of x that is like the
    reference is estimated from the values above Q,

    .. math:: w_2 = \frac{P(x > Q)}{0.8},

    which is too low rather than too high if the upper values of x are below
    those of the reference. The upper Gaussian has the moments of the reference,
    the lower one the moments of the rest of x.

    Arguments
    ---------
    x : numpy.ndarray
        Finite values [N].
    reference : numpy.ndarray
        Finite values [M] of the kind that is looked for in x.
    distance : float
        The lower quartile of x must be below the mean of the reference by as
        many of its standard deviations; else the two kinds of values cannot
        be told apart.

    Returns
    -------
    Mixture or None
        None if the distance is less, or if fewer than five values of x are
        like the reference.

    Example
    -------
    >>> x = np.concatenate([np.linspace(-2, 2, 80), np.linspace(8, 10, 20)])
    >>> fit = fit_beside(x, reference=np.linspace(8, 10, 50))
    >>> np.round([*fit.weights, *fit.means], 1).tolist()
    [0.8, 0.2, 0.0, 9.0]
    """
    if min(len(x), len(reference)) < 2 * _LEAST_MEMBERS:
        return None
    mean, variance = float(x.mean()), float(x.var())
    upper, square = float(reference.mean()), float(reference.var())
    if np.quantile(x, 0.25) > upper - distance * math.sqrt(square):
        return None
    above = float((x > np.quantile(reference, _LOWER_TAIL)).mean())
    share = above / (1 - _LOWER_TAIL)
    if share * len(x) < _LEAST_MEMBERS or share >= 1:
        return None
    lower = (mean - share * upper) / (1 - share)
    second = variance + mean**2 - share * (square + upper**2)
    left = second / (1 - share) - lower**2
    if min(left, square) <= 0:
        return None
    stds = math.sqrt(left), math.sqrt(square)
    return Mixture((1 - share, share), (lower, upper), stds)


def _fit_from(z: np.ndarray, split: float) -> tuple | None:
    """Return likelihood and fit from one start; None if one is empty."""
    n_lower = min(max(round(split * len(z)), 1), len(z) - 1)
    parts = z[:n_lower], z[n_lower:]
    model = GaussianMixture(
        2,
        tol=1e-6,
        max_iter=500,
        # Relative to unit variance: a spike of equal values keeps a width.
        reg_covar=1e-4,
        weights_init=[len(part) / len(z) for part in parts],
        means_init=[[part.mean()] for part in parts],
        precisions_init=[[[1 / (part.var() + 1e-2)]] for part in parts],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(z[:, None])
    empty = model.weights_.min() * len(z) < _LEAST_MEMBERS
    together = abs(model.means_[0, 0] - model.means_[1, 0]) < 1e-3
    return None if empty or together else (model.lower_bound_, model)


def _pair(values: np.ndarray, lower: int, upper: int) -> tuple[float, float]:
    return float(values[lower]), float(values[upper])
