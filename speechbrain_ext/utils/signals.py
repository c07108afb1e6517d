"""Signals that end a command, and processes that end with their parent."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

# Ctrl-C, what schedulers and `kill` send, and a terminal that was closed. The
# last is unknown on Windows.
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
STOPPING = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
# One Ctrl-C may arrive twice: from the terminal and from a driver. Seconds.
_ONE_SIGNAL = 5.0
_PR_SET_PDEATHSIG = 1
# Loaded here: after a fork, a library should not be.
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class Stopped(KeyboardInterrupt):
    """Exception in the main thread for a signal that ends the command.

    Arguments
    ---------
    number : int
        The signal's.
    """

    def __init__(self, number: int):
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


class StoppingSignals:
    """Handler that raises `Stopped` in the process that installed it.

    Processes forked later, such as loader workers, inherit it; they end as if
    they had no handler.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._owner = os.getpid()
        self._last = -_ONE_SIGNAL

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        if os.getpid() != self._owner:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        now = time.monotonic()
        if now - self._last < _ONE_SIGNAL:
            return
        self._last = now
        self.number = self.number or number
        raise Stopped(number)


@contextlib.contextmanager
def signals_as_exceptions() -> Iterator[StoppingSignals]:
    """Raise `Stopped` for signals that end the command, inside the block.

    Signals that are ignored, as by nohup, stay so.

    Yields
    ------
    StoppingSignals
        Its ``number`` is that of the first signal, if one came: an error that
        follows may only be its consequence.

    Example
    -------
    >>> with signals_as_exceptions() as came:
    ...     try:
    ...         os.kill(os.getpid(), signal.SIGTERM)
    ...     except Stopped as stopped:
    ...         print(stopped, came.number == signal.SIGTERM)
    stopped by SIGTERM True
    """
    handler = StoppingSignals()
    before = {}
    # Python lets no other thread set a handler.
    if threading.current_thread() is threading.main_thread():
        for number in STOPPING:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, handler)
    try:
        yield handler
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def end_with_parent(parent: int, number: int = signal.SIGTERM) -> None:
    """Let the kernel send this process a signal when its parent ends.

    It works on Linux alone, where the parent is the thread that started this
    process. Elsewhere it does nothing.

    Arguments
    ---------
    parent : int
        Process id of the parent; where it is another by now, the signal is
        sent at once.
    number : int
        Of the signal.
    """
    if _LIBC is None:
        return
    _LIBC.prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)
