"""``--debug``: the same steps, small."""

from pathlib import Path

import pytest
from house import PLANS

from speechbrain_ext.experiment.debug_plan import (
    SMALL,
    debug_plan,
    debug_values,
)
from speechbrain_ext.experiment.leaf import read_leaf
from speechbrain_ext.experiment.plan import load_plan
from speechbrain_ext.experiment.plan_check import check_plan
from speechbrain_ext.experiment.settings import RunRounds
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.yaml_trees import plain, read_yaml


def read_plan(name, folder, **changes):
    """A plan without its corpus, as --debug needs none."""
    given = {"output_folder": str(folder / "exp"), **changes}
    path = f"plans/{name}.yaml"
    return read_leaf(RunRounds, path, given, debug_values()).settings


@pytest.mark.parametrize("name", PLANS)
def test_every_plan_has_a_small_form_with_the_same_steps(name, tmp_path):
    given = read_plan(name, tmp_path)
    small = debug_plan(given)
    plan = load_plan(small)
    check_plan(plan)
    names = [step.name for step in load_plan(given).steps]
    assert [step.name for step in plan.steps] == names
    assert plan.steps[0].recipe == "prepare_toy"
    root = f"{given.output_folder}_debug"
    assert all(str(step.folder).startswith(root) for step in plan.steps)
    assert small.results_folder.startswith(root)
    assert small.run == f"{name}_debug"


@pytest.mark.parametrize(
    ("name", "corrected"),
    [("quickstart", None), ("minivox", 3), ("voxceleb", 3)],
)
def test_labels_are_corrected_only_where_the_plan_does(
    name, corrected, tmp_path
):
    stages = debug_plan(read_plan(name, tmp_path)).stages
    assert stages["train"]["set"].get("correct_from_epoch") == corrected


def test_what_is_not_made_small_stays_as_the_plan_has_it(tmp_path):
    values = {"embedder": {"freeze": "all"}}
    given = read_plan("voxceleb", tmp_path, stages={"train": {"set": values}})
    stages = debug_plan(given).stages
    tuned = stages["large_margin"]["set"]
    assert tuned["loss"]["margin"] == 0.5 and tuned["crop"] == 0.8
    embedder = stages["train"]["set"]["embedder"]
    assert embedder["freeze"] == "all" and embedder["encoder_source"] is None


def test_embedder_values_of_the_plan_stay_too(tmp_path):
    given = read_plan("minivox_wavlm", tmp_path)
    embedder = debug_plan(given).stages["train"]["set"]["embedder"]
    assert embedder["freeze"] == "none" and embedder["n_heads"] == 2


def test_every_embedder_has_a_small_form():
    paths = sorted(Path("hparams/embedders").glob("*.yaml"))
    small = plain(read_yaml(SMALL))["embedders"]
    assert small.keys() == {path.name for path in paths}
    for path in paths:
        assert small[path.name].keys() <= read_yaml(path).keys()


def test_an_embedder_of_the_users_has_none_and_the_way_out_is_named(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("base: embedders/ecapa.yaml\n")
    values = {"embedder_yaml": str(mine)}
    given = read_plan("quickstart", tmp_path, stages={"train": {"set": values}})
    with pytest.raises(InputError, match=r"mine\.yaml.* to debug\.yaml"):
        debug_plan(given)


def test_the_preset_wins_over_the_plan_and_the_command_line(tmp_path):
    given = read_plan("quickstart", tmp_path, n_rounds=5, data_folder="mine")
    assert (given.n_rounds, given.data_folder) == (2, None)
