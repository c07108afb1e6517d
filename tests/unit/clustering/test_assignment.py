"""Assignment to centroids: exact beside all distances, approximate near it."""

import numpy as np
import pytest
import torch
from grouped_rows import groups, near_speakers
from tqdm import tqdm

from speechbrain_ext.clustering.assignment import ASSIGNMENTS
from speechbrain_ext.clustering.cluster_rows import ClusterRows
from speechbrain_ext.clustering.k_means import kmeans


def assigned(name, x, centroids):
    rows = ClusterRows(np.ascontiguousarray(x))
    with tqdm(disable=True) as bar:
        return ASSIGNMENTS[name](rows, torch.from_numpy(centroids), bar)


def nearest(x, centroids):
    """Nearest centroid by all distances, in double precision."""
    offset = x[:, None].astype(np.float64) - centroids
    return (offset**2).sum(axis=2).argmin(axis=1)


@pytest.mark.parametrize("shift", [0, 100])
def test_exact_assignment_is_to_the_nearest_also_far_from_the_origin(shift):
    x = near_speakers()[:600] + np.float32(shift)
    np.testing.assert_array_equal(
        assigned("exact", x, x[::7]), nearest(x, x[::7])
    )


def test_autocast_does_not_change_an_exact_assignment():
    x = near_speakers()[:600]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        labels = assigned("exact", x, x[::7])
    np.testing.assert_array_equal(labels, nearest(x, x[::7]))


def test_approximate_assignment_mostly_finds_the_nearest_mean():
    x = near_speakers()
    labels = assigned("approximate", x[:500], x[::7]).numpy()
    assert (labels == nearest(x[:500], x[::7])).mean() > 0.95


def test_approximate_assignment_works_with_equal_vectors_and_few_clusters():
    distinct, _ = groups(12, 1)
    x = np.repeat(distinct, 40, axis=0)
    for n_clusters in (1, 2, 5, 12):
        result = kmeans(x, n_clusters, seed=0, assignment="approximate")
        assert len(np.unique(result.labels)) == n_clusters
