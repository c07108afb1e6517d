"""The linter finds nothing: undefined names, unused imports, format."""

import subprocess
import sys

import pytest
from house import ROOT


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]])
def test_ruff_has_no_complaint(command):
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "."],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_undefined_names_are_among_what_it_looks_for(tmp_path):
    path = tmp_path / "a.py"
    path.write_text("print(nowhere)\n")
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", str(path)]
        + ["--config", str(ROOT / "pyproject.toml")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "F821" in done.stdout
