"""Preparation, clustering, churn and AS-norm give the same on two processes.

test_extract_embeddings.py says so of extraction, test_two_processes.py of the
trainings.
"""

import importlib
import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import run_recipes

from speechbrain_ext.dataio.manifest import write_manifest
from speechbrain_ext.verification import score_norm

N, SIZE = 90, 12


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Nine speakers in noise, with trials."""
    folder = tmp_path_factory.mktemp("corpus")
    generator = np.random.default_rng(0)
    speaker = np.arange(N) % 9
    centres = generator.normal(size=(9, SIZE))
    x = centres[speaker] + 0.5 * generator.normal(size=(N, SIZE))
    np.save(folder / "embeddings.npy", x.astype(np.float32))
    ids = [f"{s}/{row}/a.wav" for row, s in enumerate(speaker)]
    index = pd.DataFrame({"ID": ids, "row": np.arange(N)})
    write_manifest(folder / "embeddings.csv", index, "embeddings")
    rows = index[["ID"]].assign(duration=1.0, wav=ids, start=0, stop=16000)
    write_manifest(folder / "train.csv", rows, "utterances")
    pairs = [(a, b) for a in range(N) for b in range(a + 1, N, 7)]
    lines = [
        f"{int(speaker[a] == speaker[b])} {ids[a]} {ids[b]}" for a, b in pairs
    ]
    (folder / "list.txt").write_text("\n".join(lines) + "\n")
    return folder


def jobs(corpus, out):
    """Two clusterings, the second compared with the first, and scores."""
    common = {"device": "cpu", "distributed_backend": "gloo"}
    labels = {
        "embeddings_folder": corpus,
        "train_annotation": corpus / "train.csv",
        "n_centroids": 30,
        **common,
    }
    first = {"n_clusters": 9, "output_folder": out / "first"}
    second = {
        "n_clusters": 12,
        "previous_labels": out / "first" / "pseudo_labels.csv",
        "output_folder": out / "second",
    }
    scores = {
        "embeddings_folder": corpus,
        "cohort_folder": corpus,
        "cohort_labels": out / "second" / "pseudo_labels.csv",
        "trials": corpus / "list.txt",
        "backends": "[raw, as-norm]",
        "top_k": 5,
        "n_bootstrap": 5,
        "output_folder": out / "scores",
        **common,
    }
    toy = {
        "n_speakers": 3,
        "n_test_speakers": 2,
        "n_sessions": 2,
        "n_utterances": 2,
        "n_sounds": 2,
        "n_trials": 8,
        "min_seconds": 0.5,
        "max_seconds": 1.0,
        "num_workers": 0,
        "output_folder": out / "toy",
        **common,
    }
    copies = {
        "data_folder": out / "toy" / "train",
        "min_duration": 0.7,
        "convert_to_wav": True,
        "num_workers": 2,
        "output_folder": out / "copies",
        **common,
    }
    chain = [
        ("prepare_toy", toy),
        ("prepare_folder", copies),
        ("make_pseudo_labels", {**labels, **first}),
        ("make_pseudo_labels", {**labels, **second}),
        ("score_trials", scores),
    ]
    return [
        (
            recipe,
            [f"hparams/{recipe}.yaml"]
            + [f"--{key}={value}" for key, value in options.items()],
        )
        for recipe, options in chain
    ]


@pytest.fixture(scope="module")
def both(corpus, tmp_path_factory):
    """Folders of one process and of two."""
    one, two = (tmp_path_factory.mktemp(name) for name in ("one", "two"))
    for recipe, argv in jobs(corpus, one):
        importlib.import_module(f"recipes.{recipe}").main(argv)
    (two / "jobs.json").write_text(json.dumps(jobs(corpus, two)))
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        + ["--nproc_per_node=2", run_recipes.__file__, two / "jobs.json"],
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return one, two


@pytest.mark.parametrize(
    "name",
    [
        "toy/train.csv",
        "toy/oracle.csv",
        "toy/trials/toy.txt",
        "copies/train.csv",
        "first/pseudo_labels.csv",
        "second/pseudo_labels.csv",
        "scores/scores_list_raw.npy",
        "scores/scores_list_as-norm.npy",
        "scores/result_list_as-norm.json",
    ],
)
def test_two_processes_leave_the_files_of_one(both, name):
    first, second = ((folder / name).read_bytes() for folder in both)
    assert first == second


def test_two_processes_convert_and_reject_the_same_files(both):
    one, two = (folder / "copies" for folder in both)
    names = sorted(p.relative_to(one) for p in one.rglob("*.wav"))
    assert len(names) == 12
    for name in names:
        assert (one / name).read_bytes() == (two / name).read_bytes()
    reasons = [
        pd.read_csv(folder / "rejects.csv").reason.tolist()
        for folder in (one, two)
    ]
    assert reasons[0] == reasons[1] and len(reasons[0]) > 1


def test_churn_of_two_processes_is_that_of_one(both):
    first, second = (
        json.loads((folder / "second" / "clusters.json").read_text())
        for folder in both
    )
    assert first["statistics"] == second["statistics"]
    assert 0 < first["statistics"]["churn"] < 0.5


@pytest.mark.parametrize("n_processes", [2, 3, 200])
def test_blocks_of_cohort_scores_are_shared_exactly(monkeypatch, n_processes):
    generator = np.random.default_rng(0)
    x, cohort = generator.normal(size=(2, 40, 8)).astype(np.float32)
    monkeypatch.setattr(score_norm, "_SCORES_AT_ONCE", 3 * len(cohort))
    whole = score_norm.cohort_statistics(x, cohort, 7)
    parts = []
    for rank in range(n_processes):
        with monkeypatch.context() as patch, pytest.raises(StopIteration):
            patch.setattr(score_norm, "own_rows", spans(rank, n_processes))
            patch.setattr(score_norm, "gathered_objects", noted(parts))
            score_norm.cohort_statistics(x, cohort, 7)
    for number in (0, 1):
        total = sum(part[number] for part in parts)
        np.testing.assert_array_equal(total, whole[number])


def spans(rank, count):
    return lambda n: slice(n * rank // count, n * (rank + 1) // count)


def noted(parts):
    def note(value):
        parts.append(value)
        raise StopIteration

    return note
