"""A loop on two machines, as on one, and after one of them is killed.

Two groups of torchrun's processes on this machine, which share nothing but a
folder and a port, stand for two machines. The driver of a toy loop starts each
training and each extraction on both; its launcher is this file, as `srun` is on
a cluster. What they leave is compared, file by file, with what one machine
leaves that has as many processes. Then the loop is run again, one machine is
killed within a step, and the command is typed again. To run it:

> python benchmarks/machines.py --folder=exp/machines
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.kill_campaign import contents, differing, toy_loop
from benchmarks.measuring import machine
from speechbrain_ext.experiment import launch
from speechbrain_ext.utils.files import write_json
from speechbrain_ext.utils.signals import end_with_parent

N_MACHINES = 2
# Options of each step: all that a GPU would change.
OPTIONS = ("--device=cpu", "--distributed_backend=gloo")
# What shows that a step's work has begun, in its folder.
_BEGUN = ("save/CKPT*", "chunks/*.npz")


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return int(found.getsockname()[1])


def torchrun(n_machines: int, rank: int, port: int) -> list[str]:
    """Return the words that start one machine's part of a step."""
    return [
        *(sys.executable, "-m", "torch.distributed.run"),
        f"--nnodes={n_machines}",
        f"--nproc_per_node={N_MACHINES // n_machines}",
        f"--node_rank={rank}",
        *("--master_addr=localhost", f"--master_port={port}"),
    ]


def start_everywhere(
    words: list[str], n_machines: int, kill: bool = False
) -> int:
    """Run a command on each machine; end all when one fails, as srun does.

    Arguments
    ---------
    words : list of str
        The command, without Python.
    n_machines : int
        How many.
    kill : bool
        Whether to kill the last machine when the work has begun.

    Returns
    -------
    int
        0, or the status of the first that failed.
    """
    port = free_port()
    started = [
        subprocess.Popen(
            [*torchrun(n_machines, rank, port), *words],
            start_new_session=True,
            preexec_fn=functools.partial(
                end_with_parent, os.getpid(), signal.SIGKILL
            ),
        )
        for rank in range(n_machines)
    ]
    while any(process.poll() is None for process in started):
        time.sleep(0.05)
        if kill and has_begun(words):
            os.killpg(started[-1].pid, signal.SIGKILL)
            kill = False
        if any(process.poll() for process in started):
            break
    status = next((p.returncode for p in started if p.poll()), 0)
    for process in started:
        if process.poll() is None:
            # Its workers first: they wait for the one that is gone.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return abs(status)


def has_begun(words: list[str]) -> bool:
    """Return whether a step has left a checkpoint or a chunk."""
    key = "--output_folder="
    given = next(word for word in words if word.startswith(key))
    folder = Path(json.loads(given.removeprefix(key)))
    return any(any(folder.glob(pattern)) for pattern in _BEGUN)


def run_loop(folder: Path, n_machines: int, log: Path, kill: int | None) -> int:
    """Type the command of the loop once; return its exit status.

    Arguments
    ---------
    folder : pathlib.Path
        Of the run.
    n_machines : int
        That share its processes.
    log : pathlib.Path
        Of what it says.
    kill : int, optional
        Which launched step loses a machine, from 1.
    """
    launcher = ["env", sys.executable, __file__, "--start"]
    words = toy_loop().line(folder)
    words += [f"--launcher={json.dumps(launcher)}", *OPTIONS]
    environment = {
        **launch.recipe_environment(),
        "MACHINES": str(n_machines),
        "MACHINES_LOG": str(log),
        "MACHINES_KILL": str(kill or 0),
    }
    with open(log, "ab") as out:
        return subprocess.run(
            [sys.executable, *words], env=environment, stdout=out, stderr=out
        ).returncode


def start(words: list[str]) -> int:
    """Start a step as the launcher of a loop."""
    count = Path(os.environ["MACHINES_LOG"]).with_suffix(".steps")
    with open(count, "a") as stream:
        stream.write(".")
    is_killed = count.stat().st_size == int(os.environ["MACHINES_KILL"])
    return start_everywhere(words, int(os.environ["MACHINES"]), is_killed)


def measured(
    root: Path, name: str, n_machines: int, kill: int | None
) -> dict[str, Any]:
    """Run a loop, typing it again after a failure; return what it left."""
    folder, log = root / "run", root / f"{name}.txt"
    log.unlink(missing_ok=True)
    log.with_suffix(".steps").unlink(missing_ok=True)
    begun = time.monotonic()
    statuses = [run_loop(folder, n_machines, log, kill)]
    if kill is not None and statuses[0]:
        statuses.append(run_loop(folder, n_machines, log, None))
    found = {
        "name": name,
        "statuses": statuses,
        "seconds": round(time.monotonic() - begun, 1),
        "files": contents(folder),
        "embeddings": last_embeddings(folder),
    }
    folder.rename(root / name)
    print(f"{name}: statuses {statuses}", flush=True)
    return found


def last_embeddings(folder: Path) -> np.ndarray:
    """Return the embeddings of the last round's test utterances."""
    return np.load(folder / "round1" / "test_embeddings" / "embeddings.npy")


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default="exp/machines")
    parser.add_argument("--kill", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--output", default="results/benchmarks/machines.json")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the loop on one machine and on two, killed and not; compare."""
    arguments = parse(argv)
    root = arguments.folder.absolute()
    root.mkdir(parents=True, exist_ok=True)
    one = measured(root, "one", 1, None)
    runs = [measured(root, "two", N_MACHINES, None)]
    for step in arguments.kill:
        runs.append(measured(root, f"killed{step}", N_MACHINES, step))
    rows = []
    for found in runs:
        differ = differing(one["files"], found["files"]) - {"commands.json"}
        far = np.abs(found["embeddings"] - one["embeddings"]).max()
        rows.append(
            {
                "name": found["name"],
                "statuses": found["statuses"],
                "seconds": found["seconds"],
                "differ": sorted(differ),
                "largest_difference_of_embeddings": float(far),
            }
        )
        print(rows[-1], flush=True)
    report = {
        "kind": "benchmark",
        "what": "a loop on two machines beside the same on one",
        "n_processes": N_MACHINES,
        "n_files": len(one["files"]),
        "seconds_of_one": one["seconds"],
        "rows": rows,
        **machine("cpu"),
    }
    write_json(arguments.output, report)
    print(f"written: {arguments.output}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--start"]:
        sys.exit(start(sys.argv[2:]))
    main()
