"""The tutorial runs as it is printed, on a corpus of seconds."""

import os
import shlex
import sys
from pathlib import Path

import warm
from small_run import EMBEDDER, TINY

ROOT = Path(__file__).parents[2]


def test_the_tutorial_runs_from_its_first_cell_to_its_last(tmp_path):
    for name in ("recipes", "hparams", "speechbrain_ext"):
        (tmp_path / name).symlink_to(ROOT / name)
    options = [
        f"--stages={TINY}",
        f"--embedder={EMBEDDER}",
        "--n_rounds=1",
        "--topline=False",
        "--noprogressbar",
    ]
    done = warm.run(
        [sys.executable, str(ROOT / "tutorials" / "first_model.py")],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "TUTORIAL_OPTIONS": shlex.join(options),
        },
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    for words in ("bootstrap: 4 clusters", "| published model |", "decided as"):
        assert words in done.stdout
