"""CPU seconds of each command's help, beside those of importing torch.

A help that is waited for is not asked for. Every command of ``sbext`` is
started as a user starts it, in a Python of its own, and so are the overview and
an error; each is timed in turns with ``python -c "import torch"``, which
everything that computes begins with. To run it:

> PYTHONPATH=. python benchmarks/start_up.py
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
from typing import Any

from benchmarks.measuring import machine
from speechbrain_ext.__main__ import GROUPS
from speechbrain_ext.commands.command_line import run
from speechbrain_ext.commands.recipe_help import command_of
from speechbrain_ext.utils.files import write_json

TORCH = ["-c", "import torch"]


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n_repeats", type=int, default=3)
    parser.add_argument("--commands", nargs="*", help="some of them; else all")
    parser.add_argument("--output", default="results/benchmarks/start_up.json")
    return parser.parse_args(argv)


def commands() -> dict[str, list[str]]:
    """Return the words of what is timed, by its name."""
    names = [command_of(name) for group in GROUPS.values() for name in group]
    found = {f"{name} --help": [name, "--help"] for name in names}
    return {"--help": ["--help"], **found, "a wrong plan": ["run", "none"]}


def cpu_seconds(words: list[str]) -> float:
    """Return the CPU seconds, of user and system, of a Python."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    user = after.ru_utime - before.ru_utime
    return user + after.ru_stime - before.ru_stime


def report(given: argparse.Namespace) -> dict[str, Any]:
    """Time all commands and compare them with the import of torch."""
    timed = commands()
    if given.commands is not None:
        timed = {name: timed[name] for name in given.commands}
    spent: dict[str, list[float]] = {name: [] for name in timed}
    torch = []
    for _ in range(given.n_repeats):
        torch.append(cpu_seconds(TORCH))
        for name, words in timed.items():
            spent[name].append(cpu_seconds(["-m", "speechbrain_ext", *words]))
    torch_seconds = statistics.median(torch)
    rows = {}
    for name, values in spent.items():
        seconds = statistics.median(values)
        ratio = round(seconds / torch_seconds, 3)
        rows[name] = {"seconds": round(seconds, 3), "ratio": ratio}
    return {
        "kind": "benchmark",
        "what": "CPU seconds (user and system) of a command in a Python of its "
        "own, and their ratio to those of importing torch; medians",
        "n_repeats": given.n_repeats,
        "torch_seconds": round(torch_seconds, 3),
        "largest_ratio": max(row["ratio"] for row in rows.values()),
        "commands": rows,
        **machine("cpu"),
    }


def main(argv: list[str] | None = None) -> None:
    """Measure, print and write."""
    given = parse(argv)
    found = report(given)
    for name, row in found["commands"].items():
        print(f"{name:28} {row['seconds']:6.2f} s {row['ratio']:6.2f}")
    print(f"{'import torch':28} {found['torch_seconds']:6.2f} s")
    write_json(given.output, found)


if __name__ == "__main__":
    run(main)
