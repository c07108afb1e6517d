"""Poolings from the hidden states of all layers to one embedding."""

from __future__ import annotations

import torch
from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
from speechbrain.lobes.models.Xvector import Xvector

from speechbrain_ext.utils.errors import InputError


class MHFA(torch.nn.Module):
    """Multi-head factorised attentive pooling (MHFA).

    Peng et al., "An attention-based backend allowing efficient fine-tuning
    of transformer models for speaker verification", SLT 2022. Keys and
    values are two learnt averages over layers, h the hidden states:

        k_t = W_k sum_l softmax(a^k)_l h_{l,t} + b_k    (v_t likewise)
        A   = softmax over t of (W_a k_t + b_a)         one column a head
        e   = W_o [sum_t A_{t,1} v_t; ...; sum_t A_{t,H} v_t] + b_o

    The defaults are those of Miara et al. (Interspeech 2024).

    Arguments
    ---------
    n_layers : int
        Number L + 1 of hidden states: those of the L transformer layers and
        their input.
    input_size : int
        Channels C of a hidden state.
    n_heads : int
        Attention heads H.
    compression_size : int
        Channels of keys and of values.
    embedding_size : int
        Channels D of the embedding.

    Example
    -------
    >>> pooling = MHFA(n_layers=3, input_size=8, n_heads=4, embedding_size=5)
    >>> pooling(torch.randn(3, 2, 50, 8)).shape
    torch.Size([2, 5])
    """

    def __init__(
        self,
        n_layers: int,
        input_size: int = 768,
        n_heads: int = 64,
        compression_size: int = 128,
        embedding_size: int = 256,
    ):
        super().__init__()
        # Two vectors, so that they are exempt from weight decay.
        self.key_layers = torch.nn.Parameter(torch.ones(n_layers))
        self.value_layers = torch.nn.Parameter(torch.ones(n_layers))
        self.key = torch.nn.Linear(input_size, compression_size)
        self.value = torch.nn.Linear(input_size, compression_size)
        self.attention: torch.nn.Module = torch.nn.Linear(
            compression_size, n_heads
        )
        self.output = torch.nn.Linear(
            n_heads * compression_size, embedding_size
        )

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return embeddings of utterances without padding.

        Arguments
        ---------
        hidden : torch.Tensor
            Hidden states [L + 1, B, T', C].

        Returns
        -------
        torch.Tensor
            [B, D]
        """
        weights = torch.stack([self.key_layers, self.value_layers])
        weights = weights.softmax(dim=1)
        keys, values = torch.einsum("wl,lbtc->wbtc", weights, hidden)
        attention = self._logits(self.key(keys)).softmax(dim=1)
        values = self.value(values)
        heads = torch.einsum("bth,btc->bhc", attention, values)
        return self.output(heads.flatten(1))

    def _logits(self, keys: torch.Tensor) -> torch.Tensor:
        """Return logits [B, T', H] of keys [B, T', compression_size]."""
        return self.attention(keys)


class ContextAwareMHFA(MHFA):
    """MHFA whose queries also use the neighbours of each weighted frame.

    Peng et al., "CA-MHFA: a context-aware multi-head factorized attentive
    pooling for SSL-based speaker verification", ICASSP 2025. In place of
    MHFA's W_a k_t + b_a, head h has a group of 2 R + 1 queries:

        logits_{t,h} = sum_{r=-R}^{R} q_{h,r} . k_{t+r}

    with zeros beyond the ends of the utterance; all groups share keys and
    values. With one frame of context it is MHFA without b_a.

    Arguments
    ---------
    n_layers : int
        Number L + 1 of hidden states: those of the L transformer layers and
        their input.
    input_size : int
        Channels C of a hidden state.
    n_heads : int
        Number H of groups of queries.
    context : int
        Number 2 R + 1 of frames that a group sees, odd.
    compression_size : int
        Channels of keys and of values.
    embedding_size : int
        Channels D of the embedding.

    Raises
    ------
    InputError
        ``context`` is not odd and positive.

    Example
    -------
    >>> pooling = ContextAwareMHFA(
    ...     n_layers=3, input_size=8, n_heads=4, embedding_size=5
    ... )
    >>> pooling(torch.randn(3, 2, 50, 8)).shape
    torch.Size([2, 5])
    """

    def __init__(
        self,
        n_layers: int,
        input_size: int = 768,
        n_heads: int = 64,
        context: int = 9,
        compression_size: int = 128,
        embedding_size: int = 256,
    ):
        super().__init__(
            n_layers, input_size, n_heads, compression_size, embedding_size
        )
        if context < 1 or context % 2 == 0:
            raise InputError(
                f"context is {context}; it must be odd, with as many frames "
                "before as after the one in the middle; correct --embedder, "
                "for example --embedder='{context: 9}'"
            )
        self.attention = torch.nn.Conv1d(
            compression_size,
            n_heads,
            context,
            padding=context // 2,
            bias=False,
        )

    def _logits(self, keys: torch.Tensor) -> torch.Tensor:
        return self.attention(keys.transpose(1, 2)).transpose(1, 2)


class WeightedSum(torch.nn.Module):
    """Learnt weighted average of the layers, as in SUPERB.

    Yang et al., Interspeech 2021. All layers start with the same weight.

    Arguments
    ---------
    n_layers : int
        Number L + 1 of hidden states: those of the L transformer layers and
        their input.

    Example
    -------
    >>> mean = WeightedSum(n_layers=3).average(torch.randn(3, 2, 50, 8))
    >>> mean.shape
    torch.Size([2, 50, 8])
    """

    def __init__(self, n_layers: int):
        super().__init__()
        self.layer_weights = torch.nn.Parameter(torch.zeros(n_layers))

    def average(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the average [B, T', C] of hidden states [L + 1, B, T', C]."""
        weights = self.layer_weights.softmax(dim=0)
        return torch.einsum("l,lbtc->btc", weights, hidden)


class WeightedSumECAPA(WeightedSum):
    """ECAPA-TDNN on a learnt weighted average of the layers.

    The speaker model of Chen et al., "WavLM", IEEE JSTSP 2022: ECAPA-TDNN
    (Desplanques et al., Interspeech 2020) with hidden states in place of mel
    bands.

    Arguments
    ---------
    n_layers : int
        Number L + 1 of hidden states: those of the L transformer layers and
        their input.
    input_size : int
        Channels C of a hidden state.
    width : int
        Channels of ECAPA's frame-level layers.
    width_last : int
        Channels after its multi-layer feature aggregation.
    attention_channels : int
        Channels of its attentive statistics pooling.
    embedding_size : int
        Channels D of the embedding.

    Example
    -------
    >>> pooling = WeightedSumECAPA(
    ...     n_layers=3, input_size=8, width=16, width_last=48,
    ...     embedding_size=5,
    ... )
    >>> pooling(torch.randn(3, 2, 50, 8)).shape
    torch.Size([2, 5])
    """

    def __init__(
        self,
        n_layers: int,
        input_size: int = 768,
        width: int = 512,
        width_last: int = 1536,
        attention_channels: int = 128,
        embedding_size: int = 192,
    ):
        super().__init__(n_layers)
        self.ecapa = ECAPA_TDNN(
            input_size,
            lin_neurons=embedding_size,
            channels=[width] * 4 + [width_last],
            attention_channels=attention_channels,
        )

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return embeddings of utterances without padding.

        Arguments
        ---------
        hidden : torch.Tensor
            Hidden states [L + 1, B, T', C].

        Returns
        -------
        torch.Tensor
            [B, D]
        """
        return self.ecapa(self.average(hidden))[:, 0]


class MeanAndDeviation(torch.nn.Module):
    """Statistics pooling: mean and standard deviation over time.

    Snyder et al., ICASSP 2018.

    Example
    -------
    >>> MeanAndDeviation()(torch.tensor([[[1.0], [3.0]]]))
    tensor([[[2., 1.]]])
    """

    def forward(
        self, x: torch.Tensor, lengths: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return statistics [B, 1, 2 C] of frames [B, T, C] without padding."""
        variance, mean = torch.var_mean(x, dim=1, correction=0, keepdim=True)
        # The gradient of the root is infinite at 0.
        return torch.cat([mean, variance.clamp(min=1e-10).sqrt()], dim=2)


class WeightedSumTDNN(WeightedSum):
    """x-vector network (TDNN) on a learnt weighted average of the layers.

    The speaker model of SUPERB (Yang et al., Interspeech 2021): five
    time-delay layers, mean and standard deviation of the last over time, and a
    linear layer (Snyder et al., ICASSP 2018, whose segment 6 is the embedding).

    Arguments
    ---------
    n_layers : int
        Number L + 1 of hidden states: those of the L transformer layers and
        their input.
    input_size : int
        Channels C of a hidden state.
    width : int
        Channels of the first four time-delay layers.
    width_last : int
        Channels of the fifth.
    embedding_size : int
        Channels D of the embedding.

    Example
    -------
    >>> pooling = WeightedSumTDNN(
    ...     n_layers=3, input_size=8, width=16, width_last=48,
    ...     embedding_size=5,
    ... )
    >>> pooling(torch.randn(3, 2, 50, 8)).shape
    torch.Size([2, 5])
    """

    def __init__(
        self,
        n_layers: int,
        input_size: int = 768,
        width: int = 512,
        width_last: int = 1500,
        embedding_size: int = 512,
    ):
        super().__init__(n_layers)
        self.tdnn = Xvector(
            in_channels=input_size,
            tdnn_channels=[width] * 4 + [width_last],
            lin_neurons=embedding_size,
        )
        # SpeechBrain's statistics pooling adds noise, in evaluation too.
        self.tdnn.blocks[-2] = MeanAndDeviation()

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return embeddings of utterances without padding.

        Arguments
        ---------
        hidden : torch.Tensor
            Hidden states [L + 1, B, T', C].

        Returns
        -------
        torch.Tensor
            [B, D]
        """
        return self.tdnn(self.average(hidden))[:, 0]
