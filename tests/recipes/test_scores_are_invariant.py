"""Scores do not know of batches, of the order of files, or of processes."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from tones import SMALL, without_speakers, write_tones

from recipes import extract_embeddings, score_trials
from speechbrain_ext.dataio.manifest import write_manifest
from speechbrain_ext.models.embedder import build_embedder, save_embedder

TOLERANCE = 1e-5
BACKENDS = ("raw", "as-norm", "raw+linear")
WAYS = {
    "small batches": {"max_batch_seconds": 0.1, "chunk_size": 3},
    "another order": {"annotation": "shuffled.csv"},
    "a reading process": {"num_workers": 1, "chunk_size": 7},
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """An embedder, 20 utterances in two orders, their trials and clusters."""
    folder = tmp_path_factory.mktemp("corpus")
    rows = write_tones(folder, n_speakers=4, n_utterances=5)
    write_manifest(folder / "labels.csv", rows, "pseudo_labels")
    utterances = without_speakers(rows)
    write_manifest(folder / "all.csv", utterances, "utterances")
    order = np.random.default_rng(0).permutation(len(rows))
    shuffled = [utterances[i] for i in order]
    write_manifest(folder / "shuffled.csv", shuffled, "utterances")
    lines = [
        f"{int(a['spk_id'] == b['spk_id'])} {a['ID']} {b['ID']}\n"
        for n, a in enumerate(rows)
        for b in rows[:n]
    ]
    (folder / "list.txt").write_text("".join(lines))
    mixed = [lines[i] for i in np.random.default_rng(1).permutation(len(lines))]
    (folder / "mixed.txt").write_text("".join(mixed))
    torch.manual_seed(0)
    embedder = build_embedder("hparams/embedders/ecapa.yaml", SMALL)
    embedder(torch.randn(8, 8000))  # statistics for its BatchNorms
    save_embedder(folder / "embedder", embedder)
    return folder


def extraction(corpus, folder, annotation="all.csv", **others):
    options = {
        "embedder_folder": corpus / "embedder",
        "annotation": corpus / annotation,
        "data_folder": corpus,
        "output_folder": folder,
        "n_crops": 3,
        "crop": 0.3,
        "num_workers": 0,
        "device": "cpu",
        **others,
    }
    leaf = "hparams/extract_embeddings.yaml"
    return [leaf, *(f"--{key}={value}" for key, value in options.items())]


def scores_of(corpus, embeddings, protocol):
    """All scores [B, N] by back-end, in the order of the sorted trials."""
    output = embeddings.parent / f"{embeddings.name}_{protocol}"
    options = {
        "embeddings_folder": embeddings,
        "trials": f"[{corpus}/list.txt, {corpus}/mixed.txt]",
        "output_folder": output,
        "protocol": protocol,
        "backends": json.dumps(BACKENDS),
        "cohort_folder": embeddings,
        "cohort_labels": corpus / "labels.csv",
        "top_k": 3,
        "n_calibration": 1000,
        "n_bootstrap": 5,
    }
    leaf = "hparams/score_trials.yaml"
    score_trials.main([leaf, *(f"--{k}={v}" for k, v in options.items())])
    found = {}
    for name in ("list", "mixed"):
        pairs = pd.read_csv(
            corpus / f"{name}.txt", sep=" ", names=["label", "a", "b"]
        )
        order = pairs.sort_values(["a", "b"]).index
        found[name] = np.stack(
            [
                np.load(output / f"scores_{name}_{b}.npy")[order]
                for b in BACKENDS
            ]
        )
    np.testing.assert_array_equal(found["list"], found["mixed"])
    return found["list"]


@pytest.fixture(scope="module")
def expected(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain") / "embeddings"
    extract_embeddings.main(extraction(corpus, folder))
    return {p: scores_of(corpus, folder, p) for p in ("full", "crops")}


def check(corpus, folder, expected):
    for protocol, scores in expected.items():
        found = scores_of(corpus, folder, protocol)
        # As-norm and calibration magnify, each by its own scale.
        scale = np.maximum(scores.std(axis=1, keepdims=True), 1)
        assert (np.abs(found - scores) / scale).max() < TOLERANCE
    assert expected["full"].std(axis=1).min() > 100 * TOLERANCE
    assert np.abs(expected["full"] - expected["crops"]).max() > 100 * TOLERANCE


@pytest.mark.parametrize("way", WAYS)
def test_scores_do_not_depend_on_how_embeddings_are_extracted(
    corpus, expected, tmp_path, way
):
    folder = tmp_path / "embeddings"
    extract_embeddings.main(extraction(corpus, folder, **WAYS[way]))
    check(corpus, folder, expected)


def test_scores_are_the_same_from_two_processes(corpus, expected, tmp_path):
    folder = tmp_path / "embeddings"
    argv = extraction(corpus, folder, chunk_size=3, distributed_backend="gloo")
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        + ["--nproc_per_node=2", extract_embeddings.__file__, *argv],
        env={**os.environ, "PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    check(corpus, folder, expected)
