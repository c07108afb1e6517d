"""Pooling that is fitted and not trained: statistics of layers over time.

A pre-trained encoder's hidden states, averaged over an utterance, tell its
speaker once three things without labels are taken care of: positions that are
added to the states make the average depend on the utterance's length, single
channels outweigh all others, and few directions have most of the variance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch

from speechbrain_ext.models.speech_encoder import SpeechEncoder
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.precision import at_least_single, single_precision
from speechbrain_ext.utils.vectors import row_blocks
from speechbrain_ext.utils.whitening import (
    fold_whitening_,
    standard_whitening,
)

Statistics = Literal["mean", "mean_std"]
_DEGREE = 4  # of the trend, a polynomial in the logarithm of the length


class LayerMeans(torch.nn.Module):
    """Statistics over time of some layers, without their trend over length.

    With s the statistics of an utterance of T frames, one layer after
    another, the embedding is

        W (s - sum_k c_k P_k(u)) + b,   u from -1 to 1 linear in log T

    P_k the Legendre polynomials. The trend c, by least squares, and W and b,
    which standardise and whiten in part, are those of `fit_layer_means_`;
    before, the embedding is s.

    Arguments
    ---------
    n_layers : int
        Number L + 1 of hidden states: those of the L transformer layers and
        their input.
    input_size : int
        Channels C of a hidden state.
    layers : sequence of int
        Which of the hidden states, from 0 (the input of the first transformer
        layer) to L.
    statistics : str
        ``"mean"``, or ``"mean_std"``: standard deviations too.

    Raises
    ------
    InputError
        There are no such layers or statistics.

    Example
    -------
    >>> pooling = LayerMeans(n_layers=3, input_size=8, layers=[1, 2])
    >>> pooling(torch.randn(3, 2, 50, 8)).shape
    torch.Size([2, 16])
    """

    n_frames: torch.Tensor
    trend: torch.Tensor

    def __init__(
        self,
        n_layers: int,
        input_size: int = 768,
        layers: Sequence[int] = (1,),
        statistics: str = "mean",
    ):
        super().__init__()
        check_layers(layers, n_layers)
        if statistics not in get_args(Statistics):
            raise InputError(
                f"statistics is {statistics!r}; it must be one of "
                f"{list(get_args(Statistics))}; correct --embedder, for "
                "example --embedder='{statistics: mean}'"
            )
        self.layers = [int(layer) for layer in layers]
        self.statistics = statistics
        size = len(self.layers) * input_size * (1 + (statistics != "mean"))
        # Least and most frames of the utterances that the trend is of.
        self.register_buffer("n_frames", torch.ones(2))
        self.register_buffer("trend", torch.zeros(_DEGREE + 1, size))
        self.output = torch.nn.Linear(size, size)
        with torch.no_grad():
            self.output.weight.copy_(torch.eye(size))
            self.output.bias.zero_()

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
        found = layer_statistics(hidden, self.layers, self.statistics)
        n_frames = torch.full_like(self.n_frames[0], hidden.shape[2])
        return self.of_statistics(found.flatten(1), n_frames)

    def of_statistics(
        self, x: torch.Tensor, n_frames: torch.Tensor
    ) -> torch.Tensor:
        """Return embeddings of statistics that are computed already.

        Arguments
        ---------
        x : torch.Tensor
            Statistics [B, D] of the pooling's layers, one after another.
        n_frames : torch.Tensor
            Frames of each utterance [B], or one number for all.

        Returns
        -------
        torch.Tensor
            [B, D]
        """
        low, high = self.n_frames.log()
        basis = length_basis(n_frames.log(), low, high)
        # Whitening magnifies what a rounded statistic has lost.
        with single_precision(x):
            return self.output(x - basis @ self.trend)


def check_layers(layers: Sequence[int], n_layers: int) -> None:
    """Raise InputError if hidden states are not those of an encoder.

    Arguments
    ---------
    layers : sequence of int
        Their numbers.
    n_layers : int
        Number of hidden states that the encoder has.

    Raises
    ------
    InputError
        None is named, one twice, or one is not there.

    Example
    -------
    >>> check_layers([0, 2], n_layers=3)
    """
    good = all(
        isinstance(layer, int) and 0 <= layer < n_layers for layer in layers
    )
    if not good or not layers or len(set(layers)) < len(layers):
        raise InputError(
            f"layers is {list(layers)}; it must be different numbers from 0 "
            f"to {n_layers - 1}, the encoder's last layer; correct --layers"
        )


def layer_statistics(
    hidden: torch.Tensor, layers: Sequence[int], statistics: str = "mean"
) -> torch.Tensor:
    """Return statistics over time of some layers.

    Arguments
    ---------
    hidden : torch.Tensor
        Hidden states [L + 1, B, T', C].
    layers : sequence of int
        Which of the L + 1.
    statistics : str
        ``"mean"`` or ``"mean_std"``.

    Returns
    -------
    torch.Tensor
        [B, number of layers, C or 2 C], means first.

    Example
    -------
    >>> hidden = torch.tensor([[[[1.0], [3.0]]]])
    >>> layer_statistics(hidden, [0], "mean_std")
    tensor([[[2., 1.]]])
    """
    # Under autocast states may have 8 bits, which statistics are not cut to.
    hidden = at_least_single(hidden[list(layers)]).transpose(0, 1)
    if statistics == "mean":
        return hidden.mean(dim=2)
    variance, mean = torch.var_mean(hidden, dim=2, correction=0)
    # The gradient of the root is infinite at 0.
    return torch.cat([mean, variance.clamp(min=1e-10).sqrt()], dim=2)


def length_basis(
    length: torch.Tensor, low: torch.Tensor, high: torch.Tensor
) -> torch.Tensor:
    """Return Legendre polynomials of logarithms of lengths.

    Arguments
    ---------
    length : torch.Tensor
        [...], logarithms of numbers of frames; beyond the ends they count
        as these.
    low, high : torch.Tensor
        Logarithms at the ends.

    Returns
    -------
    torch.Tensor
        [..., 5]: degrees 0 to 4 of what is -1 at ``low`` and 1 at ``high``.

    Example
    -------
    >>> length_basis(*torch.tensor([3.0, 1.0, 2.0]))
    tensor([1., 1., 1., 1., 1.])
    """
    middle, half = (high + low) / 2, ((high - low) / 2).clamp(min=1e-6)
    u = (torch.minimum(torch.maximum(length, low), high) - middle) / half
    found = [torch.ones_like(u), u]
    for k in range(1, _DEGREE):
        found.append(((2 * k + 1) * u * found[k] - k * found[k - 1]) / (k + 1))
    return torch.stack(found, dim=-1)


class RawStatistics(torch.nn.Module):
    """Number of frames and statistics of layers, to fit `LayerMeans` from.

    Arguments
    ---------
    encoder : SpeechEncoder
        The encoder.
    layers : sequence of int, optional
        Which of its hidden states; None for all.
    statistics : str
        ``"mean"`` or ``"mean_std"``.

    Example
    -------
    >>> tiny = {"model_type": "whisper", "hidden_size": 8,
    ...         "num_hidden_layers": 2, "num_attention_heads": 2,
    ...         "encoder_ffn_dim": 8}
    >>> model = RawStatistics(SpeechEncoder(config=tiny))
    >>> model(torch.randn(4, 16000)).shape
    torch.Size([4, 25])
    """

    def __init__(
        self,
        encoder: SpeechEncoder,
        layers: Sequence[int] | None = None,
        statistics: str = "mean",
    ):
        super().__init__()
        self.encoder = encoder
        self.layers = layers or range(encoder.n_layers)
        self.statistics = statistics

    def forward(
        self, wavs: torch.Tensor, lengths: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return numbers of frames, then statistics, of waveforms.

        Arguments
        ---------
        wavs : torch.Tensor
            Samples at 16 kHz [B, T], from -1 to 1.
        lengths : torch.Tensor, optional
            Not used: nothing is padded.

        Returns
        -------
        torch.Tensor
            [B, 1 + D]
        """
        hidden = self.encoder(wavs)
        found = layer_statistics(hidden, self.layers, self.statistics)
        count = torch.full_like(found[:, 0, :1], hidden.shape[2])
        return torch.cat([count, found.flatten(1)], dim=1)


@torch.no_grad()
def fit_layer_means_(
    pooling: LayerMeans, n_frames: np.ndarray, x: np.ndarray, power: float
) -> float:
    """Fit trend, standardisation and whitening to utterances without labels.

    Arguments
    ---------
    pooling : LayerMeans
        Changed in place.
    n_frames : numpy.ndarray
        Frames [N] of each utterance.
    x : numpy.ndarray
        Their statistics [N, D], float32; the trend is taken from them in
        place, block by block.
    power : float
        Of the partial whitening, 0 to 1.

    Returns
    -------
    float
        Share of the variance of ``x`` that was trend, 0 to 1.

    Raises
    ------
    InputError
        The power is out of range.

    Example
    -------
    >>> rng = np.random.default_rng(0)
    >>> n_frames = rng.integers(50, 500, 200)
    >>> x = rng.normal(size=(200, 3)) + 4 * np.log(n_frames)[:, None]
    >>> pooling = LayerMeans(n_layers=1, input_size=3, layers=[0])
    >>> round(fit_layer_means_(pooling, n_frames, x, power=0.5), 1)
    0.9
    """
    logs = torch.from_numpy(n_frames.astype(np.float64)).log()
    basis = length_basis(logs, logs.min(), logs.max()).numpy()
    blocks = list(row_blocks(*x.shape))
    products = sum(basis[b].T @ x[b].astype(np.float64) for b in blocks)
    # The pseudo-inverse: lengths may be fewer than functions of them.
    trend = np.linalg.pinv(basis.T @ basis) @ products
    mean, before, after = x.mean(axis=0, dtype=np.float64), 0.0, 0.0
    for block in blocks:
        before += float(((x[block] - mean) ** 2).sum())
        x[block] -= basis[block] @ trend
        after += float((x[block].astype(np.float64) ** 2).sum())
    pooling.n_frames.copy_(torch.stack([logs.min(), logs.max()]).exp())
    pooling.trend.copy_(torch.from_numpy(trend))
    fold_whitening_(pooling, standard_whitening(x, power))
    return 1 - after / before if before else 0.0
