"""Proof and measurement of every path that a GPU takes, in one command.

Sections run each in a process of its own with a deadline; the file is written
anew after each, and what fails is a row in it, never an end. Parity with the
CPU, resuming and host syncs come first; then the times of fine-tuning, DINO,
input, extraction, clustering and a plan; then the hours that the paper's plan
would take. It takes at most nine minutes, without network. To run it, from the
root of this repository:

> PYTHONPATH=. python benchmarks/gpu.py --sslsv=PATH --authors=PATH \
      --minivox=PATH
> PYTHONPATH=. python benchmarks/gpu.py --device=cpu --budget=240

On a CPU, sizes are small: it proves the checks and the script, and no figure
of a GPU is claimed. It exits with 1 if a check does not hold.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_sections import SECTIONS
from benchmarks.gpu_sections.common import NotMeasuredError, Options, Row
from benchmarks.gpu_sections.summary import summary
from benchmarks.measuring import machine
from speechbrain_ext.commands.command_line import run
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import write_json

LEAST_SECONDS = 5.0  # of a section, so that one is never skipped
GRACE_SECONDS = 2.0  # between a request to end and a kill


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--only", default="".join(SECTIONS), help="e.g. ACG")
    parser.add_argument("--budget", type=float, default=520.0, help="seconds")
    parser.add_argument("--out", help="file; by default one of the device")
    parser.add_argument("--sslsv", help="folder of sslsv's checkout")
    parser.add_argument("--authors", help="folder of the authors' checkout")
    parser.add_argument("--minivox", help="folder of MiniVox")
    parser.add_argument(
        "--size",
        choices=("full", "small", "tiny"),
        help="of what is measured: full on a GPU and small on a CPU by default",
    )
    arguments = parser.parse_args(argv)
    _check(arguments)
    on_gpu = arguments.device == "cuda"
    arguments.size = arguments.size or ("full" if on_gpu else "small")
    name = "gpu.json" if on_gpu else "gpu_cpu.json"
    arguments.out = arguments.out or f"results/benchmarks/{name}"
    return arguments


def _check(arguments: argparse.Namespace) -> None:
    """Raise InputError for sections or folders that do not exist."""
    unknown = [letter for letter in arguments.only if letter not in SECTIONS]
    if unknown or not arguments.only:
        raise InputError(
            f"only is {arguments.only!r}; it must be letters of "
            f"{''.join(SECTIONS)}; correct --only"
        )
    for key in ("sslsv", "authors", "minivox"):
        path = getattr(arguments, key)
        if path is not None and not Path(path).is_dir():
            raise InputError(
                f"{key} is {path}; there is no such folder; correct --{key}, "
                "or leave it out"
            )


def work(letter: str, options: Options, path: str) -> None:
    """Measure the items of a section in this process; write each as a line."""
    os.setsid()  # what it starts ends with it
    os.environ["TQDM_DISABLE"] = "1"
    warnings.simplefilter("ignore")
    if not options.on_gpu:
        # Threads that wait for each other are slow where cores are shared.
        torch.set_num_threads(1)
    silence = open(os.devnull, "w")  # noqa: SIM115
    sys.stdout = sys.stderr = silence
    with open(path, "a") as stream:
        for name, function in SECTIONS[letter][1].items(options):
            row = {"section": letter, "item": name, **measured(function)}
            stream.write(json.dumps(row, default=str) + "\n")
            stream.flush()


def measured(function: Any) -> Row:
    """Call an item; what fails becomes its row."""
    start = time.perf_counter()
    try:
        row = function()
    except NotMeasuredError as reason:
        row = {"not_measured": str(reason)}
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        row = {
            "failed": f"{type(error).__name__}: {error}"[:500],
            "at": f"{Path(place.filename).name}:{place.lineno}",
            "ok": False,
        }
    return {**row, "took_seconds": round(time.perf_counter() - start, 3)}


def run_section(letter: str, options: Options, deadline: float) -> list[Row]:
    """Run a section in a process of its own until its deadline."""
    # A fork would be of no use once CUDA has begun in it, and this process
    # never begins; but libraries may, so a GPU gets a fresh process.
    kind = "spawn" if options.on_gpu else "fork"
    with tempfile.NamedTemporaryFile("r", suffix=".jsonl") as stream:
        process = multiprocessing.get_context(kind).Process(
            target=work, args=(letter, options, stream.name)
        )
        process.start()
        process.join(deadline)
        late = process.is_alive()
        _end(process)
        rows = [json.loads(line) for line in stream if line.endswith("\n")]
    end: Row = {"section": letter}
    if late:
        end |= {"item": "deadline", "stopped_after_seconds": round(deadline, 1)}
        return [*rows, end]
    if process.exitcode:
        end |= {"item": "end", "failed": f"it died: status {process.exitcode}"}
        return [*rows, {**end, "ok": False}]
    return rows


def _end(process: Any) -> None:
    """End a process and all that it has started."""
    for number, wait in (
        (signal.SIGTERM, GRACE_SECONDS),
        (signal.SIGKILL, None),
    ):
        try:
            os.killpg(process.pid, number)
        except (ProcessLookupError, PermissionError):
            pass
        process.join(wait)
        if not process.is_alive() and number == signal.SIGKILL:
            return


def main(argv: list[str] | None = None) -> None:
    """Run the sections, rewrite the file after each, and print the summary."""
    arguments = parse(argv)
    options = Options(
        arguments.device,
        arguments.size,
        arguments.sslsv,
        arguments.authors,
        arguments.minivox,
    )
    end = time.monotonic() + arguments.budget
    report: dict[str, Any] = {
        "kind": "benchmark",
        "what": "paths of a GPU: parity, semantics, times",
        "device": arguments.device,
        "size": arguments.size,
        "budget_seconds": arguments.budget,
        "sections": {},
    }
    left = [letter for letter in SECTIONS if letter in arguments.only]
    while left:
        letter, shares = left[0], [SECTIONS[x][2] for x in left]
        share = (end - time.monotonic()) * shares[0] / sum(shares)
        rows = run_section(letter, options, max(share, LEAST_SECONDS))
        report["sections"][letter] = {
            "title": SECTIONS[letter][0],
            "rows": rows,
        }
        report["summary"] = summary(report, options)
        write_json(arguments.out, report)
        print(f"{letter} {SECTIONS[letter][0]}: {len(rows)} rows", flush=True)
        left.pop(0)
    report |= machine("cpu") | _gpu_facts(options)
    write_json(arguments.out, report)
    print("\n".join(report["summary"]["lines"]))
    if not report["summary"]["ok"]:
        sys.exit(1)


def _gpu_facts(options: Options) -> dict[str, Any]:
    """Return the GPU's name and memory."""
    if not options.on_gpu:
        return {}
    facts = torch.cuda.get_device_properties(0)
    return {"device_name": facts.name, "gib": facts.total_memory / 2**30}


if __name__ == "__main__":
    run(main)
