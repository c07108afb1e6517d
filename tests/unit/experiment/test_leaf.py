"""A leaf: what is asked for, what a preset changes, where YAMLs are found."""

import dataclasses

import pytest

from speechbrain_ext.experiment.leaf import read_leaf
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.settings import Settings, setting


@dataclasses.dataclass(kw_only=True)
class Count(Settings):
    """Count words."""

    recipe = "count"

    text: str | None = setting(None, "a file", path=True)
    n_words: int = setting(3, "how many", low=1)
    stages: dict[str, dict] = setting({}, "of each stage: its YAML")


@pytest.fixture
def leaf(tmp_path):
    path = tmp_path / "count.yaml"
    path.write_text("output_folder: out\ntext: !PLACEHOLDER\nn_words: 4\n")
    return path


def test_a_value_that_a_leaf_asks_for_is_needed_though_it_has_a_default(leaf):
    with pytest.raises(InputError, match="text is not given; count needs it"):
        read_leaf(Count, leaf)
    assert read_leaf(Count, leaf, {"text": None}).settings.text is None


def test_a_preset_wins_over_leaf_and_overrides(leaf):
    given = {"text": "mine", "n_words": 5}
    read = read_leaf(Count, leaf, given, {"text": None, "n_words": 1})
    assert (read.settings.text, read.settings.n_words) == (None, 1)


def test_yamls_that_a_leaf_names_inside_a_map_are_found_beside_it(leaf):
    other = leaf.with_name("other.yaml")
    other.write_text("a: 1\n")
    text = "stages: {one: {hparams: other.yaml}, two: {hparams: ecapa.yaml}}\n"
    text = text.replace("ecapa.yaml", "embedders/ecapa.yaml")
    leaf.write_text(f"output_folder: out\n{text}")
    stages = read_leaf(Count, leaf).settings.stages
    assert stages["one"]["hparams"] == str(other)
    assert stages["two"]["hparams"].endswith("hparams/embedders/ecapa.yaml")
