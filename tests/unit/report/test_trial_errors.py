"""Hardest errors: those that are errors, no utterance twice."""

import numpy as np
import pandas as pd
import soundfile

from speechbrain_ext.dataio.manifest import Manifest
from speechbrain_ext.dataio.trials import parse_trials
from speechbrain_ext.report.clips import ClipCutter
from speechbrain_ext.report.trial_errors import error_clips, hardest

LINES = b"0 a b\n0 a c\n0 c d\n1 a d\n1 b c\n"


def test_the_most_wrong_trials_come_first_and_no_utterance_twice():
    trials = parse_trials("dev", "", LINES)
    scores = np.array([5.0, 4.0, 3.0, 1.0, 2.0])
    assert hardest(trials, scores) == ([0, 2], [3, 4])
    assert hardest(trials, scores, n_pairs=1) == ([0], [3])


def test_only_errors_whose_audio_is_there_are_cut(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(16000), 16000)
    table = pd.DataFrame({"ID": list("abcd"), "duration": 1.0})
    table["wav"] = ["a.wav", "a.wav", "a.wav", "none.wav"]
    table["wav"] = "$data_root/" + table.wav
    manifest = Manifest(
        table.assign(start=0, stop=16000), "utterances", str(tmp_path)
    )
    trials = parse_trials("dev", "", LINES)
    scores = np.array([5.0, 4.0, 3.0, 1.0, 9.0])
    found = error_clips(trials, scores, manifest, 2.5, ClipCutter(tmp_path))
    assert [words for words, _ in found.groups] == [
        "False accept, two speakers who sound alike: score 5.000"
    ]
    assert [clip.words for clip in found.groups[0][1]] == ["a", "b"]
    # A system that is never wrong has no errors to hear.
    right = np.array([0.0, 0.0, 0.0, 1.0, 1.0])
    cutter = ClipCutter(tmp_path)
    assert error_clips(trials, right, manifest, 0.5, cutter) is None
