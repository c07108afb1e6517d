"""Our attention is WavLM's: values, gradients, buckets, names of weights."""

import copy

import pytest
import torch
from transformers import WavLMConfig, WavLMModel
from transformers.models.wavlm.modeling_wavlm import WavLMAttention

from speechbrain_ext.models.wavlm_attention import (
    GatedAttention,
    bucket,
    fuse_attention,
)

CONFIG = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "conv_dim": [16, 16],
    "conv_stride": [20, 16],
    "conv_kernel": [20, 16],
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
    "num_buckets": 16,
    "max_bucket_distance": 20,
    "attention_dropout": 0.0,
}


@pytest.fixture
def theirs():
    """An attention of transformers, all its weights away from their start."""
    torch.manual_seed(0)
    attention = WavLMAttention(
        32, 4, num_buckets=16, max_distance=20
    ).requires_grad_(True)
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter += 0.5 * torch.randn_like(parameter)
    return attention


def test_values_and_gradients_are_those_of_transformers(theirs):
    theirs = theirs.double()
    ours = GatedAttention(copy.deepcopy(theirs))
    x = torch.randn(3, 30, 32, dtype=torch.double, requires_grad=True)
    direction = torch.randn(3, 30, 32, dtype=torch.double)
    results = []
    for attention in (theirs, ours):
        value = attention(x)[0]
        names, parameters = zip(*attention.named_parameters(), strict=True)
        gradients = torch.autograd.grad(
            (value * direction).sum(), [x, *parameters]
        )
        results.append(
            {"value": value, "x": gradients[0]}
            | dict(zip(names, gradients[1:], strict=True))
        )
    assert results[0].keys() == results[1].keys()
    for name, expected in results[0].items():
        torch.testing.assert_close(results[1][name], expected, msg=name)


def test_the_first_layer_shares_its_bias_with_the_others(theirs):
    ours = GatedAttention(copy.deepcopy(theirs))
    x = torch.randn(3, 30, 32)
    _, _, expected = theirs(x)
    _, _, bias = ours(x)
    torch.testing.assert_close(bias, expected.view(3, 4, 30, 30)[0])
    other = torch.randn(2, 30, 32)
    again = expected.view(3, 4, 30, 30)[:2].reshape(8, 30, 30)
    torch.testing.assert_close(
        ours(other, position_bias=bias)[0],
        theirs(other, position_bias=again)[0],
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize(
    ("n_buckets", "max_distance"), [(320, 800), (32, 128), (6, 20)]
)
def test_buckets_are_those_of_transformers(n_buckets, max_distance):
    attention = WavLMAttention(
        8, 2, num_buckets=n_buckets, max_distance=max_distance
    )
    distances = torch.arange(-3000, 3001)
    expected = attention._relative_positions_bucket(distances)
    assert torch.equal(bucket(distances, n_buckets, max_distance), expected)


@pytest.mark.parametrize("do_stable_layer_norm", [False, True])
def test_a_whole_model_keeps_its_weights_names_and_output(
    do_stable_layer_norm,
):
    torch.manual_seed(0)
    config = WavLMConfig(**CONFIG, do_stable_layer_norm=do_stable_layer_norm)
    model = WavLMModel(config).eval()
    wavs = torch.randn(2, 4000)
    with torch.no_grad():
        expected = model(wavs).last_hidden_state
        state = {k: v.clone() for k, v in model.state_dict().items()}
        fuse_attention(model)
        found = model(wavs).last_hidden_state
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert model.state_dict().keys() == state.keys()
    assert all(torch.equal(model.state_dict()[k], state[k]) for k in state)


def test_attention_has_dropout_in_training_only(theirs):
    attention = GatedAttention(theirs)
    attention.dropout = 0.5
    x = torch.randn(2, 10, 32)
    assert not torch.equal(attention(x)[0], attention(x)[0])
    attention.eval()
    assert torch.equal(attention(x)[0], attention(x)[0])


def test_mixed_precision_changes_little(theirs, monkeypatch):
    attention = GatedAttention(theirs).eval()
    x = torch.randn(2, 10, 32)
    fine = attention(x)[0]
    kinds = []
    kernel = torch.nn.functional.scaled_dot_product_attention

    def watched(*arguments, attn_mask, **options):
        kinds.append(attn_mask.dtype)
        return kernel(*arguments, attn_mask=attn_mask, **options)

    monkeypatch.setattr(
        torch.nn.functional, "scaled_dot_product_attention", watched
    )
    with torch.autocast("cpu", torch.bfloat16):
        coarse = attention(x)[0]
    assert coarse.dtype == torch.bfloat16
    # Frames by frames: in full precision it would fill the memory.
    assert kinds == [torch.bfloat16]
    assert (coarse - fine).abs().mean() < 0.02 * fine.abs().mean()
