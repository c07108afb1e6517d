"""The process behind ``warm.py``: imports everything, then forks on request.

Three processes serve a command: this one accepts the connection, its child
tells the caller the exit status, and the grandchild becomes the program.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import socket
import subprocess
import sys
import threading
import types

# Imported in functions, not at the top of the package's modules.
LATE = (
    "speechbrain.inference.speaker",
    "torch.utils.tensorboard",
)


def import_everything():
    """The package and what it imports, so that forks need not."""
    import speechbrain_ext

    modules = pkgutil.walk_packages(
        speechbrain_ext.__path__, "speechbrain_ext."
    )
    for name in (*(module.name for module in modules), *LATE):
        importlib.import_module(name)
    threads = os.listdir("/proc/self/task")
    assert len(threads) == 1, f"{len(threads)} threads cannot be forked"
    gc.collect()
    gc.freeze()


def next_program(listener):
    """Serve until the caller ends; returns, in a fork, what it is to run."""
    while True:
        ready, _, _ = select.select([listener, 0], [], [])
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if 0 in ready:
            os._exit(0)
        caller, _ = listener.accept()
        if not os.fork():
            listener.close()
            return start_and_report(caller)
        caller.close()


def start_and_report(caller):
    """Fork the program, and tell the caller how it ended."""
    line, files, _, _ = socket.recv_fds(caller, 2**16, 3)
    while not line.endswith(b"\n"):
        line += caller.recv(2**16)
    pid = os.fork()
    if not pid:
        return take_over(caller, json.loads(line), files)
    for file in files:
        os.close(file)
    with contextlib.suppress(OSError):
        _, status = os.waitpid(pid, 0)
        caller.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def take_over(caller, request, files):
    """Group, files, folder and environment of the program."""
    try:
        os.setpgid(0, request["group"])
        caller.sendall(f"{os.getpid()}\n".encode())
    except OSError:  # the caller was killed meanwhile
        os._exit(1)
    caller.close()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(request["folder"])
    before = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    paths = [path for path in sys.path[1:] if path not in before]
    address = sys.argv[1]
    os.environ.clear()
    os.environ.update(request["environment"], WARM_PYTHON=address)
    added = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:] = [*filter(None, added), *paths]
    subprocess.run = run_as_fork
    # Steps of a run are forks of this process, not of another warm one.
    launch.can_fork = lambda words: False
    launch.run_process = step_as_fork
    return request["words"]


def run_as_fork(words, *rest, env=None, cwd=None, check=False, **options):
    """``subprocess.run``, where Python is to run and nothing is captured."""
    if rest or options or words[0] != sys.executable:
        options.update(env=env, cwd=cwd, check=check)
        return plain_run(words, *rest, **options)
    group = os.getpgrp()
    code = warm.status_of(words, cwd, env, [0, 1, 2], group)
    if check and code:
        raise subprocess.CalledProcessError(code, words)
    return subprocess.CompletedProcess(words, code)


def step_as_fork(words):
    """As ``launch.run_process``, in the group of the driver."""
    if words[0] == sys.executable:
        return run_as_fork(words, env=launch.recipe_environment()).returncode
    return plain_run_process(words)


def end_of_program(words):
    """Run ``python WORDS``, and end as that would; does not return.

    But for the modules, which are not taken down: that takes most of a second.
    """
    code = 0
    try:
        run_program(words)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else bool(stop.code)
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    # As the interpreter: other threads first, then what was registered.
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code & 0xFF)


def main_module(name):
    """The module that ``python -m NAME`` runs: a package's is in it."""
    is_package = hasattr(sys.modules.get(name), "__path__")
    return f"{name}.__main__" if is_package else name


def run_program(words):
    """What ``python WORDS`` does."""
    first, *rest = words
    if first == "-c":
        sys.argv, sys.path[:0] = ["-c", *rest[1:]], [""]
        module = types.ModuleType("__main__")
        sys.modules["__main__"] = module
        exec(compile(rest[0], "<string>", "exec"), module.__dict__)
    elif first == "-m":
        sys.argv, sys.path[:0] = rest, [os.getcwd()]
        sys.modules.pop(main_module(rest[0]), None)
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[:0] = words, [os.path.dirname(first)]
        runpy.run_path(first, run_name="__main__")


if __name__ == "__main__":
    import warm

    from speechbrain_ext.experiment import launch

    plain_run = subprocess.run
    plain_run_process = launch.run_process
    import_everything()
    place = socket.socket(socket.AF_UNIX)
    place.bind(sys.argv[1])
    place.listen()
    print("warm", flush=True)
    end_of_program(next_program(place))
