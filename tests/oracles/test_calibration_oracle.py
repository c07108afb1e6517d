"""Logistic regression against its cost, minimised from the equation."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from speechbrain_ext.verification.calibration import fit_calibration


def naive_cost(parameters, features, labels, prior):
    """The sum, trial by trial."""
    *weights, offset = parameters
    shift = math.log(prior / (1 - prior))
    sums, counts = [0.0, 0.0], [0, 0]
    for row, label in zip(features, labels, strict=True):
        llr = sum(w * x for w, x in zip(weights, row, strict=True)) + offset
        margin = (llr + shift) * (-1 if label else 1)
        sums[label] += math.log1p(math.exp(-abs(margin))) + max(margin, 0)
        counts[label] += 1
    return prior * sums[1] / counts[1] + (1 - prior) * sums[0] / counts[0]


@pytest.mark.parametrize("prior", [0.01, 0.3])
@pytest.mark.parametrize("n_features", [1, 3])
def test_no_other_weights_cost_less(n_features, prior):
    generator = np.random.default_rng(n_features)
    labels = np.repeat([1, 0], [40, 160])
    features = (
        generator.normal(size=(200, n_features)) * [1, 9, 0.1][:n_features]
    )
    features[:, 0] += labels
    found = fit_calibration(features, labels, ["x"] * n_features, prior)
    ours = naive_cost([*found.weights, found.offset], features, labels, prior)
    best = minimize(
        naive_cost,
        np.zeros(n_features + 1),
        args=(features.tolist(), labels.tolist(), prior),
        method="Nelder-Mead",
        options={"xatol": 1e-7, "fatol": 1e-12, "maxiter": 3000},
    )
    assert ours <= best.fun * (1 + 1e-5)
    moved = naive_cost(
        [*(1.2 * found.weights), found.offset + 0.2], features, labels, prior
    )
    assert moved > ours * 1.001
