r"""Random frequency responses that simulate another recording channel.

FilterAugment of Nam, Kim and Park, "FilterAugment: an acoustic environmental
data augmentation method" (ICASSP 2022), of the linear type, on waveforms:
knots at random places of the mel axis have random gains, and between them the
gain in dB is linear over mel. A model then cannot recognise a session by its
channel.
"""

from __future__ import annotations

import numpy as np
import torch

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.keyed_random import uniforms

N_BANDS = (3, 6)  # as published: least and most
# Numbers in [0, 1) that make a response: number of bands, gains of the knots,
# places of the inner knots.
N_NUMBERS = 1 + (N_BANDS[1] + 1) + (N_BANDS[1] - 1)
N_POINTS = 257
_NYQUIST = 8000.0  # Hz


def check_range(filter_db: float) -> None:
    """Raise InputError if ``filter_db`` is not 0 or more."""
    if not 0 <= filter_db < np.inf:
        raise InputError(
            f"filter_db is {filter_db}; it must be 0 dB or more; correct "
            "--augment, for example --augment='{filter_db: 6}'"
        )


def responses(u: np.ndarray, filter_db: float) -> np.ndarray:
    """Convert uniform numbers to responses: gains at even frequencies.

    Arguments
    ---------
    u : np.ndarray
        [B, N_NUMBERS], in [0, 1).
    filter_db : float
        Gains of the knots lie between minus and plus this, dB.

    Returns
    -------
    np.ndarray
        [B, N_POINTS], amplitudes, from 0 Hz to 8 kHz.

    Example
    -------
    >>> gains = responses(np.full((1, N_NUMBERS), 0.5), filter_db=6)
    >>> gains.shape, float(gains.min()), float(gains.max())
    ((1, 257), 1.0, 1.0)
    """
    most = N_BANDS[1]
    n_bands = N_BANDS[0] + (u[:, 0] * (most - N_BANDS[0] + 1)).astype(int)
    levels = filter_db * (2 * u[:, 1 : most + 2] - 1)
    # A response of fewer bands has its unused inner knots at the end.
    inner = u[:, most + 2 :].copy()
    unused = np.arange(most - 1) >= (n_bands - 1)[:, None]
    inner[unused] = 1.0
    inner.sort(axis=1)
    ends = np.zeros((len(u), 1)), np.ones((len(u), 1))
    knots = np.concatenate([ends[0], inner, ends[1]], axis=1)
    axis = _mel(np.linspace(0, _NYQUIST, N_POINTS)) / _mel(_NYQUIST)
    curve = np.repeat(levels[:, :1], N_POINTS, axis=1)
    for left in range(most):
        width = (knots[:, left + 1] - knots[:, left])[:, None]
        along = (axis - knots[:, left][:, None]) / np.maximum(width, 1e-9)
        rise = (levels[:, left + 1] - levels[:, left])[:, None]
        # Segments of zero width are at the end of the axis.
        within = (along > 0) & (width > 0)
        value = levels[:, left][:, None] + rise * np.minimum(along, 1)
        curve = np.where(within, value, curve)
    return 10 ** (curve / 20)


def apply_responses(wavs: torch.Tensor, gains: torch.Tensor) -> torch.Tensor:
    """Filter each waveform by its zero-phase response and keep its energy.

    Arguments
    ---------
    wavs : torch.Tensor
        [B, T].
    gains : torch.Tensor
        [B, P], amplitudes at evenly spaced frequencies up to half the
        sampling rate; between them they are interpolated in a line.

    Returns
    -------
    torch.Tensor
        [B, T], with the energy of ``wavs``.

    Example
    -------
    >>> wavs = torch.tensor([[1.0, -1.0, 1.0, -1.0]])
    >>> apply_responses(wavs, torch.tensor([[0.0, 1.0]])).round()
    tensor([[ 1., -1.,  1., -1.]])
    """
    n_frames = wavs.shape[1]
    spectrum = torch.fft.rfft(wavs)
    smooth = torch.nn.functional.interpolate(
        gains[:, None], spectrum.shape[1], mode="linear", align_corners=True
    )
    out = torch.fft.irfft(spectrum * smooth[:, 0], n_frames)
    energy = wavs.square().sum(1, keepdim=True)
    left = out.square().sum(1, keepdim=True).clamp(min=1e-12)
    return out * (energy / left).sqrt()


class ChannelFilter(torch.nn.Module):
    """Random channel alone, for crops that no recorded sounds are added to.

    Arguments
    ---------
    filter_prob : float
        Probability, from 0 to 1, that a crop gets a response.
    filter_db : float
        Gains lie between minus and plus this, dB.

    Raises
    ------
    InputError
        ``filter_db`` is negative.

    Example
    -------
    >>> crops = torch.randn(2, 8000)
    >>> keys = np.array([1, 2], dtype=np.uint64)
    >>> ChannelFilter().by_keys(crops, keys).shape
    torch.Size([2, 8000])
    """

    def __init__(self, filter_prob: float = 1.0, filter_db: float = 6.0):
        super().__init__()
        check_range(filter_db)
        self.filter_prob, self.filter_db = filter_prob, filter_db

    @torch.no_grad()
    def by_keys(self, wavs: torch.Tensor, keys: np.ndarray) -> torch.Tensor:
        """Filter each waveform as its random key determines.

        Arguments
        ---------
        wavs : torch.Tensor
            Crops at 16 kHz [B, T].
        keys : np.ndarray
            [B], uint64.

        Returns
        -------
        torch.Tensor
            Filtered copies [B, T].
        """
        u = uniforms(keys, 1 + N_NUMBERS)
        gains = torch.from_numpy(responses(u[:, 1:], self.filter_db)).to(wavs)
        out = apply_responses(wavs, gains)
        chosen = torch.from_numpy(u[:, 0] < self.filter_prob).to(wavs.device)
        return torch.where(chosen[:, None], out, wavs)


def _mel(frequency: np.ndarray | float) -> np.ndarray:
    return 2595 * np.log10(1 + np.asarray(frequency) / 700)
