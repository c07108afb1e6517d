"""Two Gaussians: a fit that depends on values alone, and finds its modes."""

import numpy as np
import pytest

from speechbrain_ext.losses.two_gaussians import (
    Mixture,
    fit_beside,
    fit_mixture,
)


def drawn(n, share, seed=0):
    generator = np.random.default_rng(seed)
    n_high = round(share * n)
    low = generator.normal(-1, 1.5, n - n_high)
    return np.concatenate([low, generator.normal(2.5, 0.3, n_high)])


def test_the_order_of_the_values_does_not_matter():
    x = drawn(500, 0.3)
    shuffled = np.random.default_rng(1).permutation(x)
    assert fit_mixture(x) == fit_mixture(shuffled)


def test_the_fit_follows_shift_and_scale_of_the_values():
    x = drawn(500, 0.3)
    fit, moved = fit_mixture(x), fit_mixture(1000 + 0.01 * x)
    np.testing.assert_allclose(moved.weights, fit.weights, rtol=1e-4)
    means = 1000 + 0.01 * np.array(fit.means)
    np.testing.assert_allclose(moved.means, means, rtol=1e-6)
    np.testing.assert_allclose(moved.stds, 0.01 * np.array(fit.stds), rtol=1e-3)


@pytest.mark.parametrize("share", [0.03, 0.2, 0.5, 0.8])
def test_small_and_large_modes_are_found(share):
    fit = fit_mixture(drawn(4000, share))
    assert fit.weights[1] == pytest.approx(share, abs=0.03)
    assert fit.means == pytest.approx((-1, 2.5), abs=0.2)
    assert fit.has_two_modes()


def test_many_values_are_fitted_by_a_subset_of_ranks():
    few, many = (fit_mixture(drawn(n, 0.2)) for n in (50_000, 300_000))
    assert many.crossing() == pytest.approx(few.crossing(), abs=0.05)


def test_a_spike_of_equal_values_is_a_mode_of_positive_width():
    x = np.concatenate([np.full(100, 5.0), drawn(100, 0)])
    fit = fit_mixture(x)
    assert fit.means[1] == pytest.approx(5, abs=0.1)
    assert min(fit.stds) > 0


def test_a_few_outliers_are_not_a_mode():
    x = np.concatenate([drawn(400, 0), [60.0, 61.0]])
    fit = fit_mixture(x)
    assert fit is None or fit.weights[1] > 0.01


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        (Mixture((0.5, 0.5), (0.0, 9.0), (1.0, 1.0)), True),
        (Mixture((0.5, 0.5), (0.0, 1.0), (1.0, 1.0)), False),
        # A shoulder is no mode.
        (Mixture((0.95, 0.05), (0.0, 2.0), (1.0, 1.0)), False),
        # Nor is a valley as shallow as chance digs.
        (Mixture((0.5, 0.5), (0.0, 2.1), (1.0, 1.0)), False),
    ],
)
def test_modes_need_a_valley_between_them(pair, expected):
    assert pair.has_two_modes() is expected


def test_weighted_densities_integrate_to_one():
    x = np.linspace(-20, 20, 4001)
    lower, upper = Mixture((0.3, 0.7), (-1.0, 2.0), (1.0, 2.0)).densities(x)
    assert lower.sum() * 0.01 == pytest.approx(0.3, abs=1e-3)
    assert upper.sum() * 0.01 == pytest.approx(0.7, abs=1e-3)


def beside(share, n=4000, distance=6.0, seed=0):
    """Values of which a share is like a reference, and the reference."""
    generator = np.random.default_rng(seed)
    n_high = round(share * n)
    low = generator.normal(0, 2, n - n_high)
    high, reference = (
        generator.normal(distance, 1.5, size) for size in (n_high, n)
    )
    return np.concatenate([low, high]), reference


@pytest.mark.parametrize("share", [0.05, 0.2, 0.4, 0.6])
def test_the_share_like_a_reference_is_found(share):
    fit = fit_beside(*beside(share))
    assert fit.weights[1] == pytest.approx(share, abs=0.02)
    assert fit.means == pytest.approx((0, 6), abs=0.3)
    assert fit.stds == pytest.approx((2, 1.5), abs=0.3)


def test_the_share_of_an_absent_reference_is_a_tail_at_most():
    fit = fit_beside(*beside(0.0))
    assert fit is None or fit.weights[1] < 0.02


def test_a_share_below_its_reference_is_not_overestimated():
    # Wrong labels are learnt a little, drawn ones are not.
    x, reference = beside(0.2)
    fit = fit_beside(x, reference + 1)
    assert 0.05 < fit.weights[1] < 0.2


def test_values_too_near_the_reference_have_no_fit():
    # As before a network has learnt anything.
    x, reference = beside(0.2, distance=1.0)
    assert fit_beside(x, reference) is None
    assert fit_beside(reference, reference) is None


def test_few_or_equal_values_have_no_fit_beside_a_reference():
    x, reference = beside(0.2, n=8)
    assert fit_beside(x, reference) is None
    assert fit_beside(np.zeros(50), np.ones(50)) is None
