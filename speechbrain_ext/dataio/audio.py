"""Read audio of any rate and number of channels as 16 kHz mono; draw crops.

Random crops are drawn from a hash of (seed, epoch, utterance), not from a
running generator: a resumed run, another number of loader workers or another
number of processes reads exactly the same crops.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from speechbrain_ext.dataio.audio_stream import (
    Unusable,
    audio_size,
    check_heard,
    open_audio,
)
from speechbrain_ext.dataio.manifest import SAMPLE_RATE, Manifest
from speechbrain_ext.dataio.resampling import resampled
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike
from speechbrain_ext.utils.keyed_random import hash_key

# Followed in this order, neither leads back to the file.
FROM_MANIFEST = (
    "delete its row from the manifest, or prepare the corpus again with "
    "--overwrite=true and --check_samples=true, which leaves such files out; "
    "then repeat this step with --overwrite=true"
)
OTHER_FILE = "give another file, or mend this one"
_PROBES = 64  # files of a manifest whose headers are looked at


def read_crop(
    path: PathLike,
    start: int = 0,
    n_frames: int | None = None,
    way_out: str = FROM_MANIFEST,
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
    way_out : str
        What the error advises.

    Returns
    -------
    torch.Tensor
        Samples [n_frames], float32.

    Raises
    ------
    InputError
        The file cannot be read, ends before ``start + n_frames``, or has
        samples that are not finite or far beyond 1.

    Example
    -------
    >>> import soundfile
    >>> path = getfixture("tmp_path") / "a.wav"
    >>> soundfile.write(path, np.zeros((8000, 2)), 8000)
    >>> read_crop(path, start=4000, n_frames=1600).shape
    torch.Size([1600])
    """
    try:
        with open_audio(path) as stream:
            rate = stream.rate
            count = None
            if n_frames is not None:
                # One frame more on either side of a rounded boundary.
                count = -(-n_frames * rate // SAMPLE_RATE) + (
                    0 if rate == SAMPLE_RATE else 2
                )
            samples = stream.read(start * rate // SAMPLE_RATE, count)
    except Unusable as reason:
        raise InputError(f"{path}: {reason}; {way_out}") from None
    wav = resampled(torch.from_numpy(np.ascontiguousarray(samples)), rate)
    if n_frames is None:
        return wav
    if len(wav) < n_frames:
        raise InputError(
            f"{path}: ends at frame {start + len(wav)} of 16 kHz, before the "
            f"{start + n_frames} asked for, so that it changed since its "
            f"manifest was written; {way_out}"
        )
    return wav[:n_frames]


def read_speech(
    path: PathLike,
    start: int = 0,
    n_frames: int | None = None,
    way_out: str = FROM_MANIFEST,
) -> torch.Tensor:
    """Read an utterance as `read_crop` does; silence is refused.

    A crop may be silent, for people pause; a whole utterance may not.

    Arguments
    ---------
    path, start, n_frames, way_out
        As of `read_crop`.

    Returns
    -------
    torch.Tensor
        Samples [n_frames], float32.

    Raises
    ------
    InputError
        As of `read_crop`, or all samples are equal, nearly.

    Example
    -------
    >>> import soundfile
    >>> path = getfixture("tmp_path") / "a.wav"
    >>> soundfile.write(path, np.zeros(8000), 16000)
    >>> read_speech(path)
    Traceback (most recent call last):
    speechbrain_ext.utils.errors.InputError: ...a.wav: silent: all samples ...
    """
    wav = read_crop(path, start, n_frames, way_out)
    if len(wav):
        try:
            check_heard(float(wav.min()), float(wav.max()))
        except Unusable as reason:
            raise InputError(f"{path}: {reason}; {way_out}") from None
    return wav


def read_crops(
    path: PathLike, spans: Sequence[tuple[int, int]]
) -> list[torch.Tensor]:
    """Read several parts of a file; overlapping parts are decoded once.

    Arguments
    ---------
    path : str or os.PathLike
        Anything libsndfile reads.
    spans : sequence of (int, int)
        ``start`` and ``n_frames`` of each part, as of `read_crop`.

    Returns
    -------
    list of torch.Tensor
        Samples [n_frames] of each part; overlapping ones share memory.

    Raises
    ------
    InputError
        The file cannot be read or ends before a part does.

    Example
    -------
    >>> import soundfile
    >>> path = getfixture("tmp_path") / "a.wav"
    >>> soundfile.write(path, np.arange(100) / 128, 16000)
    >>> [int(crop[0] * 128) for crop in read_crops(path, [(60, 5), (7, 9)])]
    [60, 7]
    """
    wavs = [torch.empty(0)] * len(spans)
    # The file is opened for each group: libsndfile's second seek in an open
    # Vorbis file gives wrong samples.
    for rows in _overlapping(spans):
        first = spans[rows[0]][0]
        stop = max(sum(spans[row]) for row in rows)
        wav = read_crop(path, first, stop - first)
        for row in rows:
            start, n_frames = spans[row]
            wavs[row] = wav[start - first :][:n_frames]
    return wavs


def _overlapping(spans: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Group the parts that overlap, by their start."""
    groups: list[list[int]] = []
    reached = -1
    for row in sorted(range(len(spans)), key=lambda row: spans[row]):
        start, n_frames = spans[row]
        if start > reached:
            groups.append([])
        groups[-1].append(row)
        reached = max(reached, start + n_frames)
    return groups


class RandomCrop:
    """Reader of random crops that depend only on seed, epoch and utterance.

    An utterance shorter than a crop is repeated end to end to fill it.

    Arguments
    ---------
    n_frames : sequence of int
        Length of each crop, in samples at 16 kHz.
    seed : int
        Any integer.

    Example
    -------
    >>> import soundfile
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
        """Read crops [n_frames[i]] between samples ``start`` and ``stop``."""
        spans = [
            (start + offset, min(length, stop - start))
            for offset, length in zip(
                self.positions(utterance, stop - start),
                self.n_frames,
                strict=True,
            )
        ]
        wavs = read_crops(path, spans)
        return [
            repeated(wav, length)
            for wav, length in zip(wavs, self.n_frames, strict=True)
        ]

    def positions(self, utterance: str, length: int) -> list[int]:
        """Draw the first frame of each crop, uniformly over valid positions."""
        key = hash_key(self.seed, self.epoch, utterance)
        generator = np.random.default_rng(key)
        room = [max(length - n, 0) for n in self.n_frames]
        return [int(generator.integers(0, r + 1)) for r in room]


def repeated(x: torch.Tensor, length: int) -> torch.Tensor:
    """Repeat a signal [T, ...] until it is [length, ...]; cut it if longer.

    Example
    -------
    >>> repeated(torch.tensor([1, 2]), 5)
    tensor([1, 2, 1, 2, 1])
    """
    if len(x) < length:
        x = torch.cat([x] * -(-length // len(x)))
    return x[:length]


def check_audio(manifest: Manifest) -> None:
    """Raise InputError if the audio files of a manifest are not there.

    Looks at the first file, where the likeliest slip is, and at the headers
    of `_PROBES` others, evenly apart: files must reach ``stop``.

    Arguments
    ---------
    manifest : Manifest
        Read with the user's ``data_folder``.

    Raises
    ------
    InputError
        The first file does not exist, or one ends before its ``stop``.
    """
    first = manifest.paths([0])[0]
    try:
        audio_size(first)
    except OSError:
        raise InputError(
            f"{manifest.ids[0]}: {first} is not a file; data_folder is "
            f"{manifest.data_root}, which must be what $data_root stood for "
            "when the manifest was made"
        ) from None
    rows = np.unique(np.linspace(0, len(manifest) - 1, _PROBES, dtype=int))
    for row in rows:
        entry = manifest.entry(row)
        _check_reaches(manifest.ids[row], entry["wav"], entry["stop"])


def _check_reaches(utterance: str, path: str, stop: int) -> None:
    """Raise InputError if a file, by its header, ends before a frame."""
    try:
        with open_audio(path) as stream:
            n_frames = stream.frames * SAMPLE_RATE // stream.rate
    except Unusable:
        return  # reading it says more
    if n_frames < stop:
        raise InputError(
            f"{utterance}: stop is {stop}, and {path} ends at sample "
            f"{n_frames} of 16 kHz; stop must not be beyond the end, in "
            "samples at 16 kHz whatever the file's rate; prepare the manifest "
            "again"
        )


def check_crop(manifest: Manifest, seconds: float, key: str) -> int:
    """Return a crop's length in frames; raise InputError if none fits.

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
