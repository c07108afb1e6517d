"""Extraction in memory: each row is its utterance's, whatever the batches."""

import errno
import multiprocessing
import os

import numpy as np
import pandas as pd
import pytest
import torch
from odd_audio import cut, silent, with_nan
from small_disk import small_disk
from small_recordings import LENGTHS, small_embedder, write_recordings

from speechbrain_ext.dataio.audio import read_crop
from speechbrain_ext.dataio.manifest import Manifest, select
from speechbrain_ext.models.extraction import (
    Crops,
    embed_in_chunks,
    embed_manifest,
    joined_chunks,
    read_batches,
)
from speechbrain_ext.utils.errors import InputError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_recordings(tmp_path_factory.mktemp("wavs"))


@pytest.fixture(scope="module")
def embedder():
    return small_embedder()


@pytest.fixture(scope="module")
def manifest(folder):
    return Manifest(pd.read_csv(folder / "all.csv"), "utterances", str(folder))


@pytest.mark.parametrize(("seconds", "num_workers"), [(240, 0), (0.6, 2)])
def test_rows_are_in_the_order_of_the_manifest(
    embedder, manifest, seconds, num_workers
):
    found = embed_manifest(embedder, manifest, "x", num_workers, seconds)
    for row, path in enumerate(manifest.paths()):
        wanted = embedder.embed(read_crop(path)[None])[0].numpy()
        np.testing.assert_allclose(found[row], wanted, rtol=1e-4, atol=1e-5)


@pytest.fixture
def loaders(monkeypatch):
    """The DataLoaders that are made."""
    made = []
    begin = torch.utils.data.DataLoader.__init__

    def noting(self, *args, **options):
        begin(self, *args, **options)
        made.append(self)

    monkeypatch.setattr(torch.utils.data.DataLoader, "__init__", noting)
    return made


@pytest.mark.parametrize(("device", "pinned"), [("cuda", True), ("cpu", False)])
def test_batches_for_a_gpu_are_pinned(manifest, loaders, device, pinned):
    read_batches(manifest, [[0]], 0, torch.device(device))
    assert [loader.pin_memory for loader in loaders] == [pinned]


def test_all_chunks_are_read_by_the_same_processes(
    embedder, manifest, loaders, tmp_path
):
    embed_in_chunks(embedder, manifest, tmp_path, 0.3, 1, num_workers=1)
    paths = sorted(tmp_path.glob("*.npz"))
    assert len(paths) > 2 and len(loaders) == 1
    whole = embed_manifest(embedder, manifest, None)
    for path in paths:
        with np.load(path) as chunk:
            wanted = whole[chunk["rows"]]
            np.testing.assert_allclose(chunk["embeddings"], wanted, rtol=1e-4)
    # Nothing is missing: no process is started.
    embed_in_chunks(embedder, manifest, tmp_path, 0.3, 1, num_workers=1)
    assert len(loaders) == 2


def test_utterances_may_be_cut_to_share_batches(
    embedder, manifest, monkeypatch
):
    sizes = []
    embed = type(embedder).embed

    def recorded(self, wavs):
        sizes.append(tuple(wavs.shape))
        return embed(self, wavs)

    monkeypatch.setattr(type(embedder), "embed", recorded)
    found = embed_manifest(embedder, manifest, None, grain=4500)
    assert sizes[1:] == [(3, 4500), (2, 4000)]
    wav = read_crop(manifest.paths()[3], 0, 4500)
    wanted = embed(embedder, wav[None])[0].numpy()
    np.testing.assert_allclose(found[3], wanted, rtol=1e-4, atol=1e-5)


def test_embedding_leaves_a_model_in_train_mode_and_unchanged(
    embedder, manifest
):
    embedder.train()
    before = {k: v.clone() for k, v in embedder.state_dict().items()}
    in_training = embed_manifest(embedder, manifest, "x")
    assert embedder.training
    for name, value in embedder.state_dict().items():
        assert torch.equal(value, before[name]), name
    embedder.eval()
    assert np.array_equal(in_training, embed_manifest(embedder, manifest, "x"))


def test_two_processes_embed_each_utterance_once(
    embedder, manifest, monkeypatch
):
    alone = embed_manifest(embedder, manifest, None)
    monkeypatch.setattr(
        "speechbrain_ext.models.extraction.n_processes", lambda: 2
    )
    monkeypatch.setattr(
        "speechbrain_ext.models.extraction.process_sum", lambda value: value
    )
    parts = []
    for rank in (0, 1):
        monkeypatch.setattr(
            "speechbrain_ext.models.extraction.get_rank", lambda rank=rank: rank
        )
        parts.append(embed_manifest(embedder, manifest, None))
    done = np.array([part.any(axis=1) for part in parts])
    assert done.sum(axis=0).tolist() == [1] * len(LENGTHS)
    assert done.any(axis=1).all()
    assert np.array_equal(sum(parts), alone)


def test_crops_are_evenly_spaced_from_start_to_end():
    wavs = torch.arange(200.0).reshape(2, 100)
    crops = Crops(5, 20).cut(wavs)
    assert [int(crop[0, 0]) for crop in crops] == [0, 20, 40, 60, 80]
    assert [int(crop[1, -1]) for crop in crops] == [119, 139, 159, 179, 199]
    assert all(crop.shape == (2, 20) for crop in crops)


def test_an_utterance_shorter_than_a_crop_is_repeated():
    wavs = torch.tensor([[1.0, 2.0, 3.0]])
    crops = Crops(4, 8).cut(wavs)
    assert len(crops) == 4
    for crop in crops:
        assert crop.tolist() == [[1, 2, 3, 1, 2, 3, 1, 2]]
    (crop,) = Crops(1, 3).cut(wavs)
    assert crop.tolist() == wavs.tolist()


def test_a_single_crop_is_the_start_of_the_utterance():
    (crop,) = Crops(1, 4).cut(torch.arange(10.0)[None])
    assert crop.tolist() == [[0, 1, 2, 3]]


def test_a_file_that_became_bad_is_named_and_leaving_it_out_helps(
    embedder, manifest, tmp_path
):
    write_recordings(tmp_path)
    moved = Manifest(manifest.table, "utterances", str(tmp_path))
    kept = select(moved, np.array([0, 1, 3, 4]))
    for spoil in (cut, silent, with_nan):
        write_recordings(tmp_path)
        spoil(tmp_path / "2.wav")
        with pytest.raises(InputError, match=r"2\.wav: .*; delete its row"):
            embed_manifest(embedder, moved, None)
        assert np.isfinite(embed_manifest(embedder, kept, None)).all()


def test_weights_that_are_not_finite_are_not_blamed_on_the_audio(manifest):
    broken = small_embedder()
    next(broken.parameters()).data[0] = torch.nan
    with pytest.raises(InputError, match=r"^u\d: .*weight .*audio is not to"):
        embed_manifest(broken, manifest, None)


def _join(folder, output):
    try:
        joined_chunks(folder, 10**4, {"embeddings": output})
    except OSError as error:
        os._exit(error.errno)


def test_chunks_joined_on_a_full_disk_are_an_error_and_no_sudden_end(tmp_path):
    """The process was gone without a word, by SIGBUS."""
    rows = {"rows": np.arange(10**4), "embeddings": np.ones((10**4, 9))}
    np.savez(tmp_path / "000000.npz", **rows)
    fork = multiprocessing.get_context("fork")
    with small_disk(tmp_path / "small") as disk:
        output = disk / "embeddings.npy"
        process = fork.Process(target=_join, args=(tmp_path, output))
        process.start()
        process.join()
        assert process.exitcode == errno.ENOSPC
        assert not list(disk.iterdir())
