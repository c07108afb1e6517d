"""k-means and Ward's tree: partitions, guarantees and refusals."""

import tracemalloc

import faiss
import numpy as np
import pytest
import torch
from scipy.cluster.hierarchy import is_valid_linkage
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score
from tqdm import tqdm

from speechbrain_ext.clustering import k_means, ward_search
from speechbrain_ext.clustering.k_means import cluster_means, kmeans
from speechbrain_ext.clustering.ward import cut_tree, ward_tree
from speechbrain_ext.utils import vectors
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.vectors import unit_rows
from speechbrain_ext.utils.whitening import whiten_


def groups(n_groups, size, dimension=8, spread=0.1, seed=0):
    """Rows around random centres, and the group of each."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(n_groups, dimension))
    truth = np.repeat(np.arange(n_groups), size)
    noise = spread * generator.normal(size=(len(truth), dimension))
    return (centres[truth] + noise).astype(np.float32), truth


def assert_same_partition(first, second):
    assert adjusted_rand_score(first, second) == 1.0


# --- unit rows --------------------------------------------------------------


def test_unit_rows_have_length_one_and_their_direction():
    x = np.random.default_rng(0).normal(size=(20, 5)) * 7
    unit = unit_rows(x)
    assert unit.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, rtol=1e-6)
    cosine = (unit * x).sum(axis=1) / np.linalg.norm(x, axis=1)
    np.testing.assert_allclose(cosine, 1, rtol=1e-6)


def test_a_zero_row_is_refused_by_its_number():
    x = np.ones((4, 3))
    x[2] = 0
    with pytest.raises(InputError, match="row 2 has length 0"):
        unit_rows(x)


def test_chosen_rows_are_scaled_in_their_order_from_a_memory_map(
    tmp_path, monkeypatch
):
    x = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    rows = np.random.default_rng(1).permutation(50)[:30]
    monkeypatch.setattr(vectors, "_BLOCK", 28)
    np.testing.assert_array_equal(unit_rows(mapped, rows), unit_rows(x[rows]))
    np.testing.assert_array_equal(mapped, x)


def test_scaling_and_whitening_hold_no_second_copy(tmp_path, monkeypatch):
    monkeypatch.setattr(vectors, "_BLOCK", 2**17)
    np.save(tmp_path / "x.npy", np.ones((20_000, 100), dtype=np.float32))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r+")
    mapped[:, 0] = np.arange(20_000)
    tracemalloc.start()
    try:
        unit = whiten_(unit_rows(mapped), 0.5)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert unit.nbytes <= peak < 1.5 * unit.nbytes


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


# --- k-means ----------------------------------------------------------------


def test_kmeans_finds_separated_groups():
    x, truth = groups(6, 30)
    result = kmeans(x, 6, seed=1, n_restarts=10)
    assert_same_partition(result.labels, truth)


def test_kmeans_labels_are_nearest_means_and_inertia_is_their_cost():
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


def test_more_restarts_never_cost_more():
    x, _ = groups(20, 10, spread=0.3)
    costs = [kmeans(x, 20, seed=2, n_restarts=n).inertia for n in (1, 5, 10)]
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] < costs[0]


@pytest.mark.parametrize("n_clusters", [1, 2, 7, 12])
def test_no_cluster_is_empty_however_many_copies_there_are(n_clusters):
    distinct, _ = groups(12, 1)
    x = np.concatenate([np.repeat(distinct[:1], 500, axis=0), distinct[1:]])
    for seed in range(5):
        labels = kmeans(x, n_clusters, seed=seed).labels
        assert len(np.unique(labels)) == n_clusters
        assert labels.max() == n_clusters - 1


def test_as_many_clusters_as_distinct_vectors_cost_nothing():
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


def test_approximate_assignment_looks_where_the_nearest_mostly_is():
    x = near_speakers()
    centroids = x[::7]
    square = ((x[:500, None] - centroids) ** 2).sum(axis=2)
    with tqdm(disable=True) as bar:
        labels = k_means.ASSIGNMENTS["approximate"](x[:500], centroids, bar)
    assert (labels == square.argmin(axis=1)).mean() > 0.95


def test_approximate_assignment_manages_copies_and_few_clusters():
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


def test_blocks_of_rows_change_nothing(monkeypatch):
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


# --- Ward -------------------------------------------------------------------


def random_rows(n_rows=150):
    x = np.random.default_rng(0).normal(size=(n_rows, 16))
    return x.astype(np.float32)


def few_groups():
    return unit_rows(groups(15, 10, dimension=32, spread=0.7)[0])


def many_groups():
    return unit_rows(groups(80, 10, dimension=32, spread=0.6, seed=3)[0])


def far_from_the_origin():
    return groups(10, 12, spread=0.05)[0] + np.float32(1000)


def line_of_growing_gaps():
    return np.exp(np.linspace(0, 40, 80))[:, None].astype(np.float32)


def huge_scale():
    return random_rows() * np.float32(1e25)


def tiny_scale():
    return random_rows() * np.float32(1e-25)


def one_dimension():
    return np.random.default_rng(4).normal(size=(90, 1)).astype(np.float32)


def tight_pairs_far_apart():
    """Distances of 1e-5 to be ranked beside distances of 100."""
    generator = np.random.default_rng(8)
    centres = 100 * generator.normal(size=(4, 3))
    x = centres[np.repeat(np.arange(4), 20)]
    x[:, 0] = np.round(x[:, 0]) / 64
    return (x + 1e-5 * generator.integers(0, 999, x.shape)).astype(np.float32)


@pytest.mark.parametrize(
    "make",
    [
        random_rows,
        few_groups,
        far_from_the_origin,
        line_of_growing_gaps,
        huge_scale,
        tiny_scale,
        one_dimension,
        tight_pairs_far_apart,
        many_groups,
    ],
)
def test_every_cut_equals_scikit_learn(make):
    x = make()
    tree = ward_tree(x)
    for n_clusters in (2, 3, 5, 10, 20, 40, 70):
        model = AgglomerativeClustering(n_clusters, linkage="ward")
        expected = model.fit_predict(x.astype(np.float64))
        assert_same_partition(cut_tree(tree, n_clusters), expected)


def test_weights_act_as_copies():
    x = random_rows()[:40]
    copies = np.random.default_rng(1).integers(1, 6, len(x))
    tree = ward_tree(x, weights=copies)
    many = np.repeat(x, copies, axis=0).astype(np.float64)
    owner = np.repeat(np.arange(len(x)), copies)
    for n_clusters in (2, 4, 9, 20):
        expected = AgglomerativeClustering(n_clusters).fit_predict(many)
        labels = cut_tree(tree, n_clusters)
        assert_same_partition(labels[owner], expected)
    unweighted = cut_tree(ward_tree(x), 9)
    assert adjusted_rand_score(unweighted, cut_tree(tree, 9)) < 1


def test_the_tree_reads_as_a_scipy_linkage():
    x = random_rows()
    tree = ward_tree(x, weights=np.arange(1, len(x) + 1))
    assert tree.shape == (len(x) - 1, 4)
    assert is_valid_linkage(tree)
    assert (np.diff(tree[:, 2]) >= 0).all()
    assert tree[-1, 3] == len(x)


def test_equal_heights_still_put_parts_before_wholes():
    x = np.repeat(groups(4, 1)[0], 25, axis=0)
    assert is_valid_linkage(ward_tree(x))


def test_the_tree_does_not_depend_on_block_size(monkeypatch):
    x = few_groups()
    whole = ward_tree(x)
    monkeypatch.setattr(vectors, "_BLOCK", 200)
    np.testing.assert_array_equal(ward_tree(x), whole)


@pytest.mark.parametrize("n_listed", [1, 3, 40])
def test_the_tree_does_not_depend_on_what_clusters_remember(
    monkeypatch, n_listed
):
    x = many_groups()
    weights = np.random.default_rng(0).integers(1, 50, len(x))
    whole = ward_tree(x, weights)
    monkeypatch.setattr(ward_search, "_LISTED", n_listed)
    np.testing.assert_array_equal(ward_tree(x, weights), whole)


def test_what_clusters_remember_spares_most_searches(monkeypatch):
    searched = []
    search = ward_search.Forest._search

    def counted(clusters, slots):
        searched.append(len(slots))
        search(clusters, slots)

    monkeypatch.setattr(ward_search.Forest, "_search", counted)
    x = many_groups()
    ward_tree(x)
    assert searched[0] == len(x)
    assert sum(searched[1:]) < 0.5 * len(x)


def test_ward_computes_in_full_precision_whatever_training_does(monkeypatch):
    seen = set()
    merge_round = ward_search.Forest.merge_round

    def watched(clusters):
        seen.add(torch.get_float32_matmul_precision())
        return merge_round(clusters)

    monkeypatch.setattr(ward_search.Forest, "merge_round", watched)
    was = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        ward_tree(random_rows())
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(was)
    assert seen == {"highest"}


def test_copies_end_in_one_cluster():
    x = np.repeat(groups(12, 1)[0], 20, axis=0)
    generator = np.random.default_rng(0)
    order = generator.permutation(len(x))
    labels = cut_tree(ward_tree(x[order]), 12)
    assert_same_partition(labels, np.repeat(np.arange(12), 20)[order])


def test_groups_full_of_ties_are_found():
    square = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=np.float32)
    corners = 50 * np.array([[0, 0], [1, 3], [2, 1]], dtype=np.float32)
    x = (corners[:, None] + square).reshape(-1, 2)
    labels = cut_tree(ward_tree(x), 3)
    assert_same_partition(labels, np.repeat(np.arange(3), 4))


def test_vectors_all_at_one_distance_pair_off_together(monkeypatch):
    rounds = []
    merge_round = ward_search.Forest.merge_round

    def counted(clusters):
        rounds.append(merge_round(clusters))
        return rounds[-1]

    monkeypatch.setattr(ward_search.Forest, "merge_round", counted)
    tree = ward_tree(np.eye(64, dtype=np.float32))
    np.testing.assert_allclose(tree[:32, 2], np.sqrt(2))
    assert rounds == [32, 16, 8, 4, 2, 1]


@pytest.mark.parametrize(
    "weights",
    [np.ones(9), np.zeros(10), np.full(10, np.nan), -np.ones(10)],
)
def test_weights_must_be_one_positive_number_a_vector(weights):
    with pytest.raises(InputError, match="one positive number for each"):
        ward_tree(groups(2, 5)[0], weights=weights)


# --- cuts -------------------------------------------------------------------


def test_cuts_are_nested_and_have_the_number_asked_for():
    tree = ward_tree(random_rows())
    finer = np.arange(150)
    for n_clusters in range(150, 0, -1):
        labels = cut_tree(tree, n_clusters)
        assert len(np.unique(labels)) == n_clusters
        pairs = np.unique(np.stack([finer, labels]), axis=1)
        assert pairs.shape[1] == finer.max() + 1
        finer = labels


def test_labels_are_numbered_by_first_appearance():
    labels = cut_tree(ward_tree(random_rows()), 20)
    _, first = np.unique(labels, return_index=True)
    assert (np.diff(first) > 0).all()


@pytest.mark.parametrize("n_clusters", [0, -1, 151])
def test_a_cut_outside_the_tree_is_refused(n_clusters):
    with pytest.raises(InputError, match=f"{n_clusters} clusters of 150"):
        cut_tree(ward_tree(random_rows()), n_clusters)
