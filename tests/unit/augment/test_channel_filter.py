"""Random frequency responses: their shape, their range, what they do."""

import numpy as np
import pytest
import torch

from speechbrain_ext.augment.channel_filter import (
    N_BANDS,
    N_NUMBERS,
    N_POINTS,
    ChannelFilter,
    apply_responses,
    check_range,
    responses,
)
from speechbrain_ext.utils.errors import InputError


def drawn(n, seed=0):
    return np.random.default_rng(seed).random((n, N_NUMBERS))


def naive_response(u, filter_db):
    """One response, from the paper's description."""
    most = N_BANDS[1]
    n_bands = N_BANDS[0] + int(u[0] * (most - N_BANDS[0] + 1))
    inner = sorted(u[most + 2 :][: n_bands - 1])
    knots = [0.0, *inner, 1.0]
    levels = [filter_db * (2 * v - 1) for v in u[1 : n_bands + 2]]
    frequencies = np.linspace(0, 8000, N_POINTS)
    mel = 2595 * np.log10(1 + frequencies / 700)
    decibels = np.interp(mel / mel[-1], knots, levels)
    return 10 ** (decibels / 20)


def test_responses_are_lines_in_decibels_over_mel():
    u = drawn(200)
    expected = np.stack([naive_response(row, 6.0) for row in u])
    np.testing.assert_allclose(responses(u, 6.0), expected, rtol=1e-9)


def test_gains_stay_in_their_range_and_use_it():
    decibels = 20 * np.log10(responses(drawn(500), 9.0))
    assert np.abs(decibels).max() <= 9.0 + 1e-9
    assert decibels.max() > 8 and decibels.min() < -8


def test_the_number_of_bands_is_as_published():
    u = drawn(400)
    curves = np.log(responses(u, 6.0))
    mel = np.log10(1 + np.linspace(0, 8000, N_POINTS) / 700)
    slopes = np.diff(curves) / np.diff(mel)
    # A bend within a step of the grid shows twice; so at most 2 (bands - 1).
    bends = (np.abs(np.diff(slopes)) > 1e-6).sum(axis=1)
    assert bends.max() <= 2 * (N_BANDS[1] - 1)
    assert bends.min() >= 1


def test_tones_are_scaled_by_the_gains_at_their_frequencies():
    time = np.arange(16000) / 16000
    tones = [np.sin(2 * np.pi * f * time) for f in (500, 3000)]
    wavs = torch.from_numpy(np.stack([tones[0] + tones[1]])).float()
    gains = responses(drawn(1, seed=3), 12.0)
    out = apply_responses(wavs, torch.from_numpy(gains).float())
    spectrum = torch.fft.rfft(out).abs()[0]
    ratio = float(spectrum[500] / spectrum[3000])
    points = np.linspace(0, 8000, N_POINTS)
    wanted = np.interp([500, 3000], points, gains[0])
    assert ratio == pytest.approx(wanted[0] / wanted[1], rel=1e-3)


def test_energy_is_kept_and_silence_stays_silent():
    wavs = torch.randn(4, 4000, generator=torch.Generator().manual_seed(1))
    wavs[2] = 0
    gains = torch.from_numpy(responses(drawn(4), 12.0)).float()
    out = apply_responses(wavs, gains)
    torch.testing.assert_close(out.square().sum(1), wavs.square().sum(1))
    assert (out[2] == 0).all()


@pytest.mark.parametrize("n_frames", [1, 2, 4001])
def test_any_length_is_filtered(n_frames):
    gains = torch.from_numpy(responses(drawn(1), 6.0)).float()
    assert apply_responses(torch.ones(1, n_frames), gains).shape[1] == n_frames


@pytest.mark.parametrize("value", [-1.0, float("inf"), float("nan")])
def test_a_negative_or_infinite_range_is_refused(value):
    with pytest.raises(InputError, match=f"filter_db is {value}"):
        check_range(value)


def test_a_filter_is_a_function_of_the_crops_key_alone():
    wavs = torch.randn(6, 4000)
    keys = np.arange(6, dtype=np.uint64)
    whole = ChannelFilter(0.5).by_keys(wavs, keys)
    changed = (whole != wavs).any(dim=1)
    assert 0 < changed.sum() < 6
    order = [4, 1, 5]
    part = ChannelFilter(0.5).by_keys(wavs[order], keys[order])
    torch.testing.assert_close(part, whole[order])
    energy = whole.square().sum(dim=1)
    torch.testing.assert_close(energy, wavs.square().sum(dim=1))


def test_a_filter_of_probability_one_or_zero_always_or_never_acts():
    wavs, keys = torch.randn(9, 4000), np.arange(9, dtype=np.uint64)
    assert torch.equal(ChannelFilter(0.0).by_keys(wavs, keys), wavs)
    always = ChannelFilter(1.0, filter_db=9.0).by_keys(wavs, keys)
    assert ((always - wavs).abs().amax(dim=1) > 1e-3).all()
    with pytest.raises(InputError, match="filter_db is -1"):
        ChannelFilter(filter_db=-1)
