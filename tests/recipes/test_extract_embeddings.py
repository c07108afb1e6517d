"""extract_embeddings: each utterance alone, whatever the batches or kills."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from any_device import DEVICES
from odd_audio import with_nan
from tiny_wavlm import TINY
from tiny_whisper import SHORT as WHISPER
from tones import SMALL, without_speakers, write_tones

from recipes import extract_embeddings
from speechbrain_ext.dataio.audio import read_crop
from speechbrain_ext.dataio.embedding_files import read_embeddings
from speechbrain_ext.dataio.manifest import read_manifest, write_manifest
from speechbrain_ext.models import extraction
from speechbrain_ext.models.embedder import build_embedder, save_embedder
from speechbrain_ext.models.embedder_folder import load_embedder
from speechbrain_ext.utils.errors import InputError

LEAF = "hparams/extract_embeddings.yaml"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """An embedder and 12 utterances of few lengths, in a mixed order."""
    folder = tmp_path_factory.mktemp("corpus")
    rows = without_speakers(write_tones(folder, 3, 4, lengths=(6000, 6002)))
    # Parts of files are utterances too.
    rows[3].update(start=1000, stop=5000, duration=0.25)
    rows[5].update(start=2000, stop=6000, duration=0.25)
    order = np.random.default_rng(1).permutation(len(rows))
    write_manifest(
        folder / "all.csv", [rows[i] for i in order], kind="utterances"
    )
    torch.manual_seed(0)
    embedder = build_embedder("hparams/embedders/ecapa.yaml", SMALL)
    embedder(torch.randn(8, 8000))  # statistics for its BatchNorms
    save_embedder(folder / "embedder", embedder)
    return folder


def arguments(corpus, output, **others):
    options = {
        "embedder_folder": corpus / "embedder",
        "annotation": corpus / "all.csv",
        "data_folder": corpus,
        "output_folder": output,
        "num_workers": 0,
        "device": "cpu",
        **others,
    }
    return [LEAF] + [f"--{key}={value}" for key, value in options.items()]


@pytest.fixture(scope="module")
def extracted(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("extracted") / "out"
    extract_embeddings.main(arguments(corpus, folder, chunk_size=5))
    return folder


def test_each_utterance_is_embedded_as_it_would_be_alone(corpus, extracted):
    manifest = read_manifest(corpus / "all.csv", "utterances", corpus)
    embedder = load_embedder(corpus / "embedder")
    vectors, index = read_embeddings(extracted)
    assert vectors.dtype == np.float32
    assert vectors.shape == (12, 8)
    for utterance, row in zip(index.ids, index.row, strict=True):
        part = manifest[utterance]
        n_frames = part["stop"] - part["start"]
        wav = read_crop(part["wav"], part["start"], n_frames)
        alone = embedder.embed(wav[None])[0]
        np.testing.assert_allclose(vectors[row], alone, rtol=1e-4, atol=1e-5)
    spread = np.std(vectors, axis=0)
    assert spread.min() > 1e-3  # otherwise any utterance would do


def test_rows_are_in_the_order_of_the_manifest(corpus, extracted):
    _, index = read_embeddings(extracted)
    manifest = read_manifest(corpus / "all.csv", "utterances")
    assert index.ids.tolist() == manifest.ids.tolist()
    assert index.row.tolist() == list(range(12))


@pytest.mark.parametrize(
    "sizes",
    [
        {"chunk_size": 1, "max_batch_seconds": 0.1},
        {"chunk_size": 100, "max_batch_seconds": 0.8},
        {"chunk_size": 4, "num_workers": 1},
    ],
)
def test_embeddings_do_not_depend_on_batches_and_chunks(
    corpus, extracted, tmp_path, sizes
):
    extract_embeddings.main(arguments(corpus, tmp_path / "out", **sizes))
    found, _ = read_embeddings(tmp_path / "out")
    expected, _ = read_embeddings(extracted)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sizes", [{}, {"max_batch_seconds": 0.1}])
def test_each_crop_is_embedded_as_it_would_be_alone(
    corpus, extracted, tmp_path, sizes
):
    options = {"n_crops": 3, "crop": 0.3, "chunk_size": 5, **sizes}
    extract_embeddings.main(arguments(corpus, tmp_path / "out", **options))
    crops = np.load(tmp_path / "out" / "crop_embeddings.npy")
    assert crops.shape == (12, 3, 8) and crops.dtype == np.float32
    manifest = read_manifest(corpus / "all.csv", "utterances", corpus)
    embedder = load_embedder(corpus / "embedder")
    for row, utterance in enumerate(manifest.ids):
        part = manifest[utterance]
        n_frames = part["stop"] - part["start"]
        wav = read_crop(part["wav"], part["start"], n_frames)
        if n_frames < 4800:
            wav = wav.repeat(2)[:4800]
        for number, share in enumerate((0, 0.5, 1)):
            start = int(share * (len(wav) - 4800))
            alone = embedder.embed(wav[None, start : start + 4800])[0]
            np.testing.assert_allclose(
                crops[row, number], alone, rtol=1e-4, atol=1e-5
            )
    found, _ = read_embeddings(tmp_path / "out")
    expected, _ = read_embeddings(extracted)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    receipt = json.loads((tmp_path / "out" / "stage.json").read_text())
    assert "crop_embeddings.npy" in receipt["outputs"]


@pytest.mark.parametrize(
    "options", [{"n_crops": -1}, {"n_crops": 1.5}, {"n_crops": 2, "crop": 0}]
)
def test_impossible_crops_are_refused(corpus, tmp_path, options):
    message = message_of(arguments(corpus, tmp_path / "out", **options))
    assert message.startswith(f"{list(options)[-1]} is ")


def test_the_receipt_has_the_counts_and_no_chunk_is_left(extracted):
    receipt = json.loads((extracted / "stage.json").read_text())
    assert receipt["n_utterances"] == 12
    assert receipt["embedding_size"] == 8
    assert set(receipt["outputs"]) == {"embeddings.npy", "embeddings.csv"}
    assert not (extracted / "chunks").exists()


def test_a_finished_extraction_is_skipped(corpus, extracted, monkeypatch):
    def refused(*args):
        raise AssertionError("computed again")

    monkeypatch.setattr(extraction, "embed_batches", refused)
    extract_embeddings.main(arguments(corpus, extracted, chunk_size=5))


def test_another_embedder_is_another_request(corpus, extracted, tmp_path):
    torch.manual_seed(1)
    other = build_embedder("hparams/embedders/ecapa.yaml", SMALL)
    save_embedder(tmp_path / "embedder", other)
    argv = arguments(
        corpus, extracted, chunk_size=5, embedder_folder=tmp_path / "embedder"
    )
    with pytest.raises(InputError, match="inputs.embedder"):
        extract_embeddings.main(argv)


WAVLM = {
    "encoder_source": None,
    "n_heads": 2,
    "compression_size": 4,
    "embedding_size": 8,
    "encoder_config": TINY,
}


@pytest.mark.parametrize(
    "config",
    [
        {**TINY, "feat_extract_norm": "group"},
        {**TINY, "feat_extract_norm": "layer", "do_stable_layer_norm": True},
        # Utterances are longer than its windows.
        WHISPER,
    ],
)
def test_an_encoder_embeds_alike_alone_and_in_any_batch(
    corpus, tmp_path, config
):
    torch.manual_seed(0)
    embedder = build_embedder(
        "hparams/embedders/encoder_mhfa.yaml",
        {**WAVLM, "encoder_config": config},
    )
    save_embedder(tmp_path / "embedder", embedder)
    manifest = read_manifest(corpus / "all.csv", "utterances", corpus)
    alone = []
    for utterance in manifest.ids:
        part = manifest[utterance]
        n_frames = part["stop"] - part["start"]
        wav = read_crop(part["wav"], part["start"], n_frames)
        alone.append(embedder.embed(wav[None])[0].numpy())
    assert np.std(alone, axis=0).min() > 1e-3
    for seconds in (0.1, 0.8, 100.0):
        argv = arguments(
            corpus,
            tmp_path / f"{seconds}",
            embedder_folder=tmp_path / "embedder",
            max_batch_seconds=seconds,
        )
        extract_embeddings.main(argv)
        found, _ = read_embeddings(tmp_path / f"{seconds}")
        np.testing.assert_allclose(found, alone, rtol=1e-5, atol=1e-5)


class Killed(Exception):
    pass


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("n_done", [0, 1, 3])
def test_finished_chunks_are_not_computed_again(
    corpus, extracted, tmp_path, monkeypatch, n_done, device
):
    embed_batches = extraction.embed_batches
    # Four chunks of three batches of one utterance.
    options = {"chunk_size": 3, "max_batch_seconds": 0.1, "device": device}
    argv = arguments(corpus, tmp_path / "out", **options)
    n_calls = 0

    def dying(*args):
        nonlocal n_calls
        n_calls += 1
        if n_calls == n_done + 1:
            raise Killed
        return embed_batches(*args)

    monkeypatch.setattr(extraction, "embed_batches", dying)
    with pytest.raises(Killed):
        extract_embeddings.main(argv)
    assert len(list((tmp_path / "out" / "chunks").glob("*.npz"))) == n_done
    assert not (tmp_path / "out" / "embeddings.npy").exists()
    n_calls = 100
    extract_embeddings.main(argv)
    assert n_calls - 100 == 4 - n_done
    found, _ = read_embeddings(tmp_path / "out")
    expected, _ = read_embeddings(extracted)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("harm", ["empty", "half", "bit", "other", "text"])
def test_a_damaged_chunk_is_named_and_made_again(
    corpus, extracted, tmp_path, monkeypatch, harm
):
    argv = arguments(
        corpus, tmp_path / "out", chunk_size=3, max_batch_seconds=0.1
    )

    def dying(*args):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(extract_embeddings, "assemble", dying)
        extract_embeddings.main(argv)
    chunk = tmp_path / "out" / "chunks" / "000001.npz"
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    harmed = {
        "empty": b"",
        "half": content[: len(content) // 2],
        "bit": content,
        "other": chunk.with_name("000002.npz").read_bytes(),
        "text": b"no chunk",
    }
    chunk.write_bytes(harmed[harm])
    extract_embeddings.main(argv)
    said = (tmp_path / "out" / "log.txt").read_text()
    assert "000001.npz is damaged (" in said
    assert said.count("is made again") == 1
    found, _ = read_embeddings(tmp_path / "out")
    expected, _ = read_embeddings(extracted)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_damaged_embedder_is_one_line(corpus, tmp_path):
    shutil.copytree(corpus / "embedder", tmp_path / "embedder")
    path = tmp_path / "embedder" / "embedding_model.ckpt"
    path.write_bytes(path.read_bytes()[:-500])
    argv = arguments(
        corpus, tmp_path / "out", embedder_folder=tmp_path / "embedder"
    )
    rule = r"model\.ckpt cannot be read as weights \("
    with pytest.raises(InputError, match=rule):
        extract_embeddings.main(argv)


def test_a_chunk_killed_while_it_is_written_does_no_harm(corpus, tmp_path):
    half = tmp_path / "out" / "chunks" / ".000000-killed.npz"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"PK half of a chunk")
    extract_embeddings.main(arguments(corpus, tmp_path / "out"))
    vectors, _ = read_embeddings(tmp_path / "out")
    assert np.abs(vectors).sum(axis=1).min() > 0


def test_two_processes_give_the_same_file(corpus, tmp_path):
    alone = tmp_path / "alone"
    extract_embeddings.main(arguments(corpus, alone, chunk_size=3))
    argv = arguments(
        corpus, tmp_path / "two", chunk_size=3, distributed_backend="gloo"
    )
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        + ["--nproc_per_node=2", extract_embeddings.__file__, *argv],
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for name in ("embeddings.npy", "embeddings.csv"):
        first, second = (tmp_path / x / name for x in ("alone", "two"))
        assert first.read_bytes() == second.read_bytes()


def test_variables_of_a_job_scheduler_alone_do_not_share_the_work(
    corpus, extracted, tmp_path, monkeypatch
):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    extract_embeddings.main(arguments(corpus, tmp_path / "out"))
    found, _ = read_embeddings(tmp_path / "out")
    expected, _ = read_embeddings(extracted)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def message_of(argv):
    with pytest.raises(InputError) as caught:
        extract_embeddings.main(argv)
    return str(caught.value)


def test_an_embedding_that_is_not_finite_names_its_utterance(
    corpus, tmp_path, monkeypatch
):
    bad = read_crop(corpus / "s1-2.wav")

    class Broken(torch.nn.Linear):
        def embed(self, wavs):
            out = wavs[:, :8].clone()
            if wavs.shape[1] == len(bad):
                out[(wavs == bad).all(dim=1), 3] = np.nan
            return out

    monkeypatch.setattr(
        extract_embeddings, "load_embedder", lambda *args: Broken(1, 1)
    )
    message = message_of(arguments(corpus, tmp_path / "out"))
    assert message.startswith("s1-2.wav: its embedding is not finite")
    assert not (tmp_path / "out" / "embeddings.npy").exists()


def test_a_bad_file_ends_in_one_line_whose_advice_works(corpus, tmp_path):
    data = shutil.copytree(corpus, tmp_path / "data")
    with_nan(data / "s1-2.wav")
    argv = arguments(data, tmp_path / "out")
    message = message_of(argv)
    assert message.startswith(f"{data}/s1-2.wav: not finite: ")
    assert "delete its row from the manifest, or" in message
    table = pd.read_csv(data / "all.csv")
    table = table[table["ID"] != "s1-2.wav"]
    write_manifest(data / "all.csv", table, "utterances")
    extract_embeddings.main([*argv, "--overwrite=true"])
    assert len(read_embeddings(tmp_path / "out")[0]) == 11


def test_a_folder_that_is_no_embedder_is_refused(corpus, tmp_path):
    argv = arguments(corpus, tmp_path / "out", embedder_folder=tmp_path / "no")
    message = message_of(argv)
    assert str(tmp_path / "no") in message
    assert not (tmp_path / "out").exists()


def test_weights_of_another_model_are_refused(corpus, tmp_path):
    folder = tmp_path / "embedder"
    other = build_embedder(
        "hparams/embedders/ecapa.yaml", {**SMALL, "width": 8}
    )
    save_embedder(folder, other)
    recipe = (corpus / "embedder" / "hyperparams.yaml").read_text()
    (folder / "hyperparams.yaml").write_text(recipe)
    argv = arguments(corpus, tmp_path / "out", embedder_folder=folder)
    assert "does not hold the weights" in message_of(argv)


def test_a_file_that_is_gone_is_named(corpus, tmp_path):
    table = pd.read_csv(corpus / "all.csv")
    table.loc[4, "wav"] = "$data_root/gone.wav"
    write_manifest(tmp_path / "all.csv", table, "utterances")
    argv = arguments(corpus, tmp_path / "out", annotation=tmp_path / "all.csv")
    assert "gone.wav" in message_of(argv)


def test_a_manifest_without_rows_is_refused(corpus, tmp_path):
    (tmp_path / "none.csv").write_text("ID,duration,wav,start,stop\n")
    argv = arguments(corpus, tmp_path / "out", annotation=tmp_path / "none.csv")
    assert "no rows" in message_of(argv)


def test_a_strangers_yaml_runs_only_with_trust_yaml(corpus, tmp_path):
    shutil.copytree(corpus / "embedder", tmp_path / "embedder")
    path = tmp_path / "embedder" / "hyperparams.yaml"
    text = path.read_text() + f"evil: !apply:os.mkdir [{tmp_path}/canary]\n"
    path.write_text(text)
    given = {"embedder_folder": tmp_path / "embedder"}
    assert "path or address" in message_of(
        arguments(corpus, tmp_path / "out", **given)
    )
    assert not (tmp_path / "canary").exists()
    extract_embeddings.main(
        arguments(corpus, tmp_path / "own", **given, trust_yaml=True)
    )
    assert (tmp_path / "canary").is_dir()


def test_embeddings_in_parts_are_those_of_one_file(corpus, extracted, tmp_path):
    argv = arguments(
        corpus, tmp_path / "out", n_crops=2, crop=0.3, shard_rows=5
    )
    extract_embeddings.main(argv)
    for name in ("embeddings.npy", "embeddings.csv", "crop_embeddings.npy"):
        assert len(list((tmp_path / "out" / name).glob("00000?.*"))) == 3
    found, index = read_embeddings(tmp_path / "out")
    expected, names = read_embeddings(extracted)
    assert index.ids.tolist() == names.ids.tolist()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert (tmp_path / "out" / "stage.json").exists()
    # Finished: a part that changes is made again.
    part = tmp_path / "out" / "embeddings.npy" / "000001.npy"
    np.save(part, np.load(part) + 1)
    extract_embeddings.main(argv)
    np.testing.assert_allclose(
        read_embeddings(tmp_path / "out")[0][:], expected, rtol=1e-4, atol=1e-5
    )


def test_some_utterances_of_each_speaker_are_drawn_by_the_seed(
    corpus, extracted, tmp_path
):
    table = read_manifest(corpus / "all.csv", "utterances").table.copy()
    table["spk_id"] = [name.split("-")[0] for name in table.ID]
    labels = tmp_path / "labels.csv"
    write_manifest(labels, table, "pseudo_labels")
    drawn = []
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        options = {"max_per_speaker": 2, "annotation": labels, "seed": seed}
        extract_embeddings.main(arguments(corpus, tmp_path / name, **options))
        vectors, index = read_embeddings(tmp_path / name)
        drawn.append(index.ids.tolist())
        speakers = [i.split("-")[0] for i in index.ids]
        assert sorted(speakers) == ["s0", "s0", "s1", "s1", "s2", "s2"]
    assert drawn[0] == drawn[1] != drawn[2]
    whole, of_all = read_embeddings(extracted)
    expected = whole[of_all.row[of_all.rows_of(index.ids)]]
    np.testing.assert_allclose(vectors[index.row], expected, atol=1e-5)


def test_bf16_changes_embeddings_little_and_the_record_says_so(
    corpus, extracted, tmp_path
):
    argv = arguments(corpus, tmp_path / "out", chunk_size=5, precision="bf16")
    extract_embeddings.main(argv)
    found, _ = read_embeddings(tmp_path / "out")
    expected, _ = read_embeddings(extracted)
    assert found.dtype == np.float32
    assert (found != expected).any()
    cosines = torch.cosine_similarity(*map(torch.tensor, (found, expected)))
    assert cosines.min() > 0.99
    facts = [
        json.loads((folder / "stage.json").read_text())
        for folder in (tmp_path / "out", extracted)
    ]
    assert [each["precision"] for each in facts] == ["bf16", "fp32"]


def test_a_plan_that_trains_in_bf16_may_embed_in_float32(
    corpus, extracted, tmp_path
):
    options = {"precision": "bf16", "eval_precision": "fp32"}
    argv = arguments(corpus, tmp_path / "out", chunk_size=5, **options)
    extract_embeddings.main(argv)
    found, _ = read_embeddings(tmp_path / "out")
    expected, _ = read_embeddings(extracted)
    assert np.array_equal(found, expected)


def test_chunks_of_another_precision_are_not_kept(
    corpus, extracted, tmp_path, monkeypatch
):
    def dying(*args):
        raise Killed

    folder = tmp_path / "out"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(extract_embeddings, "assemble", dying)
        extract_embeddings.main(arguments(corpus, folder, chunk_size=5))
    half = arguments(corpus, folder, chunk_size=5, precision="bf16")
    assert "applied_precision was absent, now 'bf16'" in message_of(half)
    # Nor are those of a finished folder.
    half = arguments(corpus, extracted, chunk_size=5, eval_precision="bf16")
    assert "applied_precision was absent, now 'bf16'" in message_of(half)
