"""What a supervised training is made of, from the leaves' settings."""

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_wavlm import TINY

from speechbrain_ext.dataio.manifest import Manifest
from speechbrain_ext.models.embedder import save_embedder
from speechbrain_ext.training.speaker import (
    build_modules,
    check_noisy_labels,
    initialise,
)
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.yaml_trees import plain, read_yaml

TINY = {
    "encoder_source": None,
    "n_heads": 2,
    "compression_size": 4,
    "embedding_size": 6,
    "encoder_config": TINY,
}
SMALL = {
    "n_mels": 20,
    "width": 16,
    "width_last": 24,
    "attention_channels": 8,
    "embedding_size": 8,
}


def settings_of(leaf, embedder, **others):
    settings = plain(read_yaml(f"hparams/{leaf}.yaml"))
    return {**settings, "embedder": embedder, **others}


def manifest(n=9):
    table = pd.DataFrame({"ID": [f"{i}" for i in range(n)]})
    table["margin"] = np.linspace(0.1, 0.9, n)
    return Manifest(table, "pseudo_labels")


def built(settings):
    modules = build_modules(settings, manifest(), n_classes=7)
    anchor = initialise(settings, modules["embedder"], modules["classifier"])
    return modules, anchor


def test_the_papers_leaf_gates_corrects_and_anchors():
    modules, anchor = built(settings_of("train_speaker_wavlm_mhfa", TINY))
    noisy = modules["noisy_labels"]
    assert noisy.gate.fit == "mixture" and not noisy.gate.soft
    assert (noisy.gate_from_epoch, noisy.correct_from_epoch) == (5, 9)
    assert noisy.correct_confidence == 0.5
    assert not noisy.sharpening.is_fixed
    assert (anchor.weight, anchor.form) == (0.01, "squared")
    encoder = modules["embedder"].model.encoder
    trained = [p for p in encoder.parameters() if p.requires_grad]
    assert len(trained) == len(anchor.parameters) > 0
    assert modules["classifier"].prototypes.shape == (7, 1, 6)


def test_the_other_leaf_does_none_of_it():
    modules, anchor = built(settings_of("train_speaker_ecapa", SMALL))
    assert modules["noisy_labels"].is_idle
    assert anchor is None


def test_settings_reach_the_modules():
    settings = settings_of(
        "train_speaker_ecapa",
        SMALL,
        gate="soft",
        gate_fit="drawn",
        gate_from_epoch=3,
        correct_from_epoch=4,
        correct_sharpening=0.05,
        label_confidence=0.5,
        n_subcentres=2,
        n_nearest=3,
        nearest_margin=0.1,
        margin=0.4,
        scale=20.0,
    )
    modules, _ = built(settings)
    noisy, loss = modules["noisy_labels"], modules["classifier"]
    assert noisy.gate.soft and noisy.gate.fit == "drawn"
    assert (noisy.gate_from_epoch, noisy.correct_from_epoch) == (3, 4)
    assert float(noisy.sharpening.value) == pytest.approx(0.05)
    assert noisy.confidence[0] == pytest.approx(0.2)
    assert loss.prototypes.shape == (7, 2, 8)
    assert (loss.n_nearest, loss.nearest_margin) == (3, 0.1)
    assert (loss.margin, loss.scale) == (0.4, 20.0)


def test_calibration_starts_at_the_losss_own_sharpening():
    settings = settings_of("train_speaker_ecapa", SMALL, gate="hard")
    modules, _ = built(settings)
    value = float(modules["noisy_labels"].sharpening.value)
    assert value == pytest.approx(1 / 30)


def test_the_anchor_is_at_the_encoder_as_built(tmp_path):
    settings = settings_of("train_speaker_wavlm_mhfa", TINY)
    other = build_modules(settings, manifest(), 7)["embedder"]
    save_embedder(tmp_path, other)
    settings["init_from"] = str(tmp_path)
    modules, anchor = built(settings)
    # `init_from` moved the weights away from where they are held.
    assert anchor.distance() > 0
    state = modules["embedder"].model.state_dict()
    for name, value in other.model.state_dict().items():
        assert torch.equal(state[name], value), name


def test_a_frozen_encoder_is_not_pulled():
    settings = settings_of(
        "train_speaker_wavlm_mhfa", {**TINY, "freeze": "all"}
    )
    _, anchor = built(settings)
    assert anchor.parameters == []


def test_without_anything_pre_trained_there_is_nothing_to_hold_to():
    settings = settings_of("train_speaker_ecapa", SMALL, anchor_weight=0.1)
    with pytest.raises(InputError, match="give --init_from"):
        built(settings)


def test_without_a_gate_correction_is_refused():
    settings = settings_of("train_speaker_ecapa", SMALL, correct_from_epoch=9)
    with pytest.raises(InputError, match="correct_from_epoch is 9, gate None"):
        check_noisy_labels(settings)
    check_noisy_labels({**settings, "gate": "hard"})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("gate", "off"),
        ("gate_fit", "gmm"),
        ("gate_from_epoch", 1.5),
        ("correct_confidence", 0),
        ("correct_sharpening", "none"),
        ("correct_sharpening", -1),
    ],
)
def test_a_value_that_makes_no_sense_is_named(key, value):
    settings = settings_of("train_speaker_ecapa", SMALL, **{key: value})
    with pytest.raises(InputError, match=f"{key} is "):
        check_noisy_labels(settings)
