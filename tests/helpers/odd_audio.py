"""Audio files as people have them: odd, damaged, or without what one expects.

Each is a function that writes a file of a path; some need a whole one of it.
"""

import struct

import numpy as np
import soundfile

from speechbrain_ext.dataio.mp3_index import first_frame, frame_at


def noise(seconds=2.0, rate=16000, seed=0):
    """Return speech-loud noise."""
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal(round(seconds * rate))).clip(-0.9, 0.9)


def cut(path, share=0.5):
    """Cut a file off, as an interrupted download does."""
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    return path


def write(path, subtype=None, rate=16000, seconds=2.0, seed=0):
    """Write a good file."""
    wav = noise(seconds, rate, seed)
    soundfile.write(path, wav, rate, subtype=subtype)
    return path


def gsm(path):
    """Write GSM 6.10, of telephone archives; the codec cannot seek."""
    return write(path, "GSM610", 8000)


def flac_without_length(path):
    """Write a flac file as an encoder does that writes into a pipe."""
    whole = bytearray(write(path.with_suffix(".flac")).read_bytes())
    # The last 36 bits of 8 bytes of STREAMINFO.
    whole[21] &= 0xF0
    whole[22:26] = bytes(4)
    path.write_bytes(whole)
    return path


def vbr_mp3_without_index(path, quiet=1.0, seconds=8.0):
    """Write mp3 of variable bit rate, as recorders of streams do.

    It begins with digital silence, whose frames are the smallest.
    """
    wav = np.concatenate([np.zeros(round(quiet * 16000)), noise(seconds)])
    with soundfile.SoundFile(
        path,
        "w",
        16000,
        1,
        format="MP3",
        subtype="MPEG_LAYER_III",
        bitrate_mode="VARIABLE",
        compression_level=0.5,
    ) as file:
        file.write(wav)
    whole = path.read_bytes()
    at = first_frame(whole)
    assert b"Xing" in whole[at : at + 64]
    path.write_bytes(whole[at + frame_at(whole, at).n_bytes :])
    return path


def floats(path, wav):
    """Write float32 samples as they are."""
    soundfile.write(path, wav, 16000, subtype="FLOAT")
    return path


def with_nan(path):
    """Write float wav of which one sample is NaN, which a filter may leave."""
    wav = noise()
    wav[700] = np.nan
    return floats(path, wav)


def with_infinity(path):
    """Write float wav of which one sample is infinite."""
    wav = noise()
    wav[700] = -np.inf
    return floats(path, wav)


def in_16_bit_steps(path):
    """Write float wav that goes to 32,767, as NumPy converts it."""
    return floats(path, noise() * 32767)


def silent(path):
    """Write digital silence."""
    soundfile.write(path, np.zeros(32000), 16000)
    return path


def offset(path):
    """Write a constant, as an open input gives it."""
    soundfile.write(path, np.full(32000, 0.3), 16000)
    return path


def at_rate(path, rate):
    """Write wav whose header says another sample rate."""
    whole = bytearray(write(path).read_bytes())
    whole[24:28] = struct.pack("<I", rate)
    path.write_bytes(whole)
    return path


# What is refused: by name, how to write it and how the reason begins.
REFUSED = {
    "empty.wav": (lambda path: path.touch(), "no samples"),
    "text.wav": (lambda path: path.write_text("text" * 99), "unreadable"),
    "stream.flac": (flac_without_length, "unreadable: the header gives no"),
    "cut.wav": (lambda path: cut(write(path)), "cut short"),
    "cut.flac": (lambda path: cut(write(path)), "unreadable: decoding fails"),
    "cut.mp3": (lambda path: cut(write(path)), "cut short"),
    "nan.wav": (with_nan, "not finite"),
    "inf.wav": (with_infinity, "not finite"),
    "steps.wav": (in_16_bit_steps, "wrong scale"),
    "silent.wav": (silent, "silent"),
    "offset.wav": (offset, "silent"),
    "slow.wav": (lambda path: at_rate(path, 1), "sample rate"),
    "fast.wav": (lambda path: at_rate(path, 2**31 - 1), "sample rate"),
}
# What is read, and how many seconds it has.
READ = {
    "gsm.wav": (gsm, 2.0),
    "adpcm.wav": (lambda path: write(path, "IMA_ADPCM"), 2.0),
    "law.wav": (lambda path: write(path, "ULAW", 8000), 2.0),
    "vbr.mp3": (vbr_mp3_without_index, 9.0),
    "odd.wav": (lambda path: write(path, rate=22254), 2.0),
    "prime.wav": (lambda path: write(path, rate=7919), 2.0),
}


def write_all(folder, kinds):
    """Write all files of `REFUSED` or `READ` below a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (write_one, _) in kinds.items():
        write_one(folder / name)
    return folder
