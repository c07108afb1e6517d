"""The EER on a trial list while training."""

import itertools

import pytest
import soundfile
import torch
import training_leaf
from small_recordings import small_embedder, write_recordings

from speechbrain_ext.training.validation import (
    TrialValidation,
    build_validation,
)
from speechbrain_ext.utils.errors import InputError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_recordings(tmp_path_factory.mktemp("wavs"))


@pytest.fixture(scope="module")
def embedder():
    return small_embedder()


def cosine(embedder, folder, one, other):
    """Score of two of the recordings, each embedded by itself."""
    first, second = (
        embedder.embed(torch.from_numpy(wav)[None])[0]
        for wav, _ in (
            soundfile.read(folder / f"{number}.wav", dtype="float32")
            for number in (one, other)
        )
    )
    return torch.nn.functional.cosine_similarity(first, second, dim=0).item()


def test_the_validation_scores_its_trial_list(embedder, folder):
    pairs = sorted(
        itertools.combinations(range(4), 2),
        key=lambda pair: cosine(embedder, folder, *pair),
    )
    for labels, percent in (("001111", 0.0), ("110000", 100.0)):
        lines = [
            f"{label} u{one} u{other}\n"
            for label, (one, other) in zip(labels, pairs, strict=True)
        ]
        (folder / "list.txt").write_text("".join(lines))
        validation = TrialValidation(
            folder / "all.csv", folder / "list.txt", str(folder)
        )
        assert validation.percent(embedder) == percent


def test_the_validation_refuses_trials_of_other_utterances(folder):
    (folder / "other.txt").write_text("1 u0 u9\n0 u0 u1\n")
    with pytest.raises(InputError, match="u9"):
        TrialValidation(folder / "all.csv", folder / "other.txt", str(folder))


def eer_settings(folder, **changes):
    (folder / "few.txt").write_text("1 u0 u1\n0 u0 u2\n")
    given = {
        "eer_trials": str(folder / "few.txt"),
        "eer_annotation": str(folder / "all.csv"),
        "eer_interval": 5,
        "data_folder": str(folder),
        **changes,
    }
    return training_leaf.read("train_dino_ecapa", **given).settings


def test_without_trials_there_is_no_validation(folder):
    assert build_validation(eer_settings(folder, eer_trials=None)) is None
    assert len(build_validation(eer_settings(folder)).trials) == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"eer_annotation": None}, "eer_annotation is null.*--eer_annotation"),
        ({"eer_interval": 0}, "eer_interval is 0"),
        # Found before the training, not at its first EER.
        ({"data_folder": "/nowhere"}, "data_folder is /nowhere"),
    ],
)
def test_unusable_validation_settings_are_refused(folder, changes, words):
    with pytest.raises(InputError, match=words):
        build_validation(eer_settings(folder, **changes))
