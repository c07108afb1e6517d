"""SSPS: positives come from near clusters, and are a function of the epoch."""

import numpy as np
import pytest
import torch

from speechbrain_ext.training.positives import (
    PositiveSampler,
    draw_rows,
    nearest_clusters,
)
from speechbrain_ext.utils.errors import InputError


@pytest.mark.parametrize("n_neighbours", [1, 3, 6])
def test_neighbours_have_the_highest_cosines(n_neighbours):
    generator = np.random.default_rng(0)
    centroids = generator.normal(size=(7, 4)).astype(np.float32)
    found = nearest_clusters(centroids, n_neighbours)
    for own in range(7):
        cosine = [
            -2.0
            if other == own
            else centroids[own]
            @ centroids[other]
            / np.linalg.norm(centroids[own])
            / np.linalg.norm(centroids[other])
            for other in range(7)
        ]
        assert (
            found[own].tolist()
            == np.argsort(cosine)[::-1][:n_neighbours].tolist()
        )


def test_with_no_neighbours_a_cluster_is_its_own_neighbour():
    found = nearest_clusters(np.eye(3, dtype=np.float32), 0)
    assert found.tolist() == [[0], [1], [2]]


def test_clusters_of_equal_centroids_have_as_many_neighbours():
    centroids = np.array([[1, 1]] * 5 + [[1, 0]], dtype=np.float32)
    found = nearest_clusters(centroids, 2)
    assert found.shape == (6, 2)
    assert (found[5] < 5).all()


def test_every_member_of_every_near_cluster_is_drawn():
    labels = np.array([0, 1, 1, 2, 2, 2])
    near = np.array([[1, 2], [0, 2], [1, 0]])
    generator = np.random.default_rng(0)
    drawn = [
        draw_rows(labels, near, generator.random((6, 2))) for _ in range(300)
    ]
    for row, label in enumerate(labels):
        members = np.flatnonzero(np.isin(labels, near[label]))
        assert set(np.stack(drawn)[:, row]) == set(members)


def test_clusters_of_all_sizes_are_equally_likely():
    labels = np.array([0] + [1] + [2] * 8)
    near = np.array([[1, 2], [0, 2], [0, 1]])
    uniform = np.random.default_rng(1).random((4000, 2))
    cluster = labels[
        [
            draw_rows(labels, near, pair[None].repeat(10, 0))[0]
            for pair in uniform
        ]
    ]
    assert 0.45 < (cluster == 1).mean() < 0.55


def sessions(n_speakers=6, n_sessions=3, n_utterances=4):
    """Speakers far apart, their sessions near each other."""
    generator = np.random.default_rng(0)
    speaker = 10 * np.eye(12)[:n_speakers]
    rows, keys = [], []
    for own in range(n_speakers):
        for session in range(n_sessions):
            place = speaker[own] + generator.normal(size=12)
            for _ in range(n_utterances):
                rows.append(place + 0.05 * generator.normal(size=12))
                keys.append((own, session))
    return np.array(rows, dtype=np.float32), np.array(keys)


def positives(epoch=1, n_neighbours=1, seed=0):
    x, keys = sessions()
    sampler = PositiveSampler(len(x), 24, n_neighbours, seed)
    sampler.draw(x, epoch)
    return keys, keys[sampler.rows], sampler


def test_a_positive_is_of_the_same_speaker_in_another_session():
    own, other, _ = positives()
    # By chance 17 % and 6 %; k-means splits some sessions in two.
    assert (own[:, 0] == other[:, 0]).mean() > 0.75
    assert (own == other).all(axis=1).mean() < 0.5


def test_with_no_neighbours_a_positive_is_of_the_same_session():
    own, other, _ = positives(n_neighbours=0)
    assert (own == other).all(axis=1).mean() > 0.7


def test_epoch_and_seed_decide_the_draw():
    rows = positives()[2].rows
    assert torch.equal(rows, positives()[2].rows)
    assert not torch.equal(rows, positives(epoch=2)[2].rows)
    assert not torch.equal(rows, positives(seed=1)[2].rows)


def test_a_checkpoint_keeps_rows_and_epoch():
    sampler = positives(epoch=5)[2]
    other = PositiveSampler(len(sampler.rows), 24, 1, 0)
    assert int(other.epoch) == -1
    other.load_state_dict(sampler.state_dict())
    assert torch.equal(other.rows, sampler.rows)
    assert int(other.epoch) == 5


@pytest.mark.parametrize(("n_clusters", "n_neighbours"), [(11, 1), (3, 3)])
def test_impossible_numbers_of_clusters_and_neighbours_are_refused(
    n_clusters, n_neighbours
):
    with pytest.raises(InputError, match="--ssps_clusters"):
        PositiveSampler(10, n_clusters, n_neighbours, seed=0)
