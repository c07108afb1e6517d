"""Folders that come with the package, as a clone has them."""

import pytest
from house import ROOT

from speechbrain_ext.utils.shipped import (
    HPARAMS,
    INSTALLED,
    RECIPES,
    comment_of,
    import_folders,
    shipped_leaves,
    shipped_model,
)


def test_a_clone_has_them_beside_the_package():
    assert not INSTALLED
    assert (RECIPES, HPARAMS) == (ROOT / "recipes", ROOT / "hparams")
    assert import_folders() == [str(ROOT)]


@pytest.mark.parametrize(
    "name", ["minivox_whisper", "pretrained/minivox_whisper"]
)
def test_a_shipped_model_has_a_name(name):
    assert shipped_model(name) == ROOT / "pretrained" / "minivox_whisper"


@pytest.mark.parametrize("name", ["none", "a/minivox_whisper", ".", "..", "/"])
def test_what_is_not_shipped_has_no_folder(name):
    assert shipped_model(name) is None


def test_a_recipes_own_yaml_is_the_first():
    assert shipped_leaves("score_trials") == [HPARAMS / "score_trials.yaml"]
    stems = [path.stem for path in shipped_leaves("train_speaker")]
    assert stems[0] == "train_speaker_ecapa" and len(stems) == 4


def test_the_first_sentence_of_a_comment_is_what_a_yaml_is(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("# One plan\n# of two lines. More: none.\nrun: a\n")
    assert comment_of(path) == "One plan of two lines"
    path.write_text("run: a\n# not at its head\n")
    assert comment_of(path) == ""


@pytest.mark.parametrize("path", sorted(HPARAMS.glob("*.yaml")), ids=str)
def test_every_yaml_says_what_it_is(path):
    assert len(comment_of(path)) > 10
