"""Rows to cluster: means, distances, and sums that no order changes."""

import numpy as np
import pytest
import torch
from grouped_rows import groups, near_speakers

from speechbrain_ext.clustering.cluster_rows import ClusterRows, cluster_means


def test_means_are_exact_and_empty_clusters_are_zero():
    x, truth = groups(3, 4)
    means = cluster_means(x, truth * 2, 6)
    for group in range(3):
        expected = x[truth == group].astype(np.float64).mean(axis=0)
        np.testing.assert_array_equal(
            means[2 * group], expected.astype(np.float32)
        )
        assert not means[2 * group + 1].any()


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e14])
def test_means_do_not_depend_on_the_order_of_rows(scale):
    x = near_speakers() * np.float32(scale)
    labels = np.arange(len(x)) % 7
    order = np.random.default_rng(2).permutation(len(x))
    means = cluster_means(x, labels, 7)
    np.testing.assert_array_equal(
        means, cluster_means(x[order], labels[order], 7)
    )
    expected = [x[labels == i].mean(axis=0, dtype=float) for i in range(7)]
    np.testing.assert_allclose(means, expected, rtol=1e-6)


def test_the_farthest_row_of_each_cluster_is_the_first_of_equal_ones():
    rows = ClusterRows(np.zeros((5, 1), np.float32))
    distances = torch.tensor([1.0, 3.0, 3.0, 0.0, 2.0])
    far, number = rows.farthest(distances, torch.tensor([0, 0, 0, 2, 2]), 4)
    assert far.tolist() == [3, -1, 2, -1]
    assert number[[0, 2]].tolist() == [1, 4]


def test_distances_are_of_double_precision():
    x = groups(3, 4)[0] + np.float32(1000)
    labels = torch.arange(12) % 3
    means = x[:3] + np.float32(1e-3)
    found = ClusterRows(x).square_distances(torch.from_numpy(means), labels)
    offset = x.astype(np.float64) - means[labels]
    np.testing.assert_allclose(found, (offset**2).sum(axis=1), rtol=1e-12)
