"""Start of a recipe as a process: its command line and environment.

The driver and the benchmarks start recipes as a user does, so that each stage
can be repeated from the command line that was printed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from speechbrain.utils.run_opts import RunOptions

from speechbrain_ext.utils.files import PathLike

_OPTIONS = RunOptions().as_dict().keys()
ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "recipes"
# For training on a CPU under load: glibc hands memory back to the kernel after
# every layer and OpenMP threads spin while they wait. Measured on 2 cores with
# other work beside it: 12 s a DINO step without these, 1.1 s with them.
CPU_ENVIRONMENT = {
    "OMP_WAIT_POLICY": "passive",
    "MALLOC_MMAP_THRESHOLD_": str(2**32),
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
}


def recipe_script(recipe: str) -> Path:
    """Return the path of a recipe's script, whether or not it exists.

    Example
    -------
    >>> recipe_script("train_dino").name
    'train_dino.py'
    """
    return RECIPES / f"{recipe}.py"


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
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {
        **CPU_ENVIRONMENT,
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }


def run_recipe(words: Sequence[str]) -> int:
    """Run a command line until it ends.

    Returns
    -------
    int
        Its exit status.
    """
    return subprocess.run(list(words), env=recipe_environment()).returncode
