"""k-means: partitions, guarantees and refusals."""

import faiss
import numpy as np
import pytest
import torch
from grouped_rows import assert_same_partition, groups, random_rows
from sklearn.metrics import adjusted_rand_score
from tqdm import tqdm

from speechbrain_ext.clustering import k_means
from speechbrain_ext.clustering.k_means import cluster_means, kmeans
from speechbrain_ext.clustering.ward import cut_tree, ward_tree
from speechbrain_ext.utils import vectors
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.vectors import unit_rows


@pytest.mark.parametrize("use", [lambda x: kmeans(x, 2, 0), ward_tree])
def test_vectors_that_cannot_be_clustered_are_refused(use):
    x, _ = groups(2, 5)
    broken = x.copy()
    broken[3, 1] = np.nan
    with pytest.raises(InputError, match="1 of 10 vectors hold NaN.*row 3"):
        use(broken)
    with pytest.raises(InputError, match="all 10 vectors are equal"):
        use(np.ones_like(x))
    with pytest.raises(InputError, match=r"shape \(1, 8\)"):
        use(x[:1])


def test_kmeans_finds_separated_groups():
    x, truth = groups(6, 30)
    result = kmeans(x, 6, seed=1, n_restarts=10)
    assert_same_partition(result.labels, truth)


def test_kmeans_labels_are_nearest_means_and_inertia_their_squared_distance():
    x, _ = groups(10, 20, spread=0.8)
    result = kmeans(x, 7, seed=3, n_iterations=200)
    square = ((x[:, None] - result.centroids) ** 2).sum(axis=2)
    np.testing.assert_array_equal(square.argmin(axis=1), result.labels)
    for label in range(7):
        np.testing.assert_allclose(
            x[result.labels == label].mean(axis=0),
            result.centroids[label],
            atol=1e-6,
        )
    assert result.inertia == pytest.approx(square.min(axis=1).sum(), 1e-5)


def test_kmeans_is_decided_by_its_seed():
    x, _ = groups(10, 20, spread=1.0)
    first, again = kmeans(x, 8, seed=5), kmeans(x, 8, seed=5)
    np.testing.assert_array_equal(first.labels, again.labels)
    np.testing.assert_array_equal(first.centroids, again.centroids)
    assert (kmeans(x, 8, seed=6).labels != first.labels).any()


def test_more_restarts_never_raise_the_inertia():
    x, _ = groups(20, 10, spread=0.3)
    costs = [kmeans(x, 20, seed=2, n_restarts=n).inertia for n in (1, 5, 10)]
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] < costs[0]


@pytest.mark.parametrize("n_clusters", [1, 2, 7, 12])
def test_no_cluster_is_empty_among_many_equal_vectors(n_clusters):
    distinct, _ = groups(12, 1)
    x = np.concatenate([np.repeat(distinct[:1], 500, axis=0), distinct[1:]])
    for seed in range(5):
        labels = kmeans(x, n_clusters, seed=seed).labels
        assert len(np.unique(labels)) == n_clusters
        assert labels.max() == n_clusters - 1


def test_inertia_is_zero_with_a_cluster_for_each_distinct_vector():
    distinct, _ = groups(12, 1)
    x = np.repeat(distinct, 4, axis=0)
    assert kmeans(x, 12, seed=0, n_iterations=50).inertia == 0


def test_kmeans_refuses_fewer_vectors_than_clusters():
    x, _ = groups(3, 2)
    with pytest.raises(InputError, match="fewer utterances than clusters"):
        kmeans(x, 7, seed=0)
    with pytest.raises(InputError, match="0 clusters"):
        kmeans(x, 0, seed=0)


def test_kmeans_refuses_fewer_distinct_vectors_than_clusters():
    x = np.repeat(groups(3, 1)[0], 10, axis=0)
    with pytest.raises(InputError, match="only 3 of the 30 .* distinct"):
        kmeans(x, 4, seed=0)


def test_unknown_assignment_is_refused():
    with pytest.raises(InputError, match="'near'; .* exact or approximate"):
        kmeans(groups(3, 4)[0], 2, seed=0, assignment="near")


def near_speakers():
    """Rows of groups within groups, unit length, as speakers' sessions are."""
    generator = np.random.default_rng(6)
    speaker = generator.normal(size=(60, 1, 1, 24))
    session = 0.5 * generator.normal(size=(60, 10, 1, 24))
    noise = 0.6 * generator.normal(size=(60, 10, 10, 24))
    return unit_rows((speaker + session + noise).reshape(-1, 24))


@pytest.mark.parametrize("make", [near_speakers, lambda: random_rows(4000)])
def test_approximate_assignment_costs_within_one_per_cent(make):
    x = make()
    exact = kmeans(x, 900, seed=1)
    near = kmeans(x, 900, seed=1, assignment="approximate")
    assert len(np.unique(near.labels)) == 900
    assert near.inertia == pytest.approx(exact.inertia, rel=0.01)
    assert (near.labels != exact.labels).any()


def test_approximate_assignment_mostly_finds_the_nearest_mean():
    x = near_speakers()
    centroids = x[::7]
    square = ((x[:500, None] - centroids) ** 2).sum(axis=2)
    with tqdm(disable=True) as bar:
        labels = k_means.ASSIGNMENTS["approximate"](x[:500], centroids, bar)
    assert (labels == square.argmin(axis=1)).mean() > 0.95


def test_approximate_assignment_works_with_equal_vectors_and_few_clusters():
    distinct, _ = groups(12, 1)
    x = np.repeat(distinct, 40, axis=0)
    for n_clusters in (1, 2, 5, 12):
        result = kmeans(x, n_clusters, seed=0, assignment="approximate")
        assert len(np.unique(result.labels)) == n_clusters


@pytest.mark.parametrize("assignment", ["exact", "approximate"])
def test_labels_do_not_depend_on_the_number_of_threads(assignment):
    x = near_speakers()[::2]
    before = torch.get_num_threads(), faiss.omp_get_max_threads()
    labels = []
    try:
        for n_threads in (1, 2):
            torch.set_num_threads(n_threads)
            faiss.omp_set_num_threads(n_threads)
            first = kmeans(x, 200, 0, n_iterations=5, assignment=assignment)
            tree = ward_tree(first.centroids, np.bincount(first.labels))
            labels.append(cut_tree(tree, 60)[first.labels])
    finally:
        torch.set_num_threads(before[0])
        faiss.omp_set_num_threads(before[1])
    assert adjusted_rand_score(*labels) > 0.999


def test_labels_do_not_depend_on_the_size_of_blocks(monkeypatch):
    x = near_speakers()[:1000]
    for assignment in k_means.ASSIGNMENTS:
        whole = kmeans(x, 30, seed=0, assignment=assignment)
        with monkeypatch.context() as patch:
            patch.setattr(k_means, "_SEARCHED", 130)
            patch.setattr(vectors, "_BLOCK", 2400)
            parts = kmeans(x, 30, seed=0, assignment=assignment)
        np.testing.assert_array_equal(parts.labels, whole.labels)


def test_means_are_exact_and_empty_clusters_are_zero():
    x, truth = groups(3, 4)
    means = cluster_means(x, truth * 2, 6)
    for group in range(3):
        expected = x[truth == group].astype(np.float64).mean(axis=0)
        np.testing.assert_array_equal(
            means[2 * group], expected.astype(np.float32)
        )
        assert not means[2 * group + 1].any()
