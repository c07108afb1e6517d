"""RDINO's terms against their equations, in loops over pairs of dimensions."""

import math

import pytest
import torch

from speechbrain_ext.losses.rdino import (
    covariance_penalty,
    rdino_regularizer,
    variance_hinge,
)

# Rows, dimensions: either product is the smaller one.
SHAPES = [(2, 1), (2, 5), (3, 3), (5, 9), (9, 5), (16, 2)]


def naive_covariance(x, i, j):
    """Unbiased, of two columns of rows of numbers."""
    n_rows = len(x)
    mean_i = sum(row[i] for row in x) / n_rows
    mean_j = sum(row[j] for row in x) / n_rows
    products = [(row[i] - mean_i) * (row[j] - mean_j) for row in x]
    return sum(products) / (n_rows - 1)


def naive_hinge(x):
    """VICReg, Eq. 1 and 2."""
    terms = [
        max(0.0, 1 - math.sqrt(naive_covariance(x, d, d) + 1e-4))
        for d in range(len(x[0]))
    ]
    return sum(terms) / len(terms)


def naive_penalty(x):
    """VICReg, Eq. 3 and 4."""
    n_dimensions = len(x[0])
    total = 0.0
    for i in range(n_dimensions):
        for j in range(n_dimensions):
            if i != j:
                total += naive_covariance(x, i, j) ** 2
    return total / n_dimensions


def naive_gradient(function, x, step=1e-5):
    """By differences, one number of x after the other."""
    gradient = [[0.0] * len(x[0]) for _ in x]
    for b, row in enumerate(x):
        for d, value in enumerate(row):
            row[d] = value + step
            above = function(x)
            row[d] = value - step
            below = function(x)
            row[d] = value
            gradient[b][d] = (above - below) / (2 * step)
    return torch.tensor(gradient)


def vectors(shape, scale=1.0):
    """Rows with an offset, as the terms must not see one."""
    generator = torch.Generator().manual_seed(sum(shape))
    x = 3 + scale * torch.randn(*shape, generator=generator)
    return x.requires_grad_()


PAIRS = [(variance_hinge, naive_hinge), (covariance_penalty, naive_penalty)]


@pytest.mark.parametrize("scale", [0.3, 1.0])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("function", "naive"), PAIRS)
def test_terms_follow_the_equations(function, naive, shape, scale):
    x = vectors(shape, scale)
    value = function(x)
    value.backward()
    expected = naive(x.tolist())
    assert value.item() == pytest.approx(expected, rel=1e-4, abs=1e-6)
    torch.testing.assert_close(
        x.grad, naive_gradient(naive, x.tolist()), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("n_views", [1, 2, 3])
def test_the_terms_are_of_the_mean_over_global_views(n_views):
    expansion = vectors((n_views, 4, 6), scale=0.5)
    mean = [
        [
            sum(expansion[g, b, d].item() for g in range(n_views)) / n_views
            for d in range(6)
        ]
        for b in range(4)
    ]
    expected = 7 / 2 * naive_hinge(mean) + 3 * naive_penalty(mean)
    value = rdino_regularizer(expansion, 7.0, 3.0)
    assert value.item() == pytest.approx(expected, rel=1e-4)
