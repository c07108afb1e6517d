"""Noise, music, babble and reverberation, drawn afresh for every crop.

Every random number is drawn on the CPU from one generator and the arithmetic
is batched on the device of the waveforms, so that CPU and GPU agree and a
step can be replayed from its seed. Ranges follow the x-vector recipe (Snyder
et al., ICASSP 2018) as Miara et al. (Interspeech 2024) use it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from speechbrain_ext.audio import read_crop
from speechbrain_ext.files import InputError, PathLike
from speechbrain_ext.manifest import SAMPLE_RATE
from speechbrain_ext.rng import step_seed

logger = logging.getLogger(__name__)

_AUDIO = {".wav", ".flac", ".ogg", ".opus", ".mp3"}
_LEVEL = 32767.0


class Bank(torch.nn.Module):
    """Recordings of one kind, end to end in memory as 16-bit samples.

    Arguments
    ---------
    wavs : sequence of torch.Tensor
        Recordings [T_i], float in -1..1, each louder than silence.

    Example
    -------
    >>> bank = Bank([torch.full((4,), 0.5), torch.full((3,), -0.5)])
    >>> bank.cut(torch.tensor([1]), torch.tensor([2]), 5)
    tensor([[-1., -1., -1., -1., -1.]])
    """

    samples: torch.Tensor
    gains: torch.Tensor
    starts: torch.Tensor
    lengths: torch.Tensor

    def __init__(self, wavs: Sequence[torch.Tensor]):
        super().__init__()
        lengths = torch.tensor([len(wav) for wav in wavs])
        # Recordings are brought to unit RMS: SNRs are set per crop, and
        # talkers of a babble speak equally loud.
        level = torch.stack([wav.square().mean().sqrt() for wav in wavs])
        peaks = torch.stack([wav.abs().max() for wav in wavs])
        joined = torch.cat([w / p for w, p in zip(wavs, peaks, strict=True)])
        self.register_buffer("samples", (joined * _LEVEL).to(torch.int16))
        self.register_buffer("gains", peaks / level / _LEVEL)
        self.register_buffer("lengths", lengths)
        self.register_buffer("starts", lengths.cumsum(0) - lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    def cut(
        self, which: torch.Tensor, offset: torch.Tensor, n_frames: int
    ) -> torch.Tensor:
        """Unit-level cuts [M, n_frames] of recordings, wrapping at the end.

        Arguments
        ---------
        which : torch.Tensor
            Recordings [M].
        offset : torch.Tensor
            First frames [M], any non-negative number.
        n_frames : int
            Length of a cut.
        """
        device = self.samples.device
        which, offset = which.to(device), offset.to(device)
        frames = offset[:, None] + torch.arange(n_frames, device=device)
        frames = frames % self.lengths[which, None] + self.starts[which, None]
        return self.samples[frames] * self.gains[which, None]


class Augment(torch.nn.Module):
    """One of clean, reverberation, music, babble, noise, for each crop.

    Arguments
    ---------
    folder : str or os.PathLike
        Holds ``noise``, ``music``, ``speech`` (MUSAN's layout) and ``rir``
        folders of recordings, searched to any depth.
    probabilities : sequence of float
        Weights of clean, rir, music, babble, noise.
    reverb_too : float
        Probability that a crop with music, babble or noise is reverberated
        as well (before the addition).
    music_snr, babble_snr, noise_snr : sequence of float
        Range of the signal-to-noise ratio, dB.
    n_talkers : sequence of int
        Least and most talkers in a babble.
    max_hours : float
        Most hours held in memory of each kind; files are taken in a seeded
        random order until then.

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

    rirs: torch.Tensor

    KINDS = ("clean", "rir", "music", "babble", "noise")

    def __init__(
        self,
        folder: PathLike,
        probabilities: Sequence[float] = (1, 1, 1, 1, 1),
        reverb_too: float = 0.0,
        music_snr: Sequence[float] = (5, 15),
        babble_snr: Sequence[float] = (13, 20),
        noise_snr: Sequence[float] = (0, 15),
        n_talkers: Sequence[int] = (3, 8),
        max_hours: float = 8.0,
    ):
        super().__init__()
        self.weights = torch.tensor(list(probabilities), dtype=torch.float)
        drawable = (self.weights >= 0).all() and 0 < self.weights.sum() < np.inf
        if len(self.weights) != 5 or not drawable:
            raise InputError(
                f"augment probabilities {list(probabilities)} are not five "
                f"non-negative weights of {self.KINDS}, one of them above 0; "
                "correct the YAML"
            )
        self.reverb_too = reverb_too
        self.snr = {
            "music": tuple(music_snr),
            "babble": tuple(babble_snr),
            "noise": tuple(noise_snr),
        }
        self.n_talkers = tuple(n_talkers)
        folder = Path(folder)
        self.noise = Bank(read_folder(folder / "noise", max_hours))
        self.music = Bank(read_folder(folder / "music", max_hours))
        self.speech = Bank(read_folder(folder / "speech", max_hours))
        rirs = stack_impulse_responses(read_folder(folder / "rir", max_hours))
        self.register_buffer("rirs", rirs)

    @torch.no_grad()
    def forward(
        self, wavs: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        """Augmented copies of waveforms.

        Arguments
        ---------
        wavs : torch.Tensor
            Crops [B, T], each drawn for on its own.
        generator : torch.Generator
            On the CPU; the only source of randomness.

        Returns
        -------
        torch.Tensor
            Crops [B, T], on the same device.
        """
        kind = torch.multinomial(
            self.weights, len(wavs), replacement=True, generator=generator
        )
        also = torch.rand(len(wavs), generator=generator) < self.reverb_too
        self._to(wavs.device)
        out = wavs.clone()
        rows = torch.where((kind == 1) | ((kind > 1) & also))[0]
        which = torch.randint(len(self.rirs), (len(rows),), generator=generator)
        place = rows.to(wavs.device)
        if len(rows):  # the FFT of an empty batch is an error
            rirs = self.rirs[which.to(wavs.device)]
            out[place] = reverberate(out[place], rirs)
        for number, name in enumerate(self.KINDS[2:], start=2):
            rows = torch.where(kind == number)[0]
            noise = self._noise(name, len(rows), wavs.shape[1], generator)
            low, high = self.snr[name]
            snr = torch.rand(len(rows), generator=generator)
            snr = (low + (high - low) * snr).to(wavs.device)
            place = rows.to(wavs.device)
            out[place] = add_at_snr(out[place], noise, snr)
        return out

    def _to(self, device: torch.device) -> None:
        if self.rirs.device != device:
            self.to(device)

    def _noise(
        self, name: str, count: int, n_frames: int, generator: torch.Generator
    ) -> torch.Tensor:
        bank = self.speech if name == "babble" else getattr(self, name)
        low, high = self.n_talkers if name == "babble" else (1, 1)
        per_crop = torch.randint(low, high + 1, (count,), generator=generator)
        row = torch.repeat_interleave(torch.arange(count), per_crop)
        which = torch.randint(len(bank), (len(row),), generator=generator)
        # Uniform over the recording, whatever its length.
        start = torch.rand(len(row), generator=generator)
        offset = (start * bank.lengths.cpu()[which]).long()
        cuts = bank.cut(which, offset, n_frames)
        mix = torch.zeros(count, n_frames, device=cuts.device)
        return mix.index_add_(0, row.to(cuts.device), cuts)


def read_folder(folder: PathLike, max_hours: float) -> list[torch.Tensor]:
    """Recordings of a folder, 16 kHz mono, silent ones left out.

    Raises
    ------
    InputError
        The folder holds no recording, or silent ones alone.
    """
    folder = Path(folder)
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _AUDIO)
    order = np.random.default_rng(0).permutation(len(paths))
    room = max_hours * 3600 * SAMPLE_RATE
    wavs: list[torch.Tensor] = []
    for index in tqdm(order, desc=f"augment: {folder.name}", leave=False):
        if room <= 0:
            logger.warning(
                f"{folder}: only {len(wavs)} of {len(paths)} recordings are "
                f"used, max_hours={max_hours}"
            )
            break
        wav = read_crop(paths[index])
        if wav.numel() and wav.abs().max() > 1e-4:
            wavs.append(wav)
            room -= len(wav)
    if not wavs:
        raise InputError(
            f"{folder} holds no recording with sound; augmentation needs "
            "noise, music, speech and rir folders, or train without by "
            "--augment_folder=null"
        )
    return wavs


def stack_impulse_responses(
    rirs: Sequence[torch.Tensor], seconds: float = 1.0
) -> torch.Tensor:
    """Impulse responses [R, T], each starting at its direct path, unit energy.

    Starting at the direct path keeps speech in place: a delayed crop would
    lose its end. Later than ``seconds`` a room has died away.
    """
    longest = round(seconds * SAMPLE_RATE)
    cut = []
    for rir in rirs:
        rir = rir[int(rir.abs().argmax()) :][:longest]
        cut.append(rir / rir.square().sum().sqrt())
    return torch.nn.utils.rnn.pad_sequence(cut, batch_first=True)


def reverberate(wavs: torch.Tensor, rirs: torch.Tensor) -> torch.Tensor:
    """Convolve each waveform with its own response, energy preserved.

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
    if not len(wavs):
        return wavs  # MKL refuses an empty batch
    n_frames = wavs.shape[1]
    size = fast_length(n_frames + rirs.shape[1] - 1)
    spectrum = torch.fft.rfft(wavs, size) * torch.fft.rfft(rirs, size)
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
    """The least product of a power of 2 with 1, 3 or 5 that is not less."""
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
    factory: Callable[..., Augment], folder: PathLike | None
) -> Augment | None:
    """The augmentation of a YAML, or None, said aloud, without a folder."""
    if folder is None:
        logger.warning("augment_folder is null: training without augmentation")
        return None
    return factory(folder)


def step_generator(seed: int, step: int, rank: int = 0) -> torch.Generator:
    """A generator for one training step of one process.

    A pure function of its arguments: a resumed run replays a step exactly
    without any random state in the checkpoint.

    Example
    -------
    >>> draw = [torch.rand(1, generator=step_generator(1, 7)) for _ in "ab"]
    >>> bool(draw[0] == draw[1])
    True
    """
    return torch.Generator().manual_seed(step_seed(seed, step, rank))
