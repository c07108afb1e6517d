"""Tests lie where the module that they test lies."""

import re
from pathlib import Path

import pytest
from house import PACKAGE, ROOT

TESTS = ROOT / "tests"
# Modules that have no file of unit tests, and what tests them instead. Names
# are below the package and below tests/.
ELSEWHERE = {
    # Every key of every settings class is tested there in one loop.
    "clustering/settings.py": "consistency/test_settings.py",
    "dataio/settings.py": "consistency/test_settings.py",
    "experiment/settings.py": "consistency/test_settings.py",
    "experiment/recipe_settings.py": "consistency/test_settings.py",
    "inference/settings.py": "consistency/test_settings.py",
    "models/settings.py": "consistency/test_settings.py",
    # What a recipe does from its first line to its last.
    "clustering/label_files.py": "recipes/test_make_pseudo_labels.py",
    "experiment/plan_check.py": "recipes/test_run_rounds_plans.py",
    "experiment/training_run.py": "recipes/test_train_speaker.py",
    "training/brain.py": "recipes/test_train_speaker.py",
    "training/view_brain.py": "recipes/test_train_dino.py",
    "verification/system.py": "recipes/test_score_trials.py",
    # What a program makes of them is tested.
    "utils/errors.py": "unit/commands/test_command_line.py",
}
MODULES = {
    str(path.relative_to(PACKAGE)): path
    for path in sorted(PACKAGE.glob("*/*.py"))
    if path.name != "__init__.py"
}
UNIT_TESTS = sorted(TESTS.glob("unit/**/test_*.py"))


def unit_test_of(module: str) -> Path:
    """Where the tests of ``room/x.py`` are: ``unit/room/test_x.py``."""
    room, name = module.split("/")
    return TESTS / "unit" / room / f"test_{name}"


@pytest.mark.parametrize("module", MODULES)
def test_a_module_has_its_file_of_tests_or_is_tested_elsewhere(module):
    assert unit_test_of(module).is_file() != (module in ELSEWHERE)


@pytest.mark.parametrize(
    "path", UNIT_TESTS, ids=lambda path: str(path.relative_to(TESTS))
)
def test_a_file_of_unit_tests_has_its_module(path):
    assert path in map(unit_test_of, MODULES)


@pytest.mark.parametrize(("module", "test"), ELSEWHERE.items())
def test_what_is_tested_elsewhere_exists_and_so_does_its_test(module, test):
    assert module in MODULES
    assert "def test_" in (TESTS / test).read_text("utf-8")


def test_helpers_lie_in_one_folder():
    others = {
        str(path.relative_to(TESTS))
        for path in TESTS.glob("**/*.py")
        if not path.name.startswith("test_") and path.name != "conftest.py"
    }
    assert others == {name for name in others if name.startswith("helpers/")}


def test_the_files_that_contributing_names_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    names = re.findall(r"`((?:speechbrain_ext|tests|hparams)/[\w./]+)`", text)
    assert names
    paths = [name for name in names if "test_x" not in name]
    assert [name for name in paths if not (ROOT / name).exists()] == []
