"""Section H: a whole plan, cut short when its time is up, each step timed."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.gpu_sections.common import ROOT, Items, Options, Row
from speechbrain_ext.utils.files import read_json

# Without MiniVox: the same steps on synthetic voices, of the smallest models.
DEBUG = ["plans/quickstart.yaml", "--debug"]


def items(options: Options) -> Items:
    """Yield the one run."""
    limit = options.pick(100.0, 30.0, 3.0)
    yield "steps", partial(run_plan, options, limit)


def run_plan(options: Options, limit: float) -> Row:
    """Run a plan until the limit; return the seconds of its steps."""
    with tempfile.TemporaryDirectory() as folder:
        words = DEBUG
        if options.minivox is not None:
            words = [
                "plans/minivox.yaml",
                f"--data_folder={options.minivox}",
                "--launcher=[]",
            ]
        command = [sys.executable, "recipes/run_rounds.py", *words]
        command += [f"--output_folder={folder}", f"--device={options.device}"]
        try:
            done = subprocess.run(
                command, cwd=ROOT, capture_output=True, timeout=limit
            )
        except subprocess.TimeoutExpired:
            return {"cut_short_after_seconds": limit, **steps(Path(folder))}
        if done.returncode:
            message = done.stderr.decode(errors="replace")[-500:]
            raise RuntimeError(f"status {done.returncode}: {message}")
        return steps(Path(folder))


def steps(folder: Path) -> Row:
    """Return the seconds of each step that has a record."""
    found = {}
    for path in sorted(folder.rglob("stage.json")):
        name = str(path.parent.relative_to(folder))
        found[name] = read_json(path).get("seconds")
    return {"steps": found, "n_steps": len(found)}
