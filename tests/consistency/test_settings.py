"""Every key of every recipe refuses what it must, in one clear line.

Each key is sent wrong types, values out of its range, and its name misspelt,
all through the command line's own path: the recipe's ``main`` as a program
runs it. What is sent is derived from the settings classes, so that a new key
or a new recipe is tested without a line here.
"""

import importlib
import re
import sys

import pytest
from house import leaves, recipe_of, recipes

from benchmarks.bad_values import (
    asked_for,
    option,
    out_of_range,
    required,
    wrong_arguments,
    wrong_types,
)
from speechbrain_ext.commands.command_line import run
from speechbrain_ext.experiment.recipe_settings import (
    RECIPE_SETTINGS,
    settings_of,
)
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.settings import REQUIRED, Wired
from speechbrain_ext.utils.yaml_trees import (
    find_yaml,
    parse_yaml,
    plain,
    read_yaml,
)

# What users have typed; each is refused by every recipe with that key.
TYPED = [
    "seed=x",
    "seed=-1",
    "overwrite=no",
    "overwrite=1",
    "num_workers=-1",
    "crop=null",
    "lr=abc",
    "n_epochs=0",
    "batch_size=0",
]


class Program:
    """A recipe as a program, in this process."""

    def __init__(self, recipe, folder, monkeypatch, capsys):
        self.recipe, self.folder = recipe, folder
        self.patch, self.capsys = monkeypatch, capsys
        self.keys = settings_of(recipe).keys()
        self.main = importlib.import_module(f"recipes.{recipe}").main
        self.leaf = min(p for p in leaves() if recipe_of(p) == recipe)
        self.given = asked_for(self.leaf) | required(self.keys)
        monkeypatch.chdir(folder)

    def error(self, key: str, typed: str) -> str:
        """What a command ends with, all of which must be one error line."""
        given = dict(self.given)
        given.pop(typed.partition("=")[0], None)
        words = [option(k, v) for k, v in given.items()]
        self.patch.setattr(
            sys, "argv", [self.recipe, str(self.leaf), *words, f"--{typed}"]
        )
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            run(self.main)
        said = self.capsys.readouterr().err
        form = rf"error: {re.escape(key)}(\.\w+)* is [^\n]+; [^\n]+; [^\n]+\n"
        assert re.fullmatch(form, said), f"--{typed}: {said}"
        assert stop.value.code == 2
        assert not list(self.folder.iterdir()), f"--{typed} wrote files"
        return said


@pytest.fixture(params=RECIPE_SETTINGS)
def program(request, tmp_path, monkeypatch, capsys):
    return Program(request.param, tmp_path, monkeypatch, capsys)


def test_a_value_of_a_wrong_type_is_refused(program):
    """Two wrong types a key, others for the next; `check` is sent them all."""
    for number, (key, fact) in enumerate(program.keys.items()):
        values = wrong_types(fact)
        for value in values:
            form = rf"^{key}(\.\w+)* is .+; .+; .+$"
            with pytest.raises(InputError, match=form):
                fact.check(plain(parse_yaml(f"value: {value}"))["value"])
        for place in range(min(2, len(values))):
            value = values[(2 * number + place) % len(values)]
            program.error(key, f"{key}={value}")


def test_a_value_out_of_range_is_refused(program):
    for key, fact in program.keys.items():
        for value in out_of_range(fact):
            program.error(key, f"{key}={value}")


def test_a_misspelt_key_is_refused_with_the_nearest_one(program):
    for key in program.keys:
        said = program.error(f"{key}q", f"{key}q=1")
        assert "did you mean --" in said, said


def test_a_key_that_must_be_given_is_asked_for(program):
    for key in required(program.keys):
        program.error(key, f"{key}=!PLACEHOLDER")


def test_what_users_have_typed_is_refused(program):
    for typed in TYPED:
        key = typed.partition("=")[0]
        if key in program.keys:
            program.error(key, typed)


def test_a_wrong_argument_of_a_wired_object_is_refused(program):
    for key, fact in program.keys.items():
        for value in wrong_arguments(fact):
            said = program.error(key, f"{key}={value}")
            assert f"{key}." in said, said


def test_a_wrong_value_inside_an_embedder_is_refused(program):
    if not {"embedder", "embedder_yaml"} <= program.keys.keys():
        pytest.skip("it builds no embedder")
    path = find_yaml(plain(read_yaml(program.leaf))["embedder_yaml"])
    numbers = {
        key: value
        for key, value in plain(read_yaml(path)).items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }
    assert numbers
    for key in numbers:
        for value in ("x", "[1]", "{a: 1}"):
            said = program.error("embedder", f"embedder={{{key}: {value}}}")
            assert key in said
    said = program.error("embedder", "embedder={no_such_part: 1}")
    assert "no_such_part" in said


def test_every_recipe_is_registered():
    assert RECIPE_SETTINGS.keys() == recipes().keys()


@pytest.mark.parametrize("recipe", sorted(RECIPE_SETTINGS))
def test_a_recipe_uses_the_class_that_is_registered_for_it(recipe):
    kind = settings_of(recipe)
    assert kind.recipe == recipe
    text = recipes()[recipe].read_text("utf-8")
    assert re.search(rf"\(__file__, {kind.__name__}\b", text)


@pytest.mark.parametrize("recipe", sorted(RECIPE_SETTINGS))
def test_every_key_has_a_doc_and_a_default_that_it_accepts(recipe):
    for key, fact in settings_of(recipe).keys().items():
        assert fact.doc, key
        if fact.default is not REQUIRED and not isinstance(fact.default, Wired):
            assert fact.check(fact.default) == fact.default, key
