"""Synthetic channels, noises, music and impulse responses.

Everything is drawn from a generator made of (seed, purpose, numbers), so a
sound does not depend on which others were made before, or where.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft

RATE = 16000
_PURPOSES = (
    "voice channel mood speech hiss noise music rir trials seconds"
).split()


def generator(seed: int, purpose: str, *numbers: int) -> np.random.Generator:
    """Make a random generator for one purpose and one object.

    Example
    -------
    >>> round(generator(1, "voice", 3).random(), 4)
    0.3307
    """
    return np.random.default_rng([seed, _PURPOSES.index(purpose), *numbers])


@dataclass(frozen=True)
class Channel:
    """Recording channel: a room, a microphone and a line.

    Arguments
    ---------
    response : numpy.ndarray
        Impulse response of the room [L].
    gains : numpy.ndarray
        Microphone and line: gain at `_NODES` (amplitude).
    colour : float
        Noise power falls with frequency to this exponent.
    snr : float
        Signal over noise, in dB.
    level : float
        Root mean square of what comes out.
    """

    response: np.ndarray
    gains: np.ndarray
    colour: float
    snr: float
    level: float

    def apply(self, wav: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Pass speech [T] through the channel; ``rng`` draws the noise."""
        size = next_fast_len(len(wav) + len(self.response), real=True)
        frequency = np.fft.rfftfreq(size, 1 / RATE)
        line = np.interp(frequency, _NODES, self.gains)
        speech = rfft(wav, size) * rfft(self.response, size)
        noise = rfft(rng.standard_normal(len(wav)), size)
        noise /= np.maximum(frequency, 60.0) ** (self.colour / 2)
        noise *= np.linalg.norm(speech) / np.linalg.norm(noise)
        noise *= 10 ** (-self.snr / 20)
        out = irfft((speech + noise) * line, size)[: len(wav)]
        out *= self.level / np.sqrt(np.mean(out**2) + 1e-12)
        return np.clip(out, -1, 1).astype("float32")


# Frequencies at which a line's gain is drawn (Hz).
_NODES = np.array(
    [0, 60, 150, 300, 500, 800, 1200, 1800, 2600, 3400, 4000, 5500, 7000, 8000],
    dtype=float,
)


def channel(rng: np.random.Generator) -> Channel:
    """Draw the channel of a session.

    One in eight is a telephone band; one in three has a room.

    Example
    -------
    >>> draw = generator(1, "channel", 0, 0)
    >>> channel(draw).apply(np.ones(800), draw).shape
    (800,)
    """
    steps = rng.standard_normal(len(_NODES)) * 2.0
    gains = 10 ** ((steps + _tilt(rng)) / 20)
    if rng.random() < 1 / 8:
        gains *= np.where((_NODES < 300) | (_NODES > 3400), 0.02, 1.0)
    else:
        gains *= np.where(_NODES < rng.uniform(40, 160), 0.1, 1.0)
    response = np.ones(1)
    if rng.random() < 1 / 3:
        response = impulse_response(rng)
    return Channel(
        response,
        gains,
        colour=rng.uniform(0, 2),
        snr=rng.uniform(20, 40),
        level=10 ** (rng.uniform(-32, -18) / 20),
    )


def _tilt(rng: np.random.Generator) -> np.ndarray:
    """Draw a line's gain in dB at each node, monotonic in frequency."""
    octaves = np.log2(np.maximum(_NODES, 60) / 1000)
    return rng.uniform(-1.5, 1.5) * octaves


def impulse_response(rng: np.random.Generator) -> np.ndarray:
    """Draw an impulse response [L] of unit energy, decaying exponentially.

    Example
    -------
    >>> response = impulse_response(generator(1, "rir", 0))
    >>> float(np.sum(response**2).round(3))
    1.0
    """
    decay = rng.uniform(0.1, 0.4)  # time to fall by 60 dB (s)
    n = int(decay * RATE)
    tail = rng.standard_normal(n) * 10 ** (-3 * np.arange(n) / n)
    gap = int(rng.uniform(0.002, 0.01) * RATE)
    tail[:gap] = 0
    tail *= 10 ** (-rng.uniform(2, 12) / 20) / np.linalg.norm(tail)
    tail[0] = 1
    return (tail / np.linalg.norm(tail)).astype("float32")


def noise(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Draw coloured noise [T] with hums, clicks and slow gusts.

    Example
    -------
    >>> noise(generator(1, "noise", 0), 0.5).shape
    (8000,)
    """
    n = round(seconds * RATE)
    frequency = np.maximum(np.fft.rfftfreq(n, 1 / RATE), 30.0)
    spectrum = np.fft.rfft(rng.standard_normal(n))
    spectrum *= frequency ** (-rng.uniform(0, 1))
    centre, width = rng.uniform(200, 5000), rng.uniform(100, 2000)
    peak = np.exp(-0.5 * ((frequency - centre) / width) ** 2)
    wav = np.fft.irfft(spectrum * (1 + rng.uniform(0, 8) * peak), n)
    at = np.arange(n) / RATE
    gusts = np.sin(2 * np.pi * rng.uniform(0.2, 4) * at + rng.uniform(0, 6))
    wav *= 1 + rng.uniform(0, 0.9) * gusts
    wav /= wav.std()
    hum = rng.uniform(50, 400)
    for harmonic in range(1, 4):
        wav += rng.uniform(0, 0.5) * np.sin(2 * np.pi * hum * harmonic * at)
    return _scaled(wav)


def music(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Draw music [T]: chords and a tune of decaying harmonic tones.

    Example
    -------
    >>> music(generator(1, "music", 0), 0.5).dtype
    dtype('float32')
    """
    n = round(seconds * RATE)
    wav = np.zeros(n)
    beat = rng.uniform(0.2, 0.5)
    scale = np.array([0, 2, 4, 5, 7, 9, 11, 12])
    root = rng.uniform(110, 220)
    fall = rng.uniform(2, 8)
    for begin in np.arange(0, seconds - 0.05, beat):
        first = int(begin * RATE)
        at = np.arange(n - first) / RATE
        for degree in rng.choice(scale, 3):
            hertz = root * 2 ** (degree / 12)
            partials = np.arange(1, 6)
            tones = np.sin(2 * np.pi * hertz * partials[:, None] * at)
            weights = rng.uniform(0.2, 1, 5) / partials
            wav[first:] += weights @ tones * np.exp(-fall * at)
    return _scaled(wav)


def _scaled(wav: np.ndarray) -> np.ndarray:
    """Scale samples to a peak of 0.5."""
    return (0.5 * wav / (np.abs(wav).max() + 1e-9)).astype("float32")
