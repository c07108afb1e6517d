"""Signals end a command in order, and its workers at once."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from speechbrain_ext.utils.signals import (
    STOPPING,
    Stopped,
    end_with_parent,
    signals_as_exceptions,
)

FORK = multiprocessing.get_context("fork")


@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_is_an_exception_inside_the_block_alone(number):
    before = signal.getsignal(number)
    with signals_as_exceptions() as came:
        with pytest.raises(Stopped) as stopped:
            os.kill(os.getpid(), number)
        assert stopped.value.number == came.number == number
    assert signal.getsignal(number) is before


def test_a_signal_that_comes_twice_is_one():
    """A terminal and a driver both hand Ctrl-C on to a step."""
    with signals_as_exceptions():
        with pytest.raises(Stopped):
            os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


def test_an_ignored_signal_stays_ignored():
    """As nohup does it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals_as_exceptions():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def _sleep(begun):
    begun.set()
    time.sleep(60)


def test_a_forked_worker_ends_as_without_a_handler():
    with signals_as_exceptions():
        begun = FORK.Event()
        worker = FORK.Process(target=_sleep, args=(begun,))
        worker.start()
        # Python forgets signals that come while a process is being forked.
        begun.wait()
        worker.terminate()
        worker.join()
    assert worker.exitcode == -signal.SIGTERM


def _parent(queue):
    end = FORK.Process(target=_child, args=(os.getpid(), queue))
    end.start()
    end.join()


def _child(parent, queue):
    end_with_parent(parent, signal.SIGKILL)
    queue.put(os.getpid())
    time.sleep(60)


def is_running(pid):
    """Whether a process is there, and not only waits to be reaped."""
    found = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True
    )
    return bool(found.stdout.strip()) and "Z" not in found.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="it is the kernel's")
def test_a_worker_ends_with_a_parent_that_is_killed():
    queue = FORK.Queue()
    parent = FORK.Process(target=_parent, args=(queue,))
    parent.start()
    child = queue.get(timeout=60)
    parent.kill()
    parent.join()
    limit = time.time() + 60
    while is_running(child):
        assert time.time() < limit, f"{child} still runs"
        time.sleep(0.02)
