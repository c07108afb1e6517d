"""Memory of a process does not grow with the rows that it works on."""

import tracemalloc

import pytest

from benchmarks import scale
from speechbrain_ext.clustering import churn
from speechbrain_ext.dataio import columns, manifest, trials
from speechbrain_ext.utils import vectors

FEW, MANY = 4000, 16_000
# Stages whose numpy arrays and Python objects are followed; each reads files
# that the others wrote.
STAGES = (
    "manifest_write",
    "embeddings_join",
    "k_means",
    "label_making",
    "churn",
    "cohort",
    "as_norm",
)
# Bytes a row: less than one number, were it kept for each of them. A list of
# trials keeps the IDs of its utterances, here one for ten trials.
ALLOWED, OF_IDS = 7.5, {"as_norm": 20}


@pytest.fixture
def small_blocks(monkeypatch):
    """All that may lie in a file does, and blocks are of some hundred rows."""
    monkeypatch.setattr(vectors, "LARGE", 1)
    monkeypatch.setattr(vectors, "_BLOCK", 2**9)
    monkeypatch.setattr(manifest, "LARGE", 1)
    monkeypatch.setattr(churn, "_BLOCK", 2**11)
    for module in (columns, manifest, trials):
        monkeypatch.setattr(module, "BLOCK", 128)
    monkeypatch.setattr("speechbrain_ext.clustering.label_files.BLOCK", 128)
    monkeypatch.setattr(scale, "_BLOCK", 128)
    monkeypatch.setattr(scale, "N_COHORT", 50)
    monkeypatch.setattr(scale, "TOP_K", 10)
    monkeypatch.setattr(
        "speechbrain_ext.verification.score_norm._SCORES_AT_ONCE", 2**9
    )


def peak(stage, folder, n_rows):
    cell = scale.Cell(folder, n_rows, 8)
    tracemalloc.start()
    try:
        getattr(cell, stage)()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("stage", STAGES)
def test_memory_does_not_grow_with_the_rows(stage, tmp_path, small_blocks):
    peaks = []
    for n_rows in (FEW, FEW, MANY):  # once to fill caches
        folder = tmp_path / f"{len(peaks)}"
        folder.mkdir()
        scale.prepare(stage, folder, n_rows, 8)
        peaks.append(peak(stage, folder, n_rows))
    a_row = (peaks[2] - peaks[1]) / (MANY - FEW)
    assert a_row < OF_IDS.get(stage, ALLOWED)
