"""YAML files and settings classes fit: no key is dead, swallowed or unknown."""

import argparse
import ast
import functools
import itertools
import re

import pytest
from house import PACKAGE, ROOT, leaves, recipe_of, recipes
from speechbrain.utils.run_opts import RunOptions

from benchmarks.bad_values import asked_for, required
from speechbrain_ext.experiment.leaf import read_leaf
from speechbrain_ext.experiment.recipe_settings import (
    RECIPE_SETTINGS,
    settings_of,
)
from speechbrain_ext.utils.settings import Settings

YAMLS = sorted(ROOT.glob("hparams/**/*.yaml"))
MOST_LINES = {"leaf": 60, "plan": 40}


def name(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("leaf", leaves(), ids=name)
def test_a_leaf_states_only_keys_of_its_recipe(leaf):
    kind = settings_of(recipe_of(leaf))
    given = asked_for(leaf) | required(kind.keys())
    read = read_leaf(kind, leaf, given)
    assert isinstance(read.settings, kind)


@pytest.mark.parametrize("recipe", sorted(RECIPE_SETTINGS))
def test_no_key_is_swallowed_by_a_run_option(recipe):
    """argparse takes ``--opt=1`` for ``--optimizer_step_limit=1``."""
    for key in settings_of(recipe).keys() - RunOptions().as_dict().keys():
        argv = ["some.yaml", f"--{key}=1"]
        try:
            _, _, overrides = RunOptions.from_command_line_args(argv)
        except (SystemExit, argparse.ArgumentError):
            overrides = ""
        assert key in (overrides or ""), key


@functools.cache
def code() -> str:
    """All that may read a key: modules, recipes, methods of settings.

    Not what declares keys, nor ``check_together``: what that alone reads
    would decide nothing.
    """
    texts = []
    for path in (*PACKAGE.glob("*/*.py"), *recipes().values()):
        text = path.read_text("utf-8")
        if path.name == "settings.py":
            texts += [
                ast.unparse(node)
                for node in ast.walk(ast.parse(text))
                if isinstance(node, ast.FunctionDef)
                and node.name != "check_together"
            ]
        else:
            texts.append(text)
    return "\n".join(texts)


@pytest.mark.parametrize("recipe", sorted(RECIPE_SETTINGS))
def test_every_key_is_read_somewhere(recipe):
    """As ``.key`` or, where objects are built, as ``["key"]``."""
    text = code()
    # SpeechBrain reads its run options.
    others = {*Settings.keys(), *RunOptions().as_dict()}
    for key in settings_of(recipe).keys().keys() - others:
        read = rf'\.{key}\b|\["{key}"\]|hparams, "{key}"'
        # What check_together alone reads would decide nothing.
        assert re.search(read, text), key


@pytest.mark.parametrize("path", YAMLS, ids=name)
def test_a_yaml_is_short(path):
    what = "plan" if path.parent.name == "plans" else "leaf"
    n_lines = len(path.read_text("utf-8").splitlines())
    assert n_lines <= MOST_LINES[what]


def stated(path) -> set[str]:
    """What a YAML says: lines without comments.

    Lines that only ask for a value (``key: !PLACEHOLDER``) do not count.
    """
    lines = path.read_text("utf-8").splitlines()
    bare = {re.sub(r"(^|\s)#.*", "", line).strip() for line in lines}
    return {line for line in bare if line and "!PLACEHOLDER" not in line}


def test_no_two_yamls_are_more_than_half_equal():
    """Of the lines of the shorter one, half at most are in the other."""
    alike = []
    for one, other in itertools.combinations(YAMLS, 2):
        first, second = stated(one), stated(other)
        shared = len(first & second)
        if shared > min(len(first), len(second)) / 2:
            alike.append((name(one), name(other), sorted(first & second)))
    assert not alike
