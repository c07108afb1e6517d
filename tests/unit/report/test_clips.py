"""Clips: short, few, and never a reason for a report to fail."""

import numpy as np
import pandas as pd
import pytest
import soundfile

from speechbrain_ext.dataio.manifest import Manifest
from speechbrain_ext.report.clips import ClipCutter


@pytest.fixture
def manifest(tmp_path):
    """Two utterances of a file: 1 s, and the 5 s after it; one is missing."""
    samples = np.arange(6 * 16000) / (6 * 16000)
    soundfile.write(tmp_path / "a <b>&.wav", samples, 16000)
    table = pd.DataFrame(
        {
            "ID": ["short", "long", "gone"],
            "duration": [1.0, 5.0, 1.0],
            "wav": ["$data_root/a <b>&.wav"] * 2 + ["$data_root/no.wav"],
            "start": [0, 16000, 0],
            "stop": [16000, 96000, 16000],
        }
    )
    return Manifest(table, "utterances", str(tmp_path))


def test_a_clip_is_the_begin_of_its_utterance(manifest, tmp_path):
    cutter = ClipCutter(tmp_path / "run", seconds=2.0)
    clips = [cutter.cut(manifest, row, "why") for row in (0, 1)]
    assert [clip.words for clip in clips] == ["short: why", "long: why"]
    for clip, length, first in zip(clips, (16000, 32000), (0, 1), strict=True):
        found, rate = soundfile.read(tmp_path / "run" / clip.path)
        assert (len(found), rate) == (length, 16000)
        assert found[0] == pytest.approx(first / 6, abs=1e-3)


def test_audio_that_is_gone_leaves_no_clip_and_no_error(manifest, tmp_path):
    cutter = ClipCutter(tmp_path)
    assert cutter.cut(manifest, 2, "") is None
    assert (cutter.n_clips, cutter.n_unreadable) == (0, 1)


def test_clips_end_where_their_size_is_reached(manifest, tmp_path):
    cutter = ClipCutter(tmp_path, most_bytes=1)
    assert cutter.cut(manifest, 0, "") is not None
    assert cutter.cut(manifest, 0, "") is None


def test_clips_of_an_earlier_report_are_removed(manifest, tmp_path):
    ClipCutter(tmp_path).cut(manifest, 0, "")
    other = tmp_path / "report_files" / "mine.txt"
    other.write_text("kept")
    ClipCutter(tmp_path)
    assert list(other.parent.iterdir()) == [other]
