"""Figures of pseudo-labels, by loops and by hand."""

import collections

import numpy as np
import pytest
from sklearn.metrics import normalized_mutual_info_score

from speechbrain_ext.clustering.cluster_rows import cluster_means
from speechbrain_ext.clustering.label_metrics import (
    cluster_sizes,
    fit,
    purity,
    shape_statistics,
    size_statistics,
    split_and_merged,
    swallowed_by_one,
    truth_statistics,
)
from speechbrain_ext.utils import vectors
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.vectors import unit_rows


def test_sizes_of_a_known_clustering():
    labels = ["a"] * 5 + ["b"] * 2 + ["c"] + ["d"]
    assert cluster_sizes(labels).tolist() == [5, 2, 1, 1]
    assert size_statistics(labels) == {
        "n_utterances": 9,
        "n_clusters": 4,
        "size_min": 1,
        "size_median": 1.5,
        "size_max": 5,
        "n_singletons": 2,
    }


def random_labels(n=200, n_clusters=9, n_speakers=7):
    generator = np.random.default_rng(0)
    return (
        generator.integers(0, n_clusters, n),
        generator.integers(0, n_speakers, n),
    )


def test_purity_equals_a_loop_over_clusters():
    labels, speakers = random_labels()
    right = 0
    for label in set(labels):
        inside = speakers[labels == label].tolist()
        right += collections.Counter(inside).most_common(1)[0][1]
    assert purity(labels, speakers) == pytest.approx(right / len(labels))
    named = np.array([f"id{i:05d}" for i in speakers])
    assert purity(labels, named) == purity(labels, speakers)


def test_purity_is_one_for_singletons_and_the_largest_share_for_one_cluster():
    speakers = ["a", "b", "b", "c"]
    assert purity([0, 1, 2, 3], speakers) == 1
    assert purity([0, 0, 0, 0], speakers) == 0.5


def test_agreement_does_not_depend_on_names():
    labels, speakers = random_labels()
    renamed = np.array(list("qwertyuio"))[labels]
    assert truth_statistics(renamed, speakers) == truth_statistics(
        labels, speakers
    )
    assert truth_statistics(labels, labels)["ari"] == 1


def test_nmi_uses_the_arithmetic_mean_of_the_entropies():
    labels = [0, 1, 2, 3, 4, 4]
    speakers = [0, 0, 0, 1, 1, 1]
    expected, other = (
        normalized_mutual_info_score(speakers, labels, average_method=mean)
        for mean in ("arithmetic", "max")
    )
    found = truth_statistics(labels, speakers)["nmi"]
    assert found == pytest.approx(expected, abs=1e-6)
    assert abs(found - other) > 0.1


def test_nmi_is_the_harmonic_mean_of_homogeneity_and_completeness():
    speakers = [0] * 4 + [1] * 4
    split = truth_statistics([0, 0, 1, 1, 2, 2, 3, 3], speakers)
    assert split["homogeneity"] == 1 > split["completeness"]
    merged = truth_statistics([0] * 7 + [1], speakers)
    assert merged["homogeneity"] < 1
    for found in (split, merged):
        h, c = found["homogeneity"], found["completeness"]
        assert found["nmi"] == pytest.approx(2 * h * c / (h + c), abs=1e-5)


def test_split_and_merged_equal_a_loop():
    labels, speakers = random_labels()
    owner = {}
    for label in set(labels.tolist()):
        inside = collections.Counter(speakers[labels == label].tolist())
        most = max(inside.values())
        owner[label] = max(s for s, n in inside.items() if n == most)
    owned = collections.Counter(owner.values())
    assert split_and_merged(labels, speakers) == {
        "n_split": sum(n > 1 for n in owned.values()),
        "n_merged": len(set(speakers.tolist())) - len(owned),
    }


def test_fewer_speakers_than_labels_are_refused():
    with pytest.raises(InputError, match="3 labels and 2 speakers"):
        truth_statistics([0, 0, 1], ["a", "b"])


def clustered():
    generator = np.random.default_rng(1)
    centres = generator.normal(size=(5, 6))
    labels = generator.integers(0, 5, 80)
    x = unit_rows(centres[labels] + 0.5 * generator.normal(size=(80, 6)))
    return x, labels, cluster_means(x, labels, 5)


def test_cohesion_and_margin_equal_a_loop():
    x, labels, centroids = clustered()
    own, margin = [], []
    for vector, label in zip(x, labels, strict=True):
        cosines = [float(vector @ c / np.linalg.norm(c)) for c in centroids]
        own.append(cosines.pop(label))
        margin.append(own[-1] - max(cosines))
    found = fit(x, labels, centroids)
    assert found.cosine == pytest.approx(own, abs=1e-6)
    assert found.margin == pytest.approx(margin, abs=1e-6)
    figures = shape_statistics(found)
    assert figures["misplaced"] == pytest.approx(np.mean(np.less(margin, 0)))
    assert figures["cohesion"] == pytest.approx(np.mean(own), abs=2e-6)
    assert figures["margin"] == pytest.approx(np.mean(margin), abs=2e-6)


def test_blocks_do_not_change_the_shape_statistics(monkeypatch):
    x, labels, centroids = clustered()
    whole = fit(x, labels, centroids)
    monkeypatch.setattr(vectors, "_BLOCK", 35)
    # Cosines in float32: other blocks round otherwise, also near zero.
    margin = pytest.approx(whole.margin, abs=1e-6)
    assert fit(x, labels, centroids).margin == margin


def test_wrong_clusters_have_a_negative_margin():
    x, labels, centroids = clustered()
    right = shape_statistics(fit(x, labels, centroids))
    wrong = shape_statistics(fit(x, (labels + 1) % 5, centroids))
    assert right["margin"] > 0 > wrong["margin"]
    assert right["misplaced"] < 0.5 < wrong["misplaced"]


def test_one_cluster_with_most_utterances_is_a_warning():
    rest = list(range(1, 11))
    assert "has 51 of 61 utterances" in swallowed_by_one([0] * 51 + rest)
    assert not swallowed_by_one([0] * 10 + rest)
    assert not swallowed_by_one([0] * 51 + [1] * 10)
