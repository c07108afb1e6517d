"""Settings, times and files of the steps of a run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from speechbrain_ext.experiment.recipe_settings import settings_of
from speechbrain_ext.experiment.steps import Step
from speechbrain_ext.report.page import Cell, Link, Table
from speechbrain_ext.utils.settings import REQUIRED, Wired, shown
from speechbrain_ext.utils.yaml_trees import parse_yaml

_LONGEST = 200  # characters of a value
_MOST_FILES = 60


def settings_tables(step: Step[Any]) -> list[Table]:
    """Return the settings that differ from the defaults, and all others.

    Arguments
    ---------
    step : Step
        One that is done.

    Returns
    -------
    list of Table
        Rows of key, value, default and meaning.
    """
    facts = step.artifacts.facts()
    given = facts.get("hparams", {})
    kind = settings_of(step.recipe)
    known = kind.keys()
    changed: list[dict[str, Cell]] = []
    same: list[dict[str, Cell]] = []
    for key, value in given.items():
        default = REQUIRED
        if key in known:
            default = kind.default_of(key, given)
        if isinstance(default, Wired):
            default = _recorded(default)
        row: dict[str, Cell] = {
            "setting": key,
            "value": brief(value),
            "default": "–" if default is REQUIRED else brief(default),
            "meaning": known[key].doc if key in known else "",
        }
        (same if value == default else changed).append(row)
    heading = f"Settings of {step.recipe}"
    return [
        Table(f"{heading} that differ from the defaults", changed),
        Table(f"{heading} at their defaults", same),
    ]


def _recorded(default: Wired) -> dict[str, Any]:
    """Return an object of a YAML as a stage record has it."""
    tag, _, arguments = default.partition(" ")
    return {**(parse_yaml(arguments) or {}), "!": tag}


def brief(value: Any) -> str:
    """Return a value as one would type it, cut where it is long.

    Example
    -------
    >>> brief(None), brief([1, 2])
    ('null', '[1, 2]')
    >>> brief({"a": 1, "!": "!name:b"})
    "!name:b {'a': 1}"
    """
    text = shown(value)
    if isinstance(value, dict) and "!" in value:
        inside = {k: v for k, v in value.items() if k != "!"}
        text = f"{value['!']} {shown(inside)}" if inside else value["!"]
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def time_table(steps: Sequence[Step[Any]]) -> Table:
    """Return the time of each step that is done, and of all together."""
    rows, total = [], 0.0
    facts = [(s, s.artifacts.facts()) for s in steps if s.artifacts.is_done]
    known = [found["seconds"] for _, found in facts if "seconds" in found]
    for step, found in facts:
        seconds = found.get("seconds")
        if seconds is None:
            continue
        total += seconds
        rows.append(
            {
                "step": step.name,
                "recipe": step.recipe,
                "seconds": f"{seconds:,.1f}",
                "share": f"{seconds / max(sum(known), 1e-9):.1%}",
                "note": "resumed: last part only"
                if found.get("resumed")
                else "",
            }
        )
    words = duration(total)
    return Table(
        "Time", rows, f"All steps together: {words}, scoring included."
    )


def duration(seconds: float) -> str:
    """Return a time in words.

    Example
    -------
    >>> duration(42), duration(600), duration(7300)
    ('42 s', '10 min', '2 h 2 min')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if hours else f"{minutes} min"


def files_table(steps: Sequence[Step[Any]], page_folder: Path) -> Table:
    """Return links to the files of steps.

    Arguments
    ---------
    steps : sequence of Step
        Of one system, say.
    page_folder : Path
        Folder of the page that links to them.

    Returns
    -------
    Table
        A row a file: link and size.
    """
    rows: list[dict[str, Cell]] = []
    for step in steps:
        if not step.folder.is_dir():
            continue
        for path in sorted(step.folder.iterdir()):
            if path.is_file() and not path.name.startswith("."):
                link = Link(
                    f"{step.name}/{path.name}",
                    os.path.relpath(path, page_folder),
                )
                rows.append({"file": link, "size": size(path.stat().st_size)})
    return Table("Files", rows[:_MOST_FILES])


def size(n_bytes: int) -> str:
    """Return a size in words.

    Example
    -------
    >>> size(999), size(1_234_567)
    ('1 kB', '1,235 kB')
    """
    return f"{-(-n_bytes // 1000):,} kB"
