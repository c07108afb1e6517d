"""Settings classes: types, ranges, records and the words of refusals."""

import dataclasses
import math
from typing import Literal

import pytest

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.settings import Setting, Settings, Wired, setting


@dataclasses.dataclass(kw_only=True)
class Train(Settings):
    """Train a network."""

    recipe = "train"

    lr: float = setting(0.1, "learning rate", above=0, below=1)
    n_epochs: int = setting(doc="how many", low=1)
    method: Literal["a", "b"] | None = setting("a", "which")
    widths: list[int] = setting([8], "of layers", low=1)
    source: str = setting("none", "a file", path=True)
    model: Wired = setting(Wired("!new:torch.nn.Identity"), "any")


def made(**values):
    return Train.from_values({"output_folder": "x", "n_epochs": 3, **values})


def test_a_whole_number_is_taken_as_a_float_and_not_the_other_way():
    fact = Setting("lr", float, 1.0, "")
    assert type(fact.check(3)) is float
    with pytest.raises(InputError, match="it must be a whole number"):
        made(n_epochs=3.0)


@pytest.mark.parametrize(
    "values",
    [
        {"lr": 0},
        {"lr": 1},
        {"lr": math.nan},
        {"lr": "0.5"},
        {"n_epochs": 0},
        {"n_epochs": True},
        {"n_epochs": None},
        {"method": "c"},
        {"widths": 8},
        {"widths": [8, 0]},
        {"overwrite": 1},
        {"model": "torch.nn.Identity"},
    ],
)
def test_a_wrong_type_or_range_is_refused_with_its_rule(values):
    (key,) = values
    with pytest.raises(InputError, match=f"^{key} is .*; it must be .*; corr"):
        made(**values)


def test_ends_of_a_range_belong_to_it_where_they_should():
    assert made(n_epochs=1).n_epochs == 1
    assert made(lr=0.999).lr == 0.999
    assert made(method=None).method is None


@pytest.mark.parametrize(
    ("fact", "rule"),
    [
        (Setting("", int, 0, "", low=1), "a whole number of 1 or more"),
        (Setting("", float, 0, "", 0, 1), "a number from 0 to 1"),
        (
            Setting("", float, 0, "", above=0, high=2.5),
            "a number of 2.5 or less and above 0",
        ),
        (Setting("", Literal["a", "b"] | None, 0, ""), "a or b or null"),
        (
            Setting("", list[bool], 0, ""),
            "a list [...], each value true or false",
        ),
    ],
)
def test_a_rule_is_put_into_words(fact, rule):
    assert fact.rule == rule


def test_unknown_and_missing_keys_are_named():
    with pytest.raises(
        InputError, match="n_epoch is 3; train has no .*n_epochs"
    ):
        made(n_epoch=3)
    with pytest.raises(
        InputError, match=r"n_epochs is not given; .*\(how many\)"
    ):
        Train.from_values({"output_folder": "x"})


def test_a_record_leaves_out_paths_and_what_decides_nothing():
    record = made(source="a.csv", overwrite=True).record()
    assert record.keys() == {
        "seed",
        "lr",
        "n_epochs",
        "method",
        "widths",
        "model",
    }


def test_defaults_that_are_lists_are_not_shared():
    first = made()
    first.widths.append(9)
    assert made().widths == [8]


@dataclasses.dataclass(kw_only=True)
class Plan(Settings):
    """Stages by name."""

    recipe = "plan"
    stages: dict[str, dict] = setting({}, "by name")


def said_of(**values):
    with pytest.raises(InputError) as error:
        Plan.from_values({"output_folder": "x", **values})
    return str(error.value)


def test_a_wrong_value_in_a_map_is_named_without_its_neighbours():
    said = said_of(stages={"labels": {"set": {}}, "train": 3})
    assert said == (
        "stages.train is 3; it must be a map {...}; correct --stages"
    )


def test_a_long_value_is_cut():
    long = {f"stage{n}": {} for n in range(99)}
    said = said_of(stage=long)
    assert said.startswith("stage is {'stage0': {}") and "...; plan has" in said
    assert len(said) < 200
