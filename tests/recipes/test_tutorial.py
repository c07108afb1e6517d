"""The tutorials run as they are printed, on a corpus of seconds."""

import ast
import os
import runpy
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


OWN_BRAIN = ROOT / "tutorials" / "own_brain.py"


def test_own_brain_learns_voices_without_labels():
    main = runpy.run_path(str(OWN_BRAIN))["main"]
    untrained, dino, clusters = main()
    assert dino < 0.7 * untrained
    assert clusters < 0.7 * untrained
    assert main() == [untrained, dino, clusters]


def test_own_brain_uses_public_names_only():
    modules = {
        node.module
        for node in ast.walk(ast.parse(OWN_BRAIN.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom)
        and node.module.startswith("speechbrain_ext")
    }
    assert modules == {
        "speechbrain_ext.clustering",
        "speechbrain_ext.losses",
        "speechbrain_ext.models",
        "speechbrain_ext.verification",
    }
