"""``--debug``: the same steps, small."""

from pathlib import Path

import pytest

from recipes.run_rounds import check_steps
from speechbrain_ext.experiment.debug_plan import SMALL, debug_plan, debug_words
from speechbrain_ext.experiment.plan import load_plan
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.yaml_trees import (
    parse_yaml,
    plain,
    read_yaml,
    resolve,
)

PLANS = ["quickstart", "folder", "minivox", "minivox_wavlm", "voxceleb"]


def settings_of(plan, folder):
    overrides = {"output_folder": str(folder / "exp"), "n_rounds": 1}
    tree = read_yaml(f"hparams/{plan}.yaml")
    for key in ("data_folder", "augment_folder"):
        if key in tree:
            overrides[key] = "none"
    return plain(parse_yaml(resolve(f"hparams/{plan}.yaml", overrides)))


@pytest.mark.parametrize("plan", PLANS)
def test_every_plan_has_a_small_form_with_the_same_steps(plan, tmp_path):
    settings = settings_of(plan, tmp_path)
    small = debug_plan(settings)
    steps = load_plan(small)
    check_steps(steps)
    changed = {key: small[key] for key in ("n_rounds", "export")}
    wanted = load_plan({**settings, **changed})
    assert [step.name for step in steps] == [step.name for step in wanted]
    assert steps[0].recipe == "prepare_toy"
    root = f"{settings['output_folder']}_debug"
    assert all(str(step.folder).startswith(root) for step in steps)
    assert small["results_folder"].startswith(root)


def test_what_is_not_made_small_stays_as_the_plan_has_it(tmp_path):
    settings = settings_of("voxceleb", tmp_path)
    tuned = debug_plan(settings)["stages"]["large_margin"]["set"]
    assert tuned["margin"] == 0.5 and tuned["crop"] == 0.8
    settings["stages"]["train"]["set"]["embedder"] = {"freeze": "all"}
    embedder = debug_plan(settings)["stages"]["train"]["set"]["embedder"]
    assert embedder["freeze"] == "all" and embedder["encoder_source"] is None


def test_every_embedder_has_a_small_form():
    paths = Path("hparams/embedders").glob("*.yaml")
    parts = {f"hparams/embedders/{path.name}" for path in paths}
    small = plain(read_yaml(SMALL))["embedders"]
    assert small.keys() == parts
    for part, values in small.items():
        assert values.keys() <= read_yaml(part).keys()


def test_an_embedder_of_the_users_has_none_and_the_way_out_is_named(tmp_path):
    settings = settings_of("voxceleb", tmp_path)
    settings["stages"]["train"]["set"]["embedder_yaml"] = "mine.yaml"
    with pytest.raises(InputError, match=r"mine\.yaml.*add it to debug\.yaml"):
        debug_plan(settings)


def test_a_command_line_without_debug_is_left_alone():
    words = ["plan.yaml", "--seed=1"]
    assert debug_words(words) is words
