"""Start of a recipe as a process: its command line and environment.

The driver and the benchmarks start recipes as a user does, so that each stage
can be repeated from the command line that was printed.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import logging
import multiprocessing
import os
import runpy
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from speechbrain.utils.run_opts import RunOptions

from speechbrain_ext.commands.command_line import be_driven, run
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike
from speechbrain_ext.utils.shipped import RECIPES, import_folders
from speechbrain_ext.utils.signals import end_with_parent
from speechbrain_ext.utils.terminal import bar_environment

logger = logging.getLogger(__name__)

AUTO_LAUNCHER = "auto"
# Seconds that a step has to end in order; torchrun needs up to 30.
_GRACE = 60.0
# Words by which torchrun counts the processes of a machine itself.
_COUNTED = ("auto", "cpu", "gpu")
_OPTIONS = RunOptions().as_dict().keys()
# What recipes import: seconds, which a run of many steps spends once.
_IMPORTED = (
    "speechbrain_ext.experiment.training_run",
    "speechbrain_ext.inference.verifier",
    "speechbrain_ext.models.extraction",
    "speechbrain_ext.report.run_report",
    "speechbrain_ext.training.networks",
    "speechbrain_ext.verification.system",
)
# For a CPU under load, where OpenMP threads would spin while they wait.
CPU_ENVIRONMENT = {"OMP_WAIT_POLICY": "passive"}


def recipe_script(recipe: str) -> Path:
    """Return the path of a recipe's script, whether or not it exists.

    Example
    -------
    >>> recipe_script("train_dino").name
    'train_dino.py'
    """
    return RECIPES / f"{recipe}.py"


def launcher_words(
    launcher: str | Sequence[str], batch_size: int | None = None
) -> list[str]:
    """Return the words that start a step on several processes.

    Arguments
    ---------
    launcher : str or sequence of str
        ``"auto"``: torchrun with a process for each GPU of the machine, or
        nothing where there is one GPU or none. A list: its words as they are.
    batch_size : int, optional
        Utterances that the processes share. ``"auto"`` takes the largest
        number of GPUs that divides them.

    Returns
    -------
    list of str
        Empty: one process, without a launcher.

    Example
    -------
    >>> launcher_words(["torchrun", "--standalone"])
    ['torchrun', '--standalone']
    """
    if launcher != AUTO_LAUNCHER:
        return list(launcher)
    n_gpus = count_gpus()
    n_used = n_gpus
    while batch_size and n_used > 1 and batch_size % n_used:
        n_used -= 1
    if n_used < n_gpus:
        logger.warning(
            f"{n_used} of {n_gpus} GPUs are used: {n_gpus} cannot share a "
            f"batch_size of {batch_size} evenly"
        )
    if n_used < 2:
        return []
    # The module of torchrun, whose script need not be on PATH.
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return [*start, "--nproc_per_node", str(n_used)]


def check_launcher(launcher: str | Sequence[str]) -> None:
    """Raise InputError if a launcher cannot start processes.

    Arguments
    ---------
    launcher : str or sequence of str
        As of `launcher_words`.

    Raises
    ------
    InputError
        There is no such command, or it is to start no process.

    Example
    -------
    >>> check_launcher(["nosuch", "--standalone"])
    Traceback (most recent call last):
    speechbrain_ext.utils.errors.InputError: launcher is ['nosuch', ...
    """
    if launcher == AUTO_LAUNCHER or not launcher:
        return
    words = list(launcher)
    if shutil.which(words[0]) is None:
        raise InputError(
            f"launcher is {words}; there is no command {words[0]!r} here; give "
            "--launcher=auto for all GPUs of the machine, or begin with python "
            "-m torch.distributed.run"
        )
    value = given_processes(words)
    if value not in (None, *_COUNTED) and not (value.isdigit() and int(value)):
        raise InputError(
            f"launcher is {words}; nproc_per_node must be 1 or more, or one of "
            f"{', '.join(_COUNTED)}; correct --launcher"
        )


def given_processes(words: Sequence[str]) -> str | None:
    """Return what a launcher's words say after ``--nproc_per_node``.

    Example
    -------
    >>> given_processes(["torchrun", "--nproc-per-node=8"])
    '8'
    """
    text = " ".join(words).replace("=", " ").replace("-", "_").split()
    if "__nproc_per_node" not in text[:-1]:
        return None
    return text[text.index("__nproc_per_node") + 1]


def count_gpus() -> int:
    """Count the GPUs of this machine that CUDA_VISIBLE_DEVICES leaves."""
    import torch

    return torch.cuda.device_count()


def recipe_words(
    recipe: str,
    hparams: PathLike,
    values: Mapping[str, Any],
    launcher: Sequence[str] = (),
    options: Sequence[str] = (),
) -> list[str]:
    """Return the words of the command line that runs a recipe.

    Arguments
    ---------
    recipe : str
        Stem of its script.
    hparams : str or os.PathLike
        Its YAML.
    values : mapping of str to Any
        Values of the YAML's keys to change.
    launcher : sequence of str
        Words that start the script, such as ``torchrun --standalone``; empty:
        the running Python.
    options : sequence of str
        SpeechBrain run options, at the end.

    Example
    -------
    >>> words = recipe_words("train_dino", "a.yaml", {"crop": None}, ["run"])
    >>> words[0], words[2:]
    ('run', ['a.yaml', '--crop=null'])
    """
    return [
        *(launcher or [sys.executable]),
        str(recipe_script(recipe)),
        str(hparams),
        *(word for item in values.items() for word in _words(*item)),
        *options,
    ]


def _words(key: str, value: Any) -> list[str]:
    """Return a value as typed; SpeechBrain's own options are not YAML."""
    if key in _OPTIONS and (value is None or isinstance(value, bool)):
        return [f"--{key}"] if value else []
    if key in _OPTIONS and isinstance(value, str):
        return [f"--{key}={value}"]
    return [f"--{key}={json.dumps(value)}"]


def recipe_environment() -> dict[str, str]:
    """Return a recipe's environment: ours, with this package importable."""
    paths = [*import_folders(), os.environ.get("PYTHONPATH", "")]
    return {
        **CPU_ENVIRONMENT,
        **bar_environment(),
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }


def run_recipe(words: Sequence[str]) -> int:
    """Run a command line until it ends.

    On Linux a recipe without a launcher is a fork of one Python that has
    imported what recipes need, so that a short step does not wait for that.

    Arguments
    ---------
    words : sequence of str
        As `recipe_words` returns them.

    Returns
    -------
    int
        Its exit status; negative: the number of the signal that ended it.
    """
    if can_fork(words):
        return _run_fork(list(words[1:]))
    return run_process(words)


def run_process(words: Sequence[str]) -> int:
    """Run a command line as a process group of its own until it ends.

    When this process is stopped or dies, so is the group: what a launcher
    such as torchrun has started belongs to it.

    Arguments
    ---------
    words : sequence of str
        The command line.

    Returns
    -------
    int
        As of `run_recipe`.

    Example
    -------
    >>> run_process(["sh", "-c", "exit 3"])
    3
    """
    process = subprocess.Popen(
        list(words),
        env=recipe_environment(),
        process_group=0,
        preexec_fn=functools.partial(end_with_parent, os.getpid()),
    )

    def wait(seconds: float) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)

    with _stopped_with_us(functools.partial(os.killpg, process.pid), wait):
        return process.wait()


@contextlib.contextmanager
def _stopped_with_us(
    send: Callable[[int], None], wait: Callable[[float], None]
) -> Iterator[None]:
    """Hand a signal that stops this process on to a step, and let it end.

    Another signal, or `_GRACE` seconds, end the step at once.
    """
    try:
        yield
    except BaseException as error:
        number = getattr(error, "number", signal.SIGTERM)
        with contextlib.suppress(ProcessLookupError):
            try:
                send(number)
                wait(_GRACE)
            finally:
                send(signal.SIGKILL)
        raise


def how_ended(status: int) -> str:
    """Return in words how a step ended that failed.

    Example
    -------
    >>> how_ended(2)
    'ended with status 2'
    >>> how_ended(-9)
    'was ended by SIGKILL, which the system sends when memory runs out'
    """
    if status >= 0:
        return f"ended with status {status}"
    text = f"was ended by {signal.Signals(-status).name}"
    if status == -signal.SIGKILL:
        text += ", which the system sends when memory runs out"
    return text


def can_fork(words: Sequence[str]) -> bool:
    """Return whether a command line may run as a fork of an idle Python.

    Example
    -------
    >>> can_fork(["torchrun", str(recipe_script("train_dino"))])
    False
    """
    # Elsewhere system libraries do not survive a fork.
    if sys.platform != "linux" or words[0] != sys.executable:
        return False
    return Path(words[1]).suffix == ".py"


@functools.cache
def _forks() -> Any:
    """Return the context whose server imports first and is forked then.

    A server of its own: the driver has threads, which a fork would lose.
    """
    os.environ.update(recipe_environment())
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_IMPORTED))
    return context


def _run_fork(words: list[str]) -> int:
    process = _forks().Process(target=_become, args=(words,))
    process.start()

    def send(number: int) -> None:
        if process.is_alive():
            os.kill(process.pid, number)

    with _stopped_with_us(send, process.join):
        process.join()
    return process.exitcode


def _become(words: list[str]) -> None:
    """Run a script in a fork as ``python WORDS`` would."""
    be_driven()
    threading.Thread(target=_end_with_driver, daemon=True).start()
    # The workers of loaders are plain forks again.
    multiprocessing.set_start_method(None, force=True)
    sys.argv = words
    sys.path.insert(0, str(Path(words[0]).parent))
    try:
        run(lambda: runpy.run_path(words[0], run_name="__main__"))
    finally:
        # As the interpreter does at its end, and processes of this kind not.
        atexit._run_exitfuncs()


def _end_with_driver() -> None:
    """Wait until the driver has ended, which kill -9 does too; end then.

    The driver is not the parent of a fork, which is the server: what is
    watched is a pipe, whose other end the driver alone has.
    """
    driver = multiprocessing.parent_process()
    if driver is not None:
        driver.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_GRACE)
        os.kill(os.getpid(), signal.SIGKILL)
