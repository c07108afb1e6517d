"""A supervised training's networks, from the leaves' settings."""

import numpy as np
import pandas as pd
import pytest
import torch
import training_leaf
from tiny_wavlm import TINY

from speechbrain_ext.dataio.manifest import Manifest
from speechbrain_ext.models.embedder import save_embedder
from speechbrain_ext.training.speaker import (
    build_speaker,
    initialise,
    label_confidence,
)
from speechbrain_ext.utils.errors import InputError

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


def manifest(n=9):
    table = pd.DataFrame({"ID": [f"{i}" for i in range(n)]})
    table["margin"] = np.linspace(0.1, 0.9, n)
    return Manifest(table, "pseudo_labels")


def built(stem, embedder, **changes):
    """Networks of 7 speakers and the L2 penalty, of a leaf with changes."""
    leaf = training_leaf.read(stem, embedder=embedder, **changes)
    networks = build_speaker(leaf.settings, leaf.objects(), manifest(), 7)
    return networks.modules, initialise(leaf.settings, networks)


def test_the_papers_leaf_has_gate_correction_and_l2_penalty():
    modules, l2_sp = built("train_speaker_encoder_mhfa", TINY)
    noisy = modules["noisy_labels"]
    assert noisy.gate.fit == "mixture" and not noisy.gate.soft
    assert (noisy.gate_from_epoch, noisy.correct_from_epoch) == (5, 9)
    assert noisy.correct_confidence == 0.5
    assert not noisy.temperature.is_fixed  # calibrated
    assert (l2_sp.weight, l2_sp.form) == (0.01, "normalised")
    encoder = modules["embedder"].model.encoder
    trained = [p for p in encoder.parameters() if p.requires_grad]
    assert len(trained) == len(l2_sp.parameters) > 0
    assert modules["classifier"].prototypes.shape == (7, 1, 6)


def test_the_ecapa_leaf_has_no_gate_and_no_l2_penalty():
    modules, l2_sp = built("train_speaker_ecapa", SMALL)
    assert modules["noisy_labels"].is_idle
    assert l2_sp is None


def test_settings_reach_the_modules():
    modules, _ = built(
        "train_speaker_ecapa",
        SMALL,
        gate="soft",
        gate_fit="drawn",
        gate_from_epoch=3,
        correct_from_epoch=4,
        correct_temperature=0.05,
        label_confidence=0.5,
        loss={
            "n_subcentres": 2,
            "inter_top_k": 3,
            "inter_top_k_margin": 0.1,
            "margin": 0.4,
            "scale": 20.0,
        },
    )
    noisy, loss = modules["noisy_labels"], modules["classifier"]
    assert noisy.gate.soft and noisy.gate.fit == "drawn"
    assert (noisy.gate_from_epoch, noisy.correct_from_epoch) == (3, 4)
    assert float(noisy.temperature.value) == pytest.approx(0.05)
    assert noisy.confidence[0] == pytest.approx(0.2)
    assert loss.prototypes.shape == (7, 2, 8)
    assert (loss.inter_top_k, loss.inter_top_k_margin) == (3, 0.1)
    assert (loss.margin, loss.scale) == (0.4, 20.0)


def test_calibration_starts_at_the_losss_own_temperature():
    modules, _ = built("train_speaker_ecapa", SMALL, gate="hard")
    value = float(modules["noisy_labels"].temperature.value)
    assert value == pytest.approx(1 / 30)


def test_the_l2_penalty_is_toward_the_encoder_as_built(tmp_path):
    other = built("train_speaker_encoder_mhfa", TINY)[0]["embedder"]
    save_embedder(tmp_path, other)
    modules, l2_sp = built(
        "train_speaker_encoder_mhfa", TINY, init_from=str(tmp_path)
    )
    # `init_from` moved the weights away from the pre-trained ones.
    assert l2_sp.distance() > 0
    state = modules["embedder"].model.state_dict()
    for name, value in other.model.state_dict().items():
        assert torch.equal(state[name], value), name


def test_a_frozen_encoder_is_not_pulled():
    frozen = {**TINY, "freeze": "all"}
    assert built("train_speaker_encoder_mhfa", frozen)[1].parameters == []


def test_a_penalty_without_pre_trained_weights_is_refused():
    with pytest.raises(InputError, match="give --init_from"):
        built("train_speaker_ecapa", SMALL, l2_sp_weight=0.1)


def of_margins(margins):
    """A manifest of pseudo-labels with these margins of clustering."""
    table = pd.DataFrame({"ID": [f"{n}" for n in range(len(margins))]})
    return Manifest(table.assign(margin=margins), "pseudo_labels")


def test_confidence_rises_with_the_margin_up_to_the_quantile():
    margins = np.linspace(-0.2, 0.6, 81)
    found = label_confidence(of_margins(margins), 0.5)
    assert (np.diff(found) >= 0).all()
    assert found[margins <= 0].max() == 0
    assert (found[margins >= 0.2] == 1).all()
    middle = np.isclose(margins, 0.1)
    assert found[middle].tolist() == pytest.approx([0.5])


def test_without_a_quantile_there_are_no_confidences():
    assert label_confidence(of_margins([0.1]), None) is None


def test_missing_or_zero_margins_are_refused():
    table = pd.DataFrame({"ID": ["a"]})
    with pytest.raises(InputError, match="no column margin"):
        label_confidence(Manifest(table, "pseudo_labels"), 0.5)
    with pytest.raises(InputError, match="label_confidence is 0.25"):
        label_confidence(of_margins([-0.1, -0.1, 0.3]), 0.25)
