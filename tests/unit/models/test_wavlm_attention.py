"""Our attention is WavLM's: values, gradients, buckets, names of weights."""

import copy

import pytest
import torch
from any_device import DEVICES
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import WavLMConfig, WavLMModel
from transformers.models.wavlm.modeling_wavlm import WavLMAttention

from speechbrain_ext.models import wavlm_attention
from speechbrain_ext.models.wavlm_attention import (
    GatedAttention,
    bucket,
    fuse_attention,
    gated_bias,
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


@pytest.mark.parametrize(("n_frames", "width"), [(9, 16), (16, 16), (17, 24)])
def test_rows_of_a_bias_begin_at_aligned_places(n_frames, width):
    torch.manual_seed(0)
    gate = torch.randn(2, 3, n_frames, 1, requires_grad=True)
    bias = torch.randn(3, n_frames, n_frames, requires_grad=True)
    direction = torch.randn(2, 3, n_frames, n_frames)
    results = []
    for alignment in (1, 8):
        found = gated_bias(gate, bias, alignment)
        gradients = torch.autograd.grad((found * direction).sum(), [gate, bias])
        results.append((found, *gradients))
    assert results[0][0].stride(-2) == n_frames
    assert results[1][0].stride() == (
        3 * n_frames * width,
        n_frames * width,
        width,
        1,
    )
    for plain, aligned in zip(*results, strict=True):
        torch.testing.assert_close(aligned, plain)


def test_attention_with_an_aligned_bias_is_the_same(theirs, monkeypatch):
    ours = GatedAttention(theirs.double())
    x = torch.randn(2, 13, 32, dtype=torch.double, requires_grad=True)
    results = []
    for alignment in ({}, {"cpu": 8}):
        monkeypatch.setattr(wavlm_attention, "_ALIGNMENT", alignment)
        value = ours(x)[0]
        gradients = torch.autograd.grad(
            value.square().sum(), [x, *ours.parameters()]
        )
        results.append((value, *gradients))
    for plain, aligned in zip(*results, strict=True):
        torch.testing.assert_close(aligned, plain)


@pytest.mark.parametrize("device", DEVICES)
def test_a_trained_bias_has_its_gradient(theirs, device):
    """In the kernel that is taken: others return none, or refuse."""
    ours = GatedAttention(theirs)
    x = torch.randn(2, 13, 32)
    wanted = torch.autograd.grad(
        ours(x)[0].square().sum(), list(ours.parameters())
    )
    with sdpa_kernel([SDPBackend.MATH]):
        plain = torch.autograd.grad(
            ours(x)[0].square().sum(), list(ours.parameters())
        )
    ours.to(device)
    found = torch.autograd.grad(
        ours(x.to(device))[0].square().sum(), list(ours.parameters())
    )
    names = [name for name, _ in ours.named_parameters()]
    for name, *each in zip(names, wanted, plain, found, strict=True):
        assert each[0].abs().max() > 0, name
        for other in each[1:]:
            torch.testing.assert_close(
                other.cpu(), each[0], rtol=1e-2, atol=1e-3, msg=name
            )
