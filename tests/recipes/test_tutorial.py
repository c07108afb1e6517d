"""The tutorials run as they are printed, on a corpus of seconds.

Their notebooks are made from the scripts, and it is the notebooks' cells that
are run, in their order.
"""

import ast
import json
import os
import runpy
import shlex
import sys
from pathlib import Path

import pytest
import warm
from small_run import EMBEDDER, TINY

ROOT = Path(__file__).parents[2]
TOOL = runpy.run_path(str(ROOT / "docs" / "tools" / "notebooks.py"))


def cells_of(name):
    """Code of the notebook of a tutorial."""
    text = (ROOT / "tutorials" / f"{name}.ipynb").read_text("utf-8")
    return TOOL["code_of"](text)


@pytest.mark.parametrize("path", TOOL["scripts"](), ids=lambda p: p.stem)
def test_a_notebook_is_what_the_tool_makes_of_its_script(path):
    made = TOOL["notebook"](path.read_text("utf-8"))
    hint = "run: python docs/tools/notebooks.py"
    assert made == path.with_suffix(".ipynb").read_text("utf-8"), hint


def test_every_notebook_has_a_script_and_its_cells():
    made = {path.stem for path in (ROOT / "tutorials").glob("*.ipynb")}
    assert made == {path.stem for path in TOOL["scripts"]()}
    for path in TOOL["scripts"]():
        tree = json.loads(path.with_suffix(".ipynb").read_text("utf-8"))
        kinds = [cell["cell_type"] for cell in tree["cells"]]
        assert kinds[:2] == ["markdown", "code"]
        assert len({cell["id"] for cell in tree["cells"]}) == len(kinds)
        script, code = path.read_text("utf-8"), cells_of(path.stem)
        names = {n.id for n in ast.walk(ast.parse(script)) if is_name(n)}
        assert names <= {n.id for n in ast.walk(ast.parse(code)) if is_name(n)}


def is_name(node):
    return isinstance(node, ast.Name)


def test_the_tutorial_runs_from_its_first_cell_to_its_last(tmp_path):
    for name in ("recipes", "hparams", "speechbrain_ext"):
        (tmp_path / name).symlink_to(ROOT / name)
    # Jupyter starts beside the notebook.
    (tmp_path / "tutorials").mkdir()
    options = [
        f"--stages={TINY}",
        f"--embedder={EMBEDDER}",
        "--n_rounds=1",
        "--topline=False",
        "--noprogressbar",
    ]
    done = warm.run(
        [sys.executable, "-c", cells_of("first_model")],
        cwd=tmp_path / "tutorials",
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
    cells = {"__name__": "notebook"}
    exec(cells_of("own_brain"), cells)
    assert cells["main"]() == [untrained, dino, clusters]


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
