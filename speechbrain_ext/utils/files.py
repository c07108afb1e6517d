"""Atomic and durable writing of files, reading of JSON, and hashes."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from speechbrain_ext.utils.errors import InputError

PathLike = str | os.PathLike

# Name of a file while it is written: hidden, with the process that writes it.
_PART = re.compile(r"\..*\.part(\d+)-[a-z0-9_]{8}(\.[^.]*)?")
_BLOCK = 2**20  # bytes
# Index of a folder of parts, which is read as one file.
SHARDS = "shards.json"
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
        The final name; its folder is created when missing. A file there is
        replaced, and a folder of parts.

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
        prefix=f".{path.stem}.part{os.getpid()}-",
        suffix=path.suffix,
        dir=path.parent,
    )
    os.close(handle)
    part = Path(name)
    try:
        with _disk_errors_named(part, path):
            yield part
        # mkstemp makes files private; a shared folder expects the umask.
        os.chmod(part, 0o666 & ~_umask())
        if (path / SHARDS).is_file():
            # A folder of parts, which an earlier attempt has left there.
            shutil.rmtree(path)
        move_synced(part, path)
    finally:
        part.unlink(missing_ok=True)


def remove_leftovers(folder: PathLike, below: bool = True) -> list[str]:
    """Remove the temporary files that killed processes left in a folder.

    Only names of `atomic_path` are removed, and none of a process that lives.

    Arguments
    ---------
    folder : str or os.PathLike
        Links in it are not followed.
    below : bool
        Whether to search the folders below it too.

    Returns
    -------
    list of str
        Names of the removed files, relative to the folder.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> (folder / ".a.part999999999-0a1b2c3d.csv").touch()
    >>> (folder / ".a.csv").touch()
    >>> remove_leftovers(folder)
    ['.a.part999999999-0a1b2c3d.csv']
    """
    removed = []
    for inside, folders, names in os.walk(os.fspath(folder)):
        for name in folders:
            found = _PART.fullmatch(name)
            if found and not _lives(int(found[1])):
                shutil.rmtree(Path(inside, name), ignore_errors=True)
                removed.append(str(Path(inside, name).relative_to(folder)))
        if not below:
            folders.clear()
        for name in names:
            found = _PART.fullmatch(name)
            if found and not _lives(int(found[1])):
                path = Path(inside, name)
                path.unlink(missing_ok=True)
                removed.append(str(path.relative_to(folder)))
    return sorted(removed)


def _lives(process: int) -> bool:
    """Return whether a process of this number runs on this machine."""
    try:
        os.kill(process, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return process != os.getpid()


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


def copy_file(source: PathLike, path: PathLike) -> None:
    """Copy the content of a file; the copy is whole, or is not there.

    Arguments
    ---------
    source : str or os.PathLike
        The file.
    path : str or os.PathLike
        Name of the copy; its folder is created when missing.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> _ = (folder / "a").write_text("whole")
    >>> copy_file(folder / "a", folder / "copies" / "a")
    >>> (folder / "copies" / "a").read_text()
    'whole'
    """
    with atomic_path(path) as part:
        shutil.copyfile(source, part)


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
    with _naming(path), open(path, "r+b", buffering=0) as stream:
        try:
            if n_bytes:
                os.posix_fallocate(stream.fileno(), 0, n_bytes)
        # Not there, as on macOS, or not for this file system.
        except (AttributeError, OSError) as error:
            if getattr(error, "errno", errno.ENOSYS) not in _UNSUPPORTED:
                raise
            _write_zeros(stream, n_bytes)


@contextlib.contextmanager
def _naming(path: PathLike) -> Iterator[None]:
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


def read_json(path: PathLike, way_out: str = "") -> Any:
    """Read JSON; a missing or broken file is an `InputError`.

    Arguments
    ---------
    path : str or os.PathLike
        The file.
    way_out : str
        How to get it again, for the message; empty: by the stage of a recipe.

    Example
    -------
    >>> path = getfixture("tmp_path") / "config.json"
    >>> _ = path.write_text("{")
    >>> read_json(path, "download it again")
    Traceback (most recent call last):
    speechbrain_ext.utils.errors.InputError: ...; download it again
    """
    again = way_out or "delete it and run the stage that writes it again"
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        missing = way_out or "run the stage that writes it first"
        raise InputError(f"{path}: no such file; {missing}") from None
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path} line {error.lineno}: not JSON ({error.msg}); {again}"
        ) from None
    # Not UTF-8, a number with thousands of digits, or nested too deeply.
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error}); {again}") from None


def check_links(folder: PathLike, names: Iterable[str]) -> None:
    """Raise InputError for a symbolic link that leaves its folder.

    What somebody else packed must not name files of this machine. The hub's
    cache, whose files link into the folder ``blobs`` beside, is as it should.

    Arguments
    ---------
    folder : str or os.PathLike
        It may be a link itself.
    names : iterable of str
        Files in it.

    Raises
    ------
    InputError
        With the file and where it leads.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> (folder / "weights").symlink_to("/etc/passwd")
    >>> check_links(folder, ["weights"])
    Traceback (most recent call last):
    speechbrain_ext.utils.errors.InputError: ...weights is a link to /etc/...
    """
    root = Path(folder).resolve()
    allowed = [root]
    if root.parent.name == "snapshots":
        allowed.append(root.parents[1] / "blobs")
    for name in names:
        try:
            found = (root / name).resolve()
        # Of Python before 3.13; later ones return it as it is.
        except RuntimeError:
            raise InputError(
                f"{Path(folder) / name} is a link to itself; get the folder "
                "again"
            ) from None
        if not any(found.is_relative_to(place) for place in allowed):
            raise InputError(
                f"{Path(folder) / name} is a link to {found}, outside of its "
                "folder; if that is meant, copy the file into the folder"
            )


def read_json_object(
    path: PathLike,
    kinds: Mapping[str, Any] | None = None,
    optional: bool = False,
) -> dict[str, Any]:
    """Read JSON that must be an object with values of given types.

    Arguments
    ---------
    path : str or os.PathLike
        The file.
    kinds : mapping of str to type, optional
        Type of the value of each key, or a tuple of types.
    optional : bool
        Whether keys may be missing.

    Returns
    -------
    dict of str to Any

    Raises
    ------
    InputError
        The file is missing, not JSON, or JSON of another shape.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.json"
    >>> write_json(path, {"n": 1})
    >>> read_json_object(path, {"n": int})
    {'n': 1}
    >>> read_json_object(path, {"n": str})
    Traceback (most recent call last):
    speechbrain_ext.utils.errors.InputError: ...a.json: its n is a whole ...
    """
    value = read_json(path)
    wrong = wrong_shape(value, kinds or {}, optional)
    if wrong:
        raise InputError(
            f"{path}: {wrong}; delete it and run the stage that writes it again"
        )
    return value


def wrong_shape(
    value: Any, kinds: Mapping[str, Any], optional: bool = False
) -> str:
    """Return what is wrong with JSON that must be an object; empty: nothing.

    Arguments
    ---------
    value : Any
        As read.
    kinds, optional
        As of `read_json_object`.

    Example
    -------
    >>> wrong_shape([], {})
    'it must be an object and is a list'
    """
    if not isinstance(value, dict):
        return f"it must be an object and is {_named(type(value))}"
    for key, kind in kinds.items():
        if key not in value:
            if optional:
                continue
            return f"it has no {key}"
        kinds_of = kind if isinstance(kind, tuple) else (kind,)
        # In Python, though not in JSON, true is a whole number.
        if type(value[key]) not in kinds_of:
            wanted = " or ".join(_named(each) for each in kinds_of)
            found = _named(type(value[key]))
            return f"its {key} is {found}; it must be {wanted}"
    return ""


_NAMES = {
    dict: "an object",
    list: "a list",
    str: "a string",
    int: "a whole number",
    float: "a number with decimals",
    bool: "true or false",
    type(None): "null",
}


def _named(kind: type) -> str:
    """Return the name that JSON has for a type."""
    return _NAMES.get(kind, kind.__name__)


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


def parts_of(path: PathLike) -> list[Path]:
    """List the files that a path stands for: itself, or a folder's parts.

    Arguments
    ---------
    path : str or os.PathLike
        A file, or a folder with ``shards.json``,
        ``{"shards": [{"name": ...}, ...]}``.

    Returns
    -------
    list of pathlib.Path
        The parts in order; a file need not be there.

    Raises
    ------
    InputError
        The folder has no such index, or one that is wrong.

    Example
    -------
    >>> [str(part) for part in parts_of("a.csv")]
    ['a.csv']
    """
    path = Path(path)
    if not path.is_dir():
        return [path]
    index = path / SHARDS
    if not index.is_file():
        raise InputError(
            f"{path} is a folder without {SHARDS}, which would name its "
            "parts; give a file, or write that index"
        )
    again = (
        f'write it as {{"shards": [{{"name": "000000{path.suffix}"}}, ...]}}'
    )
    entries = read_json_object(index, {"shards": list})["shards"]
    names: list[Any] = [
        entry.get("name") if isinstance(entry, dict) else None
        for entry in entries
    ]
    if not names or len(set(map(str, names))) < len(names):
        raise InputError(f"{index} must name parts, each once; {again}")
    for name in names:
        # What somebody else packed must not name files of this machine.
        if not isinstance(name, str) or Path(name).name != name or not name:
            raise InputError(
                f"{index}: {name!r} is not the name of a part; {again}"
            )
    check_links(path, names)
    return [path / name for name in names]


def check_own_table(path: PathLike, header: str) -> None:
    """Raise InputError if a table that would be replaced is another one.

    Arguments
    ---------
    path : str or os.PathLike
        A CSV, which need not be there.
    header : str
        First line of a table that may be replaced.

    Raises
    ------
    InputError
        The table that is there begins with another line.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.csv"
    >>> write_text(path, "name,age\\n")
    >>> check_own_table(path, "ID,row")
    Traceback (most recent call last):
    speechbrain_ext.utils.errors.InputError: ...a.csv would be replaced, ...
    """
    if not os.path.exists(path):
        return
    with open(path, encoding="utf-8", errors="replace") as stream:
        found = stream.readline(80).rstrip("\n")
    if found != header:
        raise InputError(
            f"{path} would be replaced, and is another table: it begins "
            f"with {found!r}, not {header!r}; name another output"
        )
