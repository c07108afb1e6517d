"""Lock of a folder, so that two commands do not write into it at once."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
import time
from pathlib import Path

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike

logger = logging.getLogger(__name__)

LOCK = ".lock"
# A command that was just stopped or killed may need a moment to end. Seconds.
WAIT = 5.0
_STEP = 0.05
_HELD = {errno.EAGAIN, errno.EACCES}


class FolderLock:
    """Lock of a folder, held until `release` or the end of the process.

    It is a POSIX record lock on a small file: the kernel frees it when the
    process ends, however it ends, and forked workers do not hold it. Between
    machines it works on NFS 4, and on NFS 3 with its lock daemon; on file
    systems without locks a warning is logged, and nothing is locked.

    Arguments
    ---------
    folder : str or os.PathLike
        An existing folder.
    wait : float, optional
        Seconds to wait for another command to end; `WAIT` if not given.

    Raises
    ------
    InputError
        Another process holds it; its number and machine are named.
    OSError
        Nothing can be written there.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> lock = FolderLock(folder)
    >>> [path.name for path in folder.iterdir()]
    ['.lock']
    >>> lock.release()
    >>> list(folder.iterdir())
    []
    """

    def __init__(self, folder: PathLike, wait: float | None = None):
        self.folder = Path(folder)
        self._owner = os.getpid()
        self._descriptor: int | None = None
        until = time.monotonic() + (WAIT if wait is None else wait)
        while not self._locked():
            if time.monotonic() > until:
                raise InputError(
                    f"output_folder is {str(self.folder)!r}; {self._holder()} "
                    "works in it; wait until it has ended, or give another "
                    "--output_folder"
                )
            time.sleep(_STEP)

    def _locked(self) -> bool:
        """Try to lock; return whether to go on."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self.folder / LOCK, flags, 0o666)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Its last holder may have deleted it after we had opened it.
            is_current = _is_at(descriptor, self.folder / LOCK)
            if is_current:
                os.ftruncate(descriptor, 0)
                name = f"{self._owner} {socket.gethostname()}\n"
                os.pwrite(descriptor, name.encode(), 0)
                self._descriptor, descriptor = descriptor, -1
            return is_current
        except OSError as error:
            if error.errno in _HELD:
                return False
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
                raise
            logger.warning(
                f"{self.folder} is on a file system without locks: start no "
                "other command that writes there"
            )
            return True
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def _holder(self) -> str:
        """Return who holds the lock, in words."""
        try:
            text = (self.folder / LOCK).read_text("utf-8", "replace").split()
        except OSError:
            text = []
        if len(text) != 2:
            return "another process"
        return f"process {text[0]} on {text[1]}"

    def release(self) -> None:
        """Delete the lock's file, and free the lock; a second time: nothing."""
        if self._descriptor is not None and self._owner == os.getpid():
            path = self.folder / LOCK
            if _is_at(self._descriptor, path):
                path.unlink(missing_ok=True)
        self._close()

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __del__(self) -> None:
        """Free the lock."""
        if getattr(self, "_descriptor", None) is not None:
            self._close()


def _is_at(descriptor: int, path: Path) -> bool:
    """Return whether an open file is the one of a name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
