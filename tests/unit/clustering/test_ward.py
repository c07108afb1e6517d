"""Ward's tree and its cuts: partitions, guarantees and refusals."""

import numpy as np
import pytest
from grouped_rows import assert_same_partition, groups, many_groups, random_rows
from scipy.cluster.hierarchy import is_valid_linkage
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score

from speechbrain_ext.clustering.ward import cut_tree, ward_tree
from speechbrain_ext.utils import vectors
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.vectors import unit_rows


def few_groups():
    return unit_rows(groups(15, 10, dimension=32, spread=0.7)[0])


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


def test_a_weight_of_n_acts_as_n_equal_vectors():
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


def test_the_tree_is_a_valid_scipy_linkage():
    x = random_rows()
    tree = ward_tree(x, weights=np.arange(1, len(x) + 1))
    assert tree.shape == (len(x) - 1, 4)
    assert is_valid_linkage(tree)
    assert (np.diff(tree[:, 2]) >= 0).all()
    assert tree[-1, 3] == len(x)


def test_clusters_come_before_their_merges_also_at_equal_heights():
    x = np.repeat(groups(4, 1)[0], 25, axis=0)
    assert is_valid_linkage(ward_tree(x))


def test_the_tree_does_not_depend_on_block_size(monkeypatch):
    x = few_groups()
    whole = ward_tree(x)
    monkeypatch.setattr(vectors, "_BLOCK", 200)
    np.testing.assert_array_equal(ward_tree(x), whole)


def test_equal_vectors_end_in_one_cluster():
    x = np.repeat(groups(12, 1)[0], 20, axis=0)
    generator = np.random.default_rng(0)
    order = generator.permutation(len(x))
    labels = cut_tree(ward_tree(x[order]), 12)
    assert_same_partition(labels, np.repeat(np.arange(12), 20)[order])


def test_groups_with_many_equal_distances_are_found():
    square = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=np.float32)
    corners = 50 * np.array([[0, 0], [1, 3], [2, 1]], dtype=np.float32)
    x = (corners[:, None] + square).reshape(-1, 2)
    labels = cut_tree(ward_tree(x), 3)
    assert_same_partition(labels, np.repeat(np.arange(3), 4))


@pytest.mark.parametrize(
    "weights",
    [np.ones(9), np.zeros(10), np.full(10, np.nan), -np.ones(10)],
)
def test_weights_other_than_a_positive_number_for_each_vector_are_refused(
    weights,
):
    with pytest.raises(InputError, match="one positive number for each"):
        ward_tree(groups(2, 5)[0], weights=weights)


def test_cuts_are_nested_and_have_the_given_number_of_clusters():
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
