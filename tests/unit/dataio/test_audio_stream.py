"""A file is read right at every entrance, or refused with the same reason."""

import errno
import os
import tarfile

import numpy as np
import pytest
import soundfile
import torch
from odd_audio import (
    READ,
    REFUSED,
    at_rate,
    cut,
    floats,
    gsm,
    noise,
    vbr_mp3_without_index,
    write,
)

from speechbrain_ext.dataio import audio_stream
from speechbrain_ext.dataio.audio import read_crop, read_speech
from speechbrain_ext.dataio.audio_files import convert, heard_length
from speechbrain_ext.dataio.audio_stream import (
    Unusable,
    audio_size,
    open_audio,
    tar_members,
)
from speechbrain_ext.dataio.audio_tree import list_audio
from speechbrain_ext.utils.errors import InputError


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_file_is_refused_with_one_reason_everywhere(tmp_path, name):
    write_one, reason = REFUSED[name]
    path = tmp_path / name
    write_one(path)
    length, measured = heard_length(str(path))
    assert length == 0 and measured.startswith(reason)
    assert convert((str(path), str(tmp_path / "copy.wav"))) == (0, measured)
    assert not (tmp_path / "copy.wav").exists()
    with pytest.raises(InputError) as caught:
        read_speech(path)
    assert str(caught.value).startswith(f"{path}: {measured}; ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", READ)
def test_an_odd_file_is_read_right_everywhere(tmp_path, name):
    write_one, seconds = READ[name]
    path = tmp_path / name
    write_one(path)
    length, reason = heard_length(str(path))
    # Codecs fill their last block; one of mp3 has 72 ms.
    assert reason == "" and abs(length / 16000 - seconds) < 0.08
    whole = read_speech(path)
    assert abs(len(whole) - length) <= 1
    part = read_crop(path, 8000, 16000)
    # At another rate a part begins up to half a sample early.
    pair = torch.stack([part, whole[8000:24000]])[:, 4000:12000]
    assert torch.corrcoef(pair)[0, 1] > 0.6
    copy = str(tmp_path / "copy.wav")
    assert convert((str(path), copy))[0] == len(read_speech(copy))


def test_a_codec_that_cannot_seek_is_read_from_the_start(tmp_path):
    whole, rate = soundfile.read(gsm(tmp_path / "a.wav"), frames=16000)
    with open_audio(tmp_path / "a.wav") as stream:
        part = stream.read(5000, 700)
    np.testing.assert_array_equal(part, whole[5000:5700].astype("float32"))


def test_blocks_are_the_whole_file(tmp_path, monkeypatch):
    monkeypatch.setattr(audio_stream, "_BLOCK", 1000)
    path = write(tmp_path / "a.flac", seconds=0.45)
    expected = soundfile.read(path, dtype="float32")[0]
    with open_audio(path) as stream:
        np.testing.assert_array_equal(stream.read(), expected)
    with open_audio(path) as stream:
        part = stream.read(900, 2500)
    np.testing.assert_array_equal(part, expected[900:3400])


def test_a_wav_that_was_written_into_a_pipe_is_read(tmp_path):
    whole = bytearray(write(tmp_path / "a.wav").read_bytes())
    whole[4:8] = whole[40:44] = b"\xff" * 4
    (tmp_path / "a.wav").write_bytes(whole)
    assert heard_length(str(tmp_path / "a.wav")) == (32000, "")


def test_a_size_that_counts_the_header_too_is_no_damage(tmp_path):
    whole = bytearray(write(tmp_path / "a.wav").read_bytes())
    whole[40:44] = len(whole).to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(whole)
    assert heard_length(str(tmp_path / "a.wav")) == (32000, "")


def test_a_crop_of_a_file_that_was_cut_names_it_and_a_way_out(tmp_path):
    for name in ("a.wav", "a.flac", "a.mp3"):
        path = cut(write(tmp_path / name))
        with pytest.raises(InputError, match=f"{name}: .*; delete its row"):
            read_crop(path, 20000, 8000)


def test_peaks_a_little_beyond_1_are_read_and_not_clipped(tmp_path):
    wav = 12 * noise().astype("float32")
    assert 1.5 < np.abs(wav).max() < 8
    wav = wav * np.float32(2 / np.abs(wav).max())
    path = floats(tmp_path / "a.wav", wav)
    np.testing.assert_array_equal(read_speech(path), wav)
    # 16 bits would make a square wave of it.
    copy = str(tmp_path / "copy.wav")
    assert convert((str(path), copy)) == (len(wav), "")
    kept = read_speech(copy).numpy()
    assert np.abs(kept - wav / 2).max() < 1e-4


@pytest.mark.parametrize("rate", [1, 3999, 384_001, 2**31 - 1])
def test_a_rate_that_no_speech_has_is_named_with_the_range(tmp_path, rate):
    path = at_rate(tmp_path / "a.wav", rate)
    with pytest.raises(Unusable, match=f"{rate:,} Hz, and 4,000 to 384,000"):
        with open_audio(path):
            pass


@pytest.mark.parametrize("rate", [4000, 384_000])
def test_the_ends_of_the_range_are_read(tmp_path, rate):
    path = at_rate(tmp_path / "a.wav", rate)
    assert len(read_crop(path, 0, 1000)) == 1000


def test_a_name_that_is_not_utf8_is_read(tmp_path):
    path = os.path.join(os.fsencode(tmp_path), b"\xff.wav")
    write(tmp_path / "a.wav").rename(os.fsdecode(path))
    assert len(read_speech(os.fsdecode(path))) == 32000


def test_a_fault_of_the_machine_is_none_of_the_file(tmp_path, monkeypatch):
    # Else a corpus of a million files would end as a million rejects.
    def refuse(*args, **options):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(OSError, match="Too many open"):
        with open_audio(tmp_path / "no.wav"):
            pass


def test_an_mp3_keeps_its_length_where_the_estimate_is_right(tmp_path):
    # The same reading as libsndfile's, sample by sample.
    path = write(tmp_path / "a.mp3")
    expected = soundfile.read(path, dtype="float32")[0]
    np.testing.assert_array_equal(read_speech(path), expected)


def test_libsndfile_alone_misjudges_what_is_read_here(tmp_path):
    path = vbr_mp3_without_index(tmp_path / "a.mp3")
    assert abs(soundfile.info(path).duration - 9.0) > 5
    assert abs(len(read_speech(path)) / 16000 - 9.0) < 0.08


# Members of archives.


def archived(path):
    """An archive of the file, between two others; the member's path."""
    archive = path.parent / "shard.tar"
    with tarfile.open(archive, "w") as stream:
        stream.add(__file__, "first.wav")
        stream.add(path, f"speaker/{path.name}")
        stream.add(__file__, "last.wav")
    return tar_members(archive)[1][1]


@pytest.mark.parametrize("name", READ)
def test_a_member_of_an_archive_is_read_as_the_file(tmp_path, name):
    write_one, _ = READ[name]
    path = tmp_path / name
    write_one(path)
    member = archived(path)
    assert audio_size(member) == audio_size(path) == path.stat().st_size
    assert torch.equal(read_crop(member), read_crop(path))
    assert torch.equal(read_crop(member, 500, 300), read_crop(path, 500, 300))
    assert heard_length(member) == heard_length(str(path))


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_member_is_refused_with_the_reason_of_the_file(tmp_path, name):
    path = tmp_path / name
    REFUSED[name][0](path)
    if path.is_file() and not path.is_symlink():
        expected = heard_length(str(path))
        assert heard_length(archived(path)) == expected


def test_an_archive_that_is_gone_or_cut_is_said_to_be(tmp_path):
    path = tmp_path / "a.wav"
    write(path)
    member = archived(path)
    archive = tmp_path / "shard.tar"
    archive.write_bytes(archive.read_bytes()[:3000])
    assert "its archive ends before it does" in heard_length(member)[1]
    archive.unlink()
    assert heard_length(member) == (0, "unreadable: No such file or directory")
    archive.write_bytes(b"no archive at all" * 100)
    with pytest.raises(InputError, match="shard.tar: unreadable: no tar arch"):
        path.unlink()
        list_audio([tmp_path])


def test_archives_are_listed_where_there_are_no_files(tmp_path):
    path = tmp_path / "a.wav"
    write(path)
    member = archived(path)
    assert list_audio([tmp_path]).ids == ["a.wav"]
    path.unlink()
    tree = list_audio([tmp_path])
    assert tree.ids[2] == "shard.tar/speaker/a.wav" and len(tree) == 3
    assert tree.paths[2] == member
