"""Reading audio: any rate and channel count to 16 kHz mono, and crops.

Random crops are drawn from a hash of (seed, epoch, utterance), not from a
running generator: a resumed run, another number of loader workers or another
number of processes reads exactly the same crops.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio

from speechbrain_ext.files import InputError, PathLike
from speechbrain_ext.manifest import SAMPLE_RATE, Manifest


def read_crop(
    path: PathLike, start: int = 0, n_frames: int | None = None
) -> torch.Tensor:
    """Read part of a file as 16 kHz mono.

    Other sample rates are resampled (windowed sinc), channels averaged.

    Arguments
    ---------
    path : str or os.PathLike
        Anything libsndfile reads: wav, flac, ogg, opus, mp3.
    start : int
        First frame, counted at 16 kHz.
    n_frames : int, optional
        Frames to read, counted at 16 kHz; to the end when None.

    Returns
    -------
    torch.Tensor
        Samples [n_frames], float32.

    Raises
    ------
    InputError
        The file cannot be read or ends before ``start + n_frames``.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.wav"
    >>> soundfile.write(path, np.zeros((8000, 2)), 8000)
    >>> read_crop(path, start=4000, n_frames=1600).shape
    torch.Size([1600])
    """
    try:
        with soundfile.SoundFile(str(path)) as stream:
            rate = stream.samplerate
            first = start * rate // SAMPLE_RATE
            count = -1
            if n_frames is not None:
                # One frame more on either side of a rounded boundary.
                count = -(-n_frames * rate // SAMPLE_RATE) + (
                    0 if rate == SAMPLE_RATE else 2
                )
            stream.seek(min(first, stream.frames))
            samples = stream.read(count, dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        raise InputError(
            f"{path}: cannot be read ({error}); run prepare_folder to list "
            "such files in rejects.csv"
        ) from None
    wav = torch.from_numpy(np.ascontiguousarray(samples.mean(axis=1)))
    if rate != SAMPLE_RATE:
        wav = torchaudio.functional.resample(wav, rate, SAMPLE_RATE)
    if n_frames is None:
        return wav
    if len(wav) < n_frames:
        raise InputError(
            f"{path}: ends at frame {start + len(wav)} of 16 kHz, before the "
            f"{start + n_frames} asked for; the file changed since its "
            "manifest was written, prepare it again"
        )
    return wav[:n_frames]


class RandomCrop:
    """Random crops of an utterance, the same for the same seed and epoch.

    An utterance shorter than a crop is repeated end to end to fill it.

    Arguments
    ---------
    n_frames : sequence of int
        Length of each crop, in samples at 16 kHz.
    seed : int
        Any integer.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.wav"
    >>> soundfile.write(path, np.arange(-100, 100) / 100, 16000)
    >>> crop = RandomCrop([50, 20], seed=1)
    >>> [len(c) for c in crop("a", path, 0, 200)]
    [50, 20]
    >>> first = crop("a", path, 0, 200)[0]
    >>> crop.epoch = 2
    >>> bool((crop("a", path, 0, 200)[0] == first).all())
    False
    """

    def __init__(self, n_frames: Sequence[int], seed: int):
        self.n_frames = list(n_frames)
        self.seed = seed
        self.epoch = 1

    def __call__(
        self, utterance: str, path: PathLike, start: int, stop: int
    ) -> list[torch.Tensor]:
        """Crops [n_frames[i]] of samples ``start`` to ``stop`` of a file."""
        positions = self.positions(utterance, stop - start)
        return [
            self._read(path, start, stop, offset, length)
            for offset, length in zip(positions, self.n_frames, strict=True)
        ]

    def positions(self, utterance: str, length: int) -> list[int]:
        """First frame of each crop, uniform over those that fit."""
        key = f"{self.seed}/{self.epoch}/{utterance}".encode()
        digest = hashlib.blake2b(key, digest_size=8).digest()
        generator = np.random.default_rng(int.from_bytes(digest, "little"))
        room = [max(length - n, 0) for n in self.n_frames]
        return [int(generator.integers(0, r + 1)) for r in room]

    @staticmethod
    def _read(
        path: PathLike, start: int, stop: int, offset: int, length: int
    ) -> torch.Tensor:
        available = min(length, stop - start)
        wav = read_crop(path, start + offset, available)
        if available < length:
            wav = wav.repeat(-(-length // available))[:length]
        return wav


def check_audio(manifest: Manifest) -> None:
    """Refuse a manifest whose first file is not there, before any work.

    Arguments
    ---------
    manifest : Manifest
        Read with the user's ``data_folder``, where the likeliest slip is.

    Raises
    ------
    InputError
        The first file does not exist.
    """
    first = manifest[manifest.ids[0]]["wav"]
    if not Path(first).is_file():
        raise InputError(
            f"{manifest.ids[0]}: {first} is not a file; data_folder is "
            f"{manifest.data_root}, which must be what $data_root stood for "
            "when the manifest was made"
        )


def check_crop(manifest: Manifest, seconds: float, key: str) -> int:
    """Length of a crop in frames, if some utterance can fill it.

    Arguments
    ---------
    manifest : Manifest
        The training utterances.
    seconds : float
        Length of the crop.
    key : str
        Its name in the YAML, for the message.

    Returns
    -------
    int
        Samples at 16 kHz.

    Raises
    ------
    InputError
        The crop is not positive or longer than every utterance.
    """
    longest = float(manifest.duration.max())
    if not 0 < seconds <= longest:
        raise InputError(
            f"{key} is {seconds} s and the longest of {len(manifest)} "
            f"utterances has {longest:.2f} s; shorten it with "
            f"--{key}={max(longest / 2, 0.1):.1f}, or bring longer speech"
        )
    return round(seconds * SAMPLE_RATE)
