"""Protocols: the vectors' inner products are the scores they stand for."""

import numpy as np
import pandas as pd
import pytest

from speechbrain_ext.dataio.manifest import Manifest
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.vectors import inner_products
from speechbrain_ext.utils.whitening import whitening
from speechbrain_ext.verification.protocols import (
    as_cohort,
    durations_of,
    read_voices,
)

IDS = np.array(["c", "a", "b"], dtype=object)


@pytest.fixture
def folder(tmp_path):
    """Embeddings of four utterances, in another order than their names."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(4, 6)).astype(np.float32) + 0.5
    crops = generator.normal(size=(4, 5, 6)).astype(np.float32) + 0.5
    np.save(tmp_path / "embeddings.npy", x)
    np.save(tmp_path / "crop_embeddings.npy", crops)
    table = pd.DataFrame({"ID": ["d", "a", "c", "b"], "row": [0, 2, 1, 3]})
    table.to_csv(tmp_path / "embeddings.csv", index=False)
    by_id = {"c": 1, "a": 2, "b": 3}
    return tmp_path, x, crops, by_id


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("whitened", [False, True])
@pytest.mark.parametrize("protocol", ["full", "crops"])
def test_scores_are_those_of_the_protocol_pair_by_pair(
    folder, protocol, whitened
):
    path, x, crops, by_id = folder
    lengths = [np.linalg.norm(x[by_id[name]]) for name in IDS]
    mean, matrix = whitening(x, 0.5) if whitened else (0, np.eye(6))
    given = (mean, matrix) if whitened else None
    voices = read_voices(path, IDS, protocol, given)
    x, crops = (x - mean) @ matrix, (crops - mean) @ matrix
    pairs = [("c", "a"), ("a", "b"), ("b", "c")]
    expected = []
    for one, other in pairs:
        i, j = by_id[one], by_id[other]
        score = cosine(x[i], x[j])
        if protocol == "crops":
            every = [cosine(p, q) for p in crops[i] for q in crops[j]]
            score = (score + sum(every) / len(every)) / 2
        expected.append(score)
    enrol = voices.rows_of(np.array([one for one, _ in pairs]))
    test = voices.rows_of(np.array([other for _, other in pairs]))
    scores = inner_products(voices.vectors, enrol, test)
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    assert voices.n_crops == (5 if protocol == "crops" else 0)
    np.testing.assert_allclose(voices.magnitude, lengths, rtol=1e-6)


def test_a_cohort_is_compared_with_crops_and_whole_utterances(folder):
    path, x, crops, by_id = folder
    cohort = np.float32([[1, 0, 0, 0, 0, 0], [0, 0.6, 0.8, 0, 0, 0]])
    voices = read_voices(path, IDS, "crops")
    found = voices.vectors @ as_cohort(cohort, voices.n_crops).T
    for row, name in enumerate(IDS):
        for column, other in enumerate(cohort):
            every = [cosine(crop, other) for crop in crops[by_id[name]]]
            score = (np.mean(every) + cosine(x[by_id[name]], other)) / 2
            assert found[row, column] == pytest.approx(score, abs=1e-6)
    assert as_cohort(cohort, 0) is cohort


def test_an_unknown_protocol_is_refused(folder):
    with pytest.raises(InputError, match="protocol is 'both'"):
        read_voices(folder[0], IDS, "both")


def test_missing_crops_are_named(folder):
    (folder[0] / "crop_embeddings.npy").unlink()
    read_voices(folder[0], IDS)
    with pytest.raises(InputError, match="--n_crops=15"):
        read_voices(folder[0], IDS, "crops")


def test_crops_of_another_extraction_are_refused(folder):
    np.save(folder[0] / "crop_embeddings.npy", folder[2][:3])
    with pytest.raises(InputError, match=r"shape \[3, 5, 6\]"):
        read_voices(folder[0], IDS, "crops")


def test_a_crop_without_a_length_is_refused(folder):
    folder[2][2, 3] = 0
    np.save(folder[0] / "crop_embeddings.npy", folder[2])
    with pytest.raises(InputError, match="row 2 has length 0"):
        read_voices(folder[0], IDS, "crops")


def test_durations_come_in_the_order_asked_for():
    table = pd.DataFrame({"ID": ["a", "b"], "duration": [1.0, 2.5]})
    manifest = Manifest(table.astype({"ID": object}), "utterances")
    ids = np.array(["b", "a", "b"], dtype=object)
    assert durations_of(manifest, ids).tolist() == [2.5, 1.0, 2.5]
    with pytest.raises(InputError, match="'c' is not in the annotation"):
        durations_of(manifest, np.array(["a", "c"], dtype=object))
