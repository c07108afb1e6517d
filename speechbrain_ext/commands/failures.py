"""Kinds of failures: the exit status of each, and its one line.

====== =====================================================================
status meaning
====== =====================================================================
1      internal error, a fault of the program
2      input: a setting, a file or an option breaks a rule
3      system: disk full, not permitted, too many open files, no network,
       no compiler
4      memory: of the machine or of a GPU
129    SIGHUP, the terminal was closed
130    SIGINT, Ctrl-C
143    SIGTERM, from a scheduler or ``kill``
====== =====================================================================
"""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

from speechbrain_ext.utils.errors import InputError, StepError

INTERNAL, INPUT, SYSTEM, MEMORY = 1, 2, 3, 4
_LONGEST = 300  # characters of a reason
_ROOM = "once there is room"
_ALLOWED = "once it is allowed"
# What must change first, by the number of the error.
_FIRST = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EROFS: _ALLOWED,
    errno.EACCES: _ALLOWED,
    errno.EPERM: _ALLOWED,
    errno.EMFILE: "with more open files allowed (ulimit -n)",
    errno.ENFILE: "once fewer files are open on this machine",
    errno.EFBIG: "with larger files allowed (ulimit -f)",
}
_MENDED = "once that is mended"
_UNCOMPILED = "without --compile, or with a compiler that torch.compile finds,"
_MORE_MEMORY = "with more memory free"
# Numbers that libraries put into words of their own.
_IN_WORDS = (*_FIRST, errno.EIO, errno.ENOMEM, errno.ECONNRESET, errno.EPIPE)
_NO_MEMORY = re.compile(
    r"out of memory|can't allocate memory|not enough memory"
    r"|Cannot allocate memory|ALLOC_FAILED|out of shared memory",
)
# Of torch's file writer, whose message does not say what the system said; of
# processes that are gone; of a GPU.
_SYSTEM_WORDS = re.compile(
    r"inline_container\.cc.*(unexpected pos|write failed)|iostream error"
    r"|DataLoader worker .*(exited unexpectedly|is killed by signal)"
    r"|Connection (closed|reset) by peer|^CUDA error(?!.*assert)|^NCCL error",
    re.DOTALL,
)
# Greedy: the last line that begins with an error's name.
_WORKER = re.compile(r"^Caught \w+ in .*^[\w.]+(: )", re.M | re.DOTALL)


class Failure(NamedTuple):
    """Exit status of a failure, what happened, and what must change first."""

    status: int
    reason: str
    first: str = ""


def failure_of(error: BaseException) -> Failure:
    """Return what kind of failure an exception is.

    Arguments
    ---------
    error : BaseException
        What ended the command.

    Returns
    -------
    Failure
        ``reason`` and ``first`` are parts of one line.

    Example
    -------
    >>> failure_of(MemoryError("Unable to allocate 7 PiB"))
    Failure(status=4, reason='Unable to allocate 7 PiB', first='with more ...')
    >>> failure_of(OSError(28, "No space left on device", "a.npy")).reason
    'No space left on device: a.npy'
    """
    text = _one_line(str(error))
    if isinstance(error, (InputError, StepError)):
        return Failure(getattr(error, "status", INPUT), text)
    if isinstance(error, KeyboardInterrupt):
        number = getattr(error, "number", signal.SIGINT)
        name = signal.Signals(number).name
        return Failure(128 + number, f"stopped by {name}")
    if _is_of_memory(error):
        return Failure(MEMORY, text or "out of memory", _MORE_MEMORY)
    number = _system_error(error)
    if number is not None:
        return Failure(
            SYSTEM, _system_words(error, number), _FIRST.get(number, _MENDED)
        )
    if isinstance(error, _of_torch("_dynamo.exc.TorchDynamoException")):
        said = text.partition(" Set TORCHDYNAMO_VERBOSE")[0]
        return Failure(SYSTEM, f"--compile: {said}", _UNCOMPILED)
    reason = f"internal error, {type(error).__name__}: {text}"
    return Failure(INTERNAL, reason, _MENDED)


def _is_of_memory(error: BaseException) -> bool:
    if isinstance(error, (MemoryError, *_of_torch("OutOfMemoryError"))):
        return True
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno == errno.ENOMEM
    if isinstance(error, (RuntimeError, OSError)):
        return _NO_MEMORY.search(str(error)) is not None
    return False


def _of_torch(name: str) -> tuple[type[BaseException], ...]:
    """Return a kind of torch's errors, none where torch is not imported."""
    found: Any = sys.modules.get("torch")
    for part in name.split("."):
        found = getattr(found, part, None)
    return () if found is None else (found,)


def _system_error(error: BaseException) -> int | None:
    """Return the number of a system's error, 0 if unknown; None: no such."""
    if isinstance(error, OSError):
        return error.errno or _number_in(str(error))
    # Libraries raise errors of their own: of torch, safetensors, soundfile.
    if not isinstance(error, Exception):
        return None
    number = _number_in(str(error))
    if number or isinstance(error, _of_torch("distributed.DistError")):
        return number
    if _SYSTEM_WORDS.search(str(error)):
        causes = [e for e in _causes(error) if isinstance(e, OSError)]
        return next((e.errno for e in causes if e.errno), 0)
    return None


def _number_in(text: str) -> int:
    """Return the number of an error that a text has in words, or 0."""
    return next((n for n in _IN_WORDS if os.strerror(n) in text), 0)


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen = set()
    while (now := error.__cause__ or error.__context__) and id(now) not in seen:
        seen.add(id(now))
        yield now
        error = now


def _system_words(error: BaseException, number: int) -> str:
    if isinstance(error, OSError) and error.strerror:
        names = [error.filename, error.filename2]
        where = " and ".join(os.fsdecode(n) for n in names if _is_name(n))
        return f"{error.strerror}: {where}" if where else error.strerror
    text = _one_line(str(error)) or type(error).__name__
    said = os.strerror(number) if number else ""
    return text if said in text else f"{said} ({text})"


def _is_name(value: object) -> bool:
    return isinstance(value, (str, bytes, os.PathLike))


def _one_line(text: str) -> str:
    """Return a text as one line; an error of a loader's worker as its last.

    Example
    -------
    >>> _one_line("Caught OSError in DataLoader worker process 0.\\nOSError: a")
    'a'
    """
    found = _WORKER.search(text)
    if found:
        text = text[found.end(1) :]
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."
