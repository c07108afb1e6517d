"""Fused self-attention of WavLM, with gated relative position bias.

Chen et al., "WavLM", IEEE JSTSP 2022, Eqs. 1-5. The weights are those of
``transformers``; the attention is PyTorch's fused one, and the bias is computed
once for all layers, without a copy for each utterance.
"""

from __future__ import annotations

import contextlib
import math
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import WavLMModel

# Kernels of a GPU that have the gradient of a bias, the fused one first, and
# the numbers whose multiples its rows must begin at: others are copied.
_WITH_BIAS = [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
_ALIGNMENT = {"cuda": 8}


class GatedAttention(torch.nn.Module):
    """Fused replacement of transformers' ``WavLMAttention``.

    Every frame gates the bias of its own row:

        logits[i, j] = q_i . k_j / sqrt(d) + g_i d_{j - i}
        g = a (b c - 1) + 2,    a, b = sigmoid(u . h), sigmoid(w . h)

    with h the head's part of the frame's hidden state, and c, u, w learnt.

    Arguments
    ---------
    attention : transformers.models.wavlm.modeling_wavlm.WavLMAttention
        Attention layer of a WavLM; its weights are taken over.

    Example
    -------
    >>> from transformers.models.wavlm.modeling_wavlm import WavLMAttention
    >>> attention = GatedAttention(WavLMAttention(embed_dim=8, num_heads=2))
    >>> bias = attention.position_bias(5)
    >>> bias.shape
    torch.Size([2, 5, 5])
    >>> attention(torch.randn(3, 5, 8), position_bias=bias)[0].shape
    torch.Size([3, 5, 8])
    """

    def __init__(self, attention: Any):
        super().__init__()
        self.n_heads = attention.num_heads
        self.dropout = attention.dropout
        self.n_buckets = attention.num_buckets
        self.max_distance = attention.max_distance
        self.k_proj = attention.k_proj
        self.v_proj = attention.v_proj
        self.q_proj = attention.q_proj
        self.out_proj = attention.out_proj
        self.gru_rel_pos_const = attention.gru_rel_pos_const
        self.gru_rel_pos_linear = attention.gru_rel_pos_linear
        # The first layer has it only; the others share its bias.
        if hasattr(attention, "rel_attn_embed"):
            self.rel_attn_embed = attention.rel_attn_embed

    def position_bias(self, n_frames: int) -> torch.Tensor:
        """Return the bias d_{j - i} of all pairs of frames [heads, T', T']."""
        device = self.rel_attn_embed.weight.device
        distances = torch.arange(1 - n_frames, n_frames, device=device)
        buckets = bucket(distances, self.n_buckets, self.max_distance)
        diagonals = self.rel_attn_embed(buckets).T
        return diagonals.unfold(1, n_frames, 1).flip(1)

    def gate(self, heads: torch.Tensor) -> torch.Tensor:
        """Return gates g [B, heads, T', 1] of frames [B, heads, T', d]."""
        linear = self.gru_rel_pos_linear
        # The eight outputs are summed in two groups of four; so are weights.
        weight = linear.weight.view(2, 4, -1).sum(1)
        gates = torch.nn.functional.linear(
            heads, weight, linear.bias.view(2, 4).sum(1)
        )
        reset, update = gates.sigmoid().chunk(2, dim=-1)
        return reset * (update * self.gru_rel_pos_const - 1) + 2

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_bias: torch.Tensor | None = None,
        **unused: Any,
    ) -> tuple[torch.Tensor, None, torch.Tensor]:
        """Compute what ``WavLMAttention`` does, for batches without padding.

        Arguments
        ---------
        hidden_states : torch.Tensor
            [B, T', C]
        position_bias : torch.Tensor, optional
            Bias of the first layer's `position_bias`; None in that layer.
        **unused : Any
            Further arguments that transformers passes.

        Returns
        -------
        tuple
            Hidden states [B, T', C], None and ``position_bias``.
        """
        if position_bias is None:
            position_bias = self.position_bias(hidden_states.shape[1])
        queries = self._split(self.q_proj(hidden_states))
        # Gate and bias have the queries' precision: their product is the
        # largest tensor here.
        gate = self.gate(self._split(hidden_states)).to(queries.dtype)
        device = queries.device.type
        bias = gated_bias(
            gate, position_bias.to(queries.dtype), _ALIGNMENT.get(device, 1)
        )
        with _kernels_with_bias(device):
            attended = torch.nn.functional.scaled_dot_product_attention(
                queries,
                self._split(self.k_proj(hidden_states)),
                self._split(self.v_proj(hidden_states)),
                attn_mask=bias,
                dropout_p=self.dropout if self.training else 0.0,
            )
        attended = attended.transpose(1, 2).flatten(2)
        return self.out_proj(attended), None, position_bias

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        """Split channels [B, T', C] into heads [B, heads, T', d]."""
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)


def _kernels_with_bias(device: str) -> contextlib.AbstractContextManager[Any]:
    if device == "cuda":
        return sdpa_kernel(_WITH_BIAS)
    return contextlib.nullcontext()


def gated_bias(
    gate: torch.Tensor, bias: torch.Tensor, alignment: int = 1
) -> torch.Tensor:
    """Return a bias times gates, in rows that begin at aligned places.

    Arguments
    ---------
    gate : torch.Tensor
        [B, heads, T', 1]
    bias : torch.Tensor
        [heads, T', T']
    alignment : int
        Rows of the product begin at multiples of so many numbers.

    Returns
    -------
    torch.Tensor
        [B, heads, T', T']; what lies between its rows is never read.

    Example
    -------
    >>> gate, bias = torch.ones(2, 1, 3, 1), torch.randn(1, 3, 3)
    >>> found = gated_bias(gate, bias, alignment=8)
    >>> found.shape, found.stride()
    (torch.Size([2, 1, 3, 3]), (24, 24, 8, 1))
    """
    n_frames = bias.shape[-1]
    between = -n_frames % alignment
    if not between:
        return gate * bias
    # The bias is padded, which is of no batch, so that the product is not.
    bias = torch.nn.functional.pad(bias, (0, between))
    return (gate * bias)[..., :n_frames]


def bucket(
    distances: torch.Tensor, n_buckets: int, max_distance: int
) -> torch.Tensor:
    """Return the buckets of relative positions (Raffel et al., JMLR 2020).

    Half of the buckets are for later frames. In each half, the first half of
    the buckets holds one distance each; the others widen with the distance, up
    to ``max_distance``.

    Arguments
    ---------
    distances : torch.Tensor
        Positions of keys minus positions of queries, integers.
    n_buckets : int
        Number of buckets.
    max_distance : int
        From here on distances share the last bucket.

    Returns
    -------
    torch.Tensor
        Indices from 0 to ``n_buckets - 1``, of the shape of ``distances``.

    Example
    -------
    >>> bucket(torch.tensor([-900, -9, -1, 0, 1, 9, 900]), 16, 100)
    tensor([ 7,  5,  1,  0,  9, 13, 15])
    """
    half = n_buckets // 2
    n_exact = half // 2
    sizes = distances.abs()
    # In float32 and in this order: a distance at the edge of a bucket must
    # have the bucket of the pre-training.
    grown = torch.log(sizes.clamp(min=1).float() / n_exact)
    grown = grown / math.log(max_distance / n_exact) * (half - n_exact)
    far = (n_exact + grown).long().clamp(max=half - 1)
    return (distances > 0) * half + torch.where(sizes < n_exact, sizes, far)


def fuse_attention(model: WavLMModel) -> None:
    """Replace the attention of all WavLM layers by `GatedAttention`."""
    for layer in model.encoder.layers:
        layer.attention = GatedAttention(layer.attention)
