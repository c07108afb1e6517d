"""The number of clusters: near the truth where speakers can be seen."""

import json

import numpy as np
import pytest

from speechbrain_ext.clustering.k_means import kmeans
from speechbrain_ext.clustering.n_clusters import (
    CRITERIA,
    choose_n_clusters,
    finest_peak,
)
from speechbrain_ext.clustering.ward import ward_tree
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.vectors import unit_rows

N_SPEAKERS = 60


@pytest.fixture(scope="module")
def corpus():
    """Speakers of 3 to 12 sessions, each of 1 to 9 utterances; 2 levels."""
    generator = np.random.default_rng(0)
    n_sessions = generator.integers(3, 13, N_SPEAKERS)
    speaker = np.repeat(np.arange(N_SPEAKERS), n_sessions)
    session = np.repeat(
        np.arange(len(speaker)), generator.integers(1, 10, len(speaker))
    )
    x = generator.normal(size=(N_SPEAKERS, 48))[speaker[session]]
    x += 0.5 * generator.normal(size=(len(speaker), 48))[session]
    x = unit_rows(x + 0.7 * generator.normal(size=x.shape))
    leaves, leaf_of, _ = kmeans(x, 300, seed=0)
    return ward_tree(leaves, np.bincount(leaf_of)), x, leaf_of, True


@pytest.mark.parametrize("criterion", [c for c in CRITERIA if c != "cosine"])
def test_the_number_of_unevenly_frequent_speakers_is_found(corpus, criterion):
    choice = choose_n_clusters(*corpus, criterion)
    assert choice.n_clusters == pytest.approx(N_SPEAKERS, rel=0.15)
    assert choice.certain
    assert choice.by_criterion[criterion] == choice.n_clusters


def test_a_higher_cosine_threshold_leaves_more_clusters(corpus):
    low, high = (
        choose_n_clusters(*corpus, "cosine", cosine_threshold=t).n_clusters
        for t in (0.3, 0.5)
    )
    assert low < high


def test_the_number_lies_within_given_limits(corpus):
    choice = choose_n_clusters(*corpus, "gap", limits=(20, 40))
    assert 20 <= choice.n_clusters <= 40
    assert (choice.numbers[0], choice.numbers[-1]) == (20, 40)


def test_the_choice_is_the_same_twice_and_can_be_written_as_json(corpus):
    one, two = (choose_n_clusters(*corpus).as_json() for _ in range(2))
    assert one == two
    assert json.loads(json.dumps(one)) == one
    assert set(one["curves"]) == set(CRITERIA) - {"consensus"}


def test_a_choice_on_noise_is_marked_as_uncertain():
    x = unit_rows(np.random.default_rng(0).normal(size=(300, 32)))
    choice = choose_n_clusters(ward_tree(x), x)
    assert not choice.certain
    assert choice.numbers[0] <= choice.n_clusters <= choice.numbers[-1]


def test_the_peak_of_most_clusters_is_taken_if_it_is_high_enough():
    numbers = np.arange(10, 30)
    values = np.zeros(20)
    assert finest_peak(numbers, values) is None
    assert finest_peak(numbers, np.linspace(0, 1, 20)) is None
    values[4:7] = 0.3, 0.6, 0.3
    values[12:15] = 0.2, 0.4, 0.2
    assert finest_peak(numbers, values) == 23
    values[12:15] = 0.02, 0.04, 0.02
    assert finest_peak(numbers, values) == 15


def test_an_unknown_criterion_is_refused(corpus):
    with pytest.raises(InputError, match="criterion is 'elbow'; .*consensus"):
        choose_n_clusters(*corpus, "elbow")
