"""embed_pretrained: the layer it chooses, what it fits, what it refuses."""

import json

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from tiny_whisper import TINY
from tones import Killed, without_speakers, write_tones

from recipes import embed_pretrained
from speechbrain_ext.dataio.audio import read_crop
from speechbrain_ext.dataio.manifest import read_manifest, write_manifest
from speechbrain_ext.models import extraction
from speechbrain_ext.models.embedder_folder import load_embedder
from speechbrain_ext.models.layer_means import LayerMeans, fit_layer_means_
from speechbrain_ext.utils.errors import InputError

LEAF = "hparams/embed_pretrained.yaml"
SMALL = {"encoder_source": None, "encoder_config": TINY}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """24 utterances, and sounds to add."""
    folder = tmp_path_factory.mktemp("corpus")
    rows = without_speakers(write_tones(folder, n_speakers=6))
    write_manifest(folder / "train.csv", rows, "utterances")
    generator = np.random.default_rng(1)
    for kind in ("noise", "music", "speech", "rir"):
        (folder / "augment" / kind).mkdir(parents=True)
        wav = generator.normal(size=3000) * np.exp(-np.arange(3000) / 900)
        path = folder / "augment" / kind / "0.wav"
        soundfile.write(path, 0.1 * wav, 16000)
    return folder


def arguments(corpus, output, **others):
    options = {
        "train_annotation": corpus / "train.csv",
        "data_folder": corpus,
        "augment_folder": corpus / "augment",
        "output_folder": output,
        "embedder": SMALL,
        "choice_crop": 0.15,
        "num_workers": 0,
        "device": "cpu",
        **others,
    }
    words = [LEAF, "--noprogressbar"]
    for key, value in options.items():
        text = json.dumps(value) if isinstance(value, dict) else value
        words.append(f"--{key}={text}")
    return words


def record(folder):
    return json.loads((folder / "stage.json").read_text())


@pytest.fixture(scope="module")
def made(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "out"
    embed_pretrained.main(arguments(corpus, folder))
    return folder


def test_the_layer_of_the_lowest_error_rate_is_taken(made):
    table = pd.read_csv(made / "layers.csv")
    columns = ["layer", "eer", "eer_clean", "agreement"]
    assert list(table) == columns and len(table) == 3
    assert table.eer.nunique() > 1 and (table.eer != table.eer_clean).any()
    facts = record(made)
    assert facts["layers"] == [int(table.eer.idxmin())]
    assert facts["pair_eer"] == pytest.approx(table.eer.min())
    model = load_embedder(made / "embedder").model
    assert model.pooling.layers == facts["layers"]
    assert (made / "layers.png").exists() and not (made / "chunks").exists()
    assert {"layers.csv", "layers.png"} < set(facts["outputs"])
    assert facts["random_encoder"] and facts["n_utterances"] == 24


def test_what_is_fitted_is_fitted_to_all_utterances_and_layers_given(
    corpus, tmp_path
):
    """Averages of each utterance's hidden states, computed one by one."""
    out = tmp_path / "out"
    embed_pretrained.main(
        arguments(corpus, out, layers=[2, 0], whiten=0.7, max_batch_seconds=1)
    )
    assert not (out / "layers.csv").exists()
    assert record(out)["layers"] == [2, 0]
    embedder = load_embedder(out / "embedder")
    manifest = read_manifest(corpus / "train.csv", "utterances", corpus)
    wavs = [read_crop(path)[None] for path in manifest.paths()]
    with torch.no_grad():
        states = [embedder.model.encoder(wav) for wav in wavs]
    n_frames = np.array([state.shape[2] for state in states])
    x = np.stack([s[[2, 0], 0].mean(1).flatten().numpy() for s in states])
    pooling = LayerMeans(3, 16, layers=[2, 0])
    share = fit_layer_means_(pooling, n_frames, x, 0.7)
    assert record(out)["length_share"] == pytest.approx(share, rel=1e-3)
    with torch.no_grad():
        wanted = torch.cat([pooling(state) for state in states])
    found = torch.cat([embedder.embed(wav) for wav in wavs])
    # Signs of principal components are free.
    torch.testing.assert_close(
        found @ found.T, wanted @ wanted.T, rtol=1e-2, atol=1e-2
    )


def test_without_sounds_crops_differ_by_their_channels(corpus, tmp_path, made):
    out = tmp_path / "out"
    embed_pretrained.main(arguments(corpus, out, augment_folder="null"))
    table = pd.read_csv(out / "layers.csv")
    sounds = pd.read_csv(made / "layers.csv")
    assert table.eer_clean.equals(sounds.eer_clean)
    assert (table.eer != table.eer_clean).any()


def test_a_finished_stage_is_skipped(corpus, made, monkeypatch):
    monkeypatch.setattr(embed_pretrained, "embed_in_chunks", None)
    embed_pretrained.main(arguments(corpus, made))


@pytest.mark.parametrize("n_done", [0, 2])
def test_a_killed_run_goes_on_with_the_layers_and_chunks_that_it_has(
    corpus, made, tmp_path, monkeypatch, n_done
):
    out = tmp_path / "out"
    argv = arguments(corpus, out, chunk_size=6, max_batch_seconds=1)
    embed_batches = extraction.embed_batches
    calls = []

    def dying(*args):
        calls.append(args)
        if len(calls) == n_done + 1:
            raise Killed
        return embed_batches(*args)

    monkeypatch.setattr(extraction, "embed_batches", dying)
    with pytest.raises(Killed):
        embed_pretrained.main(argv)
    monkeypatch.setattr(embed_pretrained, "embed_crop_pairs", None)
    calls = [None] * 99
    embed_pretrained.main(argv)
    assert len(calls) - 99 == 4 - n_done
    wav = torch.randn(1, 7000)
    # Of another batch size, but of the same utterances.
    assert record(out)["layers"] == record(made)["layers"]
    assert load_embedder(out / "embedder").embed(wav).isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"choice_crop": 0.25}, r"choice_crop is 0.25; \d of 24 .*--layers"),
        ({"layers": [3]}, r"layers is \[3\]; .*from 0 to 2.*--layers"),
        (
            {"embedder": {**SMALL, "layers": [1]}},
            r"embedder.layers is \[1\]; .*give --layers",
        ),
        (
            {"embedder_yaml": "hparams/embedders/encoder_tdnn.yaml"},
            "embedder_yaml is .*LayerMeans.*give --embedder_yaml=",
        ),
    ],
)
def test_what_cannot_be_is_refused(corpus, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        embed_pretrained.main(arguments(corpus, tmp_path / "out", **options))


def test_in_bf16_the_statistics_are_nearly_those_of_float32(
    corpus, made, tmp_path, monkeypatch
):
    seen = []

    def noting(pooling, n_frames, x, power):
        seen.append((n_frames.copy(), torch.tensor(x)))
        return fit_layer_means_(pooling, n_frames, x, power)

    monkeypatch.setattr(embed_pretrained, "fit_layer_means_", noting)
    for precision in ("fp32", "bf16"):
        options = {"precision": precision, "layers": record(made)["layers"]}
        embed_pretrained.main(
            arguments(corpus, tmp_path / precision, **options)
        )
        assert record(tmp_path / precision)["precision"] == precision
    (n_frames, single), (n_frames_half, half) = seen
    assert n_frames_half.tolist() == n_frames.tolist()
    assert not torch.equal(single, half)
    assert torch.cosine_similarity(single, half).min() > 0.999
