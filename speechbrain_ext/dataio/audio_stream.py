"""Opening of audio files: each is read right, or refused with the reason.

All that reads audio comes through `open_audio`, so that a file which one
recipe refuses is no speech to another. A reason does not name its file: callers
do, with the way out.

A file may be a member of a tar archive, as WebDataset has them: its path is
then ``ARCHIVE.tar/OFFSET+SIZE/MEMBER``, with the place of its bytes
(`tar_members`), so that nothing else of the archive is read.
"""

from __future__ import annotations

import errno
import io
import os
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import soundfile

from speechbrain_ext.dataio.mp3_index import (
    counted_length,
    length_in,
    with_index,
)
from speechbrain_ext.utils.files import PathLike

LOWEST_RATE, HIGHEST_RATE = 4_000, 384_000  # Hz
LOUDEST = 8.0  # of float samples: +18 dB; beyond, they have another scale
QUIETEST = 1e-4  # -80 dB: three steps of 16 bits
_CUT = 0.1  # seconds that may be missing at the end of a file
_BLOCK = 2**18  # frames read at once
_UNKNOWN = 2**62  # libsndfile's length where the header gives none
_UNKNOWN_BYTES = 0x7FFF0000  # from here on, sizes that streams write
# Path of a member of an archive.
_MEMBER = re.compile(r"(.*\.tar)/(\d+)\+(\d+)/(.+)", re.DOTALL)
# libsndfile's log of a data chunk that is larger than what is there.
_SHORT = re.compile(r"^ ?data : (\d+) \(should be (\d+)\)", re.MULTILINE)
# Errors of the machine, which say nothing about the file.
_MACHINE = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}


class Unusable(Exception):
    """Reason why the audio of a file cannot be used, without its name."""


class AudioStream:
    """Open audio file, read as mono in blocks.

    Arguments
    ---------
    file : soundfile.SoundFile
        Open for reading.

    Raises
    ------
    Unusable
        The header tells that the file cannot be used.
    """

    def __init__(self, file: soundfile.SoundFile):
        self._file = file
        self.rate: int = file.samplerate
        self.frames: int = file.frames
        _check_rate(self.rate)
        if self.frames >= _UNKNOWN:
            raise Unusable(
                "unreadable: the header gives no length, as that of a stream; "
                "written once more, by flac or ffmpeg, the file has one"
            )
        if not self.frames:
            raise Unusable("no samples: the file is cut short")
        found = _SHORT.search(file.extra_info)
        if found and int(found[1]) < _UNKNOWN_BYTES:
            share = int(found[1]) / max(int(found[2]), 1)
            self._check_end(self.frames, int(self.frames * share))

    def read(self, first: int = 0, count: int | None = None) -> np.ndarray:
        """Read samples [T] of the mean of the channels, float32.

        Arguments
        ---------
        first : int
            First frame, at the file's own rate.
        count : int, optional
            Frames to read, or fewer where the file ends; all when None, and
            then the file must have as many as its header says.
        """
        parts = list(self.blocks(first, count))
        return np.concatenate(parts) if parts else np.empty(0, np.float32)

    def blocks(
        self, first: int = 0, count: int | None = None
    ) -> Iterator[np.ndarray]:
        """Yield what `read` returns, in blocks."""
        if self._file.seekable():
            self._file.seek(min(first, self.frames))
        else:
            # GSM 6.10 and its like can only be read from the start.
            for _ in self._decoded(first):
                pass
        n_read = 0
        for samples in self._decoded(count):
            n_read += len(samples)
            yield _mono(samples)
        if count is None:
            self._check_end(first + n_read, self.frames)

    def _decoded(self, count: int | None) -> Iterator[np.ndarray]:
        """Yield samples [T, C] from where the file stands."""
        left = self.frames if count is None else count
        while left > 0:
            n_wanted = min(left, _BLOCK)
            samples = self._file.read(n_wanted, "float32", always_2d=True)
            if len(samples):
                yield samples
            left -= n_wanted
            if len(samples) < n_wanted:
                return

    def _check_end(self, n_found: int, n_said: int) -> None:
        """Raise Unusable if the file ends long before its header says."""
        if n_said - n_found > _CUT * self.rate:
            raise Unusable(
                f"cut short: its header says {n_said / self.rate:.2f} s, and "
                f"it ends after {n_found / self.rate:.2f} s"
            )


@contextmanager
def open_audio(path: PathLike) -> Iterator[AudioStream]:
    """Open a file that libsndfile reads; the same rule for all that do.

    Arguments
    ---------
    path : str or os.PathLike
        A wav, flac, ogg, opus or mp3 file.

    Yields
    ------
    AudioStream

    Raises
    ------
    Unusable
        The file cannot be read, in the ``with`` block too.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.wav"
    >>> soundfile.write(path, np.zeros((8000, 2)), 8000)
    >>> with open_audio(path) as stream:
    ...     stream.rate, stream.read(100, 5)
    (8000, array([0., 0., 0., 0., 0.], dtype=float32))
    """
    name = str(path)
    try:
        if member := _MEMBER.fullmatch(name):
            with _in_memory(_read_member(member)) as stream:
                yield stream
            return
        # Bytes, for a name need not be UTF-8.
        with soundfile.SoundFile(os.fsencode(name)) as file:
            if file.format != "MP3" or _is_right(counted_length(name), file):
                yield AudioStream(file)
                return
        with open(name, "rb") as raw, _in_memory(raw.read()) as stream:
            yield stream
    except soundfile.LibsndfileError as error:
        raise Unusable(_reason(name, error)) from None


@contextmanager
def _in_memory(raw: bytes) -> Iterator[AudioStream]:
    """Open the bytes of a file; an mp3 gets an index."""
    if not raw:
        raise Unusable("no samples: the file is empty")
    with soundfile.SoundFile(io.BytesIO(raw)) as file:
        if file.format != "MP3" or _is_right(length_in(raw), file):
            yield AudioStream(file)
            return
    with soundfile.SoundFile(io.BytesIO(with_index(raw))) as file:
        yield AudioStream(file)


def tar_members(path: PathLike) -> list[tuple[str, str, int]]:
    """List the files of a tar archive that is not compressed.

    Arguments
    ---------
    path : str or os.PathLike
        The archive.

    Returns
    -------
    list of (str, str, int)
        Name, path for `open_audio`, and bytes of each, in their order.

    Raises
    ------
    Unusable
        It is no such archive.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.tar"
    >>> with tarfile.open(path, "w") as archive:
    ...     archive.add(__file__, "b/c.wav")
    >>> name, place, _ = tar_members(path)[0]
    >>> name, place.endswith("/b/c.wav")
    ('b/c.wav', True)
    """
    try:
        with tarfile.open(path, "r:") as archive:
            return [
                (
                    member.name,
                    f"{path}/{member.offset_data}+{member.size}/{member.name}",
                    member.size,
                )
                for member in archive
                if member.isreg() and not member.issparse()
            ]
    except (tarfile.TarError, OSError, EOFError) as error:
        raise Unusable(f"unreadable: no tar archive ({error})") from None


def audio_size(path: PathLike) -> int:
    """Return the bytes of an audio file, or of a member of an archive.

    Raises
    ------
    OSError
        It is not there.

    Example
    -------
    >>> audio_size("nowhere.tar/512+9/a.wav")
    Traceback (most recent call last):
    FileNotFoundError: ...
    """
    member = _MEMBER.fullmatch(str(path))
    if member is None:
        return os.path.getsize(path)
    os.stat(member[1])
    return int(member[3])


def _read_member(member: re.Match) -> bytes:
    """Read the bytes of a member of an archive."""
    first, size = int(member[2]), int(member[3])
    try:
        with open(member[1], "rb") as stream:
            stream.seek(first)
            raw = stream.read(size)
    except OSError as failure:
        if failure.errno in _MACHINE:
            raise
        raise Unusable(f"unreadable: {failure.strerror}") from None
    if len(raw) < size:
        raise Unusable("cut short: its archive ends before it does")
    return raw


def _is_right(n_counted: int | None, file: soundfile.SoundFile) -> bool:
    """Return whether libsndfile has the length of an mp3 file, nearly."""
    if n_counted is None:
        return True
    return abs(n_counted - file.frames) <= _CUT * file.samplerate


def _reason(path: str, error: soundfile.LibsndfileError) -> str:
    """Return why libsndfile failed: the system's reason if there is one."""
    try:
        # Of a member all bytes were read.
        member = _MEMBER.fullmatch(path)
        with open(member[1] if member else path, "rb") as stream:
            if not stream.read(1):
                return "no samples: the file is empty"
    except OSError as failure:
        if failure.errno in _MACHINE:
            raise
        return f"unreadable: {failure.strerror}"
    if error.prefix:
        return f"unreadable: {error.error_string.rstrip('. ')}"
    said = error.error_string.removeprefix("Error : ").rstrip(". ")
    return f"unreadable: decoding fails, the file is damaged ({said})"


def _check_rate(rate: float) -> None:
    """Raise Unusable for a sample rate that no recording of speech has."""
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise Unusable(
            f"sample rate: it is {rate:,} Hz, and {LOWEST_RATE:,} to "
            f"{HIGHEST_RATE:,} Hz are read"
        )


def check_samples(samples: np.ndarray) -> None:
    """Raise Unusable for samples that are not finite or far beyond 1.

    Arguments
    ---------
    samples : numpy.ndarray
        Of any shape.

    Raises
    ------
    Unusable
        Some are NaN or infinite, or larger than `LOUDEST`.

    Example
    -------
    >>> check_samples(np.array([0.0, 1.2]))
    >>> check_samples(np.array([0.0, np.nan]))
    Traceback (most recent call last):
    speechbrain_ext.dataio.audio_stream.Unusable: not finite: some samples ...
    """
    peak = float(np.abs(samples).max()) if samples.size else 0.0
    # Not "peak > LOUDEST", which is false of NaN.
    if peak <= LOUDEST:
        return
    if not np.isfinite(samples).all():
        raise Unusable("not finite: some samples are NaN or infinite")
    raise Unusable(
        f"wrong scale: float samples reach {peak:.6g} where they should lie "
        "within -1 to 1 (16-bit steps must be divided by 32,768)"
    )


def check_heard(low: float, high: float) -> None:
    """Raise Unusable for a signal in which nothing can be heard.

    Arguments
    ---------
    low, high : float
        Its smallest and its largest sample.

    Raises
    ------
    Unusable
        They are nearly equal: digital silence, or a constant offset.

    Example
    -------
    >>> check_heard(-0.1, 0.1)
    >>> check_heard(0.5, 0.5)
    Traceback (most recent call last):
    speechbrain_ext.dataio.audio_stream.Unusable: silent: all samples are ...
    """
    if high - low < 2 * QUIETEST:
        raise Unusable(
            f"silent: all samples are within {QUIETEST:g} (-80 dB) of "
            f"{(low + high) / 2:.3g}"
        )


def header_problem(path: PathLike) -> str:
    """Return why a file cannot be used, by its header alone; or nothing.

    Example
    -------
    >>> header_problem("no.wav")
    'unreadable: No such file or directory'
    """
    try:
        with open_audio(path):
            return ""
    except Unusable as error:
        return str(error)


def _mono(samples: np.ndarray) -> np.ndarray:
    """Check samples [T, C]; return the mean [T] of their channels."""
    check_samples(samples)
    return samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)
