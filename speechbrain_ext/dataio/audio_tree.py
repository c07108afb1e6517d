"""Search for audio files; AAC ones are an error unless they are asked for."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike

READABLE = (".wav", ".flac", ".ogg", ".opus", ".mp3")
UNREADABLE = (".m4a", ".aac")
# Where a member's bytes are in its archive.
_PLACE = re.compile(r"(\.tar)/\d+\+\d+/")


@dataclass(frozen=True)
class AudioTree:
    """Audio files below one or more folders, sorted by ID.

    Arguments
    ---------
    ids : list of str
        Paths [N] relative to the folder each was found in.
    paths : list of str
        The files [N].
    sizes : list of int
        Their bytes [N].
    """

    ids: list[str]
    paths: list[str]
    sizes: list[int]

    def __len__(self) -> int:
        return len(self.ids)

    def summary(self) -> dict[str, Any]:
        """Return counts and a hash that identifies the set of files."""
        digest = hashlib.sha256()
        for name, size in zip(self.ids, self.sizes, strict=True):
            # A name need not be UTF-8; preparation gives that as the reason.
            line = f"{name} {size}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
        return {
            "count": len(self.ids),
            "bytes": sum(self.sizes),
            "names": digest.hexdigest(),
        }

    def pick(self, ids: Iterable[str]) -> AudioTree:
        """Select the files whose ID is among ``ids``."""
        wanted = set(ids)
        rows = [row for row, name in enumerate(self.ids) if name in wanted]
        return AudioTree(
            [self.ids[row] for row in rows],
            [self.paths[row] for row in rows],
            [self.sizes[row] for row in rows],
        )


def list_audio(
    folders: Sequence[PathLike],
    exclude: Sequence[PathLike] = (),
    with_aac: bool = False,
) -> AudioTree:
    """Find the audio files below one or more folders.

    Hidden files and folders are passed over, links followed. Below a folder
    without audio files the members of tar archives are found: the ID of one
    is ``ARCHIVE.tar/MEMBER``.

    Arguments
    ---------
    folders : sequence of paths
        An ID is a file's path relative to the folder it is in.
    exclude : sequence of paths
        Folders to leave out.
    with_aac : bool
        List AAC files that have no wav beside them, though libsndfile does
        not read them, instead of stopping.

    Returns
    -------
    AudioTree
        Sorted by ID; files are not opened.

    Raises
    ------
    InputError
        A folder is missing or holds no audio, or holds AAC without
        ``with_aac``: the message says how ffmpeg converts it.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> (folder / "s").mkdir()
    >>> (folder / "s" / "a.flac").touch()
    >>> list_audio([folder]).ids
    ['s/a.flac']
    """
    found: list[tuple[str, str, int]] = []
    for folder in map(os.path.normpath, folders):
        if not os.path.isdir(folder):
            raise InputError(
                f"{folder}: no such folder; give the folder that holds the "
                "audio files"
            )
        seen = {_identity(path) for path in exclude if os.path.isdir(path)}
        files = sorted(_walk(folder, seen)) or _in_archives(folder)
        aac = _aac_alone([path for path, _ in files])
        if aac and not with_aac:
            _refuse_aac(folder, aac)
        found += [
            (_name_in(folder, path), path, n)
            for path, n in files
            if path.lower().endswith(READABLE) or path in aac
        ]
    if not found:
        raise InputError(
            f"{', '.join(map(str, folders))}: no audio file below; expected "
            f"{' '.join(READABLE)}, correct the folder"
        )
    found.sort()
    for one, other in itertools.pairwise(found):
        if one[0] == other[0]:
            raise InputError(
                f"{one[1]} and {other[1]} would have the same ID {one[0]!r}; "
                "give the folder above both instead of two folders"
            )
    ids, paths, sizes = zip(*found, strict=True)
    return AudioTree(list(ids), list(paths), list(sizes))


def _name_in(folder: str, path: str) -> str:
    """Return the ID of a file, or of a member of an archive."""
    name = path[len(folder) :].lstrip(os.sep).replace(os.sep, "/")
    return _PLACE.sub(r"\1/", name, count=1)


def _in_archives(folder: str) -> list[tuple[str, int]]:
    """List the audio in the tar archives below a folder, with sizes."""
    # Settings import this module, and need no reader of audio.
    from speechbrain_ext.dataio.audio_stream import Unusable, tar_members

    archives = [
        os.path.join(inside, name)
        for inside, _, names in os.walk(folder, followlinks=True)
        for name in names
        if name.endswith(".tar") and not name.startswith(".")
    ]
    found = []
    for archive in sorted(archives):
        try:
            members = tar_members(archive)
        except Unusable as reason:
            raise InputError(
                f"{archive}: {reason}; move it out of the folder"
            ) from None
        found += [
            (path, size)
            for name, path, size in members
            if name.lower().endswith(READABLE)
        ]
    return sorted(found)


def is_aac(path: str) -> bool:
    """Return whether a file is AAC by its name, which libsndfile cannot read.

    Example
    -------
    >>> is_aac("a.M4A"), is_aac("a.wav")
    (True, False)
    """
    return path.lower().endswith(UNREADABLE)


def refuse_inside(output_folder: PathLike, folders: Sequence[PathLike]) -> None:
    """Raise InputError if an output folder lies inside the input.

    Example
    -------
    >>> refuse_inside("data/out", ["data"])
    Traceback (most recent call last):
    speechbrain_ext.utils.errors.InputError: output_folder data/out is ...
    """
    for folder in folders:
        if is_inside(output_folder, folder):
            raise InputError(
                f"output_folder {output_folder} is inside {folder}, whose "
                "audio is scanned; choose another --output_folder"
            )


def is_inside(inner: PathLike, outer: PathLike) -> bool:
    """Return whether a folder is another or inside it, links resolved.

    Example
    -------
    >>> is_inside("data/a", "data"), is_inside("data", "data/a")
    (True, False)
    """
    real = os.path.realpath(outer)
    return os.path.commonpath([os.path.realpath(inner), real]) == real


def _walk(folder: str, seen: set[tuple[int, int]]) -> Iterator[tuple[str, int]]:
    """Yield audio files below a folder with their sizes, each folder once."""
    identity = _identity(folder)
    if identity in seen:
        return
    seen.add(identity)
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be listed ({error.strerror}); correct its "
            "permissions"
        ) from None
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _walk(entry.path, seen)
        elif entry.name.lower().endswith(READABLE + UNREADABLE):
            # A dangling link has no size; measuring it gives the reason.
            yield entry.path, entry.stat().st_size if entry.is_file() else 0


def _identity(folder: PathLike) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _aac_alone(paths: list[str]) -> dict[str, None]:
    """List the AAC files without a wav of the same name, in order."""
    there = set(paths)
    aac = [path for path in paths if is_aac(path)]
    return dict.fromkeys(
        p for p in aac if f"{os.path.splitext(p)[0]}.wav" not in there
    )


def _refuse_aac(folder: str, aac: dict[str, None]) -> None:
    """Raise InputError for AAC files, with the ways to convert them."""
    first = next(iter(aac))
    extension = os.path.splitext(first)[1]
    raise InputError(
        f"{first} is one of {len(aac):,} {extension} file(s) without a "
        "wav beside them, and AAC needs ffmpeg, which is not on PATH; install "
        "it and repeat the command, or convert them in place where it is "
        f"with: find {shlex.quote(folder)} -name '*{extension}' -print0 | "
        "xargs -0 -P 8 -I{} sh -c 'ffmpeg -nostdin -loglevel error -y -i "
        '"$1" -ac 1 -ar 16000 "${1%.*}.wav"\' _ {}'
    )
