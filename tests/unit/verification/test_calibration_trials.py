"""Drawn pairs are of the class they are named for, and each there once."""

import numpy as np
import pandas as pd
import pytest

from speechbrain_ext.dataio.manifest import Manifest
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.verification.calibration_trials import (
    draw_trials,
    label_trials,
)

SPEAKERS = np.repeat(list("abcdefgh"), [9, 9, 8, 6, 4, 2, 1, 1])
RECORDINGS = np.arange(40) // 2


def unordered(trials):
    pairs = np.sort(np.stack([trials.enrol, trials.test], axis=1), axis=1)
    return [tuple(pair) for pair in pairs.tolist()]


@pytest.mark.parametrize("recordings", [None, RECORDINGS])
def test_drawn_labels_are_right_and_no_pair_is_repeated(recordings):
    trials = draw_trials(SPEAKERS, 50, recordings, seed=3)
    same = SPEAKERS[trials.enrol] == SPEAKERS[trials.test]
    np.testing.assert_array_equal(same, trials.labels == 1)
    assert (trials.enrol != trials.test).all()
    assert len(set(unordered(trials))) == len(trials.labels)
    if recordings is not None:
        assert (recordings[trials.enrol] != recordings[trials.test]).all()


def test_no_more_pairs_are_drawn_than_exist():
    trials = draw_trials(SPEAKERS, 50)
    assert np.bincount(trials.labels).tolist() == [50, 50]
    every = draw_trials(SPEAKERS, 10**4)
    sizes = np.unique(SPEAKERS, return_counts=True)[1]
    n_target = int((sizes * (sizes - 1) // 2).sum())
    assert every.labels.sum() == n_target
    assert len(every.labels) == 40 * 39 // 2


def test_draws_depend_on_the_seed():
    first, again = draw_trials(SPEAKERS, 30), draw_trials(SPEAKERS, 30)
    other = draw_trials(SPEAKERS, 30, seed=1)
    assert unordered(first) == unordered(again) != unordered(other)


def test_small_speakers_are_drawn_too():
    trials = draw_trials(SPEAKERS, 60)
    assert set(SPEAKERS[trials.enrol[:60]]) >= set("abcdef")


@pytest.mark.parametrize(
    ("speakers", "message"),
    [(["a", "b", "c"], "no two are of one"), (["a", "a"], "no two are of two")],
)
def test_labels_that_allow_one_class_only_are_refused(speakers, message):
    with pytest.raises(InputError, match=message):
        draw_trials(np.array(speakers), 5)


def manifest(ids, speakers):
    table = pd.DataFrame({"ID": ids, "spk_id": speakers})
    return Manifest(table.astype(object), "pseudo_labels")


def test_ids_tell_the_recordings():
    ids = [f"x/r{number // 2}/{number}.wav" for number in range(40)]
    trials, words = label_trials(manifest(ids, SPEAKERS), 50, True)
    assert (RECORDINGS[trials.enrol] != RECORDINGS[trials.test]).all()
    assert words == "50 + 50 pairs of pseudo-speakers, of different recordings"


def test_pairs_of_one_recording_are_drawn_if_there_are_no_others():
    ids = [f"x/{speaker}/{n}.wav" for n, speaker in enumerate(SPEAKERS)]
    trials, words = label_trials(manifest(ids, SPEAKERS), 20, True)
    assert trials.labels.sum() == 20
    assert words.endswith("of any recording (no speaker has two)")


def test_recordings_are_told_only_when_asked():
    ids = [f"x/{speaker}/{n}.wav" for n, speaker in enumerate(SPEAKERS)]
    _, words = label_trials(manifest(ids, SPEAKERS), 20, False)
    assert words.endswith("of any recording")
    ids[3] = "x/3.wav"
    with pytest.raises(InputError, match="'x/3.wav' is not speaker/recording"):
        label_trials(manifest(ids, SPEAKERS), 20, True)
