"""Our way through the CNN: values and gradients are transformers'."""

import copy

import pytest
import torch
from transformers import AutoConfig, AutoModel

from speechbrain_ext.models.conv_frontend import convolve

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "conv_dim": [8, 12, 12],
    "conv_stride": [5, 4, 2],
    "conv_kernel": [10, 5, 2],
}
KINDS = ["wavlm", "hubert", "wav2vec2", "unispeech-sat"]
NORMS = [("group", False), ("layer", True)]


def cnn(kind="wavlm", norm="group", bias=False, **others):
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        kind, **SIZES, feat_extract_norm=norm, conv_bias=bias, **others
    )
    module = AutoModel.from_config(config).feature_extractor
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return module


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("norm", "bias"), NORMS)
def test_frames_are_those_of_transformers(kind, norm, bias):
    module = cnn(kind, norm, bias).requires_grad_(False)
    wavs = torch.randn(3, 3001)
    expected = module(wavs).transpose(1, 2)
    torch.testing.assert_close(
        convolve(module, wavs), expected, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(("norm", "bias"), NORMS)
def test_gradients_are_those_of_transformers(norm, bias):
    theirs = cnn(norm=norm, bias=bias).double()
    ours = copy.deepcopy(theirs)
    wavs = torch.randn(3, 3001, dtype=torch.double)
    (theirs(wavs).transpose(1, 2) ** 2).sum().backward()
    (convolve(ours, wavs) ** 2).sum().backward()
    pairs = zip(ours.named_parameters(), theirs.parameters(), strict=True)
    for (name, parameter), expected in pairs:
        torch.testing.assert_close(parameter.grad, expected.grad, msg=name)


def test_other_activations_are_applied():
    module = cnn(feat_extract_activation="relu").requires_grad_(False)
    frames = convolve(module, torch.randn(3, 3001))
    assert frames.min() == 0


def test_the_waveforms_are_not_changed():
    wavs = torch.randn(3, 3001)
    before = wavs.clone()
    with torch.no_grad():
        convolve(cnn(), wavs)
    assert torch.equal(wavs, before)
