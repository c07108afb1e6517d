"""Cohorts: means by pseudo-speaker, utterances, and a draw of either."""

import numpy as np
import pandas as pd
import pytest

from speechbrain_ext.dataio.manifest import write_manifest
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.verification.cohort import read_cohort

SPEAKERS = np.arange(12) % 4


@pytest.fixture
def folder(tmp_path):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(12, 5)).astype(np.float32)
    np.save(tmp_path / "embeddings.npy", x)
    ids = [f"u{number}" for number in range(12)]
    table = pd.DataFrame({"ID": ids, "row": np.arange(12)})
    table.to_csv(tmp_path / "embeddings.csv", index=False)
    table = table.drop(columns="row").assign(
        duration=1.0,
        wav="x.wav",
        start=0,
        stop=16000,
        spk_id=[f"p{speaker}" for speaker in SPEAKERS],
    )
    write_manifest(tmp_path / "labels.csv", table, "pseudo_labels")
    return tmp_path, x


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.mark.parametrize("centred", [False, True])
def test_means_are_of_unit_embeddings_and_of_length_one(folder, centred):
    path, x = folder
    given = (x.mean(axis=0), np.eye(x.shape[1])) if centred else None
    found = read_cohort(path, path / "labels.csv", whitening=given)
    moved = x - x.mean(axis=0) if centred else x
    expected = [unit(moved)[SPEAKERS == s].mean(axis=0) for s in range(4)]
    np.testing.assert_allclose(
        found.vectors, unit(np.array(expected)), atol=1e-6
    )
    assert found.kind == "means"


def test_utterances_need_no_labels(folder):
    path, x = folder
    found = read_cohort(path, None, "utterances")
    np.testing.assert_allclose(found.vectors, unit(x), atol=1e-6)


@pytest.mark.parametrize(("kind", "n"), [("means", 3), ("utterances", 7)])
def test_a_drawn_cohort_has_no_repeats_and_is_reproducible(folder, kind, n):
    path, _ = folder
    labels = path / "labels.csv"
    whole = read_cohort(path, labels, kind).vectors.tolist()
    found = read_cohort(path, labels, kind, n_cohort=n, seed=1).vectors
    again = read_cohort(path, labels, kind, n_cohort=n, seed=1).vectors
    np.testing.assert_array_equal(found, again)
    assert len(np.unique(found, axis=0)) == n
    assert all(row in whole for row in found.tolist())
    assert len(read_cohort(path, labels, kind, n_cohort=99).vectors) == len(
        whole
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "all"}, "cohort is 'all'"),
        ({"n_cohort": 1}, "n_cohort is 1"),
        ({"labels": None}, "--cohort_labels, or --cohort=utterances"),
    ],
)
def test_unfit_kinds_and_sizes_are_refused(folder, options, message):
    path, _ = folder
    with pytest.raises(InputError, match=message):
        read_cohort(path, **{"labels": path / "labels.csv", **options})


def test_labels_without_embeddings_are_left_out_of_a_sample(folder):
    path, x = folder
    index = pd.read_csv(path / "embeddings.csv")
    index[:6].to_csv(path / "embeddings.csv", index=False)
    np.save(path / "embeddings.npy", x[:6])
    labels = path / "labels.csv"
    with pytest.raises(InputError, match="lacks 6 of 12 utterances"):
        read_cohort(path, labels)
    found = read_cohort(path, labels, sampled=True).vectors
    means = [unit(x[:6])[SPEAKERS[:6] == s].mean(axis=0) for s in range(4)]
    np.testing.assert_allclose(found, unit(np.array(means)), atol=1e-6)
    index = index[:6].assign(ID="v" + index.ID)
    index.to_csv(path / "embeddings.csv", index=False)
    with pytest.raises(InputError, match="a sample must be of labelled"):
        read_cohort(path, labels, sampled=True)
