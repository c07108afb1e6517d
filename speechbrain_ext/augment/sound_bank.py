"""Memory-resident recordings and impulse responses for augmentation.

The 16-bit samples of all recordings of a kind are one tensor on the training
device, so that the cuts for a whole batch are one gather.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from speechbrain_ext.augment.sound_folders import (
    WAY_OUT,
    no_recording,
    recordings,
)
from speechbrain_ext.dataio.audio import read_crop
from speechbrain_ext.dataio.audio_stream import QUIETEST
from speechbrain_ext.dataio.manifest import SAMPLE_RATE
from speechbrain_ext.utils.distributed import once_a_machine
from speechbrain_ext.utils.files import PathLike
from speechbrain_ext.utils.terminal import progress_bar

logger = logging.getLogger(__name__)

_LEVEL = 32767.0


class SoundBank(torch.nn.Module):
    """Bank of recordings of one kind, as 16-bit samples in memory.

    Arguments
    ---------
    wavs : iterable of torch.Tensor
        Recordings [T_i], float in -1..1, each louder than silence; read one
        at a time and kept at 2 bytes a sample.

    Example
    -------
    >>> bank = SoundBank([torch.full((4,), 0.5), torch.full((3,), -0.5)])
    >>> bank.cut(torch.tensor([1]), torch.tensor([0.9]), 5)
    tensor([[-1., -1., -1., -1., -1.]])
    """

    samples: torch.Tensor  # of all recordings, one after the other
    gains: torch.Tensor
    lengths: torch.Tensor
    starts: torch.Tensor

    def __init__(self, wavs: Iterable[torch.Tensor]):
        self._keep(*_tables(wavs))

    @classmethod
    def of_folder(
        cls,
        folder: PathLike,
        max_hours: float,
        trim: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> SoundBank:
        """Read the recordings of a folder, once on each machine.

        Arguments
        ---------
        folder, max_hours, trim
            As of `read_folder`.

        Returns
        -------
        SoundBank
            On a CPU all processes of a machine map the same samples.

        Raises
        ------
        InputError
            As of `read_folder`.
        """

        def read() -> list[np.ndarray]:
            found = _tables(read_folder(folder, max_hours, trim))
            return [table.numpy() for table in found]

        bank = cls.__new__(cls)
        bank._keep(*map(torch.from_numpy, once_a_machine(read)))
        return bank

    def _keep(
        self, samples: torch.Tensor, gains: torch.Tensor, lengths: torch.Tensor
    ) -> None:
        super().__init__()
        self.longest = int(lengths.max())
        tables = {
            "samples": samples,
            "gains": gains,
            "lengths": lengths,
            "starts": lengths.cumsum(0) - lengths,
        }
        for name, table in tables.items():
            # Not persistent: sounds do not belong to a model's weights.
            self.register_buffer(name, table, persistent=False)

    def __len__(self) -> int:
        return len(self.lengths)

    def cut(
        self, which: torch.Tensor, begin: torch.Tensor, n_frames: int
    ) -> torch.Tensor:
        """Cut recordings at unit RMS; a cut past the end wraps around.

        Arguments
        ---------
        which : torch.Tensor
            Indices of recordings [M], on the bank's device.
        begin : torch.Tensor
            Where in each the cut begins [M], 0 (its start) to 1 (its end),
            double precision.
        n_frames : int
            Length of a cut.

        Returns
        -------
        torch.Tensor
            [M, n_frames], on the bank's device.
        """
        lengths = self.lengths[which]
        first = (begin * lengths).long()
        frames = first[:, None] + self._range(n_frames)
        frames.remainder_(lengths[:, None])
        frames += self.starts[which, None]
        return self.samples[frames] * self.gains[which, None]

    def whole(self, which: torch.Tensor) -> torch.Tensor:
        """Return whole recordings, zero-padded to the longest of the bank.

        The length is not that of the longest of ``which``: results for one
        recording must not depend on the others, not even by rounding.

        Arguments
        ---------
        which : torch.Tensor
            Indices of recordings [M], on the bank's device.

        Returns
        -------
        torch.Tensor
            [M, max T_i], on the bank's device.
        """
        frames = self._range(self.longest)
        inside = frames < self.lengths[which, None]
        frames = torch.where(inside, frames, 0)
        found = self.samples[frames + self.starts[which, None]]
        return found * inside * self.gains[which, None]

    def _range(self, n_frames: int) -> torch.Tensor:
        return torch.arange(n_frames, device=self.samples.device)


def _tables(
    wavs: Iterable[torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the samples of all recordings, and gain and length of each."""
    pieces, gains = [], []
    for wav in wavs:
        # Recordings are brought to unit RMS: SNRs are set per crop, and
        # talkers of a babble speak equally loud.
        peak, level = wav.abs().max(), wav.square().mean().sqrt()
        pieces.append((wav * (_LEVEL / peak)).round().to(torch.int16))
        gains.append(float(peak / level) / _LEVEL)
    lengths = torch.tensor([len(piece) for piece in pieces])
    return torch.cat(pieces), torch.tensor(gains), lengths


def read_folder(
    folder: PathLike,
    max_hours: float,
    trim: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> Iterator[torch.Tensor]:
    """Read the non-silent recordings of a folder as 16 kHz mono.

    Arguments
    ---------
    folder : str or os.PathLike
        Searched to any depth.
    max_hours : float
        Files are taken in a fixed random order until they last longer.
    trim : callable, optional
        Returns the part of a recording to keep; the rest does not count.

    Yields
    ------
    torch.Tensor
        A recording [T_i].

    Raises
    ------
    InputError
        The folder holds no recordings, or only silent ones, or a file that
        is none.
    """
    folder = Path(folder)
    paths = sorted(recordings(folder))
    order = np.random.default_rng(0).permutation(len(paths))
    room = max_hours * 3600 * SAMPLE_RATE
    n_used, silent = 0, []
    title = f"augment: {folder.name}"
    for index in progress_bar(order, desc=title, leave=False):
        if room <= 0:
            logger.warning(
                f"{folder}: only {n_used} of {len(paths)} recordings are "
                f"used, max_hours={max_hours}"
            )
            break
        wav = read_crop(paths[index], way_out=WAY_OUT)
        if wav.abs().max() <= QUIETEST:
            silent.append(paths[index])
            continue
        wav = wav if trim is None else trim(wav)
        n_used += 1
        room -= len(wav)
        yield wav
    if silent:
        logger.warning(
            f"{folder}: {len(silent)} silent recordings are left out, such "
            f"as {silent[0]}"
        )
    if not n_used:
        raise no_recording(folder)


def trim_response(
    rir: torch.Tensor, seconds: float = 0.5, decay: float = 40.0
) -> torch.Tensor:
    """Trim an impulse response from its direct path to its decay.

    It starts at the direct path so that speech is not delayed, which would cut
    off its end. It ends where the backward-integrated energy (Schroeder, JASA
    1965) has fallen by ``decay``.

    Arguments
    ---------
    rir : torch.Tensor
        [T], not all zero.
    seconds : float
        Longest response to keep, in seconds.
    decay : float
        Fall of the energy at the end, dB.

    Returns
    -------
    torch.Tensor
        [T'], the first sample the largest.

    Example
    -------
    >>> trim_response(torch.tensor([0.0, 0.1, 1.0, 0.5, 1e-4, 0.0]))
    tensor([1.0000, 0.5000])
    """
    rir = rir[int(rir.abs().argmax()) :]
    left = rir.double().square().flip(0).cumsum(0).flip(0)
    end = int((left > left[0] * 10 ** (-decay / 10)).sum())
    return rir[: min(end, round(seconds * SAMPLE_RATE))]
