"""Two commands never work in one folder; a dead one is in nobody's way."""

import errno
import fcntl
import multiprocessing
import os
import signal
import socket
import time

import pytest

from speechbrain_ext.commands.folder_lock import LOCK, FolderLock
from speechbrain_ext.utils.errors import InputError

FORK = multiprocessing.get_context("fork")


def _hold(folder, ready, seconds):
    lock = FolderLock(folder)
    ready.set()
    time.sleep(seconds)
    lock.release()


def holder(folder, seconds=60):
    """Another process, which has locked a folder."""
    ready = FORK.Event()
    process = FORK.Process(target=_hold, args=(folder, ready, seconds))
    process.start()
    assert ready.wait(60)
    return process


def test_a_locked_folder_is_refused_and_its_holder_named(tmp_path):
    other = holder(tmp_path)
    try:
        name = f"process {other.pid} on {socket.gethostname()} works in it"
        with pytest.raises(InputError, match=name):
            FolderLock(tmp_path, wait=0)
    finally:
        other.kill()
        other.join()


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    other = holder(tmp_path)
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    assert (tmp_path / LOCK).exists()
    FolderLock(tmp_path, wait=0).release()
    assert not (tmp_path / LOCK).exists()


def test_a_command_that_is_about_to_end_is_waited_for(tmp_path):
    other = holder(tmp_path, seconds=0.2)
    FolderLock(tmp_path, wait=30).release()
    other.join()


def test_a_forked_worker_does_not_hold_the_lock(tmp_path):
    """Loader workers outlive a killed training by seconds."""
    lock = FolderLock(tmp_path)
    worker = FORK.Process(target=time.sleep, args=(60,))
    worker.start()
    try:
        lock.release()
        holder(tmp_path, seconds=0).join()
    finally:
        worker.kill()
        worker.join()


def test_one_process_may_lock_again(tmp_path):
    first = FolderLock(tmp_path)
    FolderLock(tmp_path, wait=0).release()
    first.release()
    first.release()
    assert not list(tmp_path.iterdir())


def test_without_locks_work_goes_on_with_a_warning(
    tmp_path, monkeypatch, caplog
):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    FolderLock(tmp_path).release()
    assert "file system without locks" in caplog.text
