"""Relative distances of layers from their weights at the start."""

import pytest
import torch
from tiny_wavlm import TINY

from speechbrain_ext.models.pooling import MHFA
from speechbrain_ext.models.speech_encoder import SpeakerEncoder
from speechbrain_ext.training.layer_distances import LayerDistances, of_embedder

THREE = {**TINY, "num_hidden_layers": 3}


def test_a_layer_that_moves_is_named_and_the_others_stay():
    model = SpeakerEncoder(None, THREE, MHFA)
    distances = of_embedder(model)
    assert set(distances()) == {"front", "layer_1", "layer_2", "layer_3"}
    assert set(distances().values()) == {0.0}
    layer = model.encoder.model.encoder.layers[1]
    squares = sum(float(p.square().sum()) for p in layer.parameters())
    with torch.no_grad():
        layer.feed_forward.output_dense.bias += 0.5
    found = distances()
    expected = (16 * 0.25 / squares) ** 0.5
    assert found.pop("layer_2") == pytest.approx(expected, rel=1e-5)
    assert set(found.values()) == {0.0}
    assert list(distances()) == ["front", "layer_1", "layer_2", "layer_3"]


def test_low_rank_changes_count_as_merged_into_the_matrices():
    model = SpeakerEncoder(None, THREE, MHFA, freeze="all", lora_rank=2)
    distances = of_embedder(model)
    attention = model.encoder.model.encoder.layers[0].attention
    with torch.no_grad():
        # B is 0: A alone changes nothing.
        attention.q_proj.lora_a *= 1.5
        assert set(distances().values()) == {0.0}
        attention.q_proj.lora_b += 0.1
    product = 2 * attention.q_proj.lora_b @ attention.q_proj.lora_a
    layer = model.encoder.model.encoder.layers[0]
    squares = sum(
        float(p.square().sum())
        for name, p in layer.named_parameters()
        if "lora" not in name
    )
    expected = (float(product.square().sum()) / squares) ** 0.5
    found = distances()
    assert found.pop("layer_1") == pytest.approx(expected, rel=1e-5)
    assert set(found.values()) == {0.0}


def test_ten_layers_and_more_are_in_order():
    encoder = torch.nn.ModuleDict({"cnn": torch.nn.PReLU()})
    encoder["layers"] = torch.nn.ModuleList(torch.nn.PReLU() for _ in range(12))
    wanted = ["front", *(f"layer_{n}" for n in range(1, 13))]
    assert list(LayerDistances(encoder)()) == wanted


def test_a_frozen_encoder_has_no_distances():
    assert of_embedder(SpeakerEncoder(None, THREE, MHFA, freeze="all")) is None
    assert of_embedder(torch.nn.Linear(2, 2)) is None
