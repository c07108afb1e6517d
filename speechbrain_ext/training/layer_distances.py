"""Distances of an encoder's layers from their pre-trained weights.

Miara, Lepage and Dehak, Interspeech 2024, show what a contrastive loss does
to WavLM by the distance of each layer from its pre-trained weights.
"""

from __future__ import annotations

import copy
import re

import torch

from speechbrain_ext.models.lora import merged_state

FRONT = "front"


class LayerDistances:
    r"""Relative distance of each layer from its weights at the start.

    .. math:: d_l = \frac{\|\theta_l - \theta_l^*\|}{\|\theta_l^*\|}

    with theta_l all parameters of layer l and theta_l^* their values when the
    object was made; low-rank changes count as what they add to matrices.

    Arguments
    ---------
    encoder : torch.nn.Module
        Transformer layers are those of a list named ``layers``; everything
        else is ``front``.

    Example
    -------
    >>> encoder = torch.nn.ModuleDict({"cnn": torch.nn.PReLU()})
    >>> encoder["layers"] = torch.nn.ModuleList([torch.nn.PReLU()])
    >>> distances = LayerDistances(encoder)
    >>> _ = encoder["layers"][0].weight.data.mul_(1.5)
    >>> distances()
    {'front': 0.0, 'layer_1': 0.5}
    """

    def __init__(self, encoder: torch.nn.Module):
        self.encoder = encoder
        self.began = copy.deepcopy(self.weights())

    def weights(self) -> dict[str, list[torch.Tensor]]:
        """Return the weights of each layer, from the CNN to the last layer."""
        buffers = {name for name, _ in self.encoder.named_buffers()}
        found: dict[str, list[torch.Tensor]] = {FRONT: []}
        for name, weight in merged_state(self.encoder).items():
            if name in buffers:
                continue
            number = re.search(r"(?:^|\.)layers\.(\d+)\.", name)
            layer = f"layer_{int(number[1]) + 1}" if number else FRONT
            # On the CPU, as they are needed once an epoch only.
            found.setdefault(layer, []).append(weight.cpu())
        return found

    @torch.no_grad()
    def __call__(self) -> dict[str, float]:
        """Compute the distance of each layer, from the CNN to the last one."""
        return {
            layer: _distance(now, self.began[layer])
            for layer, now in self.weights().items()
        }


def _distance(weights: list[torch.Tensor], began: list[torch.Tensor]) -> float:
    gone = size = 0.0
    for weight, start in zip(weights, began, strict=True):
        gone += float((weight - start).double().square().sum())
        size += float(start.double().square().sum())
    return (gone / size) ** 0.5 if size else 0.0


def of_embedder(model: torch.nn.Module) -> LayerDistances | None:
    """Return distances for a model's encoder; None if frozen or absent.

    Arguments
    ---------
    model : torch.nn.Module
        Its encoder, if it has one, is the attribute ``encoder``.

    Example
    -------
    >>> of_embedder(torch.nn.Linear(2, 2)) is None
    True
    """
    encoder = getattr(model, "encoder", None)
    if encoder is None:
        return None
    if not any(p.requires_grad for p in encoder.parameters()):
        return None
    return LayerDistances(encoder)
