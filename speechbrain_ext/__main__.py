"""One command for all programs of the package: ``sbext COMMAND ...``.

Each recipe is a command, with the YAML that comes with it unless another is
given. ``python -m speechbrain_ext`` is the same, as torchrun needs it:

> sbext run quickstart
> sbext train-dino --train_annotation=train.csv --data_folder=SPEECH ...
> sbext verify minivox_whisper a.wav b.wav
> torchrun --standalone --nproc_per_node 2 -m speechbrain_ext train-dino ...
"""

from __future__ import annotations

import difflib
import importlib
import os
import runpy
import sys
from pathlib import Path

import speechbrain_ext
from speechbrain_ext.commands.arguments import parser_of
from speechbrain_ext.commands.command_line import run
from speechbrain_ext.commands.recipe_help import (
    DRIVER,
    asks_for_help,
    command_of,
    entry,
    purpose_of,
    recipe_help,
)
from speechbrain_ext.experiment.recipe_settings import (
    RECIPE_SETTINGS,
    settings_of,
)
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.shipped import (
    HPARAMS,
    PACKAGE,
    RECIPES,
    shipped_leaves,
)
from speechbrain_ext.utils.terminal import bar_environment
from speechbrain_ext.utils.yaml_trees import find_yaml

# Modules of the programs that take no YAML.
PROGRAMS = {
    "verify": "inference.verify",
    "embed": "inference.embed",
    "group": "inference.group",
    "compare": "report.compare_runs",
}
# Commands by what one wants: recipes, and programs.
GROUPS = {
    "The whole loop": ["run_rounds", "compare"],
    "Use a model": ["verify", "group", "embed", "export_model"],
    "Make a corpus": ["prepare_folder", "prepare_voxceleb", "prepare_toy"],
    "Train": [
        "train_dino",
        "train_contrastive",
        "embed_pretrained",
        "train_speaker",
    ],
    "Embed and cluster": [
        "extract_embeddings",
        "make_pseudo_labels",
        "make_oracle_labels",
        "whiten_embedder",
        "join_embedders",
    ],
    "Score": ["score_trials", "compare_scores"],
    "Other tools' formats": ["convert_embeddings", "convert_labels"],
}
_END = """\
sbext COMMAND --help tells what a command does, and all its keys.
A command that was done is skipped, one that was interrupted goes on."""


def overview() -> str:
    """Return all commands, in groups, with what each is for."""
    lines = ["usage: sbext COMMAND [YAML] [--key=value ...]"]
    for title, names in GROUPS.items():
        lines += ["", f"{title}:"]
        for name in names:
            summary = purpose_of(_source(name)).partition("\n")[0]
            lines.append(entry(command_of(name), summary.rstrip(".:"), 24))
    return "\n".join([*lines, "", _END])


def _source(name: str) -> Path:
    """Return the file of a recipe or program."""
    if name in PROGRAMS:
        return PACKAGE / f"{PROGRAMS[name].replace('.', '/')}.py"
    return RECIPES / f"{name}.py"


def main(argv: list[str] | None = None) -> None:
    """Run the command that the first word names.

    Arguments
    ---------
    argv : list of str, optional
        The words after ``sbext``; the process's own when None.

    Raises
    ------
    InputError
        There is no such command, or no such YAML.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        say(overview())
        return
    if words[0] == "--version":
        say(speechbrain_ext.__version__)
        return
    name, words = _named(words[0]), words[1:]
    if asks_for_help(words):
        say(help_of(name, words))
    elif name in PROGRAMS:
        # What was mistyped is told before torch is imported.
        parser_of(name).parse_args(words)
        program = importlib.import_module(f"speechbrain_ext.{PROGRAMS[name]}")
        program.main(words)
    else:
        start_recipe(name, with_yaml(name, words))


def help_of(name: str, words: list[str]) -> str:
    """Return the help of a recipe or program.

    Arguments
    ---------
    name : str
        Of the recipe or program.
    words : list of str
        The words after it; of a recipe with a YAML, that one's values are
        shown.
    """
    if name in PROGRAMS:
        return parser_of(name).format_help().rstrip()
    leaf = None
    if not words[0].startswith("-"):
        leaf = find_yaml(with_yaml(name, words)[0])
    return recipe_help(settings_of(name), leaf=leaf)


def _named(command: str) -> str:
    """Return the recipe or program that a command is."""
    names = {command_of(name): name for name in (*RECIPE_SETTINGS, *PROGRAMS)}
    for name in RECIPE_SETTINGS:
        names |= {name: name, name.replace("_", "-"): name}
    if command not in names:
        near = difflib.get_close_matches(command, names, 1)
        way = f"did you mean {near[0]}?" if near else "see sbext --help"
        raise InputError(
            f"COMMAND is {command!r}; sbext has no such command; {way}"
        )
    return names[command]


def with_yaml(recipe: str, words: list[str]) -> list[str]:
    """Return a recipe's command line, which begins with its YAML.

    Arguments
    ---------
    recipe : str
        Stem of its script.
    words : list of str
        A file, the name of a YAML that comes with the recipe or nothing, and
        options.

    Raises
    ------
    InputError
        There is no such YAML, or it must be given.

    Example
    -------
    >>> with_yaml("train_dino", ["--lr=1"])[0].rpartition("/")[2]
    'train_dino_ecapa.yaml'
    >>> with_yaml("run_rounds", ["folder"])[0].rpartition("/")[2]
    'folder.yaml'
    """
    known = {path.stem: path for path in shipped_leaves(recipe)}
    if not words or words[0].startswith("-"):
        if recipe == DRIVER:
            raise InputError(
                "PLAN is not given; sbext run begins with one; give one of "
                f"{', '.join(known)}, or a YAML file of your own"
            )
        return [str(next(iter(known.values()))), *words]
    name = words[0]
    if Path(name).is_file() or (HPARAMS / name).is_file():
        return words
    if name in known:
        return [str(known[name]), *words[1:]]
    if Path(name).suffix in (".yaml", ".yml"):
        return words  # find_yaml looks in more places
    near = difflib.get_close_matches(name, known, 1)
    way = f"did you mean {near[0]}?" if near else "give a YAML file"
    raise InputError(
        f"{'PLAN' if recipe == DRIVER else 'YAML'} is {name!r}; it must be a "
        f"YAML file or one of {', '.join(known)}; {way}"
    )


def start_recipe(recipe: str, words: list[str]) -> None:
    """Run a recipe as ``python recipes/RECIPE.py WORDS`` would."""
    script = str(RECIPES / f"{recipe}.py")
    sys.argv = [script, *words]
    sys.path.insert(0, str(RECIPES))
    runpy.run_path(script, run_name="__main__")


def say(text: str) -> None:
    """Print text, as far as it is read: ``head`` may have enough of it."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def program() -> None:
    """Run ``sbext``; a failure is one line and a status."""
    os.environ.update({**bar_environment(), **os.environ})
    run(main)


if __name__ == "__main__":
    program()
