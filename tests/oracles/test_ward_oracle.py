"""Ward's tree against the Lance-Williams recurrence and fastcluster."""

import itertools
import math

import fastcluster
import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from speechbrain_ext.clustering.ward import cut_tree, ward_tree


def naive_merges(x, weights):
    """Lance and Williams 1967, with Ward's coefficients.

    d(i, j)^2 = 2 w_i w_j / (w_i + w_j) |x_i - x_j|^2 at first, and
    d(k, i+j)^2 = [(w_k + w_i) d(k, i)^2 + (w_k + w_j) d(k, j)^2
                   - w_k d(i, j)^2] / (w_k + w_i + w_j).
    Yields (height, partition after the merge).
    """
    members = {i: [i] for i in range(len(x))}
    weight = dict(enumerate(weights))
    square = {}
    for i, j in itertools.combinations(range(len(x)), 2):
        distance = sum((a - b) ** 2 for a, b in zip(x[i], x[j], strict=True))
        factor = 2 * weight[i] * weight[j] / (weight[i] + weight[j])
        square[i, j] = factor * float(distance)
    while len(members) > 1:
        i, j = min(square, key=lambda pair: (square[pair], pair))
        joined = square.pop((i, j))
        for k in members.keys() - {i, j}:
            ik, jk = (min(i, k), max(i, k)), (min(j, k), max(j, k))
            square[ik] = (
                (weight[k] + weight[i]) * square[ik]
                + (weight[k] + weight[j]) * square.pop(jk)
                - weight[k] * joined
            ) / (weight[k] + weight[i] + weight[j])
        members[i] += members.pop(j)
        weight[i] += weight.pop(j)
        labels = np.empty(len(x), dtype=int)
        for number, rows in enumerate(members.values()):
            labels[rows] = number
        yield math.sqrt(max(joined, 0)), labels


def assert_equal_to_the_oracle(x, weights):
    tree = ward_tree(x, weights)
    merges = list(naive_merges(x.astype(np.float64), weights))
    heights = [height for height, _ in merges]
    np.testing.assert_allclose(tree[:, 2], heights, rtol=1e-9)
    for n_merges, (_, labels) in enumerate(merges, start=1):
        cut = cut_tree(tree, len(x) - n_merges)
        assert adjusted_rand_score(cut, labels) == 1.0


@pytest.mark.parametrize("n_rows", [2, 3, 10, 45])
@pytest.mark.parametrize("dimension", [1, 3, 20])
def test_every_partition_and_height_of_random_rows(n_rows, dimension):
    generator = np.random.default_rng(n_rows * dimension)
    x = generator.normal(size=(n_rows, dimension)).astype(np.float32)
    assert_equal_to_the_oracle(x, np.ones(n_rows))


@pytest.mark.parametrize("largest", [3, 1000])
def test_every_partition_and_height_with_weights(largest):
    generator = np.random.default_rng(largest)
    x = generator.normal(size=(40, 6)).astype(np.float32)
    assert_equal_to_the_oracle(x, generator.uniform(1, largest, 40))


def test_clustered_rows():
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(6, 10))
    x = centres[generator.integers(0, 6, 45)]
    x = (x + 0.1 * generator.normal(size=x.shape)).astype(np.float32)
    assert_equal_to_the_oracle(x, np.ones(45))


@pytest.mark.parametrize("n_rows", [50, 700])
def test_the_tree_is_that_of_fastcluster(n_rows):
    generator = np.random.default_rng(n_rows)
    x = generator.normal(size=(n_rows, 16)).astype(np.float32)
    tree = ward_tree(x)
    expected = fastcluster.linkage_vector(x.astype(np.float64), "ward")
    np.testing.assert_allclose(tree, expected, rtol=1e-9)


def cost(x, a, b):
    """Rise of the sum of squares when row sets a and b join."""

    def spread(rows):
        return ((x[rows] - x[rows].mean(axis=0)) ** 2).sum()

    return spread(a + b) - spread(a) - spread(b)


@pytest.mark.parametrize(
    "x",
    [
        np.stack(np.meshgrid(range(5), range(5)), axis=-1).reshape(-1, 2),
        np.eye(17),
        np.arange(20)[:, None],
        np.repeat(np.array([[0, 0], [1, 0], [0, 1]]), 7, axis=0),
        np.tile(np.arange(6), 4)[:, None],
    ],
    ids=["grid", "simplex", "line", "copies", "interleaved copies"],
)
def test_with_ties_each_merge_is_one_of_the_cheapest(x):
    """Ties allow many right trees: replay ours, greedily checked."""
    x = x.astype(np.float32)
    tree = ward_tree(x)
    members = {i: [i] for i in range(len(x))}
    for number, (left, right, height, _) in enumerate(tree):
        pairs = itertools.combinations(members.values(), 2)
        cheapest = min(cost(x.astype(np.float64), a, b) for a, b in pairs)
        a, b = members.pop(int(left)), members.pop(int(right))
        ours = cost(x.astype(np.float64), a, b)
        assert ours == pytest.approx(cheapest, rel=1e-9, abs=1e-9)
        assert height**2 / 2 == pytest.approx(cheapest, rel=1e-9, abs=1e-9)
        members[len(x) + number] = a + b
