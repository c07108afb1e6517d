"""Help of a recipe: purpose, example, YAMLs and every key.

All is read from the recipe's docstring, its YAMLs' comments and its settings
class, and nothing of it is run: help costs a fraction of a second.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from speechbrain_ext.utils.settings import REQUIRED, Setting, Settings, shown
from speechbrain_ext.utils.shipped import RECIPES, comment_of, shipped_leaves
from speechbrain_ext.utils.yaml_trees import plain, read_yaml, tag_of

WIDTH = 79
_COLUMN = 26  # where descriptions begin
_PLACEHOLDER = "!PLACEHOLDER"
# The group of keys that name none.
_GENERAL = "keys"
DRIVER = "run_rounds"
# Commands that are not the recipe's name.
_SHORT = {DRIVER: "run", "export_model": "export"}
_LEAVES = "YAML (a name, or a file of your own; if none is given, the first):"
_PLANS = "PLAN (a name, or a YAML file of your own, whose base may be one):"
_OPTIONS = (
    "SpeechBrain's run options are taken too, such as --device=cpu or cuda:0, "
    "--precision=bf16 (of a training's models without gradients: "
    "--eval_precision=bf16), --compile, --noprogressbar, --debug (tiny; to see "
    "that it runs) or --grad_accumulation_factor=2."
)


def recipe_help(
    kind: type[Settings], script: Path | None = None, leaf: Path | None = None
) -> str:
    """Return the help of a recipe as text.

    Arguments
    ---------
    kind : type
        Its settings class.
    script : pathlib.Path, optional
        The recipe, whose docstring says what it is for; None: the package's.
    leaf : pathlib.Path, optional
        The YAML whose values are shown; None: the recipe's own, if it has one.

    Returns
    -------
    str

    Example
    -------
    >>> from speechbrain_ext.experiment.recipe_settings import settings_of
    >>> text = recipe_help(settings_of("prepare_toy"))
    >>> "--n_speakers=60" in text
    True
    """
    leaves = shipped_leaves(kind.recipe)
    what, title = "[YAML]", _LEAVES
    if kind.recipe == DRIVER:
        what, title = "PLAN", _PLANS
    elif leaf is None and leaves:
        leaf = leaves[0]
    parts = [
        f"usage: sbext {command_of(kind.recipe)} {what} [--key=value ...]",
        as_sbext(purpose_of(script or RECIPES / f"{kind.recipe}.py")),
        "\n".join([title, *(entry(p.stem, comment_of(p)) for p in leaves)]),
        *_key_groups(kind, leaf),
        textwrap.fill(_OPTIONS, WIDTH),
    ]
    return "\n\n".join(parts)


def command_of(recipe: str) -> str:
    """Return the name of a recipe as a command of ``sbext``.

    Example
    -------
    >>> command_of("train_dino"), command_of("run_rounds")
    ('train-dino', 'run')
    """
    return _SHORT.get(recipe, recipe).replace("_", "-")


def asks_for_help(argv: Sequence[str]) -> bool:
    """Return whether a command line asks for help."""
    return "--help" in argv or "-h" in argv


def purpose_of(script: Path) -> str:
    """Return the docstring of a program, which is not run."""
    return ast.get_docstring(ast.parse(script.read_text("utf-8"))) or ""


def as_sbext(text: str) -> str:
    """Return text in which recipes are started by ``sbext``.

    Example
    -------
    >>> as_sbext("> python recipes/train_dino.py hparams/a.yaml --lr=1")
    '  sbext train-dino a --lr=1'
    >>> as_sbext("> python recipes/run_rounds.py hparams/plans/b.yaml")
    '  sbext run b'
    """
    text = re.sub(
        r"python recipes/(\w+)\.py",
        lambda found: f"sbext {command_of(found[1])}",
        text,
    )
    text = re.sub(r"python -m speechbrain_ext\.inference\.", "sbext ", text)
    text = re.sub(r"\bhparams/(?:plans/)?(\w+)\.yaml\b", r"\1", text)
    # A command of several lines is one in a docstring.
    text = re.sub(r"(?<=\S) {4,}(?=-)", " \\\\\n      ", text)
    return re.sub(r"^> ", "  ", text, flags=re.M)


def entry(name: str, text: str, column: int = _COLUMN) -> str:
    """Return a name and its description in lines of a list.

    Example
    -------
    >>> print(entry("--lr=0.2", "peak learning rate", 14))
      --lr=0.2    peak learning rate
    """
    lines = textwrap.wrap(text, WIDTH - column) or [""]
    first = f"  {name}"
    if len(first) + 2 > column:
        lines = [first, *(" " * column + line for line in lines)]
        return "\n".join(lines)
    indented = [" " * column + line for line in lines[1:]]
    return "\n".join([(first.ljust(column) + lines[0]).rstrip(), *indented])


def _key_groups(kind: type[Settings], leaf: Path | None) -> list[str]:
    """Return the keys of a recipe in lines, group by group."""
    stated = read_yaml(leaf) if leaf is not None else {}
    # Each plan says where it goes, and which it is depends on the command.
    in_plan = kind.recipe == DRIVER and leaf is None
    lacking = "each plan has its own" if in_plan else "must be given"
    groups: dict[str, list[str]] = {}
    for fact in kind.keys().values():
        lines = groups.setdefault(fact.group or _GENERAL, [])
        lines.append(_key_lines(fact, stated, lacking))
    source = f", values of {leaf.name}" if leaf is not None else ""
    titles = {_GENERAL: f"keys ([type and range]{source}):"}
    return [
        "\n".join([titles.get(group, f"{group}:"), *lines])
        for group, lines in groups.items()
    ]


def _key_lines(fact: Setting, stated: Mapping[str, Any], lacking: str) -> str:
    """Return a key with its value, meaning, type, range and default."""
    value = _value_of(fact, stated)
    default = None if fact.default is REQUIRED else _text(fact.default)
    rule = fact.rule.replace(" of the YAML (!name: or !new:)", "")
    if value is None:
        rule += f"; {lacking}"
    elif default is not None and value != default:
        rule += f"; default {_cut(default)}"
    name = f"--{fact.name}={'...' if value is None else _cut(value)}"
    return entry(name, f"{fact.doc} [{rule}]")


def _value_of(fact: Setting, stated: Mapping[str, Any]) -> str | None:
    """Return the value of a key as typed, None where it must be given."""
    if fact.name not in stated:
        return None if fact.default is REQUIRED else _text(fact.default)
    node = stated[fact.name]
    tag = tag_of(node)
    if tag == _PLACEHOLDER:
        return None
    text = _text(plain(node))
    return text if tag is None else f"{tag} {text}".removesuffix(" {}")


def _text(value: Any) -> str:
    """Return a value in one line, as in a YAML.

    Example
    -------
    >>> _text({"scale": [30.0, None]})
    '{scale: [30.0, null]}'
    """
    if isinstance(value, Mapping):
        inner = (f"{key}: {_text(each)}" for key, each in value.items())
        return f"{{{', '.join(inner)}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_text, value))}]"
    return value if isinstance(value, str) else shown(value)


def _cut(text: str) -> str:
    """Return text, shortened where it would fill the line."""
    return text if len(text) <= WIDTH - 30 else f"{text[: WIDTH - 33]}..."
