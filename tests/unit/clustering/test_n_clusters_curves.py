"""Curves over the number of clusters, against loops and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, silhouette_score

from speechbrain_ext.clustering import n_clusters_curves
from speechbrain_ext.clustering.cluster_rows import cluster_means
from speechbrain_ext.clustering.n_clusters_curves import (
    agreement_curve,
    candidates,
    cosine_curve,
    gap_curve,
    merge_cosines,
    silhouette_curve,
    weighted_ari,
)
from speechbrain_ext.clustering.ward import cut_tree, ward_tree
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.vectors import unit_rows


@pytest.fixture(scope="module")
def speakers():
    """Twelve speakers of 15 unit embeddings; three make a leaf."""
    generator = np.random.default_rng(0)
    speaker = np.repeat(np.arange(12), 15)
    x = generator.normal(size=(12, 16))[speaker]
    x = unit_rows(x + 0.4 * generator.normal(size=x.shape))
    leaf_of = np.arange(180) // 3
    leaves = cluster_means(x, leaf_of, 60)
    sizes = np.bincount(leaf_of)
    return x, leaf_of, leaves, sizes, ward_tree(leaves, sizes)


def test_candidates_rise_by_five_per_cent_between_their_limits():
    numbers = candidates(50_000)
    assert (numbers[0], numbers[-1]) == (500, 25_000)
    ratio = numbers[1:] / numbers[:-1]
    assert ratio.max() < 1.06 and ratio.min() > 1
    assert candidates(100, (3, 6)).tolist() == [3, 4, 5, 6]


@pytest.mark.parametrize(
    "limits", [(1, 9), (9, 9), (9, 8), (2, 51), (2, 3, 4), 7]
)
def test_impossible_limits_are_refused(limits):
    with pytest.raises(InputError, match="n_clusters_range is"):
        candidates(100, limits)


def test_fewer_than_20_vectors_are_refused():
    with pytest.raises(InputError, match="19 vectors.*it takes 20"):
        candidates(19)


def test_the_gap_is_the_ratio_of_the_last_merges_heights(speakers):
    tree = speakers[-1]
    numbers = np.array([5, 12, 13, 30])
    curve = gap_curve(tree, numbers)
    heights = [tree[60 - k - 1, 2] for k in numbers]
    expected = [heights[i] / heights[i + 1] for i in range(3)]
    assert curve == pytest.approx([1, *expected])


def test_the_gap_at_equal_vectors_is_finite():
    x = np.repeat(np.arange(4.0), 3)[:, None]
    curve = gap_curve(ward_tree(x), np.array([3, 4, 5]))
    assert np.isfinite(curve).all() and curve.argmax() == 1


def members(tree, n_leaves):
    inside = [{i} for i in range(n_leaves)]
    for left, right, *_ in tree:
        inside.append(inside[int(left)] | inside[int(right)])
    return inside


def test_cosines_of_merges_equal_a_loop_over_pairs(speakers):
    x, leaf_of, leaves, sizes, tree = speakers
    inside = members(tree, 60)
    expected = []
    for left, right, *_ in tree:
        a = x[np.isin(leaf_of, list(inside[int(left)]))]
        b = x[np.isin(leaf_of, list(inside[int(right)]))]
        expected.append((a @ b.T).mean())
    found = merge_cosines(tree, leaves, sizes)
    assert found == pytest.approx(np.array(expected), abs=1e-5)
    curve = cosine_curve(tree, leaves, sizes, np.array([4, 9, 40]))
    windows = [expected[56:57], expected[51:56], expected[20:51]]
    assert curve == pytest.approx([np.mean(w) for w in windows], abs=1e-5)


def test_the_silhouette_equals_that_of_scikit_learn(speakers, monkeypatch):
    x, leaf_of, leaves, sizes, tree = speakers
    numbers = np.array([2, 7, 12, 30, 60])
    args = (tree, leaves, sizes, x, leaf_of, numbers)
    expected = [
        silhouette_score(x, cut_tree(tree, int(k))[leaf_of], metric="cosine")
        for k in numbers
    ]
    whole = silhouette_curve(*args)
    assert whole == pytest.approx(expected, abs=1e-5)
    monkeypatch.setattr(
        n_clusters_curves,
        "row_blocks",
        lambda n, *_: (slice(0, 7), slice(7, n)),
    )
    assert silhouette_curve(*args) == pytest.approx(whole, abs=1e-6)


def test_an_utterance_alone_in_its_cluster_has_silhouette_0(speakers):
    x = speakers[0][:30]
    tree = ward_tree(x)
    numbers = np.array([20, 30])
    curve = silhouette_curve(tree, x, np.ones(30), x, np.arange(30), numbers)
    expected = silhouette_score(x, cut_tree(tree, 20), metric="cosine")
    assert curve == pytest.approx([expected, 0], abs=1e-5)


def test_two_halves_agree_best_at_the_number_of_speakers(speakers):
    _, _, leaves, sizes, tree = speakers
    numbers = np.array([2, 4, 6, 8, 10, 12, 15, 20, 30])
    curve = agreement_curve(tree, leaves, sizes, sizes, numbers, seed=0)
    assert numbers[curve.argmax()] == 12
    assert curve.max() > 0.8 and (curve <= 1).all()
    again = agreement_curve(tree, leaves, sizes, sizes, numbers, seed=0)
    assert (curve == again).all()


def test_two_halves_of_noise_do_not_agree():
    x = unit_rows(np.random.default_rng(0).normal(size=(200, 32)))
    numbers = np.array([10, 30, 60])
    curve = agreement_curve(
        ward_tree(x), x, np.ones(200), None, numbers, seed=0
    )
    assert curve.max() < 0.35


def test_a_row_of_weight_n_counts_as_n_utterances_in_the_rand_index():
    generator = np.random.default_rng(3)
    one, two = generator.integers(0, 5, 40), generator.integers(0, 6, 40)
    sizes = generator.integers(1, 9, 40)
    found = weighted_ari(one, two, sizes.astype(float))
    repeated = (np.repeat(one, sizes), np.repeat(two, sizes))
    assert found == pytest.approx(adjusted_rand_score(*repeated))
