"""Synthetic voices: a source-filter synthesiser of random syllables.

Made for tests and the quick start: speakers differ in pitch, vocal-tract
length, formants, voice quality and speaking rate, and each session has its
own channel (`toy_sounds.channel`) and a slight shift of pitch and rate, so
that a system which learns the channel fails on trials across sessions. A
number obtained on these voices says nothing about speech.

The synthesis is the classic one (Fant, Acoustic Theory of Speech Production,
1960): pulses with jitter and shimmer, or noise, through an all-pole tract of
five formants, filtered frame by frame with overlap-add.
"""

from __future__ import annotations

import numpy as np
from scipy.fft import irfft, rfft
from scipy.ndimage import gaussian_filter1d

from speechbrain_ext.dataio.synthetic_sounds import channel, generator

RATE = 16000
HOP = 128
FFT = 512
_FREQUENCY = np.fft.rfftfreq(FFT, 1 / RATE)
_WINDOW = np.hanning(2 * HOP + 1)[:-1].astype("float32")

# First three formants of ten vowels, men's averages in Hz (Peterson and
# Barney, JASA 1952).
_VOWELS = np.array(
    [
        [270, 2290, 3010],
        [390, 1990, 2550],
        [530, 1840, 2480],
        [660, 1720, 2410],
        [730, 1090, 2440],
        [570, 840, 2410],
        [440, 1020, 2240],
        [300, 870, 2240],
        [640, 1190, 2390],
        [490, 1350, 1690],
    ],
    dtype=float,
)
# Consonants: voicing, aspiration, frication (gains), centre and width of the
# frication (Hz), three formant loci (Hz), closure and duration (s).
_CONSONANTS = np.array(
    [
        [0.0, 0.10, 1.0, 900, 900, 300, 900, 2300, 0.06, 0.02],  # p
        [0.0, 0.10, 1.2, 4500, 1400, 300, 1800, 2700, 0.06, 0.02],  # t
        [0.0, 0.15, 1.2, 2000, 700, 300, 2100, 2400, 0.06, 0.03],  # k
        [0.2, 0.00, 0.6, 900, 900, 250, 900, 2300, 0.04, 0.02],  # b
        [0.2, 0.00, 0.6, 4300, 1400, 250, 1800, 2700, 0.04, 0.02],  # d
        [0.2, 0.00, 0.6, 2000, 700, 250, 2100, 2400, 0.04, 0.03],  # g
        [0.0, 0.00, 1.0, 6300, 1200, 320, 1700, 2600, 0.00, 0.10],  # s
        [0.0, 0.00, 1.0, 3500, 1000, 320, 1900, 2500, 0.00, 0.10],  # sh
        [0.0, 0.00, 0.3, 5000, 3500, 320, 1000, 2300, 0.00, 0.08],  # f
        [0.4, 0.00, 0.5, 6000, 1200, 300, 1700, 2600, 0.00, 0.08],  # z
        [0.0, 0.35, 0.0, 5000, 3000, 500, 1500, 2500, 0.00, 0.06],  # h
        [0.5, 0.00, 0.0, 5000, 3000, 250, 1100, 2200, 0.00, 0.07],  # m
        [0.5, 0.00, 0.0, 5000, 3000, 250, 1600, 2600, 0.00, 0.07],  # n
        [0.7, 0.00, 0.0, 5000, 3000, 350, 1100, 2700, 0.00, 0.06],  # l
        [0.7, 0.00, 0.0, 5000, 3000, 350, 1200, 1600, 0.00, 0.06],  # r
        [0.7, 0.00, 0.0, 5000, 3000, 300, 700, 2200, 0.00, 0.06],  # w
    ],
    dtype=float,
)


class ToyVoice:
    """Synthetic speaker: a man if its number is even, else a woman.

    Arguments
    ---------
    seed : int
        Seed of the corpus.
    speaker : int
        Number of the speaker, 0 or more.

    Example
    -------
    >>> voice = ToyVoice(seed=1, speaker=3)
    >>> wav = voice.utterance(session=0, index=2, seconds=0.5)
    >>> wav.shape, wav.dtype
    ((8000,), dtype('float32'))
    >>> again = ToyVoice(1, 3).utterance(0, 2, 0.5)
    >>> bool((wav == again).all())
    True
    """

    def __init__(self, seed: int, speaker: int):
        self.seed = seed
        self.speaker = speaker
        rng = generator(seed, "voice", speaker)
        self.is_female = speaker % 2 == 1
        self._draw_pitch(rng)
        self._draw_tract(rng)
        self._draw_source(rng)
        self.syllables_per_second = rng.uniform(3.2, 6.0)
        self.pause = rng.uniform(0.04, 0.2)

    def _draw_pitch(self, rng: np.random.Generator) -> None:
        mean = 200.0 if self.is_female else 118.0
        self.pitch = mean * np.exp(0.15 * rng.standard_normal())
        self.pitch_range = rng.uniform(0.04, 0.2)
        self.declination = rng.uniform(0.0, 0.3)

    def _draw_tract(self, rng: np.random.Generator) -> None:
        """Draw the formants of the speaker's vowels and their bandwidths."""
        scale = 1.15 if self.is_female else 1.0
        scale *= np.exp(0.05 * rng.standard_normal())
        shift = np.exp(0.05 * rng.standard_normal(5))
        self.formant_scale = scale * shift
        habits = np.exp(0.05 * rng.standard_normal(_VOWELS.shape))
        self.vowels = _VOWELS * habits * self.formant_scale[:3]
        self.consonants = _CONSONANTS.copy()
        self.consonants[:, 3:5] *= np.exp(
            0.1 * rng.standard_normal((len(_CONSONANTS), 2))
        )
        self.consonants[:, 5:8] *= self.formant_scale[:3]
        self.upper = np.array([3400.0, 4400.0]) * self.formant_scale[3:]
        base = np.array([70.0, 90.0, 130.0, 200.0, 260.0])
        self.bandwidths = base * np.exp(0.25 * rng.standard_normal(5))

    def _draw_source(self, rng: np.random.Generator) -> None:
        """Draw voice quality: tilt, glottis, breath, jitter, shimmer."""
        self.tilt = rng.uniform(500.0, 2200.0)
        self.glottal = rng.uniform(0.8, 2.2)
        self.breath = rng.uniform(0.0, 0.12)
        self.jitter = rng.uniform(0.002, 0.02)
        self.shimmer = rng.uniform(0.02, 0.15)

    def utterance(self, session: int, index: int, seconds: float) -> np.ndarray:
        """Return an utterance as recorded in one session's channel.

        Arguments
        ---------
        session, index : int
            Numbers of the session and of the utterance in it.
        seconds : float
            Its length.

        Returns
        -------
        numpy.ndarray
            Samples [T] at 16 kHz, float32, within -1..1.
        """
        clean = self.speech(session, index, seconds)
        ids = (self.seed, "channel", self.speaker, session)
        hiss = generator(self.seed, "hiss", self.speaker, session, index)
        return channel(generator(*ids)).apply(clean, hiss)

    def speech(self, session: int, index: int, seconds: float) -> np.ndarray:
        """Synthesise an utterance [T] without a channel, at unit power."""
        mood = generator(self.seed, "mood", self.speaker, session)
        shift, rate, effort = np.exp(
            np.array([0.04, 0.06, 0.1]) * mood.standard_normal(3)
        )
        rng = generator(self.seed, "speech", self.speaker, session, index)
        n_frames = -(-round(seconds * RATE) // HOP) + 3
        kind, track = self._plan(rng, n_frames, rate)
        pitch = self._contour(rng, n_frames, kind) * self.pitch * shift
        voiced = self._excitation(rng, pitch, track)
        wav = self._filter(rng, voiced, kind, track, effort)
        wav = wav[: round(seconds * RATE)]
        return (wav / np.sqrt(np.mean(wav**2) + 1e-9)).astype("float32")

    def _plan(
        self, rng: np.random.Generator, n_frames: int, rate: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return for each frame the consonant [F] and smooth targets [F, 6].

        A syllable is closure, consonant, vowel and sometimes a pause. The
        targets are voicing, aspiration, frication and three formants.
        """
        speed = self.syllables_per_second * rate
        n = int(n_frames * HOP / RATE * speed * 1.6) + 4
        which = rng.integers(0, len(self.consonants), n)
        vowels = self.vowels[rng.integers(0, len(self.vowels), n)]
        consonants = self.consonants[which]
        targets = np.zeros((n, 4, 6))
        targets[:, :3, 3:] = consonants[:, None, 5:8]
        targets[:, 0, 0] = 0.5 * consonants[:, 0]
        targets[:, 1, :3] = consonants[:, :3]
        targets[:, 2:, 3:] = vowels[:, None]
        targets[:, 2, 0] = rng.uniform(0.6, 1.2, n)
        seconds = np.empty((n, 4))
        seconds[:, :2] = consonants[:, 8:] * 4.5 / speed
        seconds[:, 2] = rng.uniform(0.4, 0.9, n) / speed
        seconds[:, 3] = (rng.random(n) < self.pause) * rng.uniform(0.1, 0.3, n)
        ends = np.cumsum(seconds) - rng.uniform(0, seconds[0].sum())
        segment = np.searchsorted(ends, np.arange(n_frames) * HOP / RATE)
        segment = np.minimum(segment, 4 * n - 1)
        track = targets.reshape(-1, 6)[segment]
        track[:, :3] = gaussian_filter1d(track[:, :3], 0.7, axis=0)
        track[:, 3:] = gaussian_filter1d(track[:, 3:], 2.5, axis=0)
        return which[segment // 4], track

    def _contour(
        self, rng: np.random.Generator, n_frames: int, kind: np.ndarray
    ) -> np.ndarray:
        """Draw pitch around 1 [F]: wandering accents and declination."""
        accents = gaussian_filter1d(rng.standard_normal(n_frames), 12)
        accents *= self.pitch_range / (accents.std() + 1e-9)
        fall = self.declination * np.linspace(0.5, -0.5, n_frames)
        return np.exp(accents + fall)

    def _excitation(
        self, rng: np.random.Generator, pitch: np.ndarray, track: np.ndarray
    ) -> np.ndarray:
        """Draw the source [F * HOP]: glottal pulses and breath."""
        n = len(pitch) * HOP
        at = np.arange(n) / HOP
        frames = np.arange(len(pitch))
        hertz = np.interp(at, frames, pitch)
        cycles = np.floor(np.cumsum(hertz) / RATE)
        pulses = np.flatnonzero(np.diff(cycles)) + 1
        period = RATE / hertz[pulses]
        place = pulses + self.jitter * period * rng.standard_normal(len(pulses))
        place = np.clip(place, 0, n - 2)
        size = np.sqrt(period) * (
            1 + self.shimmer * rng.standard_normal(len(pulses))
        )
        first = place.astype(int)
        part = place - first
        train = np.bincount(first, size * (1 - part), minlength=n)
        train += np.bincount(first + 1, size * part, minlength=n)
        voicing = np.interp(at, frames, track[:, 0])
        breath = np.interp(at, frames, track[:, 1]) + self.breath * voicing
        return voicing * train + breath * rng.standard_normal(n)

    def _filter(
        self,
        rng: np.random.Generator,
        voiced: np.ndarray,
        kind: np.ndarray,
        track: np.ndarray,
        effort: float,
    ) -> np.ndarray:
        """Filter frames by vocal tract and frication, and overlap-add them."""
        source = 1 / (1 + (_FREQUENCY / (self.tilt * effort)) ** 2) ** 0.5
        source *= 1 + self.glottal * np.exp(-((_FREQUENCY / 250) ** 2))
        spectrum = _frames(voiced)
        spectrum *= self._tract(track[:, 3:])
        spectrum *= source.astype("float32")
        centre, width = self.consonants[:, 3:5].T[:, :, None]
        bumps = np.exp(-0.5 * ((_FREQUENCY - centre) / width) ** 2)
        # Frication is absent from most frames.
        some = np.flatnonzero(track[:, 2] > 1e-3)
        noise = _frames(0.15 * rng.standard_normal(len(voiced)))[some]
        spectrum[some] += noise * (bumps[kind[some]] * track[some, 2:3])
        frames = irfft(spectrum, FFT)
        n = len(frames)
        out = np.zeros((n + FFT // HOP, HOP), dtype="float32")
        for part in range(FFT // HOP):
            out[part : part + n] += frames[:, part * HOP : (part + 1) * HOP]
        return out.ravel()

    def _tract(self, formants: np.ndarray) -> np.ndarray:
        """Compute the all-pole response [F, FFT // 2 + 1] of five formants."""
        upper = np.broadcast_to(self.upper, (len(formants), 2))
        hertz = np.concatenate([formants, upper], axis=1)
        radius = np.exp(-np.pi * self.bandwidths / RATE)
        linear = -2 * radius * np.cos(2 * np.pi * hertz / RATE)
        a = np.zeros((len(formants), 11))
        a[:, 0] = 1
        for k in range(5):
            before = a.copy()
            a[:, 1:] += linear[:, k, None] * before[:, :-1]
            a[:, 2:] += radius[k] ** 2 * before[:, :-2]
        response = a.sum(axis=1, keepdims=True) / rfft(a, FFT)
        return response.astype("complex64")


def _frames(wav: np.ndarray) -> np.ndarray:
    """Compute spectra [F, FFT // 2 + 1] of Hann frames, two hops long."""
    padded = np.pad(wav.astype("float32"), (0, HOP))
    view = np.lib.stride_tricks.sliding_window_view(padded, 2 * HOP)[::HOP]
    return rfft(view * _WINDOW, FFT)
