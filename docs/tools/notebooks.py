"""Notebooks of the tutorials, made from their scripts.

``python docs/tools/notebooks.py`` writes ``tutorials/*.ipynb``; a test asks
that they are what it would write. A cell begins with ``# %%``, text with
``# %% [markdown]``; a script without cells is its docstring and one cell.
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
# Jupyter starts beside the notebook, and scripts in the clone's root.
START = 'import os\n\nif not os.path.isdir("recipes"):\n    os.chdir("..")'
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def scripts() -> list[Path]:
    """Return the tutorials."""
    return sorted(ROOT.glob("tutorials/*.py"))


def cells_of(script: str) -> list[tuple[str, str]]:
    """Return the kind (``markdown`` or ``code``) and text of each cell."""
    parts = re.split(r"^# %%(.*)\n", script, flags=re.M)
    if len(parts) == 1:
        title, code = _title_and_code(script)
        return [("markdown", title), ("code", code.strip())]
    found = []
    for mark, text in zip(parts[1::2], parts[2::2], strict=True):
        is_text = "[markdown]" in mark
        text = re.sub(r"^# ?", "", text, flags=re.M) if is_text else text
        found.append(("markdown" if is_text else "code", text.strip()))
    return found


def _title_and_code(script: str) -> tuple[str, str]:
    """Split a script after its docstring."""
    first = ast.parse(script).body[0]
    code = "\n".join(script.splitlines()[first.end_lineno :])
    return ast.get_docstring(ast.parse(script)) or "", code


def notebook(script: str) -> str:
    """Return the notebook of a script, as JSON."""
    (kind, title), *others = cells_of(script)
    cells = [(kind, title), ("code", START), *others]
    tree = {
        "cells": [_cell(number, *cell) for number, cell in enumerate(cells)],
        "metadata": {"kernelspec": KERNEL},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(tree, indent=1, ensure_ascii=False) + "\n"


def _cell(number: int, kind: str, text: str) -> dict[str, Any]:
    cell = {
        "cell_type": kind,
        "id": f"cell{number}",
        "metadata": {},
        "source": text.splitlines(keepends=True),
    }
    if kind == "code":
        cell |= {"execution_count": None, "outputs": []}
    return cell


def code_of(notebook_text: str) -> str:
    """Return the code of a notebook's cells, in their order."""
    return "\n\n".join(
        "".join(cell["source"])
        for cell in json.loads(notebook_text)["cells"]
        if cell["cell_type"] == "code"
    )


if __name__ == "__main__":
    for path in scripts():
        text = notebook(path.read_text("utf-8"))
        path.with_suffix(".ipynb").write_text(text, "utf-8")
