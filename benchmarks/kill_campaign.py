"""Whole loops killed and harmed at random; each must end as if left alone.

A toy plan of `run_rounds` is killed again and again, by SIGKILL, SIGTERM and
SIGINT, at any time: during imports, within a step, while a file is written.
Between two attempts a file may be damaged, or a checkpoint dated in the future
as by a clock that was set back; an attempt may find the disk full. The same
command is typed until it ends, and what it leaves is compared, file by file,
with what an undisturbed run leaves in the same place. To run it:

> python benchmarks/kill_campaign.py --kills=100 --folder=exp/kill_campaign

Steps, and four of five drivers, are forks of one Python that has imported
everything; the others start as a user's do.
"""

from __future__ import annotations

import argparse
import atexit
import collections
import contextlib
import dataclasses
import gc
import hashlib
import importlib
import json
import os
import random
import re
import resource
import runpy
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from benchmarks.measuring import machine
from speechbrain_ext.experiment import launch
from speechbrain_ext.experiment.stage_records import RECORD
from speechbrain_ext.training.checkpoints import HASHES
from speechbrain_ext.utils.files import (
    read_json,
    read_json_object,
    sha256,
    write_json,
)

STAGES: dict[str, dict[str, Any]] = {
    "prepare": {
        "n_speakers": 4,
        "n_test_speakers": 3,
        "n_sessions": 2,
        "n_utterances": 2,
        "min_seconds": 0.7,
        "max_seconds": 0.9,
        "n_trials": 20,
        "n_sounds": 1,
        "num_workers": 1,
    },
    "bootstrap": {"n_epochs": 3, "batch_size": 8, "crop": 0.5},
    "labels": {"n_centroids": 6, "n_clusters": 3},
    "train": {"n_epochs": 3, "crop": 0.5, "batch_size": 4},
    "extract": {"num_workers": 0, "chunk_size": 3},
    "score": {"n_bootstrap": 5, "top_k": 2},
}
EMBEDDER = {
    "width": 8,
    "width_last": 16,
    "attention_channels": 8,
    "embedding_size": 8,
}
SIGNALS = {
    "SIGKILL": signal.SIGKILL,
    "SIGTERM": signal.SIGTERM,
    "SIGINT": signal.SIGINT,
}
# What is done besides kills, each before an attempt, and how often.
FAULTS = {"none": 4, "damage": 4, "clock": 2, "disk full": 2}
_COLD = 0.2  # share of drivers that import everything themselves
_AT_WRITE = 0.5  # share of kills as a file appears, not at a time
_IMPORT_SECONDS = 8.0  # in which half of the drivers that import are killed
_PATIENCE = 60.0  # seconds to obey a signal
_MOST_ATTEMPTS = 60  # of a loop, after which it is stuck
_LIMITS = (30_000, 250_000)  # bytes of a file, where the disk is full
# Values that differ from run to run.
_TIMES = {"seconds", "resumed", "machine", "date", "versions"}
_NOT_COMPARED = ("log.txt", "report.html", "TABLE.md", "events.out.")


@dataclasses.dataclass(frozen=True)
class Command:
    """Command line that is typed until it ends.

    Arguments
    ---------
    script : str
        Its program.
    words : list of str
        What follows, without the folder.
    """

    script: str
    words: list[str]

    def line(self, folder: Path) -> list[str]:
        """Return the words after ``python``."""
        script, (first, *rest) = self.script, self.words
        return [script, first, f"--output_folder={folder}", *rest]


@dataclasses.dataclass
class Attempt:
    """One start of the command: how it was disturbed, and how it ended."""

    fault: str
    detail: str = ""
    signal: str | None = None
    cold: bool = False
    place: str = ""
    status: int | None = None


def toy_loop() -> Command:
    """Return the command of a whole loop, as small as it can be."""
    stages = {kind: {"set": values} for kind, values in STAGES.items()}
    words = [
        "hparams/plans/quickstart.yaml",
        f"--stages={json.dumps(stages)}",
        f"--embedder={json.dumps(EMBEDDER)}",
        "--n_rounds=1",
        "--large_margin=False",
        "--topline=False",
        "--backends=raw",
        # Checkpoints within epochs too.
        "--ckpt_interval_minutes=0",
        "--ckpt_interval_steps=1",
        "--noprogressbar",
    ]
    return Command("recipes/run_rounds.py", words)


# Processes.


def start(
    command: Command, folder: Path, log: Path, cold: bool, limit: int | None
) -> int:
    """Start the command in a session of its own; return its process."""
    sys.stdout.flush()
    process = os.fork()
    if process:
        return process
    os.setsid()
    with open(log, "ab") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    line = command.line(folder)
    if cold:
        words = [sys.executable, *line]
        os.execve(sys.executable, words, launch.recipe_environment())
    become(line)


def become(line: Sequence[str]) -> NoReturn:
    """Run a program in a fork as if it had been started."""
    launch.run_recipe = run_step
    sys.argv = list(line)
    sys.path.insert(0, str(Path(line[0]).parent))
    code: Any = 0
    try:
        runpy.run_path(line[0], run_name="__main__")
    except SystemExit as stop:
        code = stop.code or 0
        if isinstance(code, str):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
        code = 1
    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def run_step(words: Sequence[str]) -> int:
    """Run a step's command line as a fork; return its exit status."""
    sys.stdout.flush()
    process = os.fork()
    if not process:
        become(words[1:])
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def status_of(process: int) -> int | None:
    """Return the exit status of a process, None while it runs."""
    ended, status = os.waitpid(process, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def end(process: int, number: int, alone: bool) -> tuple[int, bool]:
    """Send a signal; return the exit status, and whether all obeyed.

    Arguments
    ---------
    process : int
        Of the driver, which leads its session.
    number : int
        Of the signal.
    alone : bool
        Whether the driver alone gets it, and not its steps.
    """
    (os.kill if alone else os.killpg)(process, number)
    limit = time.monotonic() + _PATIENCE
    status = None
    while time.monotonic() < limit:
        status = status_of(process) if status is None else status
        if status is not None and not group_lives(process):
            return status, True
        time.sleep(0.01)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)
    if status is None:
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    while group_lives(process):
        time.sleep(0.01)
    return status, False


def group_lives(process: int) -> bool:
    """Return whether a process of a session still runs."""
    try:
        os.killpg(process, 0)
    except ProcessLookupError:
        return False
    return True


def listing(folder: Path) -> set[str]:
    """Return all paths below a folder."""
    return {
        os.path.join(inside, name)
        for inside, folders, names in os.walk(folder)
        for name in (*folders, *names)
    }


# Faults.


def damage(path: Path, how: str) -> None:
    """Harm a file as disks and kernels do."""
    content = bytearray(path.read_bytes())
    if how == "emptied":
        content.clear()
    elif how == "truncated":
        del content[len(content) // 2 :]
    elif content:
        content[len(content) // 2] ^= 4
    path.write_bytes(content)


def harm_a_file(folder: Path, draw: random.Random) -> str:
    """Damage a checkpoint, a chunk or a model of a run; say which and how."""
    newest = [
        max(save.glob("CKPT+*"), key=lambda path: path.stat().st_ctime_ns)
        for save in sorted(folder.rglob("save"))
        if any(save.glob("CKPT+*")) and not (save.parent / RECORD).exists()
    ]
    files = [
        [path for found in newest for path in sorted(found.iterdir())],
        sorted(folder.rglob("chunks/[0-9]*.npz")),
        sorted(folder.rglob("*/embedding_model.ckpt")),
        sorted(folder.rglob("*/embeddings.npy")),
    ]
    files = [group for group in files if group]
    if not files:
        return ""
    # A checkpoint of the training that goes on, more often than not.
    group = files[0] if draw.random() < 0.6 else draw.choice(files)
    path, how = draw.choice(group), draw.choice(["emptied", "truncated", "bit"])
    damage(path, how)
    return f"{path.relative_to(folder)} {how}"


def date_in_the_future(folder: Path) -> str:
    """Date the older of two checkpoints a year ahead; say which."""
    year = 365 * 86400
    for save in sorted(folder.rglob("save"), reverse=True):
        found = sorted(
            save.glob("CKPT+*"), key=lambda path: path.stat().st_ctime_ns
        )
        meta = found[0] / "CKPT.yaml" if len(found) == 2 else None
        if meta is None or not meta.is_file():
            continue
        with contextlib.suppress(ValueError):
            hashes = read_json_object(found[0] / HASHES)
            later = f"unixtime: {time.time() + year}"
            text = re.sub("unixtime: .*", later, meta.read_text())
            meta.write_text(text)
            # As the machine would have written it at that time.
            write_json(found[0] / HASHES, {**hashes, meta.name: sha256(meta)})
            for path in (*found[0].iterdir(), found[0]):
                os.utime(path, (time.time() + year,) * 2)
            return str(found[0].relative_to(folder))
    return ""


# Attempts.


class Campaign:
    """Loops of a command, disturbed until enough kills were made.

    Arguments
    ---------
    command : Command
        What is run.
    folder : pathlib.Path
        Where all is written.
    seed : int
        Of all draws.
    """

    def __init__(self, command: Command, folder: Path, seed: int):
        self.command, self.root = command, folder
        self.run = folder / "run"
        self.draw = random.Random(seed)
        self.seconds, self.n_paths = 0.0, 0
        self.wanted: dict[str, str] = {}
        self.noisy: set[str] = set()
        self.loops: list[dict[str, Any]] = []

    def undisturbed(self) -> None:
        """Run twice without a disturbance; what differs is not compared."""
        found = []
        for _ in range(2):
            shutil.rmtree(self.run, ignore_errors=True)
            started = time.monotonic()
            attempt = Attempt("none")
            self.follow(attempt, None, None)
            self.seconds = time.monotonic() - started
            if attempt.status:
                sys.exit(
                    f"undisturbed, it ended with {attempt.status}: {self.log}"
                )
            found.append(contents(self.run))
        self.n_paths = len(listing(self.run))
        self.wanted, other = found
        self.noisy = differing(self.wanted, other)

    @property
    def log(self) -> Path:
        """File of what the attempts of the present loop say."""
        return self.root / f"loop{len(self.loops)}.txt"

    def follow(
        self,
        attempt: Attempt,
        moment: tuple[str, float] | None,
        limit: int | None,
    ) -> None:
        """Make an attempt; note how it ended.

        Arguments
        ---------
        attempt : Attempt
            Its signal is sent at the moment, unless it ends before.
        moment : tuple of (str, float), optional
            ``start`` and seconds from there, ``work`` and seconds after the
            first new path, or ``write`` and a number of new paths.
        limit : int, optional
            Largest size of a file, in bytes.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with open(self.log, "a", encoding="utf-8") as log:
            log.write(f"\n>> {attempt}\n")
        begun = self.log.stat().st_size
        process = start(self.command, self.run, self.log, attempt.cold, limit)
        started, seen = time.monotonic(), listing(self.run)
        worked, n_new = None, 0
        while (status := status_of(process)) is None:
            time.sleep(0.003)
            if moment is None:
                continue
            kind, amount = moment
            if kind == "write" or (kind == "work" and worked is None):
                n_new = len(listing(self.run) - seen)
                if n_new and worked is None:
                    worked = time.monotonic()
            since = started if kind == "start" else worked
            passed = 0.0 if since is None else time.monotonic() - since
            if (n_new if kind == "write" else passed) >= amount:
                number = SIGNALS[attempt.signal or "SIGKILL"]
                alone = attempt.cold and number != signal.SIGKILL
                status, obeyed = end(process, number, alone)
                attempt.detail += "" if obeyed else "; a process did not end"
                break
        else:
            attempt.signal = None
        attempt.status = status
        said = self.log.read_bytes()[begun:].decode("utf-8", "replace")
        steps = re.findall(r"^== step .*\((\S+)\);", said, re.MULTILINE)
        attempt.place = steps[-1] if steps else "before any step"
        self.take_advice(said, attempt)

    def take_advice(self, said: str, attempt: Attempt) -> None:
        """Delete what a failed attempt says is to be deleted."""
        for name in re.findall(r"; delete the folder (\S+),", said):
            path = Path(name)
            if attempt.status and self.run in path.parents and path.exists():
                shutil.rmtree(path)
                attempt.detail += (
                    f"; told to delete {path.relative_to(self.run)}"
                )

    def disturbed(self, n_kills: int) -> Attempt:
        """Make an attempt that is harmed, killed, or both."""
        draw = self.draw
        fault = draw.choices(list(FAULTS), list(FAULTS.values()))[0]
        attempt, limit = Attempt(fault), None
        if fault == "damage":
            attempt.detail = harm_a_file(self.run, draw)
        elif fault == "clock":
            attempt.detail = date_in_the_future(self.run)
        elif fault == "disk full":
            limit = draw.randint(*_LIMITS)
            attempt.detail = f"files of {limit} bytes at most"
        if not attempt.detail:
            attempt.fault = "none"
        attempt.cold = draw.random() < _COLD
        attempt.signal = draw.choice(list(SIGNALS))
        share = draw.uniform(0, 2 / n_kills)
        moment = ("work", share * self.seconds)
        if attempt.cold and draw.random() < 0.5:
            moment = ("start", draw.uniform(0, _IMPORT_SECONDS))
        elif draw.random() < _AT_WRITE:
            moment = ("write", max(1.0, round(share * self.n_paths)))
        self.follow(attempt, moment, limit)
        return attempt

    def loop(self, n_kills: int) -> dict[str, Any]:
        """Disturb a loop until it ends; return what became of it."""
        shutil.rmtree(self.run, ignore_errors=True)
        self.log.unlink(missing_ok=True)
        attempts: list[Attempt] = []
        while not attempts or attempts[-1].status != 0:
            n_made = sum(each.signal is not None for each in attempts)
            if n_made < n_kills:
                attempts.append(self.disturbed(n_kills))
            else:
                attempts.append(Attempt("none"))
                self.follow(attempts[-1], None, None)
            stuck = [each.status for each in attempts[-3:]]
            calm = n_made >= n_kills and len(stuck) == 3 and all(stuck)
            if calm or len(attempts) > _MOST_ATTEMPTS:
                break
        ended = contents(self.run)
        changed = differing(self.wanted, ended) - self.noisy
        left = sorted(n for n in ended if "/." in f"/{n}" or "partial" in n)
        outcome = "identical"
        if attempts[-1].status:
            outcome = "did not end"
        elif changed:
            outcome = "differs"
        found = {
            "outcome": outcome,
            "differ": sorted(changed)[:20],
            "left over": left[:20],
            "attempts": [dataclasses.asdict(each) for each in attempts],
        }
        if outcome != "identical":
            kept = self.root / f"bad{len(self.loops)}"
            shutil.rmtree(kept, ignore_errors=True)
            if self.run.exists():
                self.run.rename(kept)
        self.loops.append(found)
        return found


# Comparison.


def contents(folder: Path) -> dict[str, str]:
    """Return a hash of each file that must not depend on disturbances."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        is_saved = "save" in path.relative_to(folder).parts
        if path.is_file() and not is_saved:
            if not path.name.startswith(_NOT_COMPARED):
                found[name] = content(path)
    return found


def content(path: Path) -> str:
    """Return the hash of a file, of a JSON file without its times."""
    raw = path.read_bytes()
    if path.suffix == ".json":
        with contextlib.suppress(ValueError):
            raw = json.dumps(timeless(read_json(path)), sort_keys=True).encode()
    return hashlib.sha256(raw).hexdigest()


def timeless(value: Any) -> Any:
    """Return plain data without values that are times.

    A stage record has times, so that its own hash is left out too.

    Example
    -------
    >>> timeless({"path": "a/stage.json", "bytes": 5, "seconds": 2})
    {'path': 'a/stage.json'}
    """
    if isinstance(value, dict):
        left_out = _TIMES
        if str(value.get("path")).endswith(RECORD):
            left_out = left_out | {"sha256", "bytes"}
        return {k: timeless(v) for k, v in value.items() if k not in left_out}
    return [timeless(v) for v in value] if isinstance(value, list) else value


def differing(first: dict[str, str], second: dict[str, str]) -> set[str]:
    """Return the names of files that differ or that one lacks.

    Example
    -------
    >>> sorted(differing({"a": "1", "b": "1"}, {"a": "1", "b": "2", "c": "3"}))
    ['b', 'c']
    """
    return {
        name
        for name in first.keys() | second.keys()
        if first.get(name) != second.get(name)
    }


def summary(loops: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Count kills and faults by what became of their loops."""
    counts: dict[str, collections.Counter] = collections.defaultdict(
        collections.Counter
    )
    by_fault: dict[str, collections.Counter] = collections.defaultdict(
        collections.Counter
    )
    for loop in loops:
        counts["loops"][loop["outcome"]] += 1
        counts["left over"]["temporary files"] += len(loop["left over"])
        for each in loop["attempts"]:
            if each["fault"] != "none":
                by_fault[each["fault"]][loop["outcome"]] += 1
            if "told to delete" in each["detail"]:
                counts["advice"]["a folder to delete"] += 1
            if "did not end" in each["detail"]:
                counts["signals"]["not obeyed"] += 1
            if each["signal"] is None:
                continue
            by_fault[each["signal"]][loop["outcome"]] += 1
            counts["kills"][each["place"]] += 1
            counts["starts"]["cold" if each["cold"] else "warm"] += 1
    return {
        "n_kills": sum(counts["kills"].values()),
        "by fault and outcome": {k: dict(v) for k, v in by_fault.items()},
        **{name: dict(found) for name, found in counts.items()},
    }


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--kills_a_loop", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default="exp/kill_campaign")
    parser.add_argument(
        "--output", default="results/benchmarks/kill_campaign.json"
    )
    return parser.parse_args(argv)


def run_campaign(command: Command, arguments: argparse.Namespace) -> bool:
    """Make loops until there are enough kills; write the report after each."""
    campaign = Campaign(command, arguments.folder.absolute(), arguments.seed)
    started = time.monotonic()
    campaign.undisturbed()
    n_left = arguments.kills
    while n_left > 0:
        found = campaign.loop(min(n_left, arguments.kills_a_loop))
        report = summary(campaign.loops)
        n_left = arguments.kills - report["n_kills"]
        print(f"{report['n_kills']} kills: {found['outcome']}", flush=True)
        write_json(
            arguments.output,
            {
                "kind": "benchmark",
                "what": "whole loops killed and harmed at random",
                "seed": arguments.seed,
                "n_files": len(campaign.wanted),
                "not_compared": sorted(campaign.noisy),
                "undisturbed_seconds": round(campaign.seconds, 1),
                "seconds": round(time.monotonic() - started),
                **report,
                "failed": [
                    each
                    for each in campaign.loops
                    if each["outcome"] != "identical" or each["left over"]
                ],
                **machine("cpu"),
            },
        )
    print(f"written: {arguments.output}")
    return set(report["loops"]) == {"identical"}


def main(argv: list[str] | None = None) -> None:
    """Run the campaign on the toy loop; status 1 if a loop ended otherwise."""
    arguments = parse(argv)
    os.environ.update(launch.recipe_environment())
    for name in (*launch._IMPORTED, "torch.utils.tensorboard"):
        importlib.import_module(name)
    for path in launch.RECIPES.glob("*.py"):
        importlib.import_module(f"recipes.{path.stem}")
    gc.freeze()
    sys.exit(not run_campaign(toy_loop(), arguments))


if __name__ == "__main__":
    main()
