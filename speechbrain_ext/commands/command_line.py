"""Run a program's main function; every failure ends in one line.

The line says what happened, what stands and what the same command will do
next. The traceback is kept in a file that the line names. Exit statuses are
those of `speechbrain_ext.commands.failures`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from speechbrain_ext.commands.failures import INTERNAL, failure_of
from speechbrain_ext.utils.errors import InputError, StepError
from speechbrain_ext.utils.signals import Stopped, signals_as_exceptions

# Seconds in which torchrun ends what another process has brought down.
_GRACE = 5.0
# Errors of gloo and nccl that another process's end has caused.
_PEER_IS_GONE = ("closed by peer", "reset by peer", "remote process exited")


@dataclasses.dataclass
class _Work:
    """Words of a command's last line about its work."""

    stands: str = "nothing was written"
    again: str = "starts again"
    log: Path | None = None


_work = _Work()
# A driver that is stopped says so itself; its step need not.
_is_driven = False


def work_begins(folder: Path, again: str, log: Path) -> None:
    """State what the last line of this command says, should it fail.

    Arguments
    ---------
    folder : pathlib.Path
        Where the command writes.
    again : str
        What the same command does next, after "the same command".
    log : pathlib.Path
        Where a traceback goes, at the end.
    """
    _work.stands = f"what {folder} holds is kept"
    _work.again = again
    _work.log = log


def be_driven() -> None:
    """Leave it to a driver to say that this process was stopped."""
    global _is_driven
    _is_driven = True


def run(main: Callable[..., Any]) -> None:
    """Call a program's main function; a failure is one line and a status.

    Arguments
    ---------
    main : callable
        Called without arguments.

    Raises
    ------
    SystemExit
        The function failed, or a signal has stopped it.

    Example
    -------
    >>> def main():
    ...     raise InputError("n is 0; it must be 1 or more; correct --n")
    >>> run(main)
    Traceback (most recent call last):
    SystemExit: 2
    """
    global _work
    _work = _Work()
    with signals_as_exceptions() as signals, _quiet_logging():
        try:
            main()
            sys.stdout.flush()
            return
        except SystemExit:
            raise
        except BaseException as error:
            if signals.number is None and _others_may_tell(error):
                with contextlib.suppress(Stopped):
                    time.sleep(_GRACE)
                if signals.number is not None:
                    sys.exit(failure_of(Stopped(signals.number)).status)
            if signals.number is not None:
                # What follows a signal is its consequence.
                error = Stopped(signals.number).with_traceback(
                    error.__traceback__
                )
            status = _end(error)
        finally:
            _leave_processes()
        sys.exit(status)


@contextlib.contextmanager
def _quiet_logging() -> Iterator[None]:
    """Print no traceback where a log's disk is full: the work will tell."""
    before, logging.raiseExceptions = logging.raiseExceptions, False
    try:
        yield
    finally:
        logging.raiseExceptions = before


def _others_may_tell(error: BaseException) -> bool:
    """Return whether another process of the group says what is wrong.

    All of them find a mistake in the input, which the first one tells, and
    each notices that another is gone. If so, torchrun ends this one soon.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return False
    is_lost = any(words in str(error) for words in _PEER_IS_GONE)
    return is_lost or not _is_main_process()


def _end(error: BaseException) -> int:
    """Print the last line, keep the traceback; return the exit status."""
    failure = failure_of(error)
    stopped = isinstance(error, KeyboardInterrupt)
    if isinstance(error, (InputError, StepError)):
        _keep(failure.reason)
        _say(f"error: {failure.reason}")
        return failure.status
    then = f"{failure.first} the same command {_work.again}".strip()
    line = f"{failure.reason}; {_work.stands}; {then}"
    text = "".join(traceback.format_exception(error))
    # Files that are open and arrays that its frames hold.
    traceback.clear_frames(error.__traceback__)
    kept = _keep(f"{line}\n{text}", always=not stopped)
    if stopped:
        if _is_main_process() and not _is_driven:
            _say(line)
        return failure.status
    if failure.status == INTERNAL:
        line += "; please report it with its traceback"
    _say(f"error: {line}; traceback: {kept or 'nowhere, no file can be made'}")
    _let_go_of_output()
    return failure.status


def _keep(text: str, always: bool = False) -> Path | None:
    """Write a text to the end of the log; return where it is.

    Arguments
    ---------
    text : str
        A line, perhaps with a traceback.
    always : bool
        Write it into a file for temporary files where there is no log.
    """
    text = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text.rstrip()}\n"
    with contextlib.suppress(OSError):
        if _work.log is not None:
            with open(_work.log, "a", encoding="utf-8") as stream:
                stream.write(text)
            return _work.log
    with contextlib.suppress(OSError):
        if always:
            handle, name = tempfile.mkstemp(".txt", "traceback-")
            with open(handle, "w", encoding="utf-8") as stream:
                stream.write(text)
            return Path(name)
    return None


def _say(line: str) -> None:
    # The terminal may be gone.
    with contextlib.suppress(OSError, ValueError):
        print(line, file=sys.stderr, flush=True)


def _let_go_of_output() -> None:
    """Keep Python from a second complaint where output cannot be written."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _process_group() -> Any:
    """Return torch.distributed if this process is in a group, else None."""
    # What has not imported torch is in no group, and need not import it now.
    torch = sys.modules.get("torch")
    if torch and torch.distributed.is_available():
        if torch.distributed.is_initialized():
            return torch.distributed
    return None


def _leave_processes() -> None:
    """End the group of processes that a training has joined, if any."""
    if group := _process_group():
        group.destroy_process_group()


def _is_main_process() -> bool:
    """Return whether this process is the first of its group, or alone."""
    if group := _process_group():
        return group.get_rank() == 0
    return os.environ.get("RANK", "0") == "0"
