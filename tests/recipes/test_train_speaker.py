"""train_speaker learns, resumes exactly and refuses bad input."""

import itertools
import json
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile
import tiny_whisper as whisper
import torch
from any_device import (
    DEVICES,
    assert_same_states,
    assert_same_tables,
    repeatable,
)
from record_losses import in_double
from tones import Killed, killed_after, write_tones

from recipes import train_speaker
from speechbrain_ext.dataio.manifest import write_manifest
from speechbrain_ext.models.embedder_folder import load_embedder
from speechbrain_ext.training.brain import TrainingBrain
from speechbrain_ext.training.checkpoints import WholeCheckpointer
from speechbrain_ext.utils.errors import InputError

ECAPA = "hparams/train_speaker_ecapa.yaml"
MHFA = "hparams/train_speaker_encoder_mhfa.yaml"
LONGER = {"n_epochs": 12, "lr": 2e-3, "valid_fraction": 0.25}
SMALL_ECAPA = (
    "{n_mels: 20, width: 16, width_last: 24, attention_channels: 8, "
    "embedding_size: 8}"
)
SMALL_WAVLM = (
    "{encoder_source: null, n_heads: 4, compression_size: 8, "
    "embedding_size: 8, encoder_config: {hidden_size: 16, "
    "num_hidden_layers: 2, num_attention_heads: 2, intermediate_size: 32, "
    "conv_dim: [8, 8], conv_stride: [20, 16], conv_kernel: [20, 16], "
    "num_conv_pos_embeddings: 8, num_conv_pos_embedding_groups: 2}}"
)
# Crops of 0.4 s are two of its windows.
SMALL_WHISPER = json.dumps(
    {**whisper.MHFA, "encoder_config": {**whisper.SHORT, "dropout": 0.1}}
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Four speakers, a tone each in noise, eight utterances a speaker."""
    folder = tmp_path_factory.mktemp("corpus")
    rows = write_tones(folder, n_utterances=8)
    write_manifest(folder / "train.csv", rows, "pseudo_labels")
    return folder


def arguments(corpus, output, leaf=ECAPA, embedder=SMALL_ECAPA, **others):
    options = {
        "train_annotation": corpus / "train.csv",
        "data_folder": corpus,
        "output_folder": output,
        "embedder": embedder,
        "crop": 0.4,
        "batch_size": 8,
        "num_workers": 0,
        "n_epochs": 3,
        "n_warmup_epochs": 0,
        "valid_fraction": 0.1,
        "lr": 1e-3,
        "device": "cpu",
        **others,
    }
    return [leaf, "--noprogressbar"] + [
        f"--{key}={value}" for key, value in options.items()
    ]


def weights(folder):
    return torch.load(folder / "embedder" / "embedding_model.ckpt")


def assert_same_weights(first, second, device="cpu"):
    assert_same_states(weights(first), weights(second), device)


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "out"
    train_speaker.main(arguments(corpus, folder, **LONGER))
    return folder


def test_the_loss_falls_and_tones_are_told_apart(trained):
    curve = pd.read_csv(trained / "train_curve.csv")
    assert curve.epoch.tolist() == list(range(1, 13))
    assert curve.loss.iloc[-1] < 0.5 * curve.loss.iloc[0]
    assert curve.valid_error.iloc[-1] <= 0.25
    assert curve.lr.iloc[-1] == pytest.approx(2e-5)


def test_the_stage_record_tells_what_was_trained(trained):
    receipt = json.loads((trained / "stage.json").read_text())
    assert receipt["n_classes"] == 4
    assert receipt["n_utterances"] == 32
    assert receipt["random_encoder"] is False
    assert "embedder/embedding_model.ckpt" in receipt["outputs"]


def test_a_finished_run_is_skipped(trained, corpus):
    before = (trained / "stage.json").stat().st_mtime_ns
    train_speaker.main(arguments(corpus, trained, **LONGER))
    assert "is done, skipped" in (trained / "log.txt").read_text()
    assert (trained / "stage.json").stat().st_mtime_ns == before


def test_the_last_two_checkpoints_are_kept(trained):
    names = sorted(path.name for path in (trained / "save").iterdir())
    assert names == ["CKPT+epoch11", "CKPT+epoch12"]


def test_the_trained_embedder_loads_and_separates_speakers(trained, corpus):
    embedder = load_embedder(trained / "embedder")
    wavs = [
        torch.from_numpy(soundfile.read(corpus / name, frames=6000)[0]).float()
        for name in ("s0-0.wav", "s0-1.wav", "s3-0.wav")
    ]
    a, b, c = torch.nn.functional.normalize(
        embedder.embed(torch.stack(wavs)), dim=1
    )
    assert a @ b > a @ c + 0.3


# The values that the losses were recorded with.
RECORDED = {
    "lr_end": 0.95**3,
    "lr_schedule": "{n_stairs: 0}",
    "max_grad_norm": 5.0,
    "l2_sp_form": "squared",
}


@pytest.mark.parametrize(
    ("leaf", "embedder", "values", "losses"),
    [
        (ECAPA, SMALL_ECAPA, {}, [10.86259797, 3.895633534, 1.261806364]),
        (
            MHFA,
            SMALL_WAVLM,
            RECORDED,
            [17.35468994, 14.04461641, 12.44199282],
        ),
    ],
)
def test_losses_equal_the_numbers_recorded_here(
    corpus, tmp_path, monkeypatch, leaf, embedder, values, losses
):
    # In float64: rounding in float32 grows from step to step.
    options = {"leaf": leaf, "embedder": embedder, **values}
    with in_double(monkeypatch):
        train_speaker.main(arguments(corpus, tmp_path, **options))
    curve = pd.read_csv(tmp_path / "train_curve.csv")
    assert curve.loss.tolist() == pytest.approx(losses, rel=1e-7)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("leaf", "embedder", "n_batches"),
    [
        # 3 batches an epoch: killed in the middle of the second, or between.
        (ECAPA, SMALL_ECAPA, 5),
        (ECAPA, SMALL_ECAPA, 3),
        (MHFA, SMALL_WAVLM, 5),
        (MHFA, SMALL_WHISPER, 5),
    ],
)
def test_killed_and_resumed_is_the_same_as_uninterrupted(
    corpus, tmp_path, monkeypatch, leaf, embedder, n_batches, device
):
    options = {
        "leaf": leaf,
        "embedder": embedder,
        "ckpt_interval_minutes": 0,
        "ckpt_interval_steps": 1,
        "device": device,
    }
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    argv = arguments(corpus, killed, **options)
    with repeatable(device):
        train_speaker.main(arguments(corpus, whole, **options))
        with monkeypatch.context() as patch, pytest.raises(Killed):
            killed_after(patch, train_speaker.SpeakerBrain, n_batches)
            train_speaker.main(argv)
        assert not (killed / "stage.json").exists()
        # What was drawn in between is of no account.
        torch.rand(7, device=device)
        train_speaker.main(argv)
    curves = [pd.read_csv(f / "train_curve.csv") for f in (whole, killed)]
    assert_same_tables(*curves, device)
    assert_same_weights(whole, killed, device)


def test_a_run_without_validation_resumes_after_a_kill_between_epochs(
    corpus, tmp_path, monkeypatch
):
    # The checkpoint once held the old epoch's step: the resumed epoch drew
    # other dropout and averaged its loss over too many batches.
    options = {"leaf": MHFA, "embedder": SMALL_WAVLM, "valid_fraction": 0.0}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train_speaker.main(arguments(corpus, whole, **options))
    argv = arguments(corpus, killed, **options)
    n_batches = 4  # an epoch
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_after(patch, train_speaker.SpeakerBrain, n_batches)
        train_speaker.main(argv)
    train_speaker.main(argv)
    curve = pd.read_csv(whole / "train_curve.csv")
    assert curve.equals(pd.read_csv(killed / "train_curve.csv"))
    assert_same_weights(whole, killed)


def test_wavlm_is_trained_with_dropout(corpus, tmp_path):
    # Otherwise the resume test would prove nothing about it.
    settings = {"leaf": MHFA, "n_epochs": 1}
    without = SMALL_WAVLM.replace(
        "encoder_config: {",
        "encoder_config: {attention_dropout: 0.0, "
        "hidden_dropout: 0.0, activation_dropout: 0.0, ",
    )
    losses = []
    for name, embedder in (("with", SMALL_WAVLM), ("without", without)):
        train_speaker.main(
            arguments(corpus, tmp_path / name, embedder=embedder, **settings)
        )
        curve = pd.read_csv(tmp_path / name / "train_curve.csv")
        losses.append(curve.loss[0])
    assert losses[0] != losses[1]


def augmented_crops(corpus, sounds, folder, monkeypatch, batch_size):
    """What the embedder is trained on, of each (epoch, utterance)."""
    forward = train_speaker.SpeakerBrain.compute_forward
    crops = {}

    def recorded(self, batch, stage):
        def keep(module, inputs):
            for utterance, wav in zip(batch.id, inputs[0], strict=True):
                crops[stage, self.epochs.current, utterance] = wav

        with self.embedder.register_forward_pre_hook(keep):
            return forward(self, batch, stage)

    with monkeypatch.context() as patch:
        patch.setattr(train_speaker.SpeakerBrain, "compute_forward", recorded)
        options = {"batch_size": batch_size, "augment_folder": sounds}
        train_speaker.main(
            arguments(corpus, folder, valid_fraction=0.25, **options)
        )
    return crops


def test_an_utterance_is_augmented_the_same_in_any_batch(
    corpus, tmp_path, monkeypatch
):
    # Other neighbours, in another order, over another number of steps.
    generator = np.random.default_rng(1)
    for kind in ("noise", "music", "speech", "rir"):
        (tmp_path / "sounds" / kind).mkdir(parents=True)
        for number in range(3):
            wav = generator.normal(size=3000) * np.exp(-np.arange(3000) / 900)
            path = tmp_path / "sounds" / kind / f"{number}.wav"
            soundfile.write(path, 0.1 * wav, 16000)
    few, many = (
        augmented_crops(
            corpus, tmp_path / "sounds", tmp_path / str(n), monkeypatch, n
        )
        for n in (4, 12)
    )
    assert len(few) == 3 * 32 and few.keys() == many.keys()
    for key, wav in few.items():
        torch.testing.assert_close(wav, many[key], rtol=1e-5, atol=1e-5)
    # Another epoch is augmented, not only cut, in another way; validation
    # is not augmented.
    stages = {stage.name for stage, _, _ in few}
    assert stages == {"TRAIN", "VALID"}
    clean = augmented_crops(corpus, "null", tmp_path / "c", monkeypatch, 8)
    changed = {
        stage.name: np.mean(
            [
                not torch.equal(wav, few[key])
                for key, wav in clean.items()
                if key[0] == stage
            ]
        )
        for stage in {key[0] for key in few}
    }
    assert changed["VALID"] == 0
    assert 0.6 < changed["TRAIN"] < 1


WITHIN = {"ckpt_interval_minutes": 0, "ckpt_interval_steps": 1}


def epochs_logged(folder):
    """Epochs of the two files that have a row or line for each."""
    lines = (folder / "train_log.txt").read_text().splitlines()
    assert all(line.startswith("epoch: ") for line in lines)
    return (
        [int(line.split(" ")[1]) for line in lines],
        pd.read_csv(folder / "train_curve.csv").epoch.tolist(),
    )


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory):
    """A short training that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    train_speaker.main(arguments(corpus, folder))
    return folder


def test_each_epoch_is_logged_once_after_a_kill(
    corpus, whole, tmp_path, monkeypatch
):
    """A kill between an epoch's line and its checkpoint trains it again."""
    killed = tmp_path / "killed"
    argv = arguments(corpus, killed)
    save = WholeCheckpointer.save_checkpoint
    count = iter(range(10**6))

    def dying(*args, **options):
        if next(count) == 1:
            raise Killed
        return save(*args, **options)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(WholeCheckpointer, "save_checkpoint", dying)
        train_speaker.main(argv)
    assert epochs_logged(killed) == ([1, 2], [1, 2])
    with open(killed / "train_log.txt", "a", encoding="utf-8") as log:
        log.write("epoch: 1 - train lo")
    train_speaker.main(argv)
    assert epochs_logged(killed) == ([1, 2, 3], [1, 2, 3])
    for name in ("train_log.txt", "train_curve.csv"):
        assert (killed / name).read_text() == (whole / name).read_text()


@pytest.mark.parametrize(
    ("name", "n_batches"),
    [("embedder", 5), ("curve", 3)],
)
def test_a_damaged_checkpoint_costs_time_and_changes_nothing(
    corpus, whole, tmp_path, monkeypatch, name, n_batches
):
    """Before, a traceback, or with a flipped bit another model."""
    killed = tmp_path / "killed"
    argv = arguments(corpus, killed, **WITHIN)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_after(patch, train_speaker.SpeakerBrain, n_batches)
        train_speaker.main(argv)
    saved = WholeCheckpointer(killed / "save").find_checkpoints()
    assert len(saved) == 2
    path = saved[0].path / f"{name}.ckpt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    train_speaker.main(argv)
    said = (killed / "log.txt").read_text()
    assert f"{name}.ckpt has other bytes than were saved" in said
    assert_same_weights(whole, killed)
    assert epochs_logged(killed) == epochs_logged(whole)


def test_a_training_that_was_moved_goes_on(
    corpus, whole, tmp_path, monkeypatch
):
    killed = tmp_path / "killed"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_after(patch, train_speaker.SpeakerBrain, 5)
        train_speaker.main(arguments(corpus, killed, **WITHIN))
    moved = tmp_path / "elsewhere" / "run"
    moved.parent.mkdir()
    killed.rename(moved)
    n_batches = iter(range(10**6))
    fit_batch = train_speaker.SpeakerBrain.fit_batch

    def counted(self, batch):
        next(n_batches)
        return fit_batch(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(train_speaker.SpeakerBrain, "fit_batch", counted)
        train_speaker.main(arguments(corpus, moved, **WITHIN))
    assert next(n_batches) == 4  # of nine
    assert_same_weights(whole, moved)
    assert not killed.exists()


def test_a_clock_that_runs_back_does_not_stop_checkpoints(
    corpus, tmp_path, monkeypatch
):
    """They are due by the time since the last, which would be negative."""
    back = itertools.count(2e9, -3600)
    ended = []
    save = WholeCheckpointer.save_and_keep_only

    def noting(self, **options):
        ended.append(options["end_of_epoch"])
        save(self, **options)

    argv = arguments(
        corpus, tmp_path / "out", n_epochs=2, ckpt_interval_minutes=600
    )
    with monkeypatch.context() as patch:
        patch.setattr(WholeCheckpointer, "save_and_keep_only", noting)
        patch.setattr(time, "time", lambda: next(back))
        train_speaker.main(argv)
    assert ended == [False, False, False, True] * 2
    record = json.loads((tmp_path / "out" / "stage.json").read_text())
    assert 0 <= record["seconds"] < 3600


def test_weights_that_the_last_step_broke_are_not_saved(
    corpus, tmp_path, monkeypatch
):
    """The loss of a step is computed before the step changes anything."""
    step = train_speaker.SpeakerBrain.optimizers_step

    def breaking(self):
        step(self)
        if self.optimizer_step == self.settings.n_epochs * self.n_batches:
            first = self.optimizer.param_groups[0]["params"][0]
            first.data.view(-1)[0] = torch.nan

    monkeypatch.setattr(train_speaker.SpeakerBrain, "optimizers_step", breaking)
    argv = arguments(corpus, tmp_path / "out", n_epochs=2)
    rule = r"is not finite after epoch 2, batch \d; weights must be finite; low"
    with pytest.raises(InputError, match=rule):
        train_speaker.main(argv)
    names = [path.name for path in (tmp_path / "out" / "save").iterdir()]
    assert names == ["CKPT+epoch1"]


def test_a_half_saved_checkpoint_is_ignored(corpus, tmp_path, monkeypatch):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train_speaker.main(arguments(corpus, whole))
    argv = arguments(corpus, killed)
    save = torch.save
    count = iter(range(10**6))

    def dying(*args, **kwargs):
        # Three files a checkpoint: dies in the middle of the second.
        if next(count) == 4:
            raise Killed
        return save(*args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(torch, "save", dying)
        train_speaker.main(argv)
    train_speaker.main(argv)
    assert_same_weights(whole, killed)


def test_a_random_encoder_is_in_the_stage_record_and_the_log(corpus, tmp_path):
    folder = tmp_path / "out"
    argv = arguments(corpus, folder, MHFA, SMALL_WAVLM, n_epochs=1)
    train_speaker.main(argv)
    receipt = json.loads((folder / "stage.json").read_text())
    assert receipt["random_encoder"] is True
    assert "random encoder" in (folder / "log.txt").read_text()


def test_a_whisper_of_a_folder_is_tuned_above_its_front(corpus, tmp_path):
    model = whisper.whole()
    model.save_pretrained(tmp_path / "whisper")
    folder = tmp_path / "out"
    embedder = json.dumps(
        {
            "encoder_source": str(tmp_path / "whisper"),
            "n_heads": 2,
            "compression_size": 4,
            "embedding_size": 8,
        }
    )
    yaml = {"embedder_yaml": "embedders/whisper_mhfa.yaml"}
    train_speaker.main(arguments(corpus, folder, MHFA, embedder, **yaml))
    record = json.loads((folder / "stage.json").read_text())
    assert record["random_encoder"] is False
    assert "encoder model.safetensors" in record["inputs"]
    assert str(tmp_path) not in json.dumps(record["hparams"]["embedder"])
    # It started from the folder's weights, and moved the layers' alone.
    curve = pd.read_csv(folder / "train_curve.csv")
    assert curve.loss.iloc[-1] < curve.loss.iloc[0]
    assert (curve.l2 > 0).all()
    began = model.model.encoder.state_dict()
    now = {
        name.removeprefix("encoder.model."): value
        for name, value in weights(folder).items()
        if name.startswith("encoder.model.")
    }
    assert now.keys() == began.keys()
    moved = {name for name in now if not torch.equal(now[name], began[name])}
    # A bias of keys would not matter: Whisper has none.
    assert moved == {name for name in now if name.startswith("layers.")}
    # What was trained needs no source, nor the package's YAML.
    (tmp_path / "whisper").rename(tmp_path / "gone")
    assert load_embedder(folder / "embedder").embedding_size == 8


def test_the_encoder_ecapa_leaf_trains(corpus, tmp_path):
    embedder = SMALL_WAVLM.replace(
        "n_heads: 4, compression_size: 8,",
        "width: 16, width_last: 24, attention_channels: 8,",
    )
    folder = tmp_path / "out"
    leaf = "hparams/train_speaker_encoder_ecapa.yaml"
    train_speaker.main(arguments(corpus, folder, leaf, embedder))
    loss = pd.read_csv(folder / "train_curve.csv").loss
    assert loss.iloc[-1] < loss.iloc[0]
    assert load_embedder(folder / "embedder").embedding_size == 8


def test_each_part_has_its_own_rate(corpus, tmp_path):
    # The encoder, at rate 0, is the same however long the rest is trained.
    found = []
    for n_epochs in (1, 2):
        folder = tmp_path / str(n_epochs)
        options = {"n_epochs": n_epochs, "lr_parts": "{encoder: 0.0}"}
        train_speaker.main(
            arguments(corpus, folder, MHFA, SMALL_WAVLM, **options)
        )
        found.append(weights(folder))
    for name, value in found[0].items():
        if name.startswith("encoder."):
            assert torch.equal(value, found[1][name]), name
        elif name.endswith(".weight"):
            assert not torch.equal(value, found[1][name]), name


def test_without_validation_the_curve_has_no_error(corpus, tmp_path):
    folder = tmp_path / "out"
    train_speaker.main(
        arguments(corpus, folder, n_epochs=1, valid_fraction=0.0)
    )
    curve = pd.read_csv(folder / "train_curve.csv")
    assert curve.columns.tolist() == ["epoch", "loss", "lr"]


def test_init_from_starts_from_the_given_weights(corpus, tmp_path, trained):
    # A rate of zero keeps what it starts from.
    folder = tmp_path / "out"
    train_speaker.main(
        arguments(
            corpus, folder, n_epochs=1, lr=0.0, init_from=trained / "embedder"
        )
    )
    first, second = weights(trained), weights(folder)
    for name, value in first.items():
        if "running" not in name and "num_batches" not in name:
            assert torch.equal(value, second[name]), name


def message_of(argv):
    with pytest.raises(InputError) as caught:
        train_speaker.main(argv)
    return str(caught.value)


def test_one_speaker_is_refused(corpus, tmp_path):
    table = pd.read_csv(corpus / "train.csv").assign(spk_id="s0")
    write_manifest(tmp_path / "one.csv", table, "pseudo_labels")
    argv = arguments(
        corpus, tmp_path / "out", train_annotation=tmp_path / "one.csv"
    )
    assert "the one speaker 's0'" in message_of(argv)


def test_a_manifest_without_speakers_is_refused(corpus, tmp_path):
    table = pd.read_csv(corpus / "train.csv").drop(columns="spk_id")
    write_manifest(tmp_path / "none.csv", table, "utterances")
    argv = arguments(
        corpus, tmp_path / "out", train_annotation=tmp_path / "none.csv"
    )
    assert "pseudo_labels" in message_of(argv)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"crop": 2.0}, "--crop="),
        ({"batch_size": 64}, "lower --batch_size"),
        ({"grad_accumulation_factor": 99}, "no step is ever made"),
        ({"valid_fraction": 1.5}, "valid_fraction is 1.5"),
        ({"lr_parts": "{encodr: 1.0}"}, "names 'encodr'"),
        ({"embedder": "{widht: 16}"}, "did you mean 'width'"),
        ({"n_epoch": 3}, "did you mean --n_epochs"),
        ({"init_from": "nowhere"}, "nowhere"),
        ({"lr": 1e30}, "in epoch 1, batch 2, utterances s"),
        ({"nonfinite_patience": 9}, "leave --nonfinite_patience out"),
        ({"max_grad_norm": -1}, "max_grad_norm is -1"),
    ],
)
def test_bad_input_is_one_clear_message(corpus, tmp_path, options, words):
    message = message_of(arguments(corpus, tmp_path / "out", **options))
    assert words in message
    assert not (tmp_path / "out" / "stage.json").exists()


def test_a_missing_encoder_source_is_refused(corpus, tmp_path):
    embedder = SMALL_WAVLM.replace("encoder_source: null", "encoder_source: no")
    argv = arguments(corpus, tmp_path / "out", MHFA, embedder)
    assert "give exactly one" in message_of(argv)


def test_weights_that_were_never_finite_are_not_blamed_on_the_rate():
    layer = torch.nn.Linear(1, 1)
    brain = SimpleNamespace(
        epochs=SimpleNamespace(current=1),
        step=1,
        optimizer_step=0,
        settings=SimpleNamespace(lr=0.1),
        modules=torch.nn.ModuleDict({"encoder": layer}),
    )
    loss = torch.tensor(torch.nan)
    with pytest.raises(InputError, match=r"utterances a; .*lower --lr \(now"):
        TrainingBrain.require_finite(brain, loss, ["a"])
    layer.weight.data.fill_(torch.nan)
    with pytest.raises(InputError, match="weight encoder.weight was not befor"):
        TrainingBrain.require_finite(brain, loss, ["a"])
