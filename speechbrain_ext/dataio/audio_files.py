"""Measurement of audio files, and conversion to 16 kHz mono wav.

Both functions return ``(samples at 16 kHz, reason)``: the reason is empty or
says why the file cannot be used, for one bad file must not stop a corpus.
"""

from __future__ import annotations

import os

import numpy as np
import soundfile
import torch

from speechbrain_ext.dataio.audio import read_crop
from speechbrain_ext.dataio.manifest import SAMPLE_RATE
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
    try:
        # Manifests are UTF-8.
        path.encode("utf-8")
        if not os.path.getsize(path):
            return 0, "no samples: the file is empty"
        header = soundfile.info(path)
    except UnicodeEncodeError:
        return 0, "the file name is not UTF-8"
    except soundfile.LibsndfileError as error:
        return 0, f"unreadable: {error.error_string}"
    except OSError as error:
        return 0, f"unreadable: {error.strerror}"
    # libsndfile returns the largest int64 for "unknown".
    if header.frames >= 2**62:
        return 0, "unreadable: the header gives no length"
    frames = header.frames * SAMPLE_RATE // header.samplerate
    return frames, "" if frames else "no samples: the file is cut short"


def convert(job: tuple[str, str]) -> tuple[int, str]:
    """Convert a file to 16 kHz mono PCM16, unless the copy exists.

    Arguments
    ---------
    job : tuple of str
        The file and the copy to write.
    """
    source, target = job
    frames, reason = length_of(source)
    if reason:
        return frames, reason
    if os.path.exists(target):
        return length_of(target)
    try:
        wav = read_crop(source)
    except InputError:
        return 0, "unreadable: decoding fails, the file is damaged"
    if not torch.isfinite(wav).all():
        return 0, "not finite: some samples are NaN or infinite"
    if not len(wav):
        return 0, "no samples: the file is cut short"
    write_wav(target, wav.numpy())
    return len(wav), ""


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
