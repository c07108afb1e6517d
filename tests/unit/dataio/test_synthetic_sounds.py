"""Toy sounds: deterministic, bounded, and channels do what they say."""

import numpy as np
import pytest

from speechbrain_ext.dataio.synthetic_sounds import (
    Channel,
    channel,
    generator,
    impulse_response,
    music,
    noise,
)


def _flat(**changes):
    values = {
        "response": np.ones(1),
        "gains": np.ones(14),
        "colour": 1.0,
        "snr": 200.0,
        "level": 0.05,
    }
    return Channel(**{**values, **changes})


def _voice(n=16000):
    return generator(1, "voice", 0).standard_normal(n)


def test_generators_differ_by_purpose_and_numbers():
    keys = [(1, "noise", 0), (1, "noise", 1), (1, "music", 0), (2, "noise", 0)]
    draws = {generator(*key).random() for key in keys}
    assert len(draws) == 4
    assert generator(*keys[0]).random() in draws


def test_a_flat_channel_only_sets_the_level():
    wav = _voice()
    out = _flat().apply(wav, generator(1, "hiss", 0))
    assert np.corrcoef(wav, out)[0, 1] > 0.9999
    assert np.sqrt(np.mean(out**2)) == pytest.approx(0.05, rel=1e-3)


@pytest.mark.parametrize("snr", [0.0, 20.0])
def test_noise_has_the_ratio_asked_for(snr):
    wav = _voice()
    out = _flat(snr=snr, colour=0.0).apply(wav, generator(1, "hiss", 0))
    r = np.corrcoef(wav, out)[0, 1]
    assert 10 * np.log10(r**2 / (1 - r**2)) == pytest.approx(snr, abs=0.5)


def test_gains_shape_the_spectrum():
    gains = np.array([1.0] * 10 + [0.0] * 4)  # nothing above 4 kHz
    out = _flat(gains=gains).apply(_voice(), generator(1, "hiss", 0))
    power = np.abs(np.fft.rfft(out)) ** 2
    assert power[8200:].sum() < 1e-3 * power[:6000].sum()


def test_reverberation_prolongs_the_sound():
    click = np.zeros(8000)
    click[0] = 1
    room = impulse_response(generator(1, "rir", 0))
    out = _flat(response=room, level=1e-3).apply(click, generator(1, "hiss", 0))
    np.testing.assert_allclose(
        out[: len(room)] / out[0], room / room[0], atol=1e-4
    )


def test_channels_of_two_sessions_colour_sound_differently():
    wav = _voice()
    spectra = []
    for session in range(8):
        out = channel(generator(1, "channel", 0, session)).apply(
            wav, generator(1, "hiss", 0)
        )
        power = np.abs(np.fft.rfft(out))[:8000] ** 2
        bands = power.reshape(16, 500).mean(axis=1)
        spectra.append(10 * np.log10(bands))
    spread = np.std(spectra, axis=0)
    assert np.median(spread) > 2.0  # dB


def test_rooms_decay_and_have_unit_energy():
    for number in range(10):
        room = impulse_response(generator(1, "rir", number))
        assert np.sum(room**2) == pytest.approx(1, rel=1e-4)
        assert np.argmax(np.abs(room)) == 0
        third = len(room) // 3
        assert np.sum(room[-third:] ** 2) < np.sum(room[1:third] ** 2)


@pytest.mark.parametrize("kind", [noise, music])
def test_sounds_are_deterministic_bounded_and_different(kind):
    one, again, other = (
        kind(generator(1, kind.__name__, number), 1.0) for number in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, again)
    assert one.dtype == np.float32 and one.shape == (16000,)
    assert np.abs(one).max() == pytest.approx(0.5, rel=1e-3)
    assert np.abs(np.corrcoef(one, other)[0, 1]) < 0.5
