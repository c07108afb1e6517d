"""Every YAML belongs to a recipe, and every part is used."""

import re

import pytest
from house import DRIVER, PLANS, ROOT, leaves, recipe_of, recipes

from speechbrain_ext.utils.yaml_trees import read_yaml

YAMLS = sorted(ROOT.glob("hparams/**/*.yaml"))


def name(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", YAMLS, ids=name)
def test_every_yaml_parses_and_says_what_it_is_for(path):
    assert read_yaml(path)
    assert path.read_text("utf-8").startswith("#")


@pytest.mark.parametrize("leaf", leaves(), ids=name)
def test_every_yaml_is_named_for_its_recipe(leaf):
    assert recipe_of(leaf) in recipes()


def test_every_recipe_has_a_yaml():
    assert recipes().keys() == {recipe_of(leaf) for leaf in leaves()}


def test_the_driver_has_its_plans():
    plans = [leaf.stem for leaf in leaves() if recipe_of(leaf) == DRIVER]
    assert sorted(plans) == sorted(PLANS)


@pytest.mark.parametrize("part", sorted(set(YAMLS) - set(leaves())), ids=name)
def test_every_part_is_used_by_a_recipe_yaml_or_the_driver(part):
    used = rf"\b{re.escape(part.name)}\b"
    driver = ROOT / "speechbrain_ext" / "experiment" / "debug_plan.py"
    users = {*YAMLS, driver} - {part}
    assert any(re.search(used, user.read_text("utf-8")) for user in users)


@pytest.mark.parametrize("path", YAMLS, ids=name)
def test_every_yaml_named_in_a_yaml_exists(path):
    for found in re.findall(r"hparams/[\w/]+\.yaml", path.read_text("utf-8")):
        assert (ROOT / found).is_file(), found
