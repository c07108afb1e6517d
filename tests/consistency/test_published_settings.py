"""The overrides in a leaf's first lines are ones that it takes."""

import shlex

import pytest
import yaml
from house import ROOT

from speechbrain_ext.yamls import (
    check_overrides,
    parse_yaml,
    plain,
    read_yaml,
    resolve,
)

LEAF = ROOT / "hparams" / "train_dino_ecapa.yaml"


def published() -> dict[str, dict]:
    """Overrides by the name of the setting."""
    settings: dict[str, dict] = {}
    for line in LEAF.read_text("utf-8").splitlines():
        text = line.removeprefix("#").strip()
        if not line.startswith("#"):
            break
        if text.endswith(":") and "%" in text:
            settings[text] = name = {}
        elif text.startswith("--"):
            for word in shlex.split(text):
                key, value = word.removeprefix("--").split("=", 1)
                name[key] = yaml.safe_load(value)
    return settings


def test_three_settings_are_given():
    assert [len(v) for v in published().values()] == [2, 7, 8]


@pytest.mark.parametrize("name", published())
def test_they_change_what_the_leaf_has(name):
    overrides = published()[name]
    check_overrides(LEAF, read_yaml(LEAF), overrides)
    needed = dict.fromkeys(
        ("output_folder", "train_annotation", "data_folder"), "x"
    )
    found = plain(parse_yaml(resolve(LEAF, {**needed, **overrides})))
    without = plain(parse_yaml(resolve(LEAF, needed)))
    for key, value in overrides.items():
        if isinstance(value, dict):
            assert value.items() <= found[key].items()
        else:
            assert found[key] == value
        # Which the setting says again for its reader's sake.
        assert found[key] != without[key] or key == "lr"
