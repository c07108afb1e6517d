"""Measurement of audio files, and conversion to 16 kHz mono wav.

`length_of`, `heard_length` and `convert` return ``(samples at 16 kHz,
reason)``: the reason is empty or says why the file cannot be used, for one bad
file must not stop a corpus. AAC, which libsndfile does not read, is decoded by
ffmpeg.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess

import numpy as np
import soundfile
import torch

from speechbrain_ext.dataio.audio_stream import (
    Unusable,
    audio_size,
    check_heard,
    open_audio,
)
from speechbrain_ext.dataio.audio_tree import is_aac
from speechbrain_ext.dataio.manifest import SAMPLE_RATE
from speechbrain_ext.dataio.resampling import resampled
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike, atomic_path


def length_of(path: str) -> tuple[int, str]:
    """Return the length of a file according to its header.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.wav"
    >>> soundfile.write(path, np.zeros((8000, 2)), 8000)
    >>> length_of(str(path))
    (16000, '')
    >>> length_of("no.wav")
    (0, 'unreadable: No such file or directory')
    """
    reason = _unusable(path)
    if reason:
        return 0, reason
    try:
        with open_audio(path) as stream:
            return _at_16_khz(stream.frames, stream.rate)
    except Unusable as error:
        return 0, str(error)


def heard_length(path: str) -> tuple[int, str]:
    """Return the length of a file that is decoded, to find what is wrong.

    Damage behind a good header, samples that are no numbers, another scale
    and silence are found so. Memory does not grow with the file.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.wav"
    >>> soundfile.write(path, np.zeros((8000, 2)), 8000)
    >>> heard_length(str(path))
    (0, 'silent: all samples are within 0.0001 (-80 dB) of 0')
    """
    reason = _unusable(path)
    if reason:
        return 0, reason
    n_found, low, high = 0, np.inf, -np.inf
    try:
        with open_audio(path) as stream:
            for block in stream.blocks():
                n_found += len(block)
                low = min(low, float(block.min()))
                high = max(high, float(block.max()))
            if n_found:
                check_heard(low, high)
            return _at_16_khz(n_found, stream.rate)
    except Unusable as error:
        return 0, str(error)


def _at_16_khz(n_frames: int, rate: int) -> tuple[int, str]:
    """Return a length at 16 kHz, and a reason if nothing is left of it."""
    frames = n_frames * SAMPLE_RATE // rate
    return frames, "" if frames else "no samples: the file is cut short"


def _unusable(path: str) -> str:
    """Return why a file cannot be used, as far as its name and size tell."""
    try:
        # Manifests are UTF-8.
        path.encode("utf-8")
        return "" if audio_size(path) else "no samples: the file is empty"
    except UnicodeEncodeError:
        return "the file name is not UTF-8"
    except OSError as error:
        return f"unreadable: {error.strerror}"


def convert(
    job: tuple[str, str | None], check_samples: bool = True
) -> tuple[int, str]:
    """Convert a file to 16 kHz mono PCM16, unless the copy exists.

    Arguments
    ---------
    job : tuple of (str, str or None)
        The file and the copy to write; None measures the file alone.
    check_samples : bool
        Whether a file without a copy is decoded to measure it.

    Raises
    ------
    InputError
        The file is AAC and ffmpeg is missing or was stopped.
    """
    source, target = job
    if target is None:
        return heard_length(source) if check_samples else length_of(source)
    reason = _unusable(source) if is_aac(source) else length_of(source)[1]
    if reason:
        return 0, reason
    if os.path.exists(target):
        found = length_of(target)
        # A damaged copy is made again.
        if not found[1]:
            return found
    decode = decode_aac if is_aac(source) else _decode
    samples, reason = decode(source)
    reason = reason or _unheard(samples)
    if reason:
        return 0, reason
    # Float samples, and those of lossy codecs, may lie beyond 1: scaled, for
    # 16 bits would clip them.
    write_wav(target, samples / max(np.abs(samples).max(), np.float32(1)))
    return len(samples), ""


def _decode(path: str) -> tuple[np.ndarray, str]:
    """Decode a file that libsndfile reads: samples [T], and a reason."""
    try:
        with open_audio(path) as stream:
            wav = torch.from_numpy(np.ascontiguousarray(stream.read()))
            return resampled(wav, stream.rate).numpy(), ""
    except Unusable as error:
        return np.empty(0), str(error)


def _unheard(samples: np.ndarray) -> str:
    """Return why nothing can be heard in samples [T]; empty if it can."""
    if not len(samples):
        return "no samples: the file is cut short"
    try:
        check_heard(float(samples.min()), float(samples.max()))
    except Unusable as error:
        return str(error)
    return ""


def decode_aac(path: str) -> tuple[np.ndarray, str]:
    """Decode an AAC file by ffmpeg, which ends at the first decoding error.

    Arguments
    ---------
    path : str
        Any file that ffmpeg reads; of its audio streams, the first is taken.

    Returns
    -------
    np.ndarray
        Samples [T] in -1..1, 16 kHz, mono.
    str
        Empty, or why it cannot be used: the first line that ffmpeg writes.

    Raises
    ------
    InputError
        ffmpeg is missing or was stopped, which says nothing about the file.
    """
    # "file:", for a name with a colon would be taken for an address.
    command = [*_FFMPEG, "-i", f"file:{path}", *_TO_SAMPLES]
    try:
        # A pipe, not a file: what fails is then the source, never the disk.
        done = subprocess.run(
            command, capture_output=True, stdin=subprocess.DEVNULL
        )
    except OSError as error:
        raise InputError(
            f"{path}: ffmpeg cannot be started ({error.strerror}), which "
            "decodes AAC; install it, the same command then goes on"
        ) from None
    if done.returncode in _STOPPED:
        raise InputError(
            f"{path}: ffmpeg was stopped (status {done.returncode}); the "
            "same command goes on from here"
        )
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip()
        return np.empty(0), f"unreadable: ffmpeg: {_reason(said)}"
    samples = np.frombuffer(done.stdout, "<i2")
    return samples / np.float32(32768), ""


_FFMPEG = "ffmpeg -nostdin -loglevel error -xerror -threads 1".split()
_TO_SAMPLES = f"-map 0:a:0 -f s16le -ac 1 -ar {SAMPLE_RATE} pipe:1".split()
# Status of ffmpeg when a signal ends it, or when it ends at one by itself.
_STOPPED = {-signal.SIGINT, -signal.SIGTERM, -signal.SIGKILL, 255}


def _reason(said: str) -> str:
    """Return ffmpeg's first line, without the part of ffmpeg that wrote it.

    Example
    -------
    >>> _reason("[mov @ 0x55c4] moov atom not found\\nInvalid data")
    'moov atom not found'
    """
    first = said.partition("\n")[0]
    return re.sub(r"^(\[[^]]*\]\s*)+", "", first) or "no reason given"


def ffmpeg_version() -> str | None:
    """Return the first line of ``ffmpeg -version``; None without ffmpeg."""
    if shutil.which("ffmpeg") is None:
        return None
    said = subprocess.run(
        ["ffmpeg", "-version"], capture_output=True, stdin=subprocess.DEVNULL
    )
    return said.stdout.decode("utf-8", "replace").partition("\n")[0]


def write_wav(path: PathLike, samples: np.ndarray) -> None:
    """Write samples [T] in -1..1 as 16 kHz mono PCM16, atomically.

    PCM16 read as float and written again keeps its bits.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.wav"
    >>> write_wav(path, np.array([0.5, -2.0]))
    >>> soundfile.read(path, dtype="int16")[0]
    array([ 16384, -32768], dtype=int16)
    """
    # libsndfile would scale by 32767 and read by 32768.
    pcm = np.clip(np.rint(samples * 32768.0), -32768, 32767).astype("int16")
    with atomic_path(path) as part:
        soundfile.write(part, pcm, SAMPLE_RATE, subtype="PCM_16")
