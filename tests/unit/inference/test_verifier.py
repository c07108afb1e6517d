"""A shared model in use: safe, and the same whatever it is given."""

import json
import math
import pickle
import shutil

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from tiny_wavlm import TINY

from speechbrain_ext.dataio.embedding_files import read_embeddings
from speechbrain_ext.inference import embed, verify
from speechbrain_ext.inference.decision import Decision, checked_decision
from speechbrain_ext.inference.hub_folder import (
    read_hub_folder,
    write_hub_folder,
)
from speechbrain_ext.inference.verifier import SpeakerVerifier
from speechbrain_ext.models.embedder import (
    WaveEmbedder,
    build_embedder,
    save_embedder,
)
from speechbrain_ext.models.pooling import MHFA
from speechbrain_ext.models.speech_encoder import RawWaveform, SpeakerEncoder
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import read_json, sha256, write_json

SMALL = {
    "width": 16,
    "width_last": 24,
    "attention_channels": 8,
    "embedding_size": 8,
}
DECISION = Decision(8.0, -4.0, 0.5, "pairs")


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    torch.manual_seed(0)
    embedder = build_embedder("hparams/embedders/ecapa.yaml", SMALL)
    embedder.train()(0.1 * torch.randn(8, 8000))
    save_embedder(folder / "embedder", embedder.eval())
    write_hub_folder(folder / "model", folder / "embedder", DECISION, seed=0)
    return folder / "model"


@pytest.fixture
def model(published, tmp_path):
    """A copy, to be spoilt."""
    return shutil.copytree(published, tmp_path / "model")


@pytest.fixture(scope="module")
def verifier(published):
    return SpeakerVerifier.from_pretrained(published, "cpu")


@pytest.fixture(scope="module")
def wavs():
    generator = torch.Generator().manual_seed(1)
    return [
        0.1 * torch.randn(n, generator=generator) for n in (8000, 9600, 8000)
    ]


# What a stranger may have put in the folder.


class Canary:
    """A pickle that leaves a file where it is opened."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_neither_a_yaml_nor_a_pickle_of_the_folder_is_run(model, tmp_path):
    canaries = [tmp_path / "yaml_ran", tmp_path / "pickle_ran"]
    text = f"modules: !apply:os.system ['touch {canaries[0]}']\n"
    (model / "hyperparams.yaml").write_text(text)
    content = pickle.dumps(Canary(canaries[1]))
    for name in ("embedding_model.ckpt", "model.pt", "pytorch_model.bin"):
        (model / name).write_bytes(content)
    (model / "custom.py").write_text(f"open({str(canaries[0])!r}, 'w')\n")
    SpeakerVerifier.from_pretrained(model, "cpu").embed(model / "example1.wav")
    assert not any(path.exists() for path in canaries)
    # The canaries do sing where they are let.
    pickle.loads(content).close()
    assert canaries[1].exists()


def test_a_pickle_in_place_of_the_weights_is_not_opened(model, tmp_path):
    canary = tmp_path / "ran"
    weights = model / "model.safetensors"
    weights.write_bytes(pickle.dumps(Canary(canary)))
    config = read_json(model / "config.json")
    config["speechbrain_ext"]["weights"] = {
        "bytes": weights.stat().st_size,
        "sha256": sha256(weights),
    }
    write_json(model / "config.json", config)
    with pytest.raises(InputError, match="does not hold the weights"):
        SpeakerVerifier.from_pretrained(model, "cpu")
    assert not canary.exists()


def test_a_config_that_names_a_function_is_refused(model, tmp_path):
    config = read_json(model / "config.json")
    config["speechbrain_ext"]["modules"]["embedding_model"] = {
        "!": "!new:os.system",
        "command": f"touch {tmp_path / 'ran'}",
    }
    write_json(model / "config.json", config)
    with pytest.raises(InputError, match="'!new:os.system'"):
        SpeakerVerifier.from_pretrained(model, "cpu")
    assert not (tmp_path / "ran").exists()


# Damage.


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (truncate, "was cut short or changed"),
        (flip, "SHA-256 differs"),
        (lambda path: path.unlink(), "no such file"),
    ],
)
def test_damaged_weights_are_one_clear_error(model, spoil, message):
    spoil(model / "model.safetensors")
    with pytest.raises(InputError, match=message) as caught:
        SpeakerVerifier.from_pretrained(model, "cpu")
    assert "get the folder again" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 9}, "of format 1"),
        ({"weights": None}, "has no weights"),
        ({"modules": []}, "has no modules"),
        ({"decision": {}}, "weight is None"),
        ({"decision": {**DECISION._asdict(), "offset": math.nan}}, "offset"),
        ({"decision": {**DECISION._asdict(), "prior": 2}}, "prior is 2"),
        (
            {"decision": {**DECISION._asdict(), "weight": 10**400}},
            "weight is 1000",
        ),
    ],
)
def test_a_damaged_config_is_one_clear_error(model, change, message):
    config = read_json(model / "config.json")
    config["speechbrain_ext"].update(change)
    write_json(model / "config.json", config)
    with pytest.raises(InputError, match=message):
        read_hub_folder(model)


@pytest.mark.parametrize("content", [b"\xff\xfe{}", b'{"a":' * 100_000])
def test_a_config_that_is_no_json_is_one_clear_error(model, content):
    (model / "config.json").write_bytes(content)
    with pytest.raises(InputError, match="config.json: not JSON"):
        SpeakerVerifier.from_pretrained(model, "cpu")


def test_weights_of_another_model_are_refused(model, tmp_path):
    config = read_json(model / "config.json")
    inner = config["speechbrain_ext"]["modules"]["embedding_model"]
    inner["lin_neurons"] = 9
    write_json(model / "config.json", config)
    with pytest.raises(InputError, match="does not hold the weights"):
        read_hub_folder(model)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere/at/all", "neither a folder nor the id"),
        ("nowhere", "neither a folder nor the id"),
    ],
)
def test_no_model_is_one_clear_error(source, message):
    with pytest.raises(InputError, match=message):
        SpeakerVerifier.from_pretrained(source)


def test_a_folder_of_something_else_is_one_clear_error(tmp_path):
    with pytest.raises(InputError, match="holds no config.json"):
        SpeakerVerifier.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="not written by export_model"):
        SpeakerVerifier.from_pretrained(tmp_path)


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "cuda: 0"])
def test_a_device_that_is_not_there_is_one_clear_error(published, device):
    with pytest.raises(InputError, match="cannot be used.*give cpu"):
        SpeakerVerifier.from_pretrained(published, device)


# Use.


def test_an_embedding_does_not_depend_on_its_neighbours(verifier, wavs):
    together = verifier.embed(wavs)
    alone = torch.stack([verifier.embed(wav) for wav in wavs])
    assert together.shape == (3, 8) and alone.shape == (3, 8)
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)


def test_files_arrays_and_tensors_are_alike(verifier, wavs, tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, wavs[0].numpy(), 16000, subtype="FLOAT")
    wanted = verifier.embed(wavs[0])
    for given in (path, str(path), wavs[0].numpy(), wavs[0].double()):
        assert torch.equal(verifier.embed(given), wanted)
    batch = torch.stack([wavs[0], wavs[2]])
    torch.testing.assert_close(
        verifier.embed(batch), verifier.embed([wavs[0], wavs[2]])
    )


def test_more_than_a_block_of_utterances_keeps_its_order(verifier, wavs):
    many = [wavs[number % 3] for number in range(70)]
    found = verifier.embed(many)
    wanted = verifier.embed(wavs)[torch.arange(70) % 3]
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=0)


def test_other_rates_are_resampled(verifier, tmp_path):
    time = np.arange(48000) / 48000
    tone = (0.3 * np.sin(2 * np.pi * 440 * time)).astype("float32")
    soundfile.write(tmp_path / "a.wav", tone, 48000, subtype="FLOAT")
    wanted = verifier.embed(torch.from_numpy(tone[::3].copy()))
    for found in (
        verifier.embed(tmp_path / "a.wav"),
        verifier.embed(tone, sample_rate=48000),
    ):
        score = verifier.verify_embeddings(found, wanted).score
        assert score > 0.95


@pytest.mark.parametrize(
    ("speech", "message"),
    [
        ([], "nothing to embed"),
        (torch.zeros(10), "has 0.001 s"),
        (torch.zeros(16000, dtype=torch.int16), "give samples"),
        (torch.zeros(2, 3, 4), "give samples"),
        (torch.full((8000,), torch.nan), "utterance 0: its embedding is not"),
        ("nowhere.wav", "nowhere.wav: no such file"),
        ([0.1, 0.2], "0.1 is a float; give a file"),
        (np.zeros((8000, 2)), r"shape \[8000, 2\] .* 8,000 utterances of 2 "),
        (torch.zeros(8000, 2), "give mono samples"),
    ],
)
def test_bad_speech_is_one_clear_error(verifier, speech, message):
    with pytest.raises(InputError, match=message):
        verifier.embed(speech)


def test_a_file_of_something_else_is_one_clear_error(verifier, tmp_path):
    (tmp_path / "a.wav").write_text("no")
    with pytest.raises(InputError, match="a.wav: cannot be read"):
        verifier.embed(tmp_path / "a.wav")


@pytest.mark.parametrize("rate", [0, -16000, None, 16000.5, "16000"])
def test_an_impossible_sample_rate_is_one_clear_error(verifier, wavs, rate):
    with pytest.raises(InputError, match="sample_rate is .* give samples a"):
        verifier.embed(wavs[0], sample_rate=rate)


def test_samples_of_any_order_in_memory_are_alike(verifier, wavs):
    x = wavs[0].numpy()
    wanted = verifier.embed(wavs[0])
    for given in (
        x[::-1].copy()[::-1],
        x.astype(">f4"),
        x.astype("longdouble"),
    ):
        assert torch.equal(verifier.embed(given), wanted)


def test_arrays_and_series_of_paths_are_lists(verifier, wavs, tmp_path):
    paths = [str(tmp_path / name) for name in ("a.wav", "b.wav")]
    for path, wav in zip(paths, wavs, strict=False):
        soundfile.write(path, wav.numpy(), 16000, subtype="FLOAT")
    wanted = verifier.embed(paths)
    assert wanted.shape == (2, 8)
    for given in (
        np.array(paths),
        np.array(paths, dtype=object),
        pd.Series(paths),
    ):
        assert torch.equal(verifier.embed(given), wanted)


def test_a_wavlm_takes_three_minutes_and_ecapa_more(verifier, tmp_path):
    path = tmp_path / "long.wav"
    soundfile.write(path, np.zeros(181 * 8000), 8000)
    model = SpeakerEncoder(None, TINY, MHFA)
    wavlm = SpeakerVerifier(WaveEmbedder(*[RawWaveform()] * 2, model), DECISION)
    for given in (path, np.zeros(181 * 16000)):
        with pytest.raises(InputError, match="181.0 s, and .* 180 s at most"):
            wavlm.embed(given)
    assert verifier.embed(path).shape == (8,)


def test_embeddings_and_priors_of_other_types_are_numbers_too(verifier):
    x = torch.eye(8)[0]
    found = verifier.verify_embeddings(x.bfloat16(), x, prior=np.float32(0.25))
    assert found == verifier.verify_embeddings(x, x, prior=0.25)
    with pytest.raises(InputError, match="prior is 'high'"):
        verifier.verify_embeddings(x, x, prior="high")


def test_one_and_several_are_compared(verifier, wavs):
    one = verifier.verify(wavs[0], wavs[1])
    assert isinstance(one.score, float) and isinstance(one.same, bool)
    pairs = verifier.verify(wavs[:2], wavs[1:])
    assert pairs.score.shape == (2,)
    assert pairs.score[0] == pytest.approx(one.score, abs=1e-6)
    against = verifier.verify(wavs[0], wavs)
    assert against.score.shape == (3,)
    assert against.score[0] == pytest.approx(1, abs=1e-6)
    with pytest.raises(InputError, match="cannot be compared"):
        verifier.verify_embeddings(np.ones((2, 8)), np.ones((3, 8)))
    with pytest.raises(InputError, match="length above 0"):
        verifier.verify_embeddings(np.zeros(8), np.ones(8))


def test_the_probability_is_that_of_the_calibration_and_prior(verifier):
    x = np.eye(8)[0]
    y = 0.6 * x + 0.8 * np.eye(8)[1]
    found = verifier.verify_embeddings(x, y)
    assert found.score == pytest.approx(0.6)
    assert found.probability == pytest.approx(1 / (1 + math.exp(-0.8)))
    rare = verifier.verify_embeddings(x, y, prior=0.01)
    odds = math.exp(0.8) * 0.01 / 0.99
    assert rare.probability == pytest.approx(odds / (1 + odds))
    assert found.same and not rare.same
    assert verifier.threshold == pytest.approx(0.5)


@pytest.mark.parametrize("prior", [0.5, 0.01, 0.9])
def test_the_threshold_is_where_both_are_as_likely(prior):
    decision = checked_decision(8.0, -4.0, prior, "")
    odds = prior / (1 - prior) * math.exp(8 * decision.threshold - 4)
    assert odds == pytest.approx(1)


# The command line.


def test_two_files_are_compared_on_the_command_line(published, capsys):
    one, two = (str(published / f"example{n}.wav") for n in (1, 2))
    verify.main([str(published), one, one, "--device=cpu"])
    assert capsys.readouterr().out.startswith("same speaker: probability of")
    verify.main([str(published), one, two, "--prior=0.000001"])
    found = capsys.readouterr().out
    assert found.startswith("different speakers: probability of one speaker 0.")


def write_speech(folder, names):
    """Files of noise, each another; the first two of one length."""
    generator = np.random.default_rng(3)
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        x = 0.1 * generator.normal(size=8000 + 800 * (number // 2))
        soundfile.write(folder / name, x, 16000)
    return folder


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_folder_is_embedded_on_the_command_line(
    published, verifier, tmp_path, capsys, num_workers
):
    names = ["a/3.wav", "b.flac", "c/1.wav", "d.wav"]
    speech = write_speech(tmp_path / "speech", names)
    out = tmp_path / "embeddings.npy"
    words = [str(published), str(speech), str(out), "--device=cpu"]
    embed.main([*words, f"--num_workers={num_workers}"])
    vectors, index = read_embeddings(tmp_path)
    assert list(index.ids) == names and list(index.row) == [0, 1, 2, 3]
    wanted = verifier.embed([speech / name for name in names])
    np.testing.assert_allclose(vectors, wanted, atol=1e-6)
    assert len(np.unique(vectors[:, 0].round(6))) == 4
    found = capsys.readouterr().out
    assert "4 utterances, 8 values; 0 files were left out" in found
    embed.main(words)


def test_files_that_have_no_embedding_are_left_out_and_named(
    published, verifier, tmp_path, caplog, capsys
):
    speech = write_speech(tmp_path / "speech", ["good.wav", "bad.wav"])
    nan = np.full(8000, np.nan, dtype="float32")
    soundfile.write(speech / "bad.wav", nan, 16000, subtype="FLOAT")
    (speech / "broken.wav").write_bytes(b"RIFF")
    (speech / "phone.m4a").write_bytes(bytes(100))
    noise = np.random.default_rng(0).normal(size=32000) / 10
    soundfile.write(speech / "half.flac", noise, 16000)
    content = (speech / "half.flac").read_bytes()
    (speech / "half.flac").write_bytes(content[: len(content) // 2])
    out = tmp_path / "embeddings.npy"
    embed.main([str(published), str(speech), str(out), "--device=cpu"])
    vectors, index = read_embeddings(tmp_path)
    assert list(index.ids) == ["good.wav"]
    wanted = verifier.embed(speech / "good.wav")
    np.testing.assert_allclose(vectors[0], wanted, atol=1e-6)
    for name in ("bad.wav", "broken.wav", "phone.m4a", "half.flac"):
        assert f"{speech / name}" in caplog.text
    assert "; 4 files were left out" in capsys.readouterr().out
    for name in ("good.wav", "half.flac"):
        (speech / name).unlink()
    with pytest.raises(InputError, match="none of 3 audio files"):
        embed.main([str(published), str(speech), str(out), "--device=cpu"])


def test_a_table_of_another_kind_is_not_replaced(tmp_path):
    table = tmp_path / "test.csv"
    table.write_text("ID,duration,wav,start,stop\n")
    words = ["nowhere", "nowhere", str(tmp_path / "test.npy")]
    with pytest.raises(InputError, match="test.csv would be replaced"):
        embed.main(words)
    assert table.read_text() == "ID,duration,wav,start,stop\n"


@pytest.mark.parametrize(
    ("output", "files", "message"),
    [
        ("out.txt", True, "name it .npy"),
        ("out.npy", False, "none of 1 audio files"),
    ],
)
def test_what_cannot_be_embedded_is_one_clear_error(
    published, tmp_path, output, files, message
):
    (tmp_path / "a.wav").write_bytes(b"")
    if files:
        shutil.copy(published / "example1.wav", tmp_path / "b.wav")
    words = [str(published), str(tmp_path), str(tmp_path / output)]
    with pytest.raises(InputError, match=message):
        embed.main(words)
    assert not (tmp_path / output).exists()


def test_a_config_is_plain_json_without_a_place_of_this_machine(published):
    text = (published / "config.json").read_text()
    assert json.loads(text)["speechbrain_interface"] == "SpeakerRecognition"
    assert str(published.parent) not in text
