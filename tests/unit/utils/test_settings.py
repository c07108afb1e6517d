"""What is said of a wrong value is short and names what is wrong."""

import dataclasses

import pytest

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.settings import Settings, setting


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
