"""A shared model in use: safe, and the same whatever it is given."""

import copy
import math
import pickle

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from odd_audio import READ, REFUSED
from shared_model import DECISION
from speechbrain.inference.speaker import SpeakerRecognition
from tiny_wavlm import TINY
from tiny_whisper import MHFA as WHISPER

from speechbrain_ext.dataio.audio import read_crop
from speechbrain_ext.inference.hub_folder import write_hub_folder
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


@pytest.mark.parametrize("content", [b"\xff\xfe{}", b'{"a":' * 100_000])
def test_a_config_that_is_no_json_is_one_clear_error(model, content):
    (model / "config.json").write_bytes(content)
    with pytest.raises(InputError, match="config.json: not JSON"):
        SpeakerVerifier.from_pretrained(model, "cpu")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere/at/all", "neither a folder, .* nor the id"),
        ("nowhere", "neither a folder, .* nor the id .*; correct the path"),
        ("minivox_wisper", "did you mean minivox_whisper"),
    ],
)
def test_a_source_without_a_model_is_one_clear_error(source, message):
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
    with pytest.raises(InputError, match="device is .*give --device=cpu"):
        SpeakerVerifier.from_pretrained(published, device)


# Use.


def test_an_embedding_does_not_depend_on_the_rest_of_the_batch(verifier, wavs):
    together = verifier.embed(wavs)
    alone = torch.stack([verifier.embed(wav) for wav in wavs])
    assert together.shape == (3, 8) and alone.shape == (3, 8)
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)


def test_files_arrays_and_tensors_give_the_same_embedding(
    verifier, wavs, tmp_path
):
    path = tmp_path / "a.wav"
    soundfile.write(path, wavs[0].numpy(), 16000, subtype="FLOAT")
    wanted = verifier.embed(wavs[0])
    for given in (path, str(path), wavs[0].numpy(), wavs[0].double()):
        assert torch.equal(verifier.embed(given), wanted)
    batch = torch.stack([wavs[0], wavs[2]])
    torch.testing.assert_close(
        verifier.embed(batch), verifier.embed([wavs[0], wavs[2]])
    )


def test_many_utterances_keep_their_order(verifier, wavs):
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
        (torch.full((8000,), 0.3), "utterance 0: silent: .* of 0.3; give"),
        (torch.arange(8000.0), "utterance 0: wrong scale: .* reach 7999"),
        (torch.full((8000,), torch.nan), "utterance 0: not finite"),
        ("nowhere.wav", "nowhere.wav: no such file"),
        (".", "^. is a folder; give a file, or the folder to embed_files"),
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
    with pytest.raises(InputError, match="a.wav: unreadable: .*; give another"):
        verifier.embed(tmp_path / "a.wav")


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_file_is_refused_and_never_compared(verifier, tmp_path, name):
    # Two silent files were once of one speaker, with a probability of 0.98.
    write_one, reason = REFUSED[name]
    for number in "12":
        write_one(tmp_path / f"{number}{name}")
    pair = [tmp_path / f"{number}{name}" for number in "12"]
    with pytest.raises(InputError, match=f"1{name}: {reason}.*; give another"):
        verifier.verify(*pair)


def test_odd_files_are_embedded_as_their_samples_are(verifier, tmp_path):
    for name, (write_one, _) in READ.items():
        write_one(tmp_path / name)
        found = verifier.embed(tmp_path / name)
        wanted = verifier.embed(read_crop(tmp_path / name))
        torch.testing.assert_close(found, wanted)


def test_weights_that_are_not_finite_are_not_blamed_on_the_audio(
    verifier, wavs, monkeypatch
):
    broken = copy.deepcopy(verifier.embedder)
    next(broken.parameters()).data[0] = torch.nan
    bad = SpeakerVerifier(broken, verifier.decision)
    with pytest.raises(InputError, match="weight .* is not finite: .*audio is"):
        bad.embed(wavs[0])
    # Finite weights, and finite samples: numbers have overflown.
    monkeypatch.setattr(
        verifier.embedder, "embed", lambda wavs: wavs[:, :8] * torch.inf
    )
    with pytest.raises(InputError, match="0: its embedding .* overflow in the"):
        verifier.embed(wavs[0])


@pytest.mark.parametrize("rate", [0, 1, -16000, None, 16000.5, 2**31, "16000"])
def test_an_impossible_sample_rate_is_one_clear_error(verifier, wavs, rate):
    with pytest.raises(InputError, match="sample_rate is .* give samples a"):
        verifier.embed(wavs[0], sample_rate=rate)


def test_the_layout_of_samples_in_memory_does_not_matter(verifier, wavs):
    x = wavs[0].numpy()
    wanted = verifier.embed(wavs[0])
    for given in (
        x[::-1].copy()[::-1],
        x.astype(">f4"),
        x.astype("longdouble"),
    ):
        assert torch.equal(verifier.embed(given), wanted)


def test_arrays_and_series_of_paths_are_taken_as_lists(
    verifier, wavs, tmp_path
):
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


def test_speech_of_over_three_minutes_is_refused_by_wavlm_and_taken_by_ecapa(
    verifier, tmp_path
):
    path = tmp_path / "long.wav"
    tone = np.tile(np.float32([0.1, 0.0, -0.1, 0.0]), 181 * 2000)
    soundfile.write(path, tone, 8000)
    model = SpeakerEncoder(None, TINY, MHFA)
    wavlm = SpeakerVerifier(WaveEmbedder(*[RawWaveform()] * 2, model), DECISION)
    for given in (path, np.zeros(181 * 16000)):
        with pytest.raises(InputError, match="181.0 s, and .* 180 s at most"):
            wavlm.embed(given)
    assert verifier.embed(path).shape == (8,)


def test_a_published_whisper_is_the_same_and_takes_speech_of_any_length(
    tmp_path, wavs
):
    torch.manual_seed(0)
    embedder = build_embedder("embedders/whisper_mhfa.yaml", WHISPER)
    save_embedder(tmp_path / "embedder", embedder)
    write_hub_folder(tmp_path / "m", tmp_path / "embedder", DECISION, 0)
    verifier = SpeakerVerifier.from_pretrained(tmp_path / "m", "cpu")
    stock = SpeakerRecognition.from_hparams(
        source=str(tmp_path / "m"),
        savedir=str(tmp_path / "stock"),
        run_opts={"device": "cpu"},
    )
    # Three minutes are too long for attention without windows.
    long = torch.cat([*wavs] * 120)
    assert len(long) > 180 * 16000
    for wav in (*wavs, long):
        found = verifier.embed(wav)
        assert torch.equal(found, embedder.embed(wav[None])[0])
        torch.testing.assert_close(stock.encode_batch(wav[None])[0, 0], found)


def test_embeddings_and_priors_may_be_of_any_numeric_type(verifier):
    x = torch.eye(8)[0]
    found = verifier.verify_embeddings(x.bfloat16(), x, prior=np.float32(0.25))
    assert found == verifier.verify_embeddings(x, x, prior=0.25)
    with pytest.raises(InputError, match="prior is 'high'"):
        verifier.verify_embeddings(x, x, prior="high")


def test_one_utterance_or_several_can_be_compared(verifier, wavs):
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


def test_the_probability_follows_from_calibration_and_prior(verifier):
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


# Many utterances, and speakers by name.


def test_a_folder_or_a_generator_is_embedded_by_batches(
    verifier, wavs, tmp_path
):
    for number, wav in enumerate(wavs):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, wav.numpy(), 16000, subtype="FLOAT")
    wanted = verifier.embed(wavs)
    found = verifier.embed_files(tmp_path, batch_size=2)
    assert found.names == [str(tmp_path / f"{n}.wav") for n in range(3)]
    assert not found.bad
    torch.testing.assert_close(torch.tensor(found.embeddings), wanted)
    lazy = verifier.embed_files(iter(wavs), batch_size=2)
    assert lazy.names == ["utterance 0", "utterance 1", "utterance 2"]
    torch.testing.assert_close(torch.tensor(lazy.embeddings), wanted)


def test_what_cannot_be_embedded_is_named_on_request(verifier, wavs):
    spoilt = [wavs[0], wavs[1][:10], "nowhere.wav", wavs[2]]
    with pytest.raises(InputError, match="utterance 1 has 0.001 s"):
        verifier.embed_files(spoilt)
    found = verifier.embed_files(spoilt, keep_going=True)
    assert found.names == ["utterance 0", "utterance 3"]
    assert list(found.bad) == ["utterance 1", "nowhere.wav"]
    assert "no such file" in found.bad["nowhere.wav"]
    wanted = verifier.embed([wavs[0], wavs[2]])
    torch.testing.assert_close(torch.tensor(found.embeddings), wanted)
    with pytest.raises(InputError, match="none of 1 utterances"):
        verifier.embed_files(["nowhere.wav"], keep_going=True)
    with pytest.raises(InputError, match="batch_size is 0"):
        verifier.embed_files(wavs, batch_size=0)
    with pytest.raises(InputError, match="is not a folder"):
        verifier.embed_files("nowhere")


def test_what_torchaudio_loads_is_one_utterance(verifier, wavs):
    """(samples [C, T], rate): its channels are averaged."""
    wav = wavs[0]
    stereo = torch.stack([wav, 0.5 * wav])
    wanted = verifier.embed(0.75 * wav)
    torch.testing.assert_close(verifier.embed((stereo, 16000)), wanted)
    both = verifier.embed([(stereo, 16000), (wavs[1][None], 16000)])
    assert both.shape == (2, 8)
    torch.testing.assert_close(both[0], wanted)
    half = (wav[None], 8000)
    torch.testing.assert_close(
        verifier.embed(half), verifier.embed(wav, sample_rate=8000)
    )
    with pytest.raises(InputError, match="sample_rate is 0"):
        verifier.embed((stereo, 0))


def test_similarity_is_each_cosine(verifier, wavs):
    x = verifier.embed(wavs)
    found = verifier.similarity(x)
    unit = torch.nn.functional.normalize(x.double())
    np.testing.assert_allclose(found, unit @ unit.T, atol=1e-12)
    np.testing.assert_allclose(
        verifier.similarity(x[0], x[1:]), found[:1, 1:], atol=1e-12
    )
    with pytest.raises(InputError, match="8 and of 7 values"):
        verifier.similarity(x, x[:, :7])


def test_an_enrolled_speaker_is_identified(model, wavs):
    verifier = SpeakerVerifier.from_pretrained(model, "cpu")
    with pytest.raises(InputError, match="nobody is enrolled"):
        verifier.identify(wavs[0])
    verifier.enrol("Ada", wavs[:1])
    found = verifier.identify(wavs[0])
    assert found.name == "Ada" and found.score == pytest.approx(1, abs=1e-5)
    one = verifier.verify(wavs[0], wavs[0])
    assert found.probability == pytest.approx(one.probability, abs=1e-6)
    with pytest.raises(InputError, match="2 utterances are given"):
        verifier.identify(wavs[:2])


def test_a_verifier_says_what_it_is(model):
    (model / "README.md").write_text("# A card\n")
    verifier = SpeakerVerifier.from_pretrained(model, "cpu")
    assert verifier.card == "# A card\n"
    assert (verifier.embedding_size, verifier.sample_rate) == (8, 16000)
    assert verifier.to("cpu") is verifier
    assert "embedding_size=8" in repr(verifier)
    with pytest.raises(InputError, match="device is 'nowhere'"):
        verifier.to("nowhere")
