"""train_speaker on the states of a frozen encoder that are computed once."""

import json

import numpy as np
import pandas as pd
import pytest
import soundfile
import tiny_whisper as whisper
import torch
from tones import SMALL, Killed, killed_after, write_tones

from recipes import train_speaker
from speechbrain_ext.dataio.manifest import write_manifest
from speechbrain_ext.losses.loss_gate import LossGate
from speechbrain_ext.models import state_cache
from speechbrain_ext.models.embedder_folder import load_embedder
from speechbrain_ext.models.speech_encoder import SpeechEncoder
from speechbrain_ext.models.state_cache import StateCopies
from speechbrain_ext.utils.errors import InputError

LEAF = "hparams/train_speaker_encoder_mhfa.yaml"
FROZEN = {**whisper.MHFA, "freeze": "all"}
# Correction acts, so that clean crops are embedded.
NOISY = {
    "gate": "hard",
    "gate_from_epoch": 2,
    "correct_from_epoch": 2,
    "correct_confidence": 0.01,
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Utterances of 0.4 s, and sounds to augment them with."""
    folder = tmp_path_factory.mktemp("corpus")
    rows = write_tones(folder, n_utterances=6, lengths=(6400, 6401))
    write_manifest(folder / "train.csv", rows, "pseudo_labels")
    generator = np.random.default_rng(1)
    for kind in ("noise", "music", "speech", "rir"):
        (folder / "sounds" / kind).mkdir(parents=True)
        wav = generator.normal(size=3000) * np.exp(-np.arange(3000) / 900)
        soundfile.write(folder / "sounds" / kind / "0.wav", wav / 9, 16000)
    return folder


@pytest.fixture(scope="module", autouse=True)
def small_chunks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state_cache, "_CHUNK", 7)
        yield


@pytest.fixture(scope="module", autouse=True)
def rejecting_gate():
    """A gate that rejects every other utterance of a batch."""

    def weights(self, log_losses):
        return (torch.arange(len(log_losses)) % 2).float()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LossGate, "weights", weights)
        yield


def arguments(corpus, output, **others):
    options = {
        "train_annotation": corpus / "train.csv",
        "data_folder": corpus,
        "output_folder": output,
        "embedder_yaml": "embedders/whisper_mhfa.yaml",
        "embedder": json.dumps(FROZEN),
        "crop": 0.4,
        "batch_size": 6,
        "num_workers": 0,
        "n_epochs": 3,
        "valid_fraction": 0.2,
        "lr": 5e-3,
        "lr_parts": "{}",
        "l2_sp_weight": 0,
        "gate": "null",
        "correct_from_epoch": "null",
        "device": "cpu",
        **others,
    }
    return [LEAF, "--noprogressbar"] + [
        f"--{key}={value}" for key, value in options.items()
    ]


def weights(folder):
    return torch.load(folder / "embedder" / "embedding_model.ckpt")


def assert_same_training(first, second):
    curves = [pd.read_csv(f / "train_curve.csv") for f in (first, second)]
    assert curves[0].equals(curves[1])
    one, two = weights(first), weights(second)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_clean_states_train_as_the_encoder_in_each_step(corpus, tmp_path):
    anew, kept = tmp_path / "anew", tmp_path / "kept"
    train_speaker.main(arguments(corpus, anew))
    train_speaker.main(arguments(corpus, kept, state_copies=1))
    curves = [pd.read_csv(f / "train_curve.csv") for f in (anew, kept)]
    # They differ by the rounding of half precision, and in nothing else.
    np.testing.assert_allclose(curves[0].loss, curves[1].loss, rtol=2e-3)
    assert not (curves[0].loss == curves[1].loss).all()
    assert curves[0].valid_error.equals(curves[1].valid_error)
    assert weights(anew).keys() == weights(kept).keys()


def test_the_encoder_hears_each_copy_once_in_all_epochs(
    corpus, tmp_path, monkeypatch
):
    forward, n_heard = SpeechEncoder.forward, []

    def noting(self, wavs):
        n_heard.append(len(wavs))
        return forward(self, wavs)

    monkeypatch.setattr(SpeechEncoder, "forward", noting)
    options = {"state_copies": 2, "augment_folder": corpus / "sounds"}
    folder = tmp_path / "out"
    train_speaker.main(arguments(corpus, folder, **options))
    # One is the measurement of the embedding's size.
    assert sum(n_heard) == 2 * 24 + 1
    # States are large, and can be made again.
    assert not (folder / "states").exists()
    assert load_embedder(folder / "embedder").embedding_size == 8


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory):
    """A training on three copies, and who was corrected by clean crops."""
    folder, asked = tmp_path_factory.mktemp("whole") / "out", []
    clean = state_cache.RandomStates.clean

    def noting(self, names):
        asked.extend(names)
        return clean(self, names)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state_cache.RandomStates, "clean", noting)
        train_speaker.main(arguments(corpus, folder, **several(corpus)))
    return folder, asked


def several(corpus):
    return {
        "state_copies": 3,
        "augment_folder": corpus / "sounds",
        "crop": 0.3,
        "n_epochs": 2,
        "ckpt_interval_minutes": 0,
        "ckpt_interval_steps": 2,
        **NOISY,
    }


def test_kills_while_states_are_made_and_in_training_change_nothing(
    corpus, tmp_path, monkeypatch, whole
):
    folder = tmp_path / "killed"
    argv = arguments(corpus, folder, **several(corpus))
    write, count = StateCopies._write, iter(range(100))

    def dying(self, *args):
        if next(count) == 2:
            raise Killed
        write(self, *args)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(StateCopies, "_write", dying)
        train_speaker.main(argv)
    assert len(list((folder / "states").glob("*.done"))) == 2
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_after(patch, train_speaker.SpeakerBrain, 5)
        train_speaker.main(argv)
    with monkeypatch.context() as patch:
        # All of them are there: none is made again.
        patch.setattr(StateCopies, "_write", None)
        train_speaker.main(argv)
    assert_same_training(whole[0], folder)
    assert json.loads((folder / "stage.json").read_text())["resumed"]


def test_correction_looks_at_clean_crops_of_what_is_rejected(whole):
    folder, asked = whole
    states = pd.read_csv(folder / "label_states.csv")
    rejected = states.ID[~states.kept]
    # Every other of three batches of six, in the second epoch alone.
    assert len(rejected) == len(asked) == 9
    assert set(rejected) == set(asked)
    assert states.corrected.notna().any()


def test_augmentation_that_one_copy_would_not_use_is_said(corpus, tmp_path):
    folder = tmp_path / "out"
    options = {"augment_folder": corpus / "sounds", "n_epochs": 1}
    train_speaker.main(arguments(corpus, folder, state_copies=1, **options))
    assert "the one copy is clean" in (folder / "log.txt").read_text()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"state_copies": -1}, "state_copies is -1; it must be .* 0 or more"),
        ({"state_copies": 2}, "--state_copies=1"),
        (
            {"embedder": json.dumps(whisper.MHFA)},
            "freeze front and lora_rank 0.*freeze: all",
        ),
        (
            {"embedder": json.dumps({**FROZEN, "lora_rank": 2})},
            "freeze all and lora_rank 2.*lora_rank: 0",
        ),
        (
            {"embedder_yaml": "embedders/ecapa.yaml", "embedder": SMALL},
            "freeze None.*with the YAML of an encoder",
        ),
    ],
)
def test_states_that_would_not_stay_are_refused(
    corpus, tmp_path, options, words
):
    options = {"state_copies": 1, **options}
    with pytest.raises(InputError, match=words):
        train_speaker.main(arguments(corpus, tmp_path / "out", **options))
    assert not (tmp_path / "out").exists()


def test_all_states_are_read_by_the_same_processes(
    corpus, tmp_path, monkeypatch
):
    read, n_made = state_cache.read_batches, []

    def noting(manifest, batches, *others):
        n_made.append(sum(map(len, batches)))
        return read(manifest, batches, *others)

    monkeypatch.setattr(state_cache, "read_batches", noting)
    options = {"state_copies": 1, "num_workers": 1, "n_epochs": 1}
    train_speaker.main(arguments(corpus, tmp_path / "out", **options))
    assert n_made == [24]  # four chunks


def test_states_are_computed_in_eval_precision(corpus, tmp_path, monkeypatch):
    forward, seen = SpeechEncoder.forward, []

    def noting(self, wavs):
        seen.append(torch.is_autocast_enabled("cpu"))
        return forward(self, wavs)

    monkeypatch.setattr(SpeechEncoder, "forward", noting)
    options = {"state_copies": 1, "eval_precision": "bf16", "n_epochs": 1}
    train_speaker.main(arguments(corpus, tmp_path / "out", **options))
    # The first is the measurement of the embedding's size.
    assert not seen[0] and all(seen[1:]) and len(seen) > 4
