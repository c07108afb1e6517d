"""The length of mp3 without an index is counted, over tags and junk."""

import io

import numpy as np
import pytest
import soundfile
from odd_audio import vbr_mp3_without_index, write

from speechbrain_ext.dataio.audio import read_speech
from speechbrain_ext.dataio.mp3_index import (
    counted_length,
    n_frames,
    with_index,
)

_TAG = b"ID3" + bytes([3, 0, 0, 0, 0, 1, 0]) + b"\xff\xfb" * 64


@pytest.fixture
def vbr(tmp_path):
    return vbr_mp3_without_index(tmp_path / "a.mp3", seconds=3.0)


def test_frames_are_counted_to_the_end(vbr):
    assert counted_length(str(vbr)) == pytest.approx(4.05 * 16000, abs=1200)


def test_an_index_is_believed(tmp_path):
    assert counted_length(str(write(tmp_path / "a.mp3"))) is None


def test_a_tag_before_and_one_behind_are_no_frames(vbr):
    data = vbr.read_bytes()
    tagged = _TAG + data + b"TAG" + bytes(125)
    assert n_frames(tagged)[0] == n_frames(data)[0]


def test_junk_between_frames_is_passed_over(vbr):
    data = vbr.read_bytes()
    half = n_frames(data)[1].n_bytes
    junk = data[:half] + b"\xff\x00\xffjunk" + data[half:]
    assert n_frames(junk)[0] == n_frames(data)[0]


def test_the_added_index_changes_no_sample(vbr):
    data = vbr.read_bytes()
    wav, rate = soundfile.read(io.BytesIO(with_index(_TAG + data)))
    assert rate == 16000
    assert abs(len(wav) - n_frames(data)[0] * 576) <= 1200
    again, _ = soundfile.read(io.BytesIO(with_index(data)))
    np.testing.assert_array_equal(wav, again)
    # A second of silence, then noise, as it was written.
    assert np.abs(wav[:15000]).max() < 1e-3 < 0.05 < wav[20000:].std()


def test_what_is_no_mp3_has_no_frames():
    for data in (b"", b"ID3", b"text" * 99, b"\xff" * 99):
        assert n_frames(data) == (0, None)
        assert with_index(data) == data


def test_a_file_that_changed_is_counted_again(vbr):
    before = counted_length(str(vbr))
    whole = vbr.read_bytes()
    vbr.write_bytes(whole[: len(whole) // 2])
    assert counted_length(str(vbr)) < before


def test_joined_files_are_counted_beyond_the_index_of_the_first(tmp_path):
    path = write(tmp_path / "a.mp3")
    path.write_bytes(path.read_bytes() + write(tmp_path / "b.mp3").read_bytes())
    assert abs(len(read_speech(path)) / 16000 - 4.0) < 0.3
