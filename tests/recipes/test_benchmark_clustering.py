"""The clustering benchmark measures what it says."""

import os

import numpy as np
import pytest

from benchmarks import clustering


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    clustering.draw_corpus(folder, 4000, 40, dimension=64)
    return folder


def test_the_corpus_is_skewed_and_every_speaker_is_there(corpus):
    x = np.load(corpus / "embeddings.npy", mmap_mode="r")
    speakers = np.load(corpus / "speakers.npy")
    assert x.shape == (4000, 64)
    assert x.dtype == np.float32
    sizes = np.bincount(speakers)
    assert len(sizes) == 40
    assert sizes.min() > 0
    assert sizes.max() > 3 * np.median(sizes)


def test_embeddings_of_a_speaker_are_nearer_than_those_of_others(corpus):
    x = clustering.rows_to_join(corpus, 1000)
    speakers = np.load(corpus / "speakers.npy")[:1000]
    same = speakers[:, None] == speakers
    np.fill_diagonal(same, False)
    cosine = x @ x.T
    assert cosine[same].mean() > cosine[speakers[:, None] != speakers].mean()
    # And sessions within: the cosines of a speaker are far from all alike.
    assert cosine[same].std() > 0.1


def speakers_of(corpus):
    return np.load(corpus / "speakers.npy")


def test_weighted_and_equal_centroids_and_one_level_are_compared(corpus):
    x, speakers = clustering.rows_to_join(corpus, 4000), speakers_of(corpus)
    report = clustering.two_levels(x, speakers, 200, [40])
    found = report["nmi, 40 clusters"]
    assert 0.5 < found["one level"] < found["weighted"] < 1
    assert 0.5 < found["equal"] < 1


def test_clustering_in_two_levels_agrees_more_with_speakers_than_in_one(corpus):
    arguments = clustering.parse([])
    arguments.n_speakers, arguments.n_centroids = 40, 300
    report = clustering.whole(corpus, arguments)
    assert report["two_levels"]["peak_mb"] > 100
    figures = [report[name]["figures"] for name in ("one_level", "two_levels")]
    assert figures[0]["nmi"] < figures[1]["nmi"]
    ratio = report["n_clusters_over_speakers"]
    assert ratio == round(figures[1]["n_clusters"] / 40, 3)


def test_the_two_trees_are_compared_on_the_same_rows(corpus):
    report = clustering.ward_and_scikit_learn(corpus, 400)
    assert report["ari"] == 1.0
    assert report["ours_seconds"] > 0


def test_the_full_size_is_that_of_voxceleb2_and_each_size_can_be_set():
    full = clustering.parse(["--full", "--ward_sizes", "7"])
    assert (full.n_utterances, full.n_speakers) == (1_092_009, 5994)
    assert (full.n_centroids, full.ward_sizes) == (50_000, [7])
    assert clustering.parse([]).n_utterances < 100_000


def test_a_part_runs_in_a_process_of_its_own():
    assert clustering.alone(os.getpid) != os.getpid()
