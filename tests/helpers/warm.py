"""Run a Python command line without the seconds that imports take.

A real process imports torch, SpeechBrain and the rest before it does anything.
Here one process, ``warm_python.py``, has imported them, and forks itself for
each command: the same code, in a process and a process group of its own. Steps
that such a command starts with ``subprocess.run`` are forks as well.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

HELPERS = Path(__file__).parent
ADDRESS = "WARM_PYTHON"
# Read when a library is imported, which the warm process has done already.
FIXED = ("HF_", "TRANSFORMERS_", "OMP_", "CUDA_")
# An error only: nothing that a test starts takes a tenth of it.
LIMIT = 3600


def run(words, cwd=None, env=None, timeout=LIMIT):
    """As ``subprocess.run`` of ``[sys.executable, ...]``, output captured."""
    with (
        open(os.devnull, "rb") as none,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
    ):
        files = [none.fileno(), out.fileno(), err.fileno()]
        code = status_of(words, cwd, env, files, timeout=timeout)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "replace"))
    if code is None:
        tail = texts[0][-2000:] + texts[1][-3000:]
        raise AssertionError(f"{words} ran for over {timeout} s:\n{tail}")
    return subprocess.CompletedProcess(words, code, *texts)


def status_of(words, cwd, env, files, group=0, timeout=None):
    """The exit status as ``subprocess`` has it, None when time was up.

    ``files`` are the descriptors of its input, output and errors; ``group``
    the process group it joins, 0 for a new one.
    """
    words = [os.fspath(word) for word in words]
    environment = dict(os.environ if env is None else env)
    refuse_what_a_fork_cannot_do(words, environment)
    request = {
        "words": words[1:],
        "folder": os.fspath(cwd or os.getcwd()),
        "environment": environment,
        "group": group,
    }
    with socket.socket(socket.AF_UNIX) as warm:
        warm.connect(address())
        line = json.dumps(request).encode() + b"\n"
        n_sent = socket.send_fds(warm, [line], files)
        warm.sendall(line[n_sent:])
        with warm.makefile("r") as replies:
            pid = int(replies.readline() or 0)
            assert pid, f"the warm Python did not start {words}"
            try:
                warm.settimeout(timeout)
                return int(replies.readline())
            except TimeoutError:
                os.killpg(pid, signal.SIGKILL)
                return None
            except BaseException:
                os.killpg(group or pid, signal.SIGKILL)
                raise


def refuse_what_a_fork_cannot_do(words, environment):
    """Another interpreter, or variables that it has read before."""
    assert words[0] == sys.executable, words[0]
    for name in environment.keys() | os.environ.keys():
        if name.startswith(FIXED) and name != "OMP_WAIT_POLICY":
            same = environment.get(name) == os.environ.get(name)
            assert same, f"{name} is read at import: start a real process"


def address():
    """Where the warm Python listens; it is started when first asked for."""
    return os.environ.get(ADDRESS) or start()


@functools.cache
def start():
    """Start the warm Python of this test process; it ends with it."""
    from speechbrain_ext.experiment.launch import CPU_ENVIRONMENT

    folder = tempfile.mkdtemp(prefix="warm")
    path = os.path.join(folder, "socket")
    root = str(HELPERS.parents[1])
    # Nobody else has the other end of its input, which closes when we end.
    process = subprocess.Popen(
        [sys.executable, HELPERS / "warm_python.py", path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=root,
        env={**CPU_ENVIRONMENT, **os.environ, "PYTHONPATH": root},
    )

    def end():
        process.stdin.close()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    assert process.stdout.readline() == b"warm\n", "it did not start"
    return path
