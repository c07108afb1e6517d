"""Augmentation of crops by noise, music, babble, reverberation, channels.

Every decision is a function of a crop's 64-bit key, made on the CPU; the
arithmetic is batched on the device of the waveforms. So CPU and GPU agree, and
a crop is augmented alike in any batch, in any process and in a resumed run.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from speechbrain_ext.augment.channel_filter import (
    N_NUMBERS,
    apply_responses,
    check_range,
    responses,
)
from speechbrain_ext.augment.sound_bank import (
    SoundBank,
    trim_response,
)
from speechbrain_ext.utils.devices import moved_together
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike
from speechbrain_ext.utils.keyed_random import uniforms

logger = logging.getLogger(__name__)


class Draws(NamedTuple):
    """Random decisions for B crops; a babble has at most J talkers."""

    kind: np.ndarray  # [B], index in Augment.KINDS
    rir: np.ndarray  # [B], impulse response, -1 for none
    snr: np.ndarray  # [B], dB
    n_sounds: np.ndarray  # [B], recordings added: talkers of a babble, 1 or 0
    sound: np.ndarray  # [B, J], recordings, the first n_sounds of which count
    begin: np.ndarray  # [B, J], where in each the cut begins, 0 to 1
    filtered: np.ndarray  # [B], whether a random response is applied last
    response: np.ndarray  # [B, N_NUMBERS], numbers that make it

    def of(self, rows: np.ndarray) -> Draws:
        """Select the decisions for some of the crops."""
        return Draws(*(values[rows] for values in self))


class Augment(torch.nn.Module):
    """Augmentation of each crop: none, reverb, music, babble or noise.

    The kinds and ranges are those of the x-vector recipe (Snyder et al.,
    "X-vectors: robust DNN embeddings for speaker recognition", ICASSP 2018), as
    Miara et al. (Interspeech 2024) use it. Each crop is drawn on its own. A
    random frequency response may follow (Nam et al., "FilterAugment", ICASSP
    2022).

    Recordings take 2 bytes a sample: ``max_hours`` bounds each kind to 8 x
    3,600 s x 16,000 x 2 bytes = 922 MB. Impulse responses are trimmed first
    (`trim_response`): the 60,000 of RIRS_NOISES' simulated_rirs, 0.37 s each
    by the image method in rooms of their sizes, take 60,000 x 0.37 s x 16,000
    x 2 bytes = 710 MB.

    Arguments
    ---------
    folder : str or os.PathLike
        Holds ``noise``, ``music``, ``speech`` (MUSAN's layout) and ``rir``
        folders of recordings, searched to any depth.
    probabilities : sequence of float
        Weights of clean, rir, music, babble and noise; they need not sum to 1.
    reverb_prob : float
        Probability, from 0 to 1, that a crop with music, babble or noise is
        reverberated too, before the sound is added.
    music_snr : sequence of float
        Lowest and highest signal-to-noise ratio of music, dB.
    babble_snr : sequence of float
        Lowest and highest signal-to-noise ratio of babble, dB.
    noise_snr : sequence of float
        Lowest and highest signal-to-noise ratio of noise, dB.
    n_talkers : sequence of int
        Least and most talkers in a babble.
    max_hours : float
        Most hours of each kind that are held in memory; files are taken in a
        seeded random order until then.
    rir_folder : str or os.PathLike, optional
        Impulse responses, e.g. ``RIRS_NOISES/simulated_rirs``; ``folder/rir``
        when None.
    filter_prob : float
        Probability, from 0 to 1, that a crop of any kind gets a random
        frequency response, last
        (`speechbrain_ext.augment.channel_filter.responses`).
    filter_db : float
        Range of that response's gains, dB: from minus to plus this.

    Raises
    ------
    InputError
        A folder has no recordings, or a probability or range cannot be.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> import soundfile
    >>> for kind in ("noise", "music", "speech", "rir"):
    ...     (folder / kind).mkdir()
    ...     noise = np.random.default_rng(0).normal(size=4000) / 8
    ...     soundfile.write(folder / kind / "a.wav", noise, 16000)
    >>> augment = Augment(folder)
    >>> wavs = torch.randn(6, 8000)
    >>> seed = torch.Generator().manual_seed(1)
    >>> augment(wavs, seed).shape
    torch.Size([6, 8000])
    """

    KINDS = ("clean", "rir", "music", "babble", "noise")

    def __init__(
        self,
        folder: PathLike,
        probabilities: Sequence[float] = (1, 1, 1, 1, 1),
        reverb_prob: float = 0.0,
        music_snr: Sequence[float] = (5, 15),
        babble_snr: Sequence[float] = (13, 20),
        noise_snr: Sequence[float] = (0, 15),
        n_talkers: Sequence[int] = (3, 8),
        max_hours: float = 8.0,
        rir_folder: PathLike | None = None,
        filter_prob: float = 0.0,
        filter_db: float = 6.0,
    ):
        super().__init__()
        check_range(filter_db)
        _check_pair("music_snr", music_snr, "[5, 15]")
        _check_pair("babble_snr", babble_snr, "[13, 20]")
        _check_pair("noise_snr", noise_snr, "[0, 15]")
        _check_pair("n_talkers", n_talkers, "[3, 8]", whole=True)
        _check_hours(max_hours)
        _check_probability("reverb_prob", reverb_prob)
        _check_probability("filter_prob", filter_prob)
        self.filter_prob, self.filter_db = filter_prob, filter_db
        self.bounds = _upper_bounds(probabilities)
        self.reverb_prob = reverb_prob
        # Ranges by kind; clean and rir add nothing.
        none = (0, 0)
        self.snr = np.array([none, none, music_snr, babble_snr, noise_snr])
        self.n_sounds = np.array([none, none, (1, 1), n_talkers, (1, 1)])
        folder = Path(folder)
        self.music = SoundBank.of_folder(folder / "music", max_hours)
        self.speech = SoundBank.of_folder(folder / "speech", max_hours)
        self.noise = SoundBank.of_folder(folder / "noise", max_hours)
        self.rirs = SoundBank.of_folder(
            rir_folder or folder / "rir", max_hours, trim_response
        )

    @property
    def added(self) -> dict[int, SoundBank]:
        """Bank of recordings for each kind that adds sound."""
        return {2: self.music, 3: self.speech, 4: self.noise}

    def forward(
        self, wavs: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        """Augment waveforms at random.

        Arguments
        ---------
        wavs : torch.Tensor
            Crops at 16 kHz [B, T].
        generator : torch.Generator
            On the CPU; the only source of randomness: a key for each crop.

        Returns
        -------
        torch.Tensor
            Augmented copies [B, T], on the same device.
        """
        keys = torch.randint(2**63 - 1, (len(wavs),), generator=generator)
        return self.by_keys(wavs, keys.numpy().astype(np.uint64))

    @torch.no_grad()
    def by_keys(self, wavs: torch.Tensor, keys: np.ndarray) -> torch.Tensor:
        """Augment each waveform as its random key determines.

        Arguments
        ---------
        wavs : torch.Tensor
            Crops at 16 kHz [B, T].
        keys : np.ndarray
            [B], uint64, for instance from
            `speechbrain_ext.utils.keyed_random.crop_keys`.

        Returns
        -------
        torch.Tensor
            Augmented copies [B, T], on the same device.
        """
        draws = self.draw(keys)
        if self.rirs.samples.device != wavs.device:
            self.to(wavs.device)
        plan = self._plan(draws)
        # One transfer: a GPU would wait for each of many.
        there = moved_together([a for part in plan for a in part], wavs.device)
        numbers = iter(there)
        wet, *mixes, filtered = ([next(numbers) for _ in part] for part in plan)
        out = wavs.clone()
        if wet:
            place, rir = wet
            out[place] = reverberate(out[place], self.rirs.whole(rir))
        for bank, (place, snr, *talkers) in zip(
            self.added.values(), mixes, strict=True
        ):
            sounds = mix(bank, talkers, len(place), wavs.shape[1])
            out[place] = add_at_snr(out[place], sounds, snr.to(wavs))
        if filtered:
            place, response = filtered
            out[place] = apply_responses(out[place], response.to(wavs))
        return out

    def _plan(self, draws: Draws) -> list[list[np.ndarray]]:
        """Return the numbers of each operation: its crops, then its draws.

        First reverberation and last filters, both empty if no crop has them;
        between them a list for each bank.
        """
        rows = np.flatnonzero(draws.rir >= 0)
        # The FFT of an empty batch is an error.
        plan = [[rows, draws.rir[rows]] if len(rows) else []]
        for kind in self.added:
            rows = np.flatnonzero(draws.kind == kind)
            plan.append([rows, draws.snr[rows], *_talkers(draws.of(rows))])
        rows = np.flatnonzero(draws.filtered)
        filtered = []
        if len(rows):
            gains = responses(draws.response[rows], self.filter_db)
            filtered = [rows, gains]
        return [*plan, filtered]

    def draw(self, keys: np.ndarray) -> Draws:
        """Draw the decisions for each crop from its key alone.

        Arguments
        ---------
        keys : np.ndarray
            [B], uint64.

        Returns
        -------
        Draws
            Decisions for the B crops.
        """
        n_before = 5 + 2 * self.n_sounds.max()
        u = uniforms(keys, n_before + 1 + N_NUMBERS)
        u, filtering = u[:, :n_before], u[:, n_before:]
        kind = np.searchsorted(self.bounds, u[:, 0], side="right")
        wet = (kind == 1) | ((kind > 1) & (u[:, 1] < self.reverb_prob))
        rir = np.where(wet, _integers(u[:, 2], len(self.rirs)), -1)
        low, high = self.snr[kind].T
        least, most = self.n_sounds[kind].T
        sizes = np.zeros(len(self.KINDS), dtype=np.int64)
        for number, bank in self.added.items():
            sizes[number] = len(bank)
        return Draws(
            kind,
            rir,
            snr=low + (high - low) * u[:, 3],
            n_sounds=least + _integers(u[:, 4], most - least + 1),
            sound=_integers(u[:, 5::2], sizes[kind][:, None]),
            begin=u[:, 6::2],
            filtered=filtering[:, 0] < self.filter_prob,
            response=filtering[:, 1:],
        )


def _is_number(value: Any) -> bool:
    """Whether a value is a finite number; true and false are none."""
    is_real = isinstance(value, Real) and not isinstance(value, bool)
    return is_real and math.isfinite(value)


def _check_pair(name: str, value: Any, usual: str, whole: bool = False) -> None:
    """Raise InputError if a range is not its lowest and highest value."""
    good = (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and len(value) == 2
        and all(map(_is_number, value))
        and value[0] <= value[1]
    )
    rule = "[lowest, highest] in dB"
    if whole:
        rule = "[least, most], whole numbers of 1 or more"
        good = good and all(n == int(n) and n >= 1 for n in value)
    if not good:
        raise InputError(
            f"{name} is {value}; it must be {rule}; correct --augment, for "
            f"example --augment='{{{name}: {usual}}}'"
        )


def _check_hours(value: Any) -> None:
    if not _is_number(value) or value <= 0:
        raise InputError(
            f"max_hours is {value}; it must be a number above 0; correct "
            "--augment, for example --augment='{max_hours: 8}'"
        )


def _check_probability(name: str, value: float) -> None:
    if not _is_number(value) or not 0 <= value <= 1:
        raise InputError(
            f"{name} is {value}; it must be from 0 to 1; correct --augment, "
            f"for example --augment='{{{name}: 0.5}}'"
        )


def _integers(u: np.ndarray, n: np.ndarray | int) -> np.ndarray:
    """Convert uniform numbers in [0, 1) to integers in 0..n-1."""
    return (u * n).astype(np.int64)


def _upper_bounds(probabilities: Sequence[float]) -> np.ndarray:
    """Return the cumulative probability of each kind, in [0, 1]."""
    weights = np.array(list(probabilities), dtype=float)
    drawable = (weights >= 0).all() and 0 < weights.sum() < np.inf
    if len(weights) != len(Augment.KINDS) or not drawable:
        raise InputError(
            f"probabilities is {list(probabilities)}; it must be five weights "
            f"of {list(Augment.KINDS)}, 0 or more and one of them above 0; "
            "correct --augment"
        )
    bounds = weights.cumsum()
    return bounds / bounds[-1]


def _talkers(draws: Draws) -> list[np.ndarray]:
    """Return crops, recordings and beginnings of each talker in turn."""
    found = []
    for talker in range(draws.n_sounds.max(initial=0)):
        rows = np.flatnonzero(draws.n_sounds > talker)
        sound, begin = draws.sound[rows, talker], draws.begin[rows, talker]
        found += [rows, sound, begin]
    return found


def mix(
    bank: SoundBank, talkers: list[torch.Tensor], n_crops: int, n_frames: int
) -> torch.Tensor:
    """Return sums [n_crops, n_frames] of the recordings drawn for crops.

    ``talkers`` has crops, recordings and beginnings of the first talker, then
    of the second, and so on.
    """
    total = torch.zeros(n_crops, n_frames, device=bank.samples.device)
    # One talker of every crop at a time: no atomic additions, and an order
    # that does not depend on other crops.
    for first in range(0, len(talkers), 3):
        place, sound, begin = talkers[first : first + 3]
        total[place] += bank.cut(sound, begin, n_frames)
    return total


def reverberate(wavs: torch.Tensor, rirs: torch.Tensor) -> torch.Tensor:
    """Convolve each waveform with its response and keep its energy.

    Arguments
    ---------
    wavs : torch.Tensor
        [B, T].
    rirs : torch.Tensor
        [B, R].

    Returns
    -------
    torch.Tensor
        [B, T], the first T samples, with the energy of ``wavs``.

    Example
    -------
    >>> wavs = torch.tensor([[1.0, 0.0, 0.0]])
    >>> reverberate(wavs, torch.tensor([[0.6, 0.8]])).abs()[0, :2]
    tensor([0.6000, 0.8000])
    """
    n_frames = wavs.shape[1]
    size = fast_length(n_frames + rirs.shape[1] - 1)
    spectrum = torch.fft.rfft(wavs, size)
    spectrum *= torch.fft.rfft(rirs, size)
    wet = torch.fft.irfft(spectrum, size)[:, :n_frames]
    ratio = _power(wavs) / _power(wet).clamp(min=1e-12)
    return wet * ratio.sqrt()


def add_at_snr(
    wavs: torch.Tensor, noise: torch.Tensor, snr: torch.Tensor
) -> torch.Tensor:
    """Add noise [B, T] to waveforms [B, T] at ratios [B] in dB.

    Example
    -------
    >>> wavs, noise = torch.ones(1, 4), torch.full((1, 4), 5.0)
    >>> add_at_snr(wavs, noise, torch.tensor([20.0]))
    tensor([[1.1000, 1.1000, 1.1000, 1.1000]])
    """
    wanted = _power(wavs) / 10 ** (snr[:, None] / 10)
    gain = (wanted / _power(noise).clamp(min=1e-12)).sqrt()
    return wavs + gain * noise


def fast_length(length: int) -> int:
    """Return the next FFT length from ``length`` up: 1, 3 or 5 times 2^n."""
    candidates = []
    for odd in (1, 3, 5):
        size = odd
        while size < length:
            size *= 2
        candidates.append(size)
    return min(candidates)


def _power(wavs: torch.Tensor) -> torch.Tensor:
    return wavs.square().mean(dim=1, keepdim=True)


def from_folder(
    factory: Callable[..., Augment],
    folder: PathLike | None,
    rir_folder: PathLike | None = None,
) -> Augment | None:
    """Build the augmentation; without a folder, warn and return None.

    ``rir_folder`` is passed on if it is given: other classes need not take it.
    """
    if folder is None:
        logger.warning(
            "neither augment_folder nor musan and rirs are given: training "
            "without augmentation"
        )
        return None
    if rir_folder is None:
        return factory(folder)
    return factory(folder, rir_folder=rir_folder)
