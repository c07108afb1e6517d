"""Who is who: groups of embeddings against the voices they were made of."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from speechbrain_ext.inference.grouping import group_embeddings
from speechbrain_ext.utils.errors import InputError


def voices(n_speakers=5, n_each=8, noise=0.1, seed=0):
    """Embeddings of well separated speakers, and the speakers, shuffled."""
    generator = np.random.default_rng(seed)
    means = generator.normal(size=(n_speakers, 24))
    speakers = generator.permutation(np.repeat(np.arange(n_speakers), n_each))
    x = means[speakers] + noise * generator.normal(size=(len(speakers), 24))
    return x * generator.uniform(0.5, 9, size=(len(x), 1)), speakers


def test_speakers_are_found_with_and_without_their_number():
    x, speakers = voices()
    for n_speakers in (5, None):
        groups = group_embeddings(x, n_speakers)
        assert groups.n_speakers == 5
        assert adjusted_rand_score(speakers, groups.labels) == 1


def test_groups_are_numbered_by_size_then_by_their_first_file():
    means = np.eye(3)[[2, 0, 1, 1, 0, 1]]
    noise = 0.01 * np.random.default_rng(1).normal(size=means.shape)
    labels = group_embeddings(means + noise, n_speakers=3).labels
    assert labels.tolist() == [2, 1, 0, 0, 1, 0]


def test_similarity_is_the_cosine_to_the_own_and_the_next_mean():
    x, _ = voices(n_speakers=3, n_each=4, noise=0.4)
    groups = group_embeddings(x, 3)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    for row in range(len(x)):
        cosines = []
        for k in range(3):
            mean = unit[groups.labels == k].mean(axis=0)
            cosines.append(unit[row] @ mean / np.linalg.norm(mean))
        own = cosines.pop(groups.labels[row])
        assert groups.similarity[row] == pytest.approx(own, abs=1e-5)
        assert groups.other[row] == pytest.approx(max(cosines), abs=1e-5)


def test_one_speaker_is_one_group():
    x, _ = voices(n_speakers=2, n_each=3)
    groups = group_embeddings(x, 1)
    assert not groups.labels.any() and (groups.other == -1).all()


@pytest.mark.parametrize("given", [(5, None), (3, 4), (8, 0), (0, 1)])
def test_too_few_utterances_are_one_clear_error(given):
    n_rows, n_speakers = given
    x = np.eye(max(n_rows, 1))[:n_rows]
    with pytest.raises(InputError, match="cannot be grouped|no rows|0 utter"):
        group_embeddings(x, n_speakers)
