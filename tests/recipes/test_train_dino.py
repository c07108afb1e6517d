"""train_dino learns, resumes exactly and refuses bad input in one line."""

import json
import shutil
import signal
import sys

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
import warm
from any_device import (
    DEVICES,
    assert_same_states,
    assert_same_tables,
    repeatable,
)
from speechbrain.dataio.batch import PaddedBatch
from speechbrain.inference.speaker import SpeakerRecognition
from tones import SMALL, Killed, killed_after, without_speakers, write_tones

from recipes import train_dino
from speechbrain_ext.dataio.audio import read_crop
from speechbrain_ext.dataio.manifest import write_manifest
from speechbrain_ext.losses import rdino
from speechbrain_ext.losses.dino import DINOLoss
from speechbrain_ext.models.embedder import Embedder
from speechbrain_ext.models.embedder_folder import load_embedder
from speechbrain_ext.training import brain
from speechbrain_ext.training.positives import PositiveSampler
from speechbrain_ext.utils.distributed import SharedBatchNorm
from speechbrain_ext.utils.errors import InputError

LEAF = "hparams/train_dino_ecapa_small.yaml"
PAPER = "hparams/train_dino_ecapa.yaml"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """16 utterances of four speakers, and sounds to augment them with."""
    folder = tmp_path_factory.mktemp("corpus")
    rows = without_speakers(write_tones(folder))
    write_manifest(folder / "train.csv", rows, "utterances")
    generator = np.random.default_rng(1)
    for kind in ("noise", "music", "speech", "rir"):
        (folder / "augment" / kind).mkdir(parents=True)
        for number in range(3):
            wav = generator.normal(size=3000) * np.exp(-np.arange(3000) / 900)
            path = folder / "augment" / kind / f"{number}.wav"
            soundfile.write(path, 0.1 * wav, 16000)
    return folder


def arguments(corpus, output, leaf=LEAF, **others):
    options = {
        "train_annotation": corpus / "train.csv",
        "data_folder": corpus,
        "output_folder": output,
        "embedder": SMALL,
        "head": "{hidden_size: 32, bottleneck_size: 16, n_prototypes: 64}",
        "global_crop": 0.3,
        "local_crop": 0.15,
        "batch_size": 4,
        "num_workers": 0,
        "n_epochs": 2,
        "n_warmup_epochs": 0,
        "device": "cpu",
        **others,
    }
    return [leaf, "--noprogressbar"] + [
        f"--{key}={value}" for key, value in options.items()
    ]


def curve(folder):
    return pd.read_csv(folder / "train_curve.csv")


def weights(folder):
    return torch.load(folder / "embedder" / "embedding_model.ckpt")


def assert_same(first, second, device="cpu"):
    assert_same_tables(curve(first), curve(second), device)
    assert_same_states(weights(first), weights(second), device)


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "out"
    train_dino.main(arguments(corpus, folder, n_epochs=8, lr=5e-3))
    return folder


def test_the_curve_has_a_row_an_epoch_and_falls(trained):
    rows = curve(trained)
    figures = "loss kl entropy information prototypes center_norm spread "
    assert rows.columns.tolist() == [
        "epoch",
        *(figures + "effective_rank lr").split(),
    ]
    assert rows.epoch.tolist() == list(range(1, 9))
    assert rows.loss.iloc[-1] < 0.97 * rows.loss[0]
    assert rows.lr.iloc[-1] == pytest.approx(0.01 * 5e-3)


def test_the_stage_record_tells_what_was_trained(trained, corpus):
    receipt = json.loads((trained / "stage.json").read_text())
    assert receipt["n_utterances"] == 16
    hours = pd.read_csv(corpus / "train.csv").duration.sum() / 3600
    assert receipt["hours"] == pytest.approx(hours)
    assert receipt["final_loss"] == curve(trained).loss.iloc[-1]
    assert receipt["random_encoder"] is False
    assert set(receipt["outputs"]) == {
        "embedder/hyperparams.yaml",
        "embedder/embedding_model.ckpt",
        "train_curve.csv",
        "diagnostics.png",
    }


def test_stock_speechbrain_loads_the_embedder(trained, corpus, tmp_path):
    embedder = load_embedder(trained / "embedder")
    stock = SpeakerRecognition.from_hparams(
        source=str(trained / "embedder"),
        savedir=str(tmp_path),
        run_opts={"device": "cpu"},
    )
    wavs = read_crop(corpus / "s0-0.wav")[None]
    found = stock.encode_batch(wavs)[:, 0]
    assert found.shape == (1, 8)
    assert found.abs().max() > 0.01
    torch.testing.assert_close(
        found, embedder.embed(wavs), rtol=1e-5, atol=1e-6
    )


def test_a_finished_run_is_skipped(trained, corpus):
    before = (trained / "stage.json").stat().st_mtime_ns
    train_dino.main(arguments(corpus, trained, n_epochs=8, lr=5e-3))
    assert "is done, skipped" in (trained / "log.txt").read_text()
    assert (trained / "stage.json").stat().st_mtime_ns == before


def test_the_last_two_checkpoints_are_kept(trained):
    names = sorted(path.name for path in (trained / "save").iterdir())
    assert names == ["CKPT+epoch7", "CKPT+epoch8"]


def test_the_embedder_is_the_teachers_not_the_students(
    trained, corpus, tmp_path
):
    # One that never moves is as it was built, however the student learns.
    for name, lr in (("still", 1e-3), ("other", 1e-2)):
        argv = arguments(
            corpus, tmp_path / name, n_epochs=1, lr=lr, momentum=1.0
        )
        train_dino.main(argv)
    first, second = weights(tmp_path / "still"), weights(tmp_path / "other")
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
    assert not curve(tmp_path / "still").equals(curve(tmp_path / "other"))
    assert not torch.equal(
        first["fc.conv.weight"], weights(trained)["fc.conv.weight"]
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("leaf", "n_batches", "interval"),
    [
        # 4 batches an epoch: killed in the middle of the first epoch, of the
        # second, between them, two steps after a checkpoint.
        (LEAF, 2, 1),
        (LEAF, 7, 1),
        (LEAF, 4, 1),
        (PAPER, 7, 2),
    ],
)
def test_killed_and_resumed_is_the_same_as_uninterrupted(
    corpus, tmp_path, monkeypatch, leaf, n_batches, interval, device
):
    options = {
        "leaf": leaf,
        "device": device,
        "augment_folder": corpus / "augment",
        "augment": "{reverb_prob: 0.5}",
        "momentum": 0.8,
        "collapse_patience": 100,
        "n_averaged_epochs": 2,
        "positives": "ssps",
        "n_ssps_epochs": 1,
        "ssps_clusters": 6,
        "ckpt_interval_minutes": 0,
        "ckpt_interval_steps": interval,
    }
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    argv = arguments(corpus, killed, **options)
    with repeatable(device):
        train_dino.main(arguments(corpus, whole, **options))
        with monkeypatch.context() as patch, pytest.raises(Killed):
            killed_after(patch, train_dino.DinoBrain, n_batches)
            train_dino.main(argv)
        assert not (killed / "stage.json").exists()
        torch.rand(7, device=device)
        train_dino.main(argv)
    assert_same(whole, killed, device)
    assert len(curve(killed)) == 2


def test_a_run_goes_on_with_blocks_computed_again(
    corpus, tmp_path, monkeypatch
):
    """The losses are those of a run that was never killed."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train_dino.main(arguments(corpus, whole))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_after(patch, train_dino.DinoBrain, 5)
        train_dino.main(arguments(corpus, killed))
    train_dino.main(arguments(corpus, killed, recompute_blocks=True))
    losses = curve(killed).loss.tolist()
    assert losses == pytest.approx(curve(whole).loss.tolist(), rel=1e-5)
    assert weights(killed).keys() == weights(whole).keys()


def test_a_run_killed_between_its_last_batch_and_the_end_of_the_epoch(
    corpus, tmp_path, monkeypatch
):
    options = {"ckpt_interval_minutes": 0, "ckpt_interval_steps": 1}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train_dino.main(arguments(corpus, whole, **options))
    argv = arguments(corpus, killed, **options)

    def dying(*args):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(train_dino.DinoBrain, "on_stage_end", dying)
        train_dino.main(argv)
    train_dino.main(argv)
    assert_same(whole, killed)


def test_a_run_killed_after_its_last_epoch_is_finished(
    corpus, tmp_path, monkeypatch
):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train_dino.main(arguments(corpus, whole))
    argv = arguments(corpus, killed)

    def dying(*args):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(brain, "save_embedder", dying)
        train_dino.main(argv)
    with monkeypatch.context() as patch:
        patch.setattr(train_dino.DinoBrain, "fit_batch", dying)
        train_dino.main(argv)
    assert_same(whole, killed)


KILL = """
import os, signal
from recipes import train_dino
fit_batch, count = train_dino.DinoBrain.fit_batch, iter(range(6))
def fatal(self, batch):
    if next(count) == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return fit_batch(self, batch)
train_dino.DinoBrain.fit_batch = fatal
train_dino.main()
"""


def test_a_run_killed_by_signal_9_with_loader_workers_resumes(corpus, tmp_path):
    options = {
        "num_workers": 2,
        "ckpt_interval_minutes": 0,
        "ckpt_interval_steps": 1,
    }
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train_dino.main(arguments(corpus, whole))
    argv = arguments(corpus, killed, **options)
    done = warm.run([sys.executable, "-c", KILL, *argv])
    assert done.returncode == -signal.SIGKILL
    assert len(curve(killed)) == 1
    train_dino.main(argv)
    assert_same(whole, killed)
    assert json.loads((killed / "stage.json").read_text())["resumed"]


def test_dropout_is_replayed_by_a_resumed_run(corpus, tmp_path, monkeypatch):
    forward = Embedder.forward

    def dropping(self, wavs):
        drop = torch.nn.functional.dropout
        return drop(forward(self, wavs), training=self.training)

    monkeypatch.setattr(Embedder, "forward", dropping)
    options = {"ckpt_interval_minutes": 0, "ckpt_interval_steps": 1}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train_dino.main(arguments(corpus, whole, **options))
    argv = arguments(corpus, killed, **options)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_after(patch, train_dino.DinoBrain, 6)
        train_dino.main(argv)
    torch.manual_seed(7)
    train_dino.main(argv)
    assert_same(whole, killed)


def test_a_run_stopped_early_saves_its_current_teacher(
    corpus, tmp_path, monkeypatch
):
    brains = []
    build_brain = train_dino.build_brain

    def recorded(*args):
        brains.append(build_brain(*args))
        return brains[-1]

    monkeypatch.setattr(train_dino, "build_brain", recorded)
    options = {"n_epochs": 9, "n_averaged_epochs": 2, "lr": 1e-2}
    argv = arguments(corpus, tmp_path / "out", momentum=0.5, **options)
    train_dino.main([*argv, "--debug"])
    assert len(curve(tmp_path / "out")) < 9
    teacher = brains[0].modules.teacher.model.embedder.model
    found = weights(tmp_path / "out")
    for name, value in teacher.state_dict().items():
        assert torch.equal(found[name], value), name


def test_positives_are_drawn_again_after_a_kill_during_the_draw(
    corpus, tmp_path, monkeypatch
):
    options = {"positives": "ssps", "n_ssps_epochs": 1, "ssps_clusters": 6}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train_dino.main(arguments(corpus, whole, **options))
    argv = arguments(corpus, killed, **options)

    def dying(*args):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("speechbrain_ext.training.positives.draw_rows", dying)
        train_dino.main(argv)
    assert len(curve(killed)) == 1
    train_dino.main(argv)
    assert_same(whole, killed)


def test_positives_are_not_drawn_again_by_a_run_resumed_within_an_epoch(
    corpus, tmp_path, monkeypatch
):
    # The teacher has moved since: it would draw others.
    draws = []
    draw = PositiveSampler.draw

    def recorded(self, embeddings, epoch, device=None):
        draws.append(epoch)
        draw(self, embeddings, epoch, device)

    monkeypatch.setattr(PositiveSampler, "draw", recorded)
    options = {"positives": "ssps", "n_ssps_epochs": 1, "ssps_clusters": 6}
    options |= {"ckpt_interval_minutes": 0, "ckpt_interval_steps": 1}
    argv = arguments(corpus, tmp_path / "out", **options)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_after(patch, train_dino.DinoBrain, 6)
        train_dino.main(argv)
    train_dino.main(argv)
    assert draws == [2]


def first_step(corpus, folder, monkeypatch, leaf=LEAF, **options):
    """The loss of the first batch, and the brain after it."""
    fit_batch = train_dino.DinoBrain.fit_batch
    seen = []

    def once(self, batch):
        seen.extend([fit_batch(self, batch), self])
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(train_dino.DinoBrain, "fit_batch", once)
        train_dino.main(arguments(corpus, folder, leaf, **options))
    return seen


def test_training_with_augmentation_differs_from_without(
    corpus, tmp_path, monkeypatch
):
    # Otherwise the resume test would prove nothing about it.
    folders = {"clean": "null", "noisy": corpus / "augment"}
    losses = [
        first_step(corpus, tmp_path / name, monkeypatch, augment_folder=path)[0]
        for name, path in folders.items()
    ]
    assert losses[0] != losses[1]


def test_the_first_step_does_what_the_yaml_says(corpus, tmp_path, monkeypatch):
    _, brain = first_step(
        corpus, tmp_path / "out", monkeypatch, PAPER, n_warmup_epochs=1
    )
    # A warm-up begins at rate 0: nothing has moved but the centre.
    student, teacher = brain.modules.student, brain.modules.teacher.model
    for (name, own), theirs in zip(
        student.named_parameters(), teacher.parameters(), strict=True
    ):
        assert torch.equal(own, theirs), name
    assert brain.optimizer_step == 1
    assert brain.modules.loss.center.abs().max() > 0
    decays = {
        p.ndim > 1: group["weight_decay"]
        for group in brain.optimizer.param_groups
        for p in group["params"]
    }
    assert decays == {True: 5e-5, False: 0.0}
    trained = sum(len(g["params"]) for g in brain.optimizer.param_groups)
    assert trained == len(list(student.parameters()))


def test_each_tensors_gradient_is_clipped_by_itself(
    corpus, tmp_path, monkeypatch
):
    options = {"lr": 0.1, "max_grad_norm": 1e-4, "momentum": 1.0}
    options["opt_class"] = "{momentum: 0.0, weight_decay: 0.0}"
    options["n_frozen_prototype_epochs"] = 0
    _, brain = first_step(
        corpus, tmp_path / "out", monkeypatch, PAPER, **options
    )
    start = brain.modules.teacher.model.parameters()
    moves = [
        float((old - new).detach().norm())
        for old, new in zip(
            start, brain.modules.student.parameters(), strict=True
        )
    ]
    assert max(moves) < 1.05e-5
    # Clipped together, their squares would sum to 1e-10.
    assert sum(move**2 for move in moves) > 1e-9


def views_of(corpus, folder, monkeypatch, **options):
    """Crops as cut and as augmented, of each (epoch, utterance)."""
    make_views = train_dino.DinoBrain.augmented_views
    cut, made = {}, {}

    def recorded(self, batch):
        views = make_views(self, batch)
        for column, utterance in enumerate(batch.id):
            key = self.data.crop.epoch, utterance
            crops = batch.global_crops.data, batch.local_crops.data
            cut[key] = torch.cat([c[column].flatten() for c in crops])
            made[key] = [view[:, column] for view in views.values()]
        return views

    with monkeypatch.context() as patch:
        patch.setattr(train_dino.DinoBrain, "augmented_views", recorded)
        augment = corpus / "augment"
        argv = arguments(corpus, folder, augment_folder=augment, **options)
        train_dino.main(argv)
    return cut, made


def test_an_utterance_is_augmented_the_same_in_any_batch(
    corpus, tmp_path, monkeypatch
):
    # Other neighbours, in another order, over another number of steps.
    _, four = views_of(corpus, tmp_path / "4", monkeypatch)
    _, eight = views_of(corpus, tmp_path / "8", monkeypatch, batch_size=8)
    assert len(four) == 32 and four.keys() == eight.keys()
    for key, views in four.items():
        for found, expected in zip(views, eight[key], strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_views_and_epochs_are_augmented_independently(
    corpus, tmp_path, monkeypatch
):
    options = {"n_global": 4, "n_local": 4, "local_crop": 0.3}
    options["augment"] = "{probabilities: [0, 0, 0, 0, 1]}"
    cut, made = views_of(corpus, tmp_path / "out", monkeypatch, **options)
    added = torch.cat(
        [
            torch.cat(made[key]) - crops.reshape(8, -1)
            for key, crops in cut.items()
        ]
    )
    assert len(added) == 16 * 2 * 8
    added = torch.nn.functional.normalize(added, dim=1)
    alike = (added @ added.T).triu(1) > 0.99
    # Three recordings: now and then two views get the same few samples.
    assert alike.any(0).float().mean() < 0.05


@pytest.mark.parametrize("n_frozen", [0, 1])
def test_prototypes_may_be_frozen_in_the_first_epoch(
    corpus, tmp_path, monkeypatch, n_frozen
):
    options = {"leaf": PAPER, "lr": 0.1, "n_frozen_prototype_epochs": n_frozen}
    _, brain = first_step(corpus, tmp_path / "out", monkeypatch, **options)
    moved = brain.modules.student.head.mlp[0].weight
    start = brain.modules.teacher.model.head
    assert not torch.allclose(moved, start.mlp[0].weight, atol=1e-5)
    rested = torch.allclose(
        brain.modules.student.head.prototypes, start.prototypes, atol=1e-5
    )
    assert rested == bool(n_frozen)


@pytest.mark.parametrize(
    ("device", "kind"),
    [("cpu", SharedBatchNorm), ("cuda:0", torch.nn.SyncBatchNorm)],
)
def test_the_teachers_batch_norm_is_shared_by_processes(
    corpus, tmp_path, monkeypatch, device, kind
):
    _, brain = first_step(corpus, tmp_path / "out", monkeypatch)
    teacher = brain.modules.teacher
    names = teacher.state_dict().keys()
    monkeypatch.setattr(
        train_dino.sb.Brain, "_wrap_distributed", lambda brain: None
    )
    brain.distributed_launch, brain.device = True, device
    brain._wrap_distributed()
    kinds = [
        type(module)
        for module in teacher.modules()
        if hasattr(module, "running_mean")
    ]
    assert set(kinds) == {kind}
    assert teacher.state_dict().keys() == names


def test_local_crops_are_optional(corpus, tmp_path):
    # The length of what is not cut does not matter either.
    folder = tmp_path / "out"
    train_dino.main(arguments(corpus, folder, n_local=0, local_crop=9.0))
    assert curve(folder).loss.notna().all()
    assert load_embedder(folder / "embedder").embedding_size == 8


def test_one_global_crop_is_compared_with_local_ones(corpus, tmp_path):
    train_dino.main(arguments(corpus, tmp_path / "out", n_global=1, n_local=1))
    assert curve(tmp_path / "out").loss.between(3, 6).all()


def message_of(argv):
    with pytest.raises(InputError) as caught:
        train_dino.main(argv)
    return str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"global_crop": 2.0}, "--global_crop="),
        ({"local_crop": 2.0}, "--local_crop="),
        ({"batch_size": 17}, "lower --batch_size"),
        ({"n_global": 1, "n_local": 0}, "n_global is 1 and n_local is 0"),
        ({"n_global": 0}, "n_global is 0"),
        ({"head": "{n_protoypes: 64}"}, "did you mean head.n_prototypes"),
        ({"head": "{n_protoypes: 64}"}, "head.n_protoypes is 64; head has"),
        ({"augment": "{reverb: 1}"}, "did you mean augment.reverb_prob"),
        ({"embedder": "{widht: 16}"}, "did you mean 'width'"),
        ({"n_epoch": 3}, "did you mean --n_epochs"),
        ({"augment_folder": "nowhere"}, "nowhere"),
        ({"train_annotation": "nowhere.csv"}, "nowhere.csv"),
        ({"eer_trials": "list.txt"}, "eer_annotation is null"),
        ({"head": "{n_prototypes: 0}"}, "head.n_prototypes is 0"),
        ({"loss": "{center_momentum: null}"}, "loss.center_momentum is null"),
        ({"positives": "ssps", "n_ssps_epochs": 9}, "n_ssps_epochs is 9"),
        ({"n_epochs": 0}, "n_epochs is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": 1}, "batch_size is 1"),
        ({"n_averaged_epochs": 0}, "n_averaged_epochs is 0"),
        ({"collapse_patience": 0}, "collapse_patience is 0"),
        ({"teacher_temperature": 0}, "teacher_temperature is 0"),
        ({"lr_end": "null"}, "lr_end is null"),
        ({"regularizer_weight": 0.2}, "head.expander_size is 0"),
        (
            {"positives": "ssps", "n_ssps_epochs": 1},
            "700 clusters of 16 utterances",
        ),
        ({"n_ssps_epochs": 1}, "give --positives=ssps"),
        ({"grad_accumulation_factor": 2}, "grad_accumulation_factor is 2"),
        (
            {"lr": 1e30},
            "the loss is nan in epoch 1, batch 2, utterances s2-2.wav, s3",
        ),
        ({"lr": 1e30}, "lower --lr (now 1e+30)"),
    ],
)
def test_bad_input_is_one_clear_message(corpus, tmp_path, options, words):
    message = message_of(arguments(corpus, tmp_path / "out", **options))
    assert words in message
    assert not (tmp_path / "out" / "stage.json").exists()


def test_impulse_responses_may_lie_elsewhere(corpus, tmp_path):
    argv = arguments(
        corpus,
        tmp_path / "out",
        augment_folder=corpus / "augment",
        augment="{rir_folder: nowhere}",
    )
    assert "nowhere: no such folder" in message_of(argv)


def test_sounds_are_those_of_musan_and_rirs(corpus, tmp_path, monkeypatch):
    rirs = tmp_path / "RIRS_NOISES" / "simulated_rirs"
    rirs.mkdir(parents=True)
    for room in ("smallroom", "mediumroom", "largeroom"):
        shutil.copytree(corpus / "augment" / "rir", rirs / room / "Room001")
    shutil.copytree(corpus / "augment", tmp_path / "musan")
    shutil.rmtree(tmp_path / "musan" / "rir")
    sounds = {"musan": tmp_path / "musan", "rirs": rirs.parent}
    _, brain = first_step(
        corpus,
        tmp_path / "out",
        monkeypatch,
        augment_folder="null",
        **sounds,
    )
    n_rirs = len(list((corpus / "augment" / "rir").rglob("*.wav")))
    assert n_rirs and len(brain.augment.rirs) == 3 * n_rirs
    assert len(brain.augment.music)


def test_a_manifest_with_speakers_is_refused(corpus, tmp_path):
    table = pd.read_csv(corpus / "train.csv").assign(spk_id="s0")
    write_manifest(tmp_path / "labelled.csv", table, "pseudo_labels")
    argv = arguments(
        corpus, tmp_path / "out", train_annotation=tmp_path / "labelled.csv"
    )
    assert "spk_id" in message_of(argv)


def test_an_edited_embedder_yaml_is_another_request(corpus, trained, tmp_path):
    path = tmp_path / "ecapa.yaml"
    with open("hparams/embedders/ecapa.yaml", encoding="utf-8") as stream:
        path.write_text(stream.read().replace("80", "81", 1))
    argv = arguments(corpus, trained, n_epochs=8, lr=5e-3, embedder_yaml=path)
    assert "embedder_yaml" in message_of(argv)


def losses_of(corpus, folder, monkeypatch, **options):
    """The loss of every batch, and the brain at the end."""
    fit_batch = train_dino.DinoBrain.fit_batch
    losses, brains = [], []

    def recorded(self, batch):
        losses.append(float(fit_batch(self, batch)))
        brains.append(self)
        return torch.tensor(losses[-1])

    with monkeypatch.context() as patch:
        patch.setattr(train_dino.DinoBrain, "fit_batch", recorded)
        train_dino.main(arguments(corpus, folder, **options))
    return losses, brains[-1]


def test_the_embedder_is_the_mean_of_the_last_teachers(
    corpus, tmp_path, monkeypatch
):
    on_stage_end = train_dino.DinoBrain.on_stage_end
    teachers = []

    def recorded(self, *args):
        model = self.modules.teacher.model.embedder.model
        teachers.append({k: v.clone() for k, v in model.state_dict().items()})
        on_stage_end(self, *args)

    monkeypatch.setattr(train_dino.DinoBrain, "on_stage_end", recorded)
    options = {"n_epochs": 4, "n_averaged_epochs": 3, "lr": 1e-2}
    options["momentum"] = 0.5
    train_dino.main(arguments(corpus, tmp_path / "out", **options))
    found = weights(tmp_path / "out")
    for name, value in found.items():
        if name.endswith("num_batches_tracked"):
            continue
        last = torch.stack([teacher[name] for teacher in teachers[1:]])
        torch.testing.assert_close(value, last.mean(0), msg=name)
        if name == "fc.conv.weight":
            assert not torch.allclose(value, teachers[-1][name])


def test_positives_change_the_last_epochs_alone(corpus, tmp_path, monkeypatch):
    options = {"n_epochs": 3, "ssps_clusters": 6}
    without, _ = losses_of(corpus, tmp_path / "a", monkeypatch, **options)
    with_them, brain = losses_of(
        corpus,
        tmp_path / "b",
        monkeypatch,
        positives="ssps",
        n_ssps_epochs=1,
        **options,
    )
    assert with_them[:8] == without[:8]
    assert all(a != b for a, b in zip(with_them[8:], without[8:], strict=True))
    assert int(brain.modules.positives.epoch) == 3


def test_the_teacher_gets_the_positive_and_the_student_does_not(
    corpus, tmp_path, monkeypatch
):
    heard = {}

    def forward(self, batch, stage):
        heard["teacher"] = batch.positive_crops.data
        heard["rows"] = self.modules.positives.rows
        heard["ids"] = batch.id
        raise Killed

    monkeypatch.setattr(train_dino.DinoBrain, "compute_forward", forward)
    options = {"positives": "ssps", "n_ssps_epochs": 2, "ssps_clusters": 6}
    with pytest.raises(Killed):
        train_dino.main(arguments(corpus, tmp_path / "out", **options))
    names = pd.read_csv(corpus / "train.csv").ID
    for name, crops in zip(heard["ids"], heard["teacher"], strict=True):
        row = int(heard["rows"][names.tolist().index(name)])
        wav = read_crop(corpus / names[row]).unfold(0, crops.shape[1], 1)
        for crop in crops:
            assert (wav - crop).abs().amax(1).min() < 1e-6


def test_the_teachers_temperature_rises_over_its_epochs(
    corpus, tmp_path, monkeypatch
):
    seen = []
    targets = DINOLoss.targets

    def recorded(self, teacher, temperature):
        seen.append(temperature)
        return targets(self, teacher, temperature)

    monkeypatch.setattr(DINOLoss, "targets", recorded)
    options = {"teacher_temperature": 0.08, "n_temperature_epochs": 1}
    train_dino.main(arguments(corpus, tmp_path / "out", **options))
    wanted = [0.04, 0.05, 0.06, 0.07, 0.08, 0.08, 0.08, 0.08]
    assert seen == pytest.approx(wanted)


def test_rdinos_terms_are_added_with_a_rising_weight(
    corpus, tmp_path, monkeypatch
):
    terms = []
    regularizer = rdino.rdino_regularizer

    def recorded(expansion, **weights):
        assert weights == {"variance_weight": 10, "covariance_weight": 0.125}
        terms.append(regularizer(expansion, **weights))
        assert expansion.shape == (2, 4, 48)
        return terms[-1]

    monkeypatch.setattr(rdino, "rdino_regularizer", recorded)
    losses, brain = losses_of(
        corpus,
        tmp_path / "out",
        monkeypatch,
        regularizer_weight=0.4,
        n_regularizer_epochs=2,
        head="{hidden_size: 32, bottleneck_size: 16, n_prototypes: 64, "
        "expander_size: 48}",
    )
    added = sum(0.05 * n * float(term) for n, term in enumerate(terms))
    plain = curve(tmp_path / "out").loss.sum() * 4
    assert sum(losses) == pytest.approx(plain + added, rel=1e-4)
    # The diagnostics are of DINO's loss alone.
    assert curve(tmp_path / "out").kl.min() > 0


def test_the_eer_is_logged_at_its_interval_and_changes_nothing(
    corpus, tmp_path
):
    names = [f"s{i}-{j}.wav" for i in range(4) for j in range(2)]
    lines = [
        f"{int(a[:2] == b[:2])} {a} {b}" for a in names for b in names if a < b
    ]
    (corpus / "list.txt").write_text("\n".join(lines) + "\n")
    watched = {
        "eer_trials": corpus / "list.txt",
        "eer_annotation": corpus / "train.csv",
        "eer_interval": 2,
    }
    train_dino.main(arguments(corpus, tmp_path / "a"))
    train_dino.main(arguments(corpus, tmp_path / "b", **watched))
    found = curve(tmp_path / "b")
    assert found.eer.isna().tolist() == [True, False]
    assert 0 <= found.eer[1] <= 100
    assert found.drop(columns="eer").equals(curve(tmp_path / "a"))
    first, second = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"loss": "{center_momentum: 1.0}", "lr": 2e-2}, "one-hot"),
        ({"teacher_temperature": 1.0}, "uniform"),
    ],
)
def test_a_collapse_ends_the_run_with_its_reason(
    corpus, tmp_path, options, words
):
    # No centring; no sharpening.
    options = {"n_epochs": 40, "momentum": 0.8, **options}
    message = message_of(arguments(corpus, tmp_path / "out", **options))
    assert f"DINO has collapsed ({words}" in message
    log = (tmp_path / "out" / "log.txt").read_text()
    assert log.count("information") < 15  # epochs
    assert f"DINO has collapsed ({words}" in log
    assert not (tmp_path / "out" / "stage.json").exists()


def test_head_and_loss_are_single_precision_in_bf16_training(
    corpus, tmp_path, monkeypatch
):
    seen = []
    cross_entropy = DINOLoss.cross_entropy

    def recorded(self, student, targets):
        seen.append((student.dtype, targets.dtype))
        return cross_entropy(self, student, targets)

    monkeypatch.setattr(DINOLoss, "cross_entropy", recorded)
    options = {"lr": 1e-3, "n_epochs": 1}
    half, _ = losses_of(
        corpus, tmp_path / "a", monkeypatch, precision="bf16", **options
    )
    assert set(seen) == {(torch.float32, torch.float32)}
    single, _ = losses_of(corpus, tmp_path / "b", monkeypatch, **options)
    assert half != single
    # bf16 has two to three digits, and targets are sharp.
    assert half[0] == pytest.approx(single[0], rel=0.05)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_passes_without_gradients_are_in_eval_precision(
    corpus, tmp_path, monkeypatch, precision
):
    seen = []
    embed = Embedder.embed

    def recorded(self, wavs):
        found = embed(self, wavs)
        if wavs.shape[1] != 16000:  # not where the embedding's size is measured
            seen.append(found.dtype)
        return found

    monkeypatch.setattr(Embedder, "embed", recorded)
    (corpus / "one.txt").write_text(
        "1 s0-0.wav s0-1.wav\n0 s0-0.wav s1-0.wav\n"
    )
    options = {
        "eval_precision": precision,
        "eer_trials": corpus / "one.txt",
        "eer_annotation": corpus / "train.csv",
        "positives": "ssps",
        "n_ssps_epochs": 1,
        "ssps_clusters": 6,
    }
    train_dino.main(arguments(corpus, tmp_path / "out", **options))
    wanted = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    assert set(seen) == {wanted}


@pytest.fixture
def graphs(monkeypatch):
    """The graphs that torch.compile makes; they run as they are."""
    made, real = [], torch.compile

    def noting(graph, inputs):
        made.append(graph)
        return graph.forward

    def without_inductor(function, mode, **options):
        assert mode == "default"
        return real(function, backend=noting, **options)

    monkeypatch.setattr(torch, "compile", without_inductor)
    torch._dynamo.reset()
    return made


def test_compiled_networks_train_resume_and_are_saved_as_others(
    corpus, tmp_path, monkeypatch, graphs
):
    (corpus / "two.txt").write_text(
        "1 s0-0.wav s0-1.wav\n0 s0-0.wav s1-0.wav\n"
    )
    options = {
        "eer_trials": corpus / "two.txt",
        "eer_annotation": corpus / "train.csv",
        "ckpt_interval_minutes": 0,
        "ckpt_interval_steps": 2,
    }
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train_dino.main(arguments(corpus, whole, **options))
    assert not graphs
    argv = arguments(corpus, killed, **options)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_after(patch, train_dino.DinoBrain, 3)
        train_dino.main([*argv, "--compile"])
    # Student and teacher, for two lengths of crops and one; embeddings of
    # whole utterances are not compiled for each length.
    assert len(graphs) == 3
    train_dino.main([*argv, "--compile"])
    assert_same(whole, killed)
    # Without it the folder is the same request.
    train_dino.main(argv)


def test_blocks_are_compiled_or_computed_again(corpus, tmp_path):
    argv = arguments(corpus, tmp_path / "out", recompute_blocks=True)
    assert message_of([*argv, "--compile"]).startswith(
        "recompute_blocks is True and compile True; "
    )


@pytest.mark.parametrize(
    "option", ["jit", "compile_module_keys=student", "jit_module_keys=student"]
)
def test_parts_are_not_compiled_apart(corpus, tmp_path, option):
    argv = [*arguments(corpus, tmp_path / "out"), f"--{option}"]
    assert "compile" in message_of(argv)
    assert not (tmp_path / "out").exists()


def test_a_batch_is_copied_while_the_device_computes(
    corpus, tmp_path, monkeypatch
):
    """On a GPU from pinned memory; a CPU has nothing to copy."""
    seen = []
    move = PaddedBatch.to

    def noting(self, *args, **options):
        seen.append((args, options))
        return move(self, *args, **options)

    monkeypatch.setattr(PaddedBatch, "to", noting)
    _, brain = losses_of(corpus, tmp_path / "a", monkeypatch, n_epochs=1)
    assert seen == [(("cpu",), {"non_blocking": True})] * 4
    assert brain.loader_options()["pin_memory"] is False
    brain.device = "cuda:0"
    assert brain.loader_options()["pin_memory"] is True


def test_statistics_of_every_epoch_are_in_tensorboard(trained):
    from tensorboard.backend.event_processing.event_accumulator import (
        EventAccumulator,
    )

    events = EventAccumulator(str(trained / "tensorboard"))
    events.Reload()
    found = [event.value for event in events.Scalars("epoch/effective_rank")]
    assert found == pytest.approx(curve(trained).effective_rank.tolist())
    assert len(events.Scalars("step/information")) == 1  # the 20th of 32
