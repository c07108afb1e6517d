"""Any rate is resampled as torchaudio would, in little time and memory."""

import time

import pytest
import torch
import torchaudio

from speechbrain_ext.dataio import resampling
from speechbrain_ext.dataio.resampling import _by_each_output, resampled


@pytest.mark.parametrize("old, new", [(441, 160), (1, 2), (3, 1), (641, 640)])
def test_both_ways_are_the_same_filter(old, new, monkeypatch):
    monkeypatch.setattr(resampling, "_BLOCK", 9000)
    wav = torch.randn(3000, generator=torch.Generator().manual_seed(0))
    # In float32 torchaudio rounds its filters.
    expected = torchaudio.functional.resample(wav.double(), old, new)
    found = _by_each_output(wav, old, new)
    assert len(found) == len(expected)
    assert (found - expected).abs().max() < 1e-5


@pytest.mark.parametrize("rate", [22254, 7919, 383_987])
def test_a_tone_of_an_odd_rate_stays_that_tone(rate):
    at = torch.arange(rate, dtype=torch.float64) / rate
    wav = torch.sin(2 * torch.pi * 440 * at).float()
    begin = time.process_time()
    found = resampled(wav, rate)
    # torchaudio takes seconds and gigabytes.
    assert time.process_time() - begin < 5
    expected = torch.sin(2 * torch.pi * 440 * torch.arange(16000) / 16000)
    assert len(found) == 16000
    assert (found - expected)[500:-500].abs().max() < 5e-3


def test_the_usual_rates_are_torchaudios_bit_by_bit():
    wav = torch.randn(4410, generator=torch.Generator().manual_seed(0))
    for rate in (8000, 11025, 22050, 44100, 48000):
        expected = torchaudio.functional.resample(wav, rate, 16000)
        assert torch.equal(resampled(wav, rate), expected)
    assert resampled(wav, 16000) is wav
