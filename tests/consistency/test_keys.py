"""No YAML key is dead, missing or misspelt."""

import argparse

import pytest
from house import DRIVER, ROOT, leaves, recipe_of, recipes
from speechbrain.utils.run_opts import RunOptions

from speechbrain_ext.utils.yaml_trees import (
    check_keys,
    check_overrides,
    plain,
    read_yaml,
)

LEAVES = leaves()
PLANS = [leaf for leaf in LEAVES if recipe_of(leaf) == DRIVER]


def stem(path):
    return path.stem


@pytest.mark.parametrize("leaf", LEAVES, ids=stem)
def test_a_yaml_has_exactly_the_keys_its_recipe_reads(leaf):
    check_keys(recipes()[recipe_of(leaf)], leaf, read_yaml(leaf))


@pytest.mark.parametrize("leaf", LEAVES, ids=stem)
def test_no_key_is_swallowed_by_a_run_option(leaf):
    """argparse takes ``--opt=1`` for ``--optimizer_step_limit=1``."""
    for key in read_yaml(leaf).keys() - RunOptions().keys():
        argv = [str(leaf), f"--{key}=1"]
        try:
            _, _, overrides = RunOptions.from_command_line_args(argv)
        except (SystemExit, argparse.ArgumentError):
            overrides = ""
        assert key in (overrides or ""), key


@pytest.mark.parametrize("plan", PLANS, ids=stem)
def test_a_plan_sets_only_keys_that_its_stages_have(plan):
    stages = plain(read_yaml(plan))["stages"]
    assert stages
    for stage in filter(None, stages.values()):
        leaf = ROOT / stage["hparams"]
        assert recipe_of(leaf) == stage["recipe"]
        check_overrides(leaf, read_yaml(leaf), stage["set"])
