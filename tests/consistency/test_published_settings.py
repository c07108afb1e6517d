"""The overrides in a leaf's first lines are ones that it takes."""

import shlex

import pytest
import torch
import training_leaf
from house import leaves
from tiny_wavlm import TINY

from speechbrain_ext.models.pooling import MHFA
from speechbrain_ext.models.speech_encoder import SpeakerEncoder
from speechbrain_ext.training.optim import parameter_groups
from speechbrain_ext.utils.yaml_trees import parse_yaml, plain

LEAVES = {leaf.stem: leaf for leaf in leaves()}
# What a setting says again for its reader's sake.
AGAIN = ("lr", "n_epochs")


def published(leaf) -> dict[str, dict]:
    """Overrides by the name of the setting, as the first lines have them."""
    settings: dict[str, list] = {}
    for line in leaf.read_text("utf-8").splitlines():
        text = line.removeprefix("#").strip()
        if not line.startswith("#"):
            break
        if text.endswith(":"):
            settings[text] = words = []
        elif text.startswith("--"):
            words += shlex.split(text)
    pairs = {
        name: [word.removeprefix("--").split("=", 1) for word in words]
        for name, words in settings.items()
    }
    return {
        name: plain(parse_yaml("\n".join(f"{k}: {v}" for k, v in found)))
        for name, found in pairs.items()
        if found
    }


SETTINGS = [
    (stem, name) for stem, leaf in LEAVES.items() for name in published(leaf)
]


def test_leaves_have_published_settings_in_their_heads():
    counts = {
        stem: [len(v) for v in published(LEAVES[stem]).values()]
        for stem, _ in SETTINGS
    }
    assert counts == {
        "train_contrastive_ecapa": [1, 3, 1],
        "train_contrastive_wavlm": [1, 1, 1],
        "train_dino_ecapa": [3, 7, 8],
        "train_speaker_wavlm_mhfa": [7, 9, 11],
    }


@pytest.mark.parametrize(("stem", "name"), SETTINGS)
def test_a_published_setting_changes_the_leaf(stem, name):
    leaf = LEAVES[stem]
    overrides = published(leaf)[name]
    found = vars(training_leaf.read(stem, **overrides).settings)
    without = vars(training_leaf.read(stem).settings)
    for key, value in overrides.items():
        if isinstance(value, dict):
            assert value.items() <= found[key].items()
        elif "yaml" not in key:
            assert found[key] == value
        assert found[key] != without[key] or key in AGAIN


RATED = [(s, n) for s, n in SETTINGS if "lr_parts" in published(LEAVES[s])[n]]


@pytest.mark.parametrize(("stem", "name"), RATED)
def test_parts_with_a_rate_of_their_own_are_parts_of_a_wavlm(stem, name):
    overrides = published(LEAVES[stem])[name]
    rates = {k: float(v) for k, v in overrides["lr_parts"].items()}
    freeze = overrides["embedder"]["freeze"]
    model = SpeakerEncoder(None, TINY, MHFA, freeze=freeze)
    classifier = torch.nn.Linear(2, 2)
    lr = float(overrides["lr"])
    groups = parameter_groups(model, classifier, lr, rates)
    assert {group["lr"] for group in groups} == {lr, *rates.values()}
