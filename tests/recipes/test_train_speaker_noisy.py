"""train_speaker with wrong labels: gate, correction, L2 penalty, margin."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from tones import Killed, killed_after, write_tones

from recipes import train_speaker
from speechbrain_ext.dataio.manifest import write_manifest
from speechbrain_ext.models.embedder import Embedder
from speechbrain_ext.utils.errors import InputError

ECAPA = "hparams/train_speaker_ecapa.yaml"
MHFA = "hparams/train_speaker_encoder_mhfa.yaml"
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
GATED = {
    "gate": "hard",
    "gate_from_epoch": 4,
    "correct_from_epoch": 6,
    "n_epochs": 10,
    "lr": 2e-3,
}
N_WRONG = 8


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Four tones, twelve utterances each; eight labels are wrong."""
    folder = tmp_path_factory.mktemp("corpus")
    rows = write_tones(folder, n_utterances=12)
    table = pd.DataFrame(rows)
    table["margin"] = np.linspace(0.01, 0.3, len(table))
    truth = table.spk_id.copy()
    for number in range(N_WRONG):
        row = 6 * number + number % 3
        speaker = int(truth[row].removeprefix("s"))
        table.loc[row, "spk_id"] = f"s{(speaker + 1 + number % 3) % 4}"
    write_manifest(folder / "train.csv", table, "pseudo_labels")
    truth.index = table.ID
    truth.to_csv(folder / "truth.csv")
    return folder


def arguments(corpus, output, leaf=ECAPA, embedder=SMALL_ECAPA, **others):
    options = {
        "train_annotation": corpus / "train.csv",
        "data_folder": corpus,
        "output_folder": output,
        "embedder": embedder,
        "crop": 0.3,
        "batch_size": 6,
        "num_workers": 0,
        "n_epochs": 2,
        "n_warmup_epochs": 0,
        "valid_fraction": 0.0,
        "lr": 1e-3,
        "device": "cpu",
        **others,
    }
    return [leaf, "--noprogressbar"] + [
        f"--{key}={value}" for key, value in options.items()
    ]


def states_of(folder, corpus):
    """Label states with the truth beside them."""
    path = folder / "label_states.csv"
    states = pd.read_csv(path, keep_default_na=False).set_index("ID")
    states["truth"] = pd.read_csv(corpus / "truth.csv", index_col="ID").spk_id
    given = pd.read_csv(corpus / "train.csv", index_col="ID").spk_id
    return states.assign(given=given, wrong=given != states.truth)


@pytest.fixture(scope="module")
def gated(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gated") / "out"
    train_speaker.main(arguments(corpus, folder, **GATED))
    return folder


def test_wrong_labels_are_rejected_and_corrected(gated, corpus):
    states = states_of(gated, corpus)
    assert states.wrong.sum() == N_WRONG

    assert (~states.kept[states.wrong]).mean() > 0.8
    assert states.kept[~states.wrong].mean() > 0.8
    changed = states[states.corrected != ""]
    assert len(changed) >= N_WRONG / 2
    assert (changed.corrected == changed.truth).mean() > 0.9


def test_curve_and_stage_record_have_the_gates_shares(gated):
    curve = pd.read_csv(gated / "train_curve.csv")
    assert (curve.kept[:3] == 1).all() and curve.kept.iloc[-1] < 1
    assert (curve.corrected[:5] == 0).all() and curve.corrected.iloc[-1] > 0
    receipt = json.loads((gated / "stage.json").read_text())
    assert receipt["kept"] == curve.kept.iloc[-1]
    assert receipt["corrected"] == curve.corrected.iloc[-1]
    assert (receipt["gate"], receipt["never_acted"]) == ("hard", [])
    files = {"gate.json", "gate_fits.png", "gate_shares.png"}
    assert files | {"label_states.csv"} <= receipt["outputs"].keys()
    history = json.loads((gated / "gate.json").read_text())
    assert [entry["epoch"] for entry in history] == list(range(1, 11))
    assert [entry["n_losses"] for entry in history] == [48] * 10


def test_without_a_gate_no_gate_files_are_written(corpus, tmp_path):
    train_speaker.main(arguments(corpus, tmp_path / "out", n_epochs=1))
    receipt = json.loads((tmp_path / "out" / "stage.json").read_text())
    assert (receipt["gate"], receipt["never_acted"]) == ("none", [])
    assert receipt.get("kept") is None
    curve = pd.read_csv(tmp_path / "out" / "train_curve.csv")
    assert curve.columns.tolist() == ["epoch", "loss", "lr"]
    assert not (tmp_path / "out" / "gate.json").exists()
    assert not (tmp_path / "out" / "label_states.csv").exists()


def test_only_rejected_utterances_are_embedded_clean_for_correction(
    corpus, tmp_path, monkeypatch
):
    embed, decide = Embedder.embed, train_speaker.SpeakerBrain
    asked = []

    def noting(self, wavs):
        found = embed(self, wavs)
        assert not found.requires_grad
        asked.append(len(wavs))
        return found

    def starting(self, stage, epoch=None):
        asked.append(f"epoch {epoch}")
        return on_stage_start(self, stage, epoch)

    on_stage_start = decide.on_stage_start
    monkeypatch.setattr(Embedder, "embed", noting)
    monkeypatch.setattr(decide, "on_stage_start", starting)
    folder = tmp_path / "out"
    train_speaker.main(arguments(corpus, folder, **GATED))
    first = asked.index("epoch 6")
    # Before, one second of silence for the embedding's size.
    assert [n for n in asked[:first] if isinstance(n, int)] == [1]
    rejected = sum(n for n in asked[first:] if isinstance(n, int))
    curve = pd.read_csv(folder / "train_curve.csv")
    assert rejected == round(48 * (1 - curve.kept[5:]).sum())
    assert 0 < rejected < 48 * 5 / 2


ALL_OF_IT = {
    **GATED,
    "gate": "soft",
    "max_per_class": 9,
    "label_confidence": 0.3,
    "margin_rise": "[2, 4]",
    "loss": "{n_subcentres: 2, inter_top_k: 2}",
}


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "out"
    train_speaker.main(arguments(corpus, folder, **ALL_OF_IT))
    return folder


def test_soft_weights_correction_and_capped_sampler_act(whole):
    states = pd.read_csv(whole / "label_states.csv", keep_default_na=False)
    assert ((states.weight > 0.01) & (states.weight < 0.99)).any()
    assert (states.corrected != "").any()
    # 36 of 48 a epoch: the rest were seen in an earlier one.
    assert (states.epoch == 10).sum() == 36
    assert states.epoch.min() >= 8


# Six batches an epoch: in mid-epoch, when the gate has closed and when labels
# are corrected.
@pytest.mark.parametrize("n_batches", [27, 46])
def test_killed_and_resumed_is_the_same_as_uninterrupted(
    corpus, tmp_path, monkeypatch, whole, n_batches
):
    folder = tmp_path / "killed"
    argv = arguments(
        corpus,
        folder,
        ckpt_interval_minutes=0,
        ckpt_interval_steps=2,
        **ALL_OF_IT,
    )
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_after(patch, train_speaker.SpeakerBrain, n_batches)
        train_speaker.main(argv)
    assert not (folder / "stage.json").exists()
    train_speaker.main(argv)
    for name in ("train_curve.csv", "gate.json", "label_states.csv"):
        assert (folder / name).read_text() == (whole / name).read_text()
    for name in ("embedder/embedding_model.ckpt", "classifier.ckpt"):
        found, expected = torch.load(folder / name), torch.load(whole / name)
        assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_the_margin_rises_in_its_epochs(corpus, tmp_path, monkeypatch):
    margins = []
    fit_batch = train_speaker.SpeakerBrain.fit_batch

    def noting(self, batch):
        loss = fit_batch(self, batch)
        margins.append(self.parts.classifier.margin)
        return loss

    monkeypatch.setattr(train_speaker.SpeakerBrain, "fit_batch", noting)
    options = {"n_epochs": 4, "margin_rise": "[2, 3]", "loss": "{margin: 0.3}"}
    train_speaker.main(arguments(corpus, tmp_path / "out", **options))
    epochs = np.array(margins).reshape(4, 8)
    assert (epochs[0] == 0).all() and (epochs[3] == 0.3).all()
    np.testing.assert_allclose(epochs[1:3].ravel(), 0.3 * np.arange(16) / 16)


def encoder_of(folder):
    weights = torch.load(folder / "embedder" / "embedding_model.ckpt")
    return torch.cat(
        [
            value.flatten()
            for name, value in weights.items()
            if name.startswith("encoder.") and ".layers." in name
        ]
    )


@pytest.mark.parametrize("form", ["squared", "normalised"])
def test_the_l2_penalty_holds_the_encoder(corpus, tmp_path, form):
    found = {}
    for weight in (0.0, 30.0):
        folder = tmp_path / str(weight)
        options = {
            "l2_sp_weight": weight,
            "l2_sp_form": form,
            "lr_parts": "{encoder: 1e-3}",
            "gate": "null",
            "correct_from_epoch": "null",
        }
        argv = arguments(corpus, folder, MHFA, SMALL_WAVLM, **options)
        train_speaker.main(argv)
        found[weight] = encoder_of(folder)
    argv = arguments(
        corpus, tmp_path / "start", MHFA, SMALL_WAVLM, lr=0.0, lr_parts="{}"
    )
    train_speaker.main(argv)
    start = encoder_of(tmp_path / "start")
    free, held = ((found[w] - start).norm() for w in (0.0, 30.0))
    assert held < 0.7 * free
    curve = pd.read_csv(tmp_path / "30.0" / "train_curve.csv")
    assert (curve.l2 > 0).all()
    # The loss that is reported is that of the labels.
    free_curve = pd.read_csv(tmp_path / "0.0" / "train_curve.csv")
    assert "l2" not in free_curve
    assert curve.loss[0] == pytest.approx(free_curve.loss[0], rel=0.1)


def test_the_l2_penalty_pulls_to_the_pretrained_encoder_not_to_init_from(
    corpus, tmp_path, monkeypatch
):
    first = tmp_path / "first"
    options = {"lr_parts": "{encoder: 1e-2}", "l2_sp_weight": 0}
    train_speaker.main(arguments(corpus, first, MHFA, SMALL_WAVLM, **options))
    folder = tmp_path / "second"
    options = {"lr": 0.0, "lr_parts": "{}", "n_epochs": 1}
    options["init_from"] = first / "embedder"
    train_speaker.main(arguments(corpus, folder, MHFA, SMALL_WAVLM, **options))
    # Where nothing moves, the distance is that of init_from to the source.
    assert pd.read_csv(folder / "train_curve.csv").l2[0] > 0.01


def test_without_an_encoder_the_l2_penalty_pulls_to_init_from(corpus, tmp_path):
    first = tmp_path / "first"
    train_speaker.main(arguments(corpus, first, n_epochs=1))
    folder = tmp_path / "second"
    options = {"l2_sp_weight": 0.01, "init_from": first / "embedder"}
    train_speaker.main(arguments(corpus, folder, lr=0.0, **options))
    assert (pd.read_csv(folder / "train_curve.csv").l2 == 0).all()


def test_layer_decay_lowers_the_rates_of_lower_layers(
    corpus, tmp_path, monkeypatch
):
    seen = {}
    step = train_speaker.SpeakerBrain.init_optimizers

    def noting(self):
        step(self)
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                seen[id(parameter)] = group["peak"]
        for name, parameter in self.embedder.model.named_parameters():
            seen[name] = seen.pop(id(parameter), None)

    monkeypatch.setattr(train_speaker.SpeakerBrain, "init_optimizers", noting)
    options = {"layer_decay": 0.5, "lr_parts": "{encoder: 4e-5}"}
    train_speaker.main(
        arguments(
            corpus, tmp_path / "out", MHFA, SMALL_WAVLM, n_epochs=1, **options
        )
    )
    rates = [
        {v for k, v in seen.items() if f".layers.{n}." in str(k)}
        for n in (0, 1)
    ]
    assert rates == [{2e-5}, {4e-5}]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"gate": "harsh"}, "gate is 'harsh'"),
        ({"gate": "hard", "gate_from_epoch": 0}, "gate_from_epoch is 0"),
        ({"correct_from_epoch": 9}, "give a gate that begins no later"),
        (
            {"gate": "hard", "correct_from_epoch": 3},
            "give a gate that begins no later",
        ),
        ({"correct_confidence": 1.5}, "correct_confidence is 1.5"),
        ({"correct_temperature": 0}, "correct_temperature is 0"),
        ({"label_confidence": 1.5}, "label_confidence is 1.5"),
        ({"margin_rise": "[3]"}, "margin_rise is [3]"),
        ({"loss": "{n_subcentres: 0}"}, "loss.n_subcentres is 0"),
        ({"loss": "{inter_top_k: 4}"}, "inter_top_k is 4"),
        ({"max_per_class": 0}, "max_per_class is 0"),
        ({"max_per_class": 1}, "utterances of an epoch, which are 4"),
        ({"one_per_class": "true"}, "the training has 4; lower --batch_size"),
        ({"layer_decay": 0.9}, "has 0 transformer layers"),
        ({"l2_sp_weight": 0.01}, "give --init_from"),
    ],
)
def test_bad_input_is_one_clear_message(corpus, tmp_path, options, words):
    with pytest.raises(InputError) as caught:
        train_speaker.main(arguments(corpus, tmp_path / "out", **options))
    assert words in str(caught.value)
    assert not (tmp_path / "out" / "stage.json").exists()


def test_label_confidence_without_margins_is_refused(corpus, tmp_path):
    table = pd.read_csv(corpus / "train.csv").drop(columns="margin")
    write_manifest(tmp_path / "none.csv", table, "pseudo_labels")
    with pytest.raises(InputError, match="no column margin"):
        train_speaker.main(
            arguments(
                corpus,
                tmp_path / "out",
                train_annotation=tmp_path / "none.csv",
                label_confidence=0.5,
            )
        )


def test_a_classifier_of_other_sub_centres_is_refused(corpus, tmp_path, whole):
    options = {"init_classifier": whole / "classifier.ckpt"}
    with pytest.raises(InputError, match=r"'prototypes': \[4, 2, 8\]"):
        train_speaker.main(arguments(corpus, tmp_path / "out", **options))
    options |= {"loss": "{n_subcentres: 2}", "n_epochs": 1}
    train_speaker.main(arguments(corpus, tmp_path / "out", **options))
