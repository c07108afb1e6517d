"""Leaves: objects and their arguments, what is asked for, presets, paths."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pytest

from speechbrain_ext.experiment.leaf import read_leaf
from speechbrain_ext.experiment.recipe_run import RecipeRun
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.settings import Settings, Wired, argument, setting

HERE = f"{__name__}."


class Draw:
    """An object that a YAML wires."""

    def __init__(
        self,
        n_colours: int = 3,
        form: Literal["round", "square"] = "round",
        shares: Sequence[float] = (1,),
    ):
        self.n_colours = n_colours


class Paint(Draw):
    """Another one."""


@dataclasses.dataclass(kw_only=True)
class Picture(Settings):
    """A recipe's settings."""

    recipe = "picture"
    refused_options = {"nonfinite_patience": "pictures are finite"}

    style: str = setting("plain", "how it is made")
    max_grad_norm: float = setting(1.0, "a run option with a range", low=0)
    draw: Wired = setting(
        Wired("!name:torch.nn.Linear {in_features: 2}"),
        "what draws",
        arguments={"in_features": argument(int, low=1)},
    )
    logger: Wired | None = setting(None, "what logs", decides=False)

    @classmethod
    def default_of(cls, key: str, given: Mapping[str, Any]) -> Any:
        if key == "draw" and given.get("style") == "own":
            return Wired(f"!name:{HERE}Draw")
        return super().default_of(key, given)


@pytest.fixture
def leaf(tmp_path):
    """Reads a leaf of these lines, with these overrides."""

    def read(lines="", overrides=None):
        path = tmp_path / "picture.yaml"
        path.write_text(f"output_folder: x\n{lines}\n")
        return read_leaf(Picture, path, overrides)

    return read


def test_a_default_may_depend_on_another_key(leaf):
    assert leaf().record["draw"] == {
        "!": "!name:torch.nn.Linear",
        "in_features": 2,
    }
    assert leaf("style: own").record["draw"] == {"!": f"!name:{HERE}Draw"}


def test_text_of_an_override_is_an_object(leaf):
    read = leaf(overrides={"draw": f"!name:{HERE}Draw {{n_colours: 5}}"})
    assert read.objects()["draw"]().n_colours == 5
    assert leaf(overrides=f"draw: !name:{HERE}Paint").settings.draw == {
        "!": f"!name:{HERE}Paint"
    }


def test_a_map_changes_the_arguments_of_the_object(leaf):
    lines = f"draw: !name:{HERE}Draw"
    read = leaf(lines, "draw: {n_colours: 7}")
    assert read.objects()["draw"]().n_colours == 7


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("draw: {in_features: 0}", "draw.in_features is 0; it must be a whole"),
        (f"draw: !name:{HERE}Draw\n    n_colors: 1", "did you mean draw.n_col"),
        (f"draw: !name:{HERE}Draw\n    n_colours: x", "draw.n_colours is 'x'"),
        (f"draw: !name:{HERE}Draw\n    form: flat", "must be round or square"),
        ("logger: {a: 1}", "for example --logger='!name:package.Class'"),
        ("max_grad_norm: -1", "max_grad_norm is -1"),
    ],
)
def test_wrong_objects_are_one_line(leaf, lines, words):
    with pytest.raises(InputError) as caught:
        leaf(lines)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_ranges_are_of_the_defaults_class_alone(leaf):
    lines = "draw: !name:torch.nn.Bilinear {in1_features: 0}"
    assert leaf(lines).settings.draw["in1_features"] == 0


def run(tmp_path, *words):
    path = tmp_path / "picture.yaml"
    path.write_text(f"output_folder: {tmp_path}/out\n")
    return RecipeRun(__file__, Picture, [str(path), *words])


def test_a_run_option_that_is_a_key_has_its_range_and_reaches_both(tmp_path):
    recipe = run(tmp_path, "--max_grad_norm=2")
    assert recipe.settings.max_grad_norm == recipe.options.max_grad_norm == 2
    assert run(tmp_path).options.max_grad_norm == 1
    with pytest.raises(InputError, match="max_grad_norm is -2; it must be"):
        run(tmp_path, "--max_grad_norm=-2")


def test_a_run_option_without_effect_is_refused(tmp_path):
    with pytest.raises(InputError, match="since pictures are finite; leave"):
        run(tmp_path, "--nonfinite_patience=3")
    assert not (tmp_path / "out").exists()


@dataclasses.dataclass(kw_only=True)
class Count(Settings):
    """Count words."""

    recipe = "count"

    text: str | None = setting(None, "a file", path=True)
    n_words: int = setting(3, "how many", low=1)
    stages: dict[str, dict] = setting({}, "of each stage: its YAML")


@pytest.fixture
def asking(tmp_path):
    path = tmp_path / "count.yaml"
    path.write_text("output_folder: out\ntext: !PLACEHOLDER\nn_words: 4\n")
    return path


def test_a_value_that_a_leaf_asks_for_is_needed_though_it_has_a_default(asking):
    with pytest.raises(InputError, match="text is not given; count needs it"):
        read_leaf(Count, asking)
    assert read_leaf(Count, asking, {"text": None}).settings.text is None


def test_a_preset_wins_over_leaf_and_overrides(asking):
    given = {"text": "mine", "n_words": 5}
    read = read_leaf(Count, asking, given, {"text": None, "n_words": 1})
    assert (read.settings.text, read.settings.n_words) == (None, 1)


def test_yamls_that_a_leaf_names_inside_a_map_are_found_beside_it(asking):
    other = asking.with_name("other.yaml")
    other.write_text("a: 1\n")
    text = "stages: {one: {hparams: other.yaml}, two: {hparams: ecapa.yaml}}\n"
    text = text.replace("ecapa.yaml", "embedders/ecapa.yaml")
    asking.write_text(f"output_folder: out\n{text}")
    stages = read_leaf(Count, asking).settings.stages
    assert stages["one"]["hparams"] == str(other)
    assert stages["two"]["hparams"].endswith("hparams/embedders/ecapa.yaml")
