"""The gate against an EM in loops, a root finder and worked-out cases."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.stats import norm

from speechbrain_ext.losses.loss_gate import LossGate, correct_labels
from speechbrain_ext.losses.two_gaussians import Mixture, fit_mixture


def naive_em(values, weights, means, stds, n_iterations):
    """Dempster, Laird and Rubin for two Gaussians, value by value."""
    for _ in range(n_iterations):
        shares = []
        for value in values:
            joint = [
                w * norm.pdf(value, m, s)
                for w, m, s in zip(weights, means, stds, strict=True)
            ]
            shares.append([part / sum(joint) for part in joint])
        for k in (0, 1):
            total = sum(share[k] for share in shares)
            weights[k] = total / len(values)
            pairs = list(zip(shares, values, strict=True))
            means[k] = sum(share[k] * v for share, v in pairs) / total
            square = sum(share[k] * (v - means[k]) ** 2 for share, v in pairs)
            stds[k] = math.sqrt(square / total)
    return weights, means, stds


def two_modes(n, share, distance, seed=0, widths=(1.2, 0.4)):
    """Log losses: many low and spread, a share of them high and alike."""
    generator = np.random.default_rng(seed)
    n_high = round(share * n)
    low = generator.normal(-1, widths[0], n - n_high)
    high = generator.normal(-1 + distance, widths[1], n_high)
    return generator.permutation(np.concatenate([low, high]))


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
@pytest.mark.parametrize("distance", [3.0, 5.0])
def test_parameters_are_those_of_em(share, distance):
    values = two_modes(120, share, distance)
    start = [[1 - share, share], [-1.0, -1 + distance], [1.2, 0.4]]
    expected = naive_em(values.tolist(), *start, n_iterations=60)
    found = fit_mixture(values)
    for own, other in zip(
        (found.weights, found.means, found.stds), expected, strict=True
    ):
        np.testing.assert_allclose(own, other, atol=0.01)


@pytest.mark.parametrize("seed", range(40))
def test_the_crossing_is_the_root_of_the_densities(seed):
    generator = np.random.default_rng(seed)
    weight = generator.uniform(0.1, 0.9)
    means = np.sort(generator.normal(size=2) * 4)
    stds = generator.uniform(0.3, 3, 2)
    if seed % 4 == 0:
        stds[1] = stds[0] * (1 + 1e-12)  # equal but for rounding
    weights = (weight, 1 - weight)

    def difference(x):
        lower, upper = (
            math.log(w) + norm.logpdf(x, m, s)
            for w, m, s in zip(weights, means, stds, strict=True)
        )
        return lower - upper

    found = Mixture(weights, tuple(means), tuple(stds)).crossing()
    if difference(means[0]) > 0 > difference(means[1]):
        assert found == pytest.approx(brentq(difference, *means), abs=1e-9)
    else:
        assert found is None


def test_with_equal_variances_the_equation_is_linear():
    pair = Mixture((0.8, 0.2), (-1.0, 3.0), (0.7, 0.7))
    expected = 1 + 0.7**2 * math.log(4) / 4
    assert pair.crossing() == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(10))
def test_the_posterior_of_the_lower_is_bayes_between_the_means(seed):
    generator = np.random.default_rng(seed)
    weights = generator.dirichlet([2, 2])
    means = np.sort(generator.normal(size=2) * 3)
    stds = generator.uniform(0.3, 3, 2)
    pair = Mixture(tuple(weights), tuple(means), tuple(stds))
    inside = np.linspace(*means, 50)
    lower, upper = (
        np.array([w * norm.pdf(v, m, s) for v in inside.tolist()])
        for w, m, s in zip(weights, means, stds, strict=True)
    )
    expected = lower / (lower + upper)
    np.testing.assert_allclose(pair.lower_share(inside), expected, rtol=1e-6)
    found = pair.lower_share(np.linspace(means[0] - 30, means[1] + 30, 500))
    # Never more for a greater loss, whichever Gaussian is the wider.
    assert (np.diff(found) <= 1e-12).all()


def gated(log_losses, before=None, fit="mixture"):
    """A gate that has closed an epoch of such log losses, or two."""
    gate = LossGate(len(log_losses), fit=fit)
    epochs = [log_losses] if before is None else [before, log_losses]
    for epoch, values in enumerate(epochs, start=1):
        losses = torch.from_numpy(np.exp(values)).float()
        gate.record(torch.arange(len(losses)), losses, epoch)
        gate.close(epoch)
    return gate


@pytest.mark.parametrize("fit", ["mixture", "valley"])
def test_the_threshold_is_the_crossing_of_the_fit(fit):
    values = two_modes(400, 0.3, 4.0)
    gate = gated(values, fit=fit)
    mixture = fit_mixture(values)
    assert gate.threshold == pytest.approx(mixture.crossing(), abs=1e-4)
    kept = gate.weights(gate.log_losses)
    assert kept.tolist() == (values <= gate.threshold).tolist()


GENERATOR = np.random.default_rng(3)
DEGENERATE = {
    "one mode": GENERATOR.normal(size=400),
    "one skewed mode": np.log(GENERATOR.gamma(0.5, size=400)),
    "one side of a mode": -GENERATOR.exponential(size=400),
    "all the same": np.full(400, -0.3),
    # The upper Gaussian is few and wide: nowhere the likelier between.
    "no root": two_modes(400, 0.02, 0.5, widths=(0.3, 3.0)),
}


# The published fit is content with a crossing, in one mode too.
WITHOUT = [
    *(("valley", name) for name in DEGENERATE),
    *(("mixture", name) for name in ("all the same", "no root")),
]


@pytest.mark.parametrize(("fit", "name"), WITHOUT)
def test_without_a_threshold_everything_is_kept(fit, name):
    gate = gated(DEGENERATE[name], fit=fit)
    assert gate.threshold == math.inf
    assert gate.weights(gate.log_losses).all()


@pytest.mark.parametrize(("fit", "name"), WITHOUT)
def test_without_a_new_threshold_the_last_one_stays(fit, name):
    before = two_modes(400, 0.3, 4.0)
    gate = gated(DEGENERATE[name], before, fit)
    assert gate.threshold == gated(before).threshold
    assert [entry["is_new"] for entry in gate.history] == [True, False]


@pytest.mark.parametrize("name", ["one mode", "one skewed mode"])
def test_the_published_fit_has_no_rule_but_the_crossing(name):
    values = DEGENERATE[name]
    mixture = fit_mixture(values)
    assert not mixture.has_two_modes()
    crossing = mixture.crossing()
    expected = math.inf if crossing is None else crossing
    assert gated(values).threshold == pytest.approx(expected, abs=1e-4)


def test_the_published_fit_crosses_within_one_skewed_mode():
    assert gated(DEGENERATE["one skewed mode"]).threshold < math.inf


@pytest.mark.parametrize("n", [1, 2, 9])
def test_few_losses_give_no_threshold(n):
    assert gated(two_modes(n, 0.3, 4.0)).threshold == math.inf


def test_losses_of_zero_are_kept_and_do_not_bend_the_fit():
    values = two_modes(400, 0.3, 4.0)
    zeros = np.full(300, -np.inf)
    gate = gated(np.concatenate([values, zeros]))
    assert gate.threshold == gated(values).threshold
    assert gate.weights(gate.log_losses)[400:].all()
    assert gate.history[0]["n_zero"] == 300


def test_all_losses_of_zero_are_kept():
    gate = gated(np.full(50, -np.inf))
    assert gate.threshold == math.inf
    assert gate.weights(gate.log_losses).all()


@pytest.mark.parametrize("temperature", [0.03, 0.1, 1.0])
@pytest.mark.parametrize("confidence", [0.3, 0.5, 0.9])
def test_labels_are_corrected_as_by_plain_loops(temperature, confidence):
    generator = torch.Generator().manual_seed(0)
    cosines = torch.rand(60, 7, generator=generator) * 2 - 1
    labels, sure = correct_labels(cosines, temperature, confidence)
    for row, label, is_sure in zip(
        cosines.tolist(), labels.tolist(), sure.tolist(), strict=True
    ):
        powers = [math.exp(cosine / temperature) for cosine in row]
        shares = [power / sum(powers) for power in powers]
        assert label == max(range(7), key=lambda j: shares[j])
        assert is_sure == (shares[label] > confidence)
    assert 0 < sure.float().mean() or temperature == 1.0
