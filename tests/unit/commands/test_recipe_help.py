"""Help is read from docstring, YAMLs and settings, and runs none of them."""

import dataclasses

from speechbrain_ext.commands.recipe_help import (
    as_sbext,
    asks_for_help,
    entry,
    purpose_of,
    recipe_help,
)
from speechbrain_ext.experiment.recipe_settings import settings_of
from speechbrain_ext.utils.settings import Settings, Wired, setting


@dataclasses.dataclass(kw_only=True)
class Count(Settings):
    """Settings of counting."""

    recipe = "count"
    n_words: int = setting(3, "how many", low=1)
    texts: str = setting(doc="what is counted", group="input")
    opt: Wired = setting("!name:a.B {lr: 0.1}", "optimiser", group="input")


def shown(tmp_path, yaml=None):
    script = tmp_path / "count.py"
    script.write_text('"""Count words.\n\nWell."""\nraise SystemExit(9)\n')
    leaf = None
    if yaml is not None:
        leaf = tmp_path / "count.yaml"
        leaf.write_text(yaml)
    return recipe_help(Count, script, leaf)


def test_keys_have_value_meaning_and_rule(tmp_path):
    text = shown(tmp_path)
    words = " ".join(text.split())
    assert "Count words." in text and "\ninput:\n" in text
    assert "--n_words=3 how many [a whole number of 1 or more]" in words
    assert "--texts=... what is counted [text; must be given]" in words
    assert "--opt=!name:a.B {lr: 0.1}" in text


def test_a_yamls_values_are_shown_beside_the_defaults(tmp_path):
    text = shown(tmp_path, "n_words: 5\ntexts: !PLACEHOLDER\nopt: !name:c.D\n")
    assert "--n_words=5 " in text and "default 3]" in text
    assert "--texts=..." in text and "--opt=!name:c.D " in text
    assert "values of count.yaml" in text
    assert shown(tmp_path, "texts: [a, null]\n").count("[a, null]") == 1


def test_examples_become_commands_that_are_installed():
    text = "> python recipes/score_trials.py hparams/score_trials.yaml" + (
        " " * 6 + "--trials=a.txt"
    )
    assert as_sbext(text) == (
        "  sbext score-trials score_trials \\\n      --trials=a.txt"
    )


def test_a_long_name_has_a_line_of_its_own():
    assert entry("a" * 40, "b").splitlines() == [
        f"  {'a' * 40}",
        " " * 26 + "b",
    ]


def test_help_is_asked_for_by_two_words():
    assert asks_for_help(["a.yaml", "--help"]) and asks_for_help(["-h"])
    assert not asks_for_help(["a.yaml", "--helper=1"])


def test_a_program_is_not_run_for_its_docstring(tmp_path):
    script = tmp_path / "a.py"
    script.write_text("raise SystemExit(9)\n")
    assert purpose_of(script) == ""


def test_what_each_plan_states_must_not_be_given():
    """A newcomer read that --output_folder must be given to every plan."""
    words = " ".join(recipe_help(settings_of("run_rounds")).split())
    assert "must be given" not in words
    assert "writes to [text; each plan has its own]" in words
