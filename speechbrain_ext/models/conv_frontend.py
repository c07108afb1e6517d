"""Convolutional front end of a speech encoder, channels last in memory.

They take half of a training step at WavLM's sizes. The modules and weights
are those of ``transformers``; only the memory layout differs: fast kernels
need it, and without it every layer converts to it and back.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.activations import GELUActivation

from speechbrain_ext.utils.compat import gelu_


def convolve(feature_extractor: Any, wavs: torch.Tensor) -> torch.Tensor:
    """Compute the frames of a speech encoder's CNN.

    Arguments
    ---------
    feature_extractor : torch.nn.Module
        Of WavLM, HuBERT, wav2vec 2.0 or UniSpeech-SAT: its ``conv_layers``
        have ``conv``, ``activation`` and perhaps a ``layer_norm``.
    wavs : torch.Tensor
        Samples [B, T].

    Returns
    -------
    torch.Tensor
        [B, T', C]

    Example
    -------
    >>> from transformers import WavLMConfig, WavLMModel
    >>> config = WavLMConfig(hidden_size=96, num_hidden_layers=1,
    ...     conv_dim=[8, 8], conv_stride=[20, 16], conv_kernel=[20, 16])
    >>> cnn = WavLMModel(config).feature_extractor
    >>> wavs = torch.randn(2, 1600)
    >>> found = convolve(cnn, wavs)
    >>> torch.allclose(found, cnn(wavs).transpose(1, 2), atol=1e-5)
    True
    """
    last = torch.channels_last
    x = wavs[:, None, None].to(memory_format=last)  # [B, 1, 1, T]
    for layer in feature_extractor.conv_layers:
        conv = layer.conv
        weight = conv.weight.unsqueeze(2).contiguous(memory_format=last)
        x = torch.nn.functional.conv2d(
            x, weight, conv.bias, stride=(1, conv.stride[0])
        )
        x = _activate(layer.activation, _normalize(layer, x))
    return x.squeeze(2).transpose(1, 2)


def _normalize(layer: Any, x: torch.Tensor) -> torch.Tensor:
    norm = getattr(layer, "layer_norm", None)
    if norm is None:
        return x
    if isinstance(norm, torch.nn.GroupNorm):
        return norm(x)
    return norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _activate(activation: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    # In place where no gradient needs the input: to allocate so large a tensor
    # takes longer than the arithmetic.
    if isinstance(activation, GELUActivation) and not x.requires_grad:
        return gelu_(x)
    return activation(x)
