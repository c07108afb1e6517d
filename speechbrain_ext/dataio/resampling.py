"""Resampling to 16 kHz from any rate, in bounded memory.

torchaudio keeps a filter for each of the outputs between two common multiples
of the rates. From 44,100 Hz these are 160, from 22,254 Hz 8,000 and from 7,919
Hz 16,000: gigabytes, and seconds for each file. Such rates have each filter
computed where it is used.
"""

from __future__ import annotations

import math

import torch
import torchaudio

from speechbrain_ext.dataio.manifest import SAMPLE_RATE

# Most steps of a period, of the rates divided by their common factor: 22,050
# and 11,025 Hz have 441 to 640.
_MOST_STEPS = 640
# torchaudio's defaults: zero crossings on either side, and passband.
_N_CROSSINGS, _ROLLOFF = 6, 0.99
_BLOCK = 2**21  # filter values in memory at once


def resampled(wav: torch.Tensor, rate: int) -> torch.Tensor:
    """Resample samples to 16 kHz by a windowed sinc filter.

    Arguments
    ---------
    wav : torch.Tensor
        Samples [T], float32.
    rate : int
        Theirs, in Hz.

    Returns
    -------
    torch.Tensor
        [ceil(T * 16000 / rate)], float32.

    Example
    -------
    >>> resampled(torch.zeros(22254), 22254).shape
    torch.Size([16000])
    """
    if rate == SAMPLE_RATE:
        return wav
    common = math.gcd(rate, SAMPLE_RATE)
    old, new = rate // common, SAMPLE_RATE // common
    if max(old, new) <= _MOST_STEPS:
        return torchaudio.functional.resample(wav, rate, SAMPLE_RATE)
    return _by_each_output(wav, old, new)


def _by_each_output(wav: torch.Tensor, old: int, new: int) -> torch.Tensor:
    """Resample by filters that are computed for each output sample."""
    # Both in cycles a sample of the input.
    cutoff = min(old, new) * _ROLLOFF / old
    reach = math.ceil(_N_CROSSINGS / cutoff)
    offsets = torch.arange(-reach, reach + 1)
    padded = torch.nn.functional.pad(wav, (reach, reach + 1))
    found = torch.empty(-(-len(wav) * new // old))
    step = max(_BLOCK // len(offsets), 1)
    for first in range(0, len(found), step):
        at = torch.arange(first, min(first + step, len(found))) * old
        # Whole and fractional place in the input, exactly.
        nearest, rest = at // new, (at % new).double() / new
        t = (offsets - rest[:, None]).mul_(cutoff)
        t.clamp_(-_N_CROSSINGS, _N_CROSSINGS)
        window = torch.cos(t * (math.pi / _N_CROSSINGS / 2)).square_()
        filters = torch.sinc(t).mul_(window).mul_(cutoff).float()
        heard = padded[nearest[:, None] + offsets + reach]
        found[first : first + step] = (heard * filters).sum(dim=1)
    return found
