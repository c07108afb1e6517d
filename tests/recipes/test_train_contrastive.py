"""train_contrastive learns, resumes exactly and records true speakers."""

import json

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from speechbrain.inference.speaker import SpeakerRecognition
from tiny_wavlm import TINY
from tones import SMALL, Killed, killed_after, without_speakers, write_tones

from recipes import train_contrastive
from speechbrain_ext.dataio.audio import read_crop
from speechbrain_ext.dataio.manifest import write_manifest
from speechbrain_ext.losses.contrastive import MoCoLoss
from speechbrain_ext.models.embedder_folder import load_embedder
from speechbrain_ext.models.momentum_teacher import MomentumTeacher
from speechbrain_ext.training.positives import PositiveSampler
from speechbrain_ext.training.schedules import cosine
from speechbrain_ext.training.views import batch_views
from speechbrain_ext.utils.errors import InputError

LEAF = "hparams/train_contrastive_ecapa_small.yaml"
WAVLM = "hparams/train_contrastive_encoder.yaml"
TINY = {
    "encoder_source": None,
    "encoder_config": TINY,
}
TDNN = {"width": 8, "width_last": 12, "embedding_size": 8}
MOCO = {"method": "moco", "n_keys": 12, "momentum": 0.8}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """16 utterances of four speakers, who they are, and sounds to add."""
    folder = tmp_path_factory.mktemp("corpus")
    rows = write_tones(folder)
    speakers = pd.DataFrame(rows)[["ID", "spk_id"]]
    write_manifest(folder / "oracle.csv", speakers, "oracle")
    rows = without_speakers(rows)
    write_manifest(folder / "train.csv", rows, "utterances")
    generator = np.random.default_rng(1)
    for kind in ("noise", "music", "speech", "rir"):
        (folder / "augment" / kind).mkdir(parents=True)
        wav = generator.normal(size=3000) * np.exp(-np.arange(3000) / 900)
        path = folder / "augment" / kind / "0.wav"
        soundfile.write(path, 0.1 * wav, 16000)
    return folder


def arguments(corpus, output, leaf=LEAF, **others):
    options = {
        "train_annotation": corpus / "train.csv",
        "data_folder": corpus,
        "output_folder": output,
        "embedder": SMALL,
        "crop": 0.3,
        "batch_size": 4,
        "num_workers": 0,
        "n_epochs": 2,
        "n_warmup_epochs": 0,
        "device": "cpu",
        **others,
    }
    words = [leaf, "--noprogressbar"]
    for key, value in options.items():
        text = json.dumps(value) if isinstance(value, dict) else value
        words.append(f"--{key}={text}")
    return words


def wavlm(corpus, output, part="tdnn", model=TDNN, **others):
    embedder = {**TINY, **model, **others.pop("embedder", {})}
    others["embedder_yaml"] = f"hparams/embedders/encoder_{part}.yaml"
    return arguments(corpus, output, WAVLM, embedder=embedder, **others)


def curve(folder, name="train_curve"):
    return pd.read_csv(folder / f"{name}.csv")


def weights(folder):
    return torch.load(folder / "embedder" / "embedding_model.ckpt")


def receipt(folder):
    return json.loads((folder / "stage.json").read_text())


def assert_same(first, second):
    assert curve(first).equals(curve(second))
    first, second = weights(first), weights(second)
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "out"
    argv = arguments(corpus, folder, n_epochs=8, lr=5e-3, batch_size=8)
    train_contrastive.main(argv)
    return folder


def test_the_curve_has_a_row_an_epoch_and_falls(trained):
    rows = curve(trained)
    figures = "loss alignment uniformity spread effective_rank lr"
    assert rows.columns.tolist() == ["epoch", *figures.split()]
    assert rows.epoch.tolist() == list(range(1, 9))
    assert rows.loss.iloc[-1] < 0.9 * rows.loss[0]
    assert rows.alignment.iloc[-1] < 0.5 * rows.alignment[0]


def test_the_stage_record_tells_what_was_trained(trained):
    found = receipt(trained)
    assert found["n_utterances"] == 16
    assert found["oracle_positives"] is False
    assert found["random_encoder"] is False
    for name in ("alignment", "uniformity"):
        assert found[name] == curve(trained)[name].iloc[-1]
    assert set(found["outputs"]) == {
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
    torch.testing.assert_close(
        found, embedder.embed(wavs), rtol=1e-5, atol=1e-6
    )


RESUMED = {
    "simclr": {"loss": {"margin": 0.1}},
    "moco": {**MOCO, "projection": "{hidden_size: 16, output_size: 6}"},
    "ssps": {"positives": "ssps", "n_ssps_epochs": 1, "ssps_clusters": 6},
    "moco with ssps": {
        **MOCO,
        "positives": "ssps",
        "n_ssps_epochs": 1,
        "ssps_clusters": 6,
    },
}


@pytest.mark.parametrize(
    ("kind", "n_batches"),
    [
        ("simclr", 6),
        ("moco", 2),
        ("moco", 4),
        ("moco", 7),
        ("ssps", 6),
        ("moco with ssps", 7),
    ],
)
def test_killed_and_resumed_is_the_same_as_uninterrupted(
    corpus, tmp_path, monkeypatch, kind, n_batches
):
    # 4 batches an epoch: in the first, between the two, in the second, when
    # MoCo's queue of three batches has gone round.
    options = {
        "augment_folder": corpus / "augment",
        "n_averaged_epochs": 2,
        "ckpt_interval_minutes": 0,
        "ckpt_interval_steps": 1,
        **RESUMED[kind],
    }
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train_contrastive.main(arguments(corpus, whole, **options))
    argv = arguments(corpus, killed, **options)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_after(patch, train_contrastive.ContrastiveBrain, n_batches)
        train_contrastive.main(argv)
    assert not (killed / "stage.json").exists()
    torch.rand(7)
    train_contrastive.main(argv)
    assert_same(whole, killed)
    assert receipt(killed)["resumed"]


def test_layer_distances_of_a_tuned_wavlm_survive_a_kill(
    corpus, tmp_path, monkeypatch
):
    options = {"ckpt_interval_minutes": 0, "ckpt_interval_steps": 1}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train_contrastive.main(wavlm(corpus, whole, **options))
    argv = wavlm(corpus, killed, **options)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_after(patch, train_contrastive.ContrastiveBrain, 6)
        train_contrastive.main(argv)
    train_contrastive.main(argv)
    assert_same(whole, killed)
    table = curve(whole, "layer_distances")
    assert table.columns.tolist() == ["epoch", "front", "layer_1", "layer_2"]
    assert table.equals(curve(killed, "layer_distances"))
    # The paper freezes what is before the layers.
    assert (table.front == 0).all()
    assert (0 < table.layer_1[0]) and (table.layer_1[0] < table.layer_1[1])
    assert "layer_distances.png" in receipt(whole)["outputs"]
    assert receipt(whole)["random_encoder"] is True


@pytest.mark.parametrize(
    ("part", "model"),
    [
        ("tdnn", TDNN),
        ("mhfa", {"n_heads": 2, "compression_size": 4, "embedding_size": 8}),
        (
            "ecapa",
            {
                "width": 8,
                "width_last": 12,
                "attention_channels": 4,
                "embedding_size": 8,
            },
        ),
    ],
)
def test_with_a_frozen_wavlm_only_the_back_end_is_trained(
    corpus, tmp_path, part, model
):
    folder = tmp_path / "out"
    frozen = {"freeze": "all"}
    argv = wavlm(corpus, folder, part, model, embedder=frozen, n_epochs=1)
    train_contrastive.main(argv)
    assert not (folder / "layer_distances.csv").exists()
    other = tmp_path / "other"
    argv = wavlm(corpus, other, part, model, embedder=frozen, n_epochs=2)
    train_contrastive.main(argv)
    first, second = weights(folder), weights(other)
    for name in first:
        if name.startswith("encoder."):
            assert torch.equal(first[name], second[name]), name
    moved = [n for n in first if not torch.equal(first[n], second[n])]
    assert any(name.startswith("pooling.") for name in moved)
    assert load_embedder(folder / "embedder").embedding_size == 8


def first_step(corpus, folder, monkeypatch, argv=None, **options):
    """The loss of the first batch, and the brain after it."""
    fit_batch = train_contrastive.ContrastiveBrain.fit_batch
    seen = []

    def once(self, batch):
        seen.extend([fit_batch(self, batch), self])
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(train_contrastive.ContrastiveBrain, "fit_batch", once)
        train_contrastive.main(argv or arguments(corpus, folder, **options))
    return seen


def test_the_encoder_has_the_rate_of_lr_parts(corpus, tmp_path, monkeypatch):
    argv = wavlm(corpus, tmp_path / "out")
    _, brain = first_step(corpus, tmp_path, monkeypatch, argv)
    encoder = {id(p) for p in brain.embedder.model.encoder.parameters()}
    rates = {
        id(parameter) in encoder: group["lr"]
        for group in brain.optimizer.param_groups
        for parameter in group["params"]
    }
    assert rates == {True: pytest.approx(2e-5), False: pytest.approx(1e-3)}


def test_the_momentum_encoder_follows_and_the_queues_take_its_keys(
    corpus, tmp_path, monkeypatch
):
    pushed = []
    push, update = MoCoLoss.push, MomentumTeacher.update
    before = {}

    def recorded(self, keys):
        pushed.append(keys)
        push(self, keys)

    def noted(self, *rest):
        before.update({k: v.clone() for k, v in self.named_parameters()})
        update(self, *rest)

    monkeypatch.setattr(MoCoLoss, "push", recorded)
    monkeypatch.setattr(MomentumTeacher, "update", noted)
    _, brain = first_step(corpus, tmp_path / "out", monkeypatch, **MOCO)
    unit = torch.nn.functional.normalize(pushed[0], dim=2)
    for queue, expected in zip(
        (brain.modules.loss.first, brain.modules.loss.second), unit, strict=True
    ):
        assert int(queue.place) == 4
        assert torch.equal(queue.keys[:4], expected)
    student = dict(brain.modules.student.named_parameters())
    assert before
    for name, weight in brain.modules.teacher.named_parameters():
        own = student[name.removeprefix("model.")]
        assert not torch.equal(own, before[name])
        expected = 0.8 * before[name] + 0.2 * own
        torch.testing.assert_close(weight, expected)
    trained = {id(p) for g in brain.optimizer.param_groups for p in g["params"]}
    assert not trained & {id(p) for p in brain.modules.teacher.parameters()}


@pytest.mark.parametrize("method", ["simclr", "moco"])
@pytest.mark.parametrize("kind", ["ssps", "oracle"])
def test_the_second_view_is_of_the_positive(
    corpus, tmp_path, monkeypatch, method, kind
):
    heard = {}

    def views(self, batch):
        found = self.chosen(batch_views(batch))
        heard.update(found, ids=batch.id, rows=self.modules.positives.rows)
        raise Killed

    brain = train_contrastive.ContrastiveBrain
    monkeypatch.setattr(brain, "augmented_views", views)
    options = {"positives": kind, "method": method, "n_keys": 12}
    if kind == "ssps":
        options.update(n_ssps_epochs=2, ssps_clusters=6)
    else:
        options["oracle"] = corpus / "oracle.csv"
    with pytest.raises(Killed):
        train_contrastive.main(arguments(corpus, tmp_path / "out", **options))
    names = pd.read_csv(corpus / "train.csv").ID.tolist()
    positives = heard["positive_crops"]
    assert len(positives) == (1 if method == "simclr" else 2)
    for column, name in enumerate(heard["ids"]):
        row = int(heard["rows"][names.index(name)])
        if kind == "oracle":
            assert names[row] != name and names[row][:2] == name[:2]
        wav = read_crop(corpus / names[row])
        for crop in positives[:, column]:
            windows = wav.unfold(0, len(crop), 1)
            assert (windows - crop).abs().amax(1).min() < 1e-6


def test_moco_compares_the_student_with_keys_of_the_positive(
    corpus, tmp_path, monkeypatch
):
    """What goes into both networks, and what alignment is then of."""
    Brain = train_contrastive.ContrastiveBrain
    views, count = Brain.augmented_views, Brain.step_statistics
    heard, seen = {}, {}

    def of_batch(self, batch):
        heard.update(views(self, batch))
        return heard

    def counted(self, outputs, objective):
        seen["outputs"] = outputs
        seen["figures"] = count(self, outputs, objective)
        return seen["figures"]

    def forward(self, crops):
        seen["keys of"] = crops
        return self.model(crops)

    monkeypatch.setattr(Brain, "augmented_views", of_batch)
    monkeypatch.setattr(Brain, "step_statistics", counted)
    monkeypatch.setattr(MomentumTeacher, "forward", torch.no_grad()(forward))
    oracle = {"positives": "oracle", "oracle": corpus / "oracle.csv"}
    first_step(corpus, tmp_path / "out", monkeypatch, **MOCO, **oracle)
    assert not torch.equal(heard["positive_crops"], heard["global_crops"])
    assert torch.equal(seen["keys of"], heard["positive_crops"])
    student, keys = (
        torch.nn.functional.normalize(side.embeddings.detach(), dim=2)
        for side in seen["outputs"]
    )
    expected = (student[0] - keys[1]).square().sum(1).mean()
    found = seen["figures"]["alignment"]
    assert found == pytest.approx(float(expected), rel=1e-5)


def test_a_margin_makes_the_first_step_harder(corpus, tmp_path, monkeypatch):
    losses = [
        float(first_step(corpus, tmp_path / name, monkeypatch, loss=loss)[0])
        for name, loss in (("with", {"margin": 0.1}), ("without", {}))
    ]
    # 0.1 over a temperature of 0.03, where the positive's share is small.
    assert losses[1] < losses[0] < losses[1] + 0.1 / 0.03 + 1e-4


def test_rates_follow_the_schedule_and_the_curve_has_the_rate_lr(
    corpus, tmp_path, monkeypatch
):
    Brain = train_contrastive.ContrastiveBrain
    set_rates, rates = Brain.set_rates, []

    def recorded(self):
        set_rates(self)
        groups = self.optimizer.param_groups
        rates.append({group["lr"] for group in groups})

    monkeypatch.setattr(Brain, "set_rates", recorded)
    # The last group is then the pooling's, with another rate.
    parts = {"lr_parts": "{asp: 1.e-4}", "lr": 1e-3, "lr_end": 0.1}
    train_contrastive.main(arguments(corpus, tmp_path / "out", **parts))
    assert len(rates) == 8
    for step, found in enumerate(rates):
        factor = cosine(step, 8, 1.0, 0.1)
        wanted = [factor * 1e-4, factor * 1e-3]
        assert sorted(found) == pytest.approx(wanted)
    logged = curve(tmp_path / "out").lr.tolist()
    assert logged == pytest.approx([1e-3 * cosine(3, 8, 1.0, 0.1), 1e-4])


def test_ssps_positives_are_drawn_for_the_last_epochs_alone(
    corpus, tmp_path, monkeypatch
):
    draws = []
    draw = PositiveSampler.draw

    def recorded(self, embeddings, epoch, device=None):
        draws.append((epoch, embeddings.shape))
        draw(self, embeddings, epoch, device)

    monkeypatch.setattr(PositiveSampler, "draw", recorded)
    options = {"positives": "ssps", "n_ssps_epochs": 2, "ssps_clusters": 6}
    argv = arguments(corpus, tmp_path / "out", n_epochs=3, **options)
    train_contrastive.main(argv)
    assert draws == [(2, (16, 8)), (3, (16, 8))]


def test_use_of_true_speakers_is_in_the_stage_record_and_the_log(
    corpus, tmp_path
):
    folder = tmp_path / "out"
    oracle = {"positives": "oracle", "oracle": corpus / "oracle.csv"}
    train_contrastive.main(arguments(corpus, folder, n_epochs=1, **oracle))
    found = receipt(folder)
    assert found["oracle_positives"] is True
    assert found["inputs"]["oracle"]["path"].endswith("oracle.csv")
    assert "TRUE speakers" in (folder / "log.txt").read_text()


def test_positives_change_what_is_learnt(corpus, tmp_path):
    oracle = {"positives": "oracle", "oracle": corpus / "oracle.csv"}
    for name, options in (("own", {}), ("oracle", oracle)):
        argv = arguments(corpus, tmp_path / name, n_epochs=1, **options)
        train_contrastive.main(argv)
    own, other = (curve(tmp_path / name) for name in ("own", "oracle"))
    assert not own.loss.equals(other.loss)


def test_the_loss_is_single_precision_in_bf16_training(
    corpus, tmp_path, monkeypatch
):
    options = {"loss": {"temperature": 1.0}}
    half, _ = first_step(
        corpus, tmp_path / "a", monkeypatch, precision="bf16", **options
    )
    single, _ = first_step(corpus, tmp_path / "b", monkeypatch, **options)
    assert half.dtype == torch.float32 and half != single
    # bf16 has two to three digits, and a temperature of 1 keeps them.
    assert float(half) == pytest.approx(float(single), rel=0.05)


def message_of(argv):
    with pytest.raises(InputError) as caught:
        train_contrastive.main(argv)
    return str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"crop": 2.0}, "--crop="),
        ({"batch_size": 17}, "lower --batch_size"),
        ({"batch_size": 1}, "batch_size is 1"),
        ({"n_epochs": 0}, "n_epochs is 0"),
        ({"method": "byol"}, "method is 'byol'"),
        ({"method": "moco", "n_keys": 10}, "--n_keys=8"),
        ({"method": "moco", "n_keys": 2}, "--n_keys=4"),
        ({"n_keys": "null"}, "n_keys is null"),
        ({"method": "moco", "n_keys": 20}, "e.g. --n_keys=8"),
        ({"loss": {"margin": -0.1}}, "loss.margin is -0.1"),
        ({"loss": {"margin_form": "arc"}}, "loss.margin_form is 'arc'"),
        ({"loss": {"temperature": 0}}, "loss.temperature is 0"),
        ({"momentum": 2}, "momentum is 2"),
        ({"projection": "{hidden_size: -1}"}, "projection.hidden_size is -1"),
        (
            {"projection": "{hiden_size: 8}"},
            "did you mean projection.hidden_size",
        ),
        ({"positives": "speaker"}, "positives is 'speaker'"),
        ({"positives": "oracle"}, "--oracle=oracle.csv"),
        ({"oracle": "oracle.csv"}, "leave --oracle out"),
        ({"positives": "ssps"}, "n_ssps_epochs is 0"),
        ({"n_ssps_epochs": 1}, "positives is 'utterance' and n_ssps_epochs"),
        ({"positives": "ssps", "n_ssps_epochs": 9}, "n_ssps_epochs is 9"),
        (
            {"positives": "ssps", "n_ssps_epochs": 1},
            "700 clusters of 16 utterances",
        ),
        ({"grad_accumulation_factor": 2}, "grad_accumulation_factor is 2"),
        ({"lr_parts": "{encoder: 1.e-5}"}, "lr_parts names 'encoder'"),
        ({"lr": 1e30}, "in epoch 1, batch 2, utterances s"),
        ({"lr": 1e30}, "must be finite; lower --lr (now 1e+30)"),
        ({"nonfinite_patience": 9}, "leave --nonfinite_patience out"),
    ],
)
def test_bad_input_is_one_clear_message(corpus, tmp_path, options, words):
    message = message_of(arguments(corpus, tmp_path / "out", **options))
    assert words in message
    assert not (tmp_path / "out" / "stage.json").exists()


def test_an_oracle_that_lacks_an_utterance_is_refused(corpus, tmp_path):
    table = pd.read_csv(corpus / "oracle.csv")
    write_manifest(tmp_path / "oracle.csv", table[1:], "oracle")
    oracle = {"positives": "oracle", "oracle": tmp_path / "oracle.csv"}
    message = message_of(arguments(corpus, tmp_path / "out", **oracle))
    assert "s0-0.wav" in message


def test_a_manifest_with_speakers_is_refused(corpus, tmp_path):
    table = pd.read_csv(corpus / "train.csv").assign(spk_id="s0")
    write_manifest(tmp_path / "labelled.csv", table, "pseudo_labels")
    argv = arguments(
        corpus, tmp_path / "out", train_annotation=tmp_path / "labelled.csv"
    )
    assert "spk_id" in message_of(argv)


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
    train_contrastive.main(arguments(corpus, tmp_path / "out", **watched))
    found = curve(tmp_path / "out").eer
    assert found.isna().tolist() == [True, False] and 0 <= found[1] <= 100
