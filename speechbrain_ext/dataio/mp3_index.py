"""Lengths of mp3 files without an index, counted frame by frame.

An mp3 file has no length of its own. Encoders write an index (a first frame
that is marked ``Xing``, or ``Info`` where the bit rate is constant) with the
number of frames. Without it decoders divide the size by the bit rate of the
first frame: of a file of variable bit rate, 9 s so become 2 s or 27 s. The
layout of frame headers is that of ISO/IEC 11172-3 and 13818-3.
"""

from __future__ import annotations

import functools
import os
import struct
from typing import NamedTuple

# By the version in the header: MPEG 2.5, (reserved), 2, 1.
_RATES = {
    0: (11025, 12000, 8000),
    2: (22050, 24000, 16000),
    3: (44100, 48000, 32000),
}
_LAYER_III = 1
# kbit/s of Layer III; code 0 is a rate that no header gives.
_KBITS_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBITS_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_MARKS = (b"Xing", b"Info")
# What all frames of a stream have in common: version, layer, sample rate.
_SAME = 0xFFFE0C00
_SLACK = 1.1  # tags behind the frames are no frames


class Frame(NamedTuple):
    """Facts that the header of a frame gives."""

    header: int  # its 32 bits
    n_bytes: int  # length of the frame
    n_samples: int  # a channel
    mark: int  # bytes from its start to where an index is marked


def frame_at(data: bytes, at: int) -> Frame | None:
    """Read the header of a Layer III frame; None if there is none.

    Arguments
    ---------
    data : bytes
        Of the file.
    at : int
        Where the frame begins.

    Returns
    -------
    Frame or None

    Example
    -------
    >>> frame_at(bytes.fromhex("fffb9000"), 0)[1:]
    (417, 1152, 36)
    >>> frame_at(b"text", 0) is None
    True
    """
    if at + 4 > len(data):
        return None
    header = int.from_bytes(data[at : at + 4], "big")
    version, layer = header >> 19 & 3, header >> 17 & 3
    kbits, rate = header >> 12 & 15, header >> 10 & 3
    is_frame = header >> 21 == 0x7FF and layer == _LAYER_III
    if not is_frame or version == 1 or kbits in (0, 15) or rate == 3:
        return None
    first = version == 3
    n_samples = 1152 if first else 576
    speed = (_KBITS_1 if first else _KBITS_2)[kbits] * 1000
    n_bytes = n_samples // 8 * speed // _RATES[version][rate]
    is_mono = header >> 6 & 3 == 3
    side = (17 if is_mono else 32) if first else (9 if is_mono else 17)
    return Frame(header, n_bytes + (header >> 9 & 1), n_samples, 4 + side)


def first_frame(data: bytes) -> int:
    """Return where the first frame begins, behind an ID3v2 tag.

    Example
    -------
    >>> first_frame(b"ID3" + bytes([3, 0, 0, 0, 0, 0, 7]) + bytes(7))
    17
    """
    if data[:3] != b"ID3" or len(data) < 10:
        return 0
    # Four times seven bits, which never look like the start of a frame.
    size = 0
    for byte in data[6:10]:
        size = size << 7 | byte & 127
    return size + 10


def n_frames(data: bytes) -> tuple[int, Frame | None]:
    """Count the frames of an mp3 file; junk between them is passed over.

    Arguments
    ---------
    data : bytes
        The whole file.

    Returns
    -------
    int
        Number of frames, one that holds an index among them.
    Frame or None
        The first of them.
    """
    at = first_frame(data)
    first = found = frame_at(data, at)
    if first is None:
        return 0, None
    count = 0
    while at + 4 <= len(data):
        if found is None or (found.header ^ first.header) & _SAME:
            at = data.find(b"\xff", at + 1)
            if at < 0:
                break
        else:
            at += found.n_bytes
            count += 1
        found = frame_at(data, at)
    return count, first


def counted_length(path: str) -> int | None:
    """Return the samples of an mp3 file that has no index, or that of a part.

    Arguments
    ---------
    path : str
        An mp3 file.

    Returns
    -------
    int or None
        Samples a channel, at its own rate; None if an index gives them.
    """
    status = os.stat(path)
    # Remembered, for a training reads each file many times.
    return _counted(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=2**16)
def _counted(path: str, size: int, changed: int) -> int | None:
    with open(path, "rb") as stream:
        begin = first_frame(stream.read(10))
        stream.seek(begin)
        if _indexed_bytes(stream.read(64)) * _SLACK >= size - begin:
            return None
        stream.seek(0)
        return _length(stream.read())


def length_in(data: bytes) -> int | None:
    """Return what `counted_length` does, of the bytes of a file.

    Example
    -------
    >>> length_in(b"text") is None
    True
    """
    begin = first_frame(data[:10])
    head = data[begin : begin + 64]
    if _indexed_bytes(head) * _SLACK >= len(data) - begin:
        return None
    return _length(data)


def _length(data: bytes) -> int | None:
    count, first = n_frames(data)
    return count * first.n_samples if first and count else None


def _indexed_bytes(head: bytes) -> float:
    """Return how many bytes an index is of; 0 without one.

    Joined files have the index of the first: it is of a part.
    """
    frame = frame_at(head, 0)
    if frame is None or head[frame.mark : frame.mark + 4] not in _MARKS:
        return 0.0
    flags, first, second = struct.unpack_from(">III", head, frame.mark + 4)
    if not flags & 2:
        return float("inf")
    return float(second if flags & 1 else first)


def with_index(data: bytes) -> bytes:
    """Put an index of all frames before those of an mp3 file.

    Arguments
    ---------
    data : bytes
        The whole file, of which `counted_length` gives a length.

    Returns
    -------
    bytes
        A file of the same sound, whose length decoders read right.
    """
    count, first = n_frames(data)
    if first is None or not count:
        return data
    # Without padding, and without a checksum, which the bit set says.
    bare = first.header & ~(15 << 12) & ~(1 << 9) | 1 << 16
    headers = [bare | kbits << 12 for kbits in range(1, 15)]
    frames_of = [frame_at(each.to_bytes(4, "big"), 0) for each in headers]
    # The lowest bit rate whose frame has room for the index.
    frame = next(f for f in frames_of if f and f.n_bytes >= f.mark + 16)
    frames = data[first_frame(data) :]
    total = frame.n_bytes + len(frames)
    index = bytearray(frame.n_bytes)
    index[:4] = frame.header.to_bytes(4, "big")
    # The two flags say that counts of frames and of bytes follow.
    index[frame.mark : frame.mark + 16] = struct.pack(
        ">4sIII", _MARKS[0], 3, count, total
    )
    return bytes(index) + frames
