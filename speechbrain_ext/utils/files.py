"""Atomic and durable writing of files, reading of JSON, and hashes."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from speechbrain_ext.utils.errors import InputError

PathLike = str | os.PathLike

_BLOCK = 2**20  # bytes
# fallocate is not for this kind of file system.
_UNSUPPORTED = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


@contextlib.contextmanager
def atomic_path(path: PathLike) -> Iterator[Path]:
    """Yield a temporary name that becomes ``path`` if the block succeeds.

    The file is on the disk before it takes its name, so that not even a power
    cut leaves an empty file there.

    Arguments
    ---------
    path : str or os.PathLike
        The final name; its folder is created when missing.

    Yields
    ------
    pathlib.Path
        A name in the same folder, to be written by the caller.

    Raises
    ------
    OSError
        The system refuses to write. Libraries that report it in other words
        (soundfile: "System error") are translated.

    Example
    -------
    >>> target = getfixture("tmp_path") / "a.txt"
    >>> with atomic_path(target) as part:
    ...     _ = part.write_text("whole")
    ...     target.exists()
    False
    >>> target.read_text()
    'whole'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent
    )
    os.close(handle)
    part = Path(name)
    try:
        with _disk_errors_named(part, path):
            yield part
        # mkstemp makes files private; a shared folder expects the umask.
        os.chmod(part, 0o666 & ~_umask())
        move_synced(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def _disk_errors_named(part: Path, path: Path) -> Iterator[None]:
    """Raise OSError with its number if a disk refuses what a library writes."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            # Writing to an open file knows no name.
            error.filename = error.filename or str(path)
            raise
        number = _refusal(part)
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


def _refusal(part: Path) -> int | None:
    """Return the number of the error of writing more to a file, if any."""
    try:
        with open(part, "ab", buffering=0) as stream:
            stream.write(bytes(_BLOCK))
            # A full disk takes what is left of it, and refuses then.
            stream.write(bytes(_BLOCK))
    except OSError as error:
        return error.errno
    return None


def move_synced(part: PathLike, path: PathLike) -> None:
    """Give a file or a folder of files its final name, durably.

    Arguments
    ---------
    part : str or os.PathLike
        The file, or folder without folders inside, whole but perhaps only in
        the system's memory.
    path : str or os.PathLike
        The final name, on the same file system; a file there is replaced.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> _ = (folder / "part").write_text("whole")
    >>> move_synced(folder / "part", folder / "a.txt")
    >>> (folder / "a.txt").read_text()
    'whole'
    """
    part = Path(part)
    if part.is_dir():
        for file in part.iterdir():
            _sync(file)
    _sync(part)
    os.replace(part, path)
    _sync(Path(path).parent)


def _sync(path: Path) -> None:
    """Wait until the disk has a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        # Some network file systems sync files alone.
        if not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def reserve(path: PathLike, n_bytes: int) -> None:
    """Reserve a file's space on the disk, before it is mapped into memory.

    Where a disk is full, a write through a memory map ends the process by a
    signal (SIGBUS), without a word. Disks that compress or copy on write
    promise no space.

    Arguments
    ---------
    path : str or os.PathLike
        A file, extended with zeros to this size; what is in it is kept.
    n_bytes : int
        The size.

    Raises
    ------
    OSError
        The disk has no room.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a"
    >>> path.touch()
    >>> reserve(path, 5000)
    >>> path.stat().st_size
    5000
    """
    with _named(path), open(path, "r+b", buffering=0) as stream:
        try:
            if n_bytes:
                os.posix_fallocate(stream.fileno(), 0, n_bytes)
        # Not there, as on macOS, or not for this file system.
        except (AttributeError, OSError) as error:
            if getattr(error, "errno", errno.ENOSYS) not in _UNSUPPORTED:
                raise
            _write_zeros(stream, n_bytes)


@contextlib.contextmanager
def _named(path: PathLike) -> Iterator[None]:
    """Give an OSError the file that it lacks."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def _write_zeros(stream: io.FileIO, n_bytes: int) -> None:
    """Fill the holes of a file by writing each block again."""
    for start in range(0, n_bytes, _BLOCK):
        size = min(_BLOCK, n_bytes - start)
        stream.seek(start)
        block = stream.read(size)
        stream.seek(start)
        left = block + bytes(size - len(block))
        while left:
            left = left[stream.write(left) :]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: PathLike, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic_path(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: PathLike, value: Any) -> None:
    """Write indented JSON atomically."""
    write_text(path, json.dumps(value, indent=1, default=str) + "\n")


def read_json(path: PathLike) -> Any:
    """Read JSON; a missing or broken file is an `InputError`."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file; run the stage that writes it first"
        ) from None
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path} line {error.lineno}: not JSON ({error.msg}); delete it "
            "and run the stage that writes it again"
        ) from None
    # Not UTF-8, a number with thousands of digits, or nested too deeply.
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: not JSON ({error}); delete it and run the stage that "
            "writes it again"
        ) from None


def sha256(path: PathLike) -> str:
    """Compute the hexadecimal SHA-256 of a file's bytes.

    Example
    -------
    >>> empty = getfixture("tmp_path") / "empty"
    >>> empty.touch()
    >>> sha256(empty)[:12]
    'e3b0c44298fc'
    """
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
