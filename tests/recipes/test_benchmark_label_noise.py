"""The label noise study corrupts what it says and counts what was caught."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import cells, label_noise
from speechbrain_ext.dataio.manifest import read_manifest, write_manifest
from speechbrain_ext.utils.errors import InputError

SPEAKERS = np.repeat([f"s{n}" for n in range(10)], 10)


def draw(kind, share, seed=0):
    generator = np.random.default_rng(seed)
    return label_noise.CORRUPTIONS[kind](SPEAKERS, share, generator)


@pytest.mark.parametrize("share", [0, 0.2, 0.4])
def test_uniform_noise_changes_the_given_share_of_labels(share):
    labels = draw("uniform", share)
    assert (labels != SPEAKERS).sum() == 100 * share
    assert set(labels) <= set(SPEAKERS)


def test_merged_speakers_have_one_label():
    labels = draw("merges", 0.2)
    moved = labels != SPEAKERS
    assert moved.sum() == 20
    for name in set(SPEAKERS[moved]):
        assert len(set(labels[name == SPEAKERS])) == 1


def test_split_speakers_have_two_labels():
    labels = draw("splits", 0.2)
    assert (labels != SPEAKERS).sum() == 20
    names = pd.Series(labels).groupby(SPEAKERS).nunique()
    assert sorted(names) == [1] * 6 + [2] * 4


@pytest.mark.parametrize("kind", label_noise.CORRUPTIONS)
def test_a_corruption_is_decided_by_its_seed(kind):
    assert (draw(kind, 0.3) == draw(kind, 0.3)).all()
    assert (draw(kind, 0.3) != draw(kind, 0.3, seed=1)).any()


@pytest.fixture
def judged(tmp_path):
    """Six utterances; b's label is wrong, and a merged one is c's."""
    ids = list("abcdef")
    speakers = ["s", "t", "s", "t", "t", "s"]
    table = pd.DataFrame({"ID": ids, "spk_id": speakers})
    write_manifest(tmp_path / "oracle.csv", table, "oracle")
    row = {"duration": 1.0, "wav": "x", "start": 0, "stop": 16000}
    given = pd.DataFrame({"ID": ids}).assign(**row)
    given["spk_id"] = ["A", "A", "A", "B", "B", "B"]
    write_manifest(tmp_path / "labels.csv", given, "pseudo_labels")
    return tmp_path


def test_found_wrong_labels_are_counted_against_the_truth(judged):
    # Wrong: b (in A, which stands for s) and f (in B, which stands for t).
    states = {
        "ID": ["f", "e", "d", "c", "b", "a"],
        "kept": [False, True, False, False, True, True],
        "corrected": ["A", "", "", "B", "", ""],
        "confirmed": [False, False, True, False, False, False],
        "log_loss": [2.0, 0.0, 1.0, 1.0, 0.0, 0.0],
    }
    table = pd.DataFrame(states)
    assert label_noise.caught(table, judged, judged / "labels.csv") == {
        "wrong": pytest.approx(2 / 6, abs=1e-4),
        "caught (of wrong)": 0.5,
        # d was rejected and its own label confirmed.
        "lost (of right)": 0.25,
        "put right (of wrong)": 0.5,
        "put wrong (of all)": pytest.approx(1 / 6, abs=1e-4),
        "loss eer (wrong from right)": 0.5,
    }


def test_a_gated_epoch_has_the_threshold_of_the_epoch_before():
    history = [
        {"epoch": 1, "is_new": False, "kept": 1.0},
        {"epoch": 2, "is_new": False, "kept": 1.0},
        {"epoch": 3, "is_new": True, "kept": 1.0, "corrected": 0.0},
        {"epoch": 4, "is_new": True, "kept": 0.1, "corrected": 0.1},
        {"epoch": 5, "is_new": False, "kept": 0.8, "corrected": 0.2},
    ]
    assert label_noise.gated(history, first_epoch=3) == {
        "kept": 0.8,
        "least kept": 0.1,
        "corrected": 0.2,
        "gated epochs": 3,
        "epochs without a threshold": 1,
    }


def test_losses_that_are_higher_for_wrong_labels_tell_them():
    wrong = np.array([False, True, False, True])
    losses = np.array([0.1, 2.0, 0.2, 3.0])
    assert label_noise.told_apart(losses, wrong) == 0
    assert label_noise.told_apart(-losses, wrong) == 1
    assert label_noise.told_apart(losses, np.zeros(4, dtype=bool)) is None


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (Path("/data/minivox/corpus"), "minivox/corpus"),
        ("exp/minivox/corpus", "exp/minivox/corpus"),
        ("{width: 8}", "{width: 8}"),
        ([0.2, 0.4], "[0.2, 0.4]"),
    ],
)
def test_a_result_names_no_local_folder(value, shown):
    assert cells.placeless(value) == shown


def test_an_unknown_mode_is_named(tmp_path):
    with pytest.raises(InputError, match="modes .'gat'. are not of"):
        label_noise.main([f"--output_folder={tmp_path}", "--modes", "gat"])


def test_the_study_runs_and_a_second_time_skips(tmp_path):
    argv = [
        f"--output_folder={tmp_path / 'out'}",
        f"--output={tmp_path / 'noise.json'}",
        "--toy={n_speakers: 4, n_test_speakers: 2, n_sessions: 2, "
        "n_utterances: 3, min_seconds: 0.6, max_seconds: 0.8, n_trials: 20, "
        "n_sounds: 1, num_workers: 1}",
        "--embedder={width: 8, width_last: 16, attention_channels: 8, "
        "embedding_size: 8}",
        *("--modes", "none", "gate (drawn)", "--seeds", "1986", "1987"),
        *"--shares 0.25 --n_epochs 2 --crop 0.5 --n_bootstrap 20".split(),
        *"--batch_size 8 --gate_from_epoch 2 --correct_from_epoch 2".split(),
    ]
    label_noise.main(argv)
    report = json.loads((tmp_path / "noise.json").read_text())
    none, row = report["rows"]
    assert row["share"] == row["wrong"] == 0.25
    assert row["gated epochs"] == 1
    assert 0 <= row["eer toy"] <= 100
    assert "against none" not in none
    found = row["against none"]["toy"]
    change = row["eer toy"] - none["eer toy"]
    assert found["value"] == pytest.approx(change, abs=1e-3)
    assert [seed["value"] for seed in found["by_seed"]] == pytest.approx(
        [
            other["eer toy"] - one["eer toy"]
            for one, other in zip(none["seeds"], row["seeds"], strict=True)
        ],
        abs=1e-3,
    )
    assert "speakers" in found["interval"]
    assert (tmp_path / "noise.png").exists()
    assert (tmp_path / "noise_gate_drawn.png").exists()
    labels = tmp_path / "out" / "uniform-25-1986" / "pseudo_labels.csv"
    assert len(read_manifest(labels, "pseudo_labels")) == 24
    receipts = {
        path: path.stat().st_mtime_ns for path in tmp_path.rglob("stage.json")
    }
    assert len(receipts) == 13  # the corpus, and three stages of four cells
    label_noise.main(argv)
    for path, when in receipts.items():
        assert path.stat().st_mtime_ns == when
    again = json.loads((tmp_path / "noise.json").read_text())
    assert again["rows"] == report["rows"]
