"""Audio is found wherever it lies; AAC is sent to ffmpeg."""

import os
import subprocess

import pytest

from speechbrain_ext.dataio.audio_tree import (
    is_inside,
    list_audio,
    refuse_inside,
)
from speechbrain_ext.utils.errors import InputError


def _touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    return folder


def test_ids_are_sorted_paths_below_the_folder(tmp_path):
    names = ["b/x.wav", "a/c/y.FLAC", "z.ogg", "a/b.opus", "a/b.mp3"]
    _touch(tmp_path, "a/notes.txt", "README", *names)
    tree = list_audio([tmp_path])
    assert tree.ids == sorted(names)
    assert tree.paths == [str(tmp_path / name) for name in sorted(names)]
    summary = tree.summary()
    assert (summary["count"], summary["bytes"]) == (5, 5)


def test_several_folders_give_ids_below_each(tmp_path):
    _touch(tmp_path, "one/s1/a.wav", "two/s2/a.wav")
    tree = list_audio([tmp_path / "two", f"{tmp_path}/one/"])
    assert tree.ids == ["s1/a.wav", "s2/a.wav"]


def test_the_same_id_in_two_folders_is_refused(tmp_path):
    _touch(tmp_path, "one/a.wav", "two/a.wav")
    with pytest.raises(InputError, match="same ID 'a.wav'"):
        list_audio([tmp_path / "one", tmp_path / "two"])


def test_hidden_files_and_folders_are_passed_over(tmp_path):
    _touch(tmp_path, ".cache/a.wav", "._b.wav", "c.wav")
    assert list_audio([tmp_path]).ids == ["c.wav"]


def test_links_are_followed_without_an_endless_loop(tmp_path):
    _touch(tmp_path, "disk/s1/a.wav", "data/s0/a.wav")
    (tmp_path / "data" / "link").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "s1" / "back").symlink_to(tmp_path / "data")
    tree = list_audio([tmp_path / "data"])
    assert tree.ids == ["link/s1/a.wav", "s0/a.wav"]


def test_a_dangling_link_is_listed_to_be_rejected_later(tmp_path):
    (tmp_path / "a.wav").symlink_to(tmp_path / "gone.wav")
    assert list_audio([tmp_path]).ids == ["a.wav"]


def test_excluded_folders_are_left_out(tmp_path):
    _touch(tmp_path, "a/x.wav", "test/y.wav")
    tree = list_audio([tmp_path], exclude=[tmp_path / "test"])
    assert tree.ids == ["a/x.wav"]


def test_pick_keeps_order_and_sizes(tmp_path):
    _touch(tmp_path, "a.wav", "b.wav", "c.wav")
    picked = list_audio([tmp_path]).pick(["c.wav", "a.wav", "c.wav"])
    assert picked.ids == ["a.wav", "c.wav"]
    assert picked.summary()["bytes"] == 2


def test_a_renamed_file_changes_the_fingerprint_of_the_tree(tmp_path):
    _touch(tmp_path, "a.wav", "b.wav")
    before = list_audio([tmp_path]).summary()
    (tmp_path / "a.wav").rename(tmp_path / "c.wav")
    after = list_audio([tmp_path]).summary()
    assert before["bytes"] == after["bytes"] and before != after


def test_missing_and_empty_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match="none: no such folder"):
        list_audio([tmp_path / "none"])
    with pytest.raises(InputError, match="no audio file below; expected .wav"):
        list_audio([_touch(tmp_path / "texts", "a.txt")])


def test_aac_is_counted_and_the_ffmpeg_line_converts_it(tmp_path):
    """The line of the message, run by a shell with an ffmpeg that copies."""
    data = _touch(tmp_path / "my data", "s 1/a.m4a", "s2/b.m4a", "c.wav")
    with pytest.raises(InputError, match=r"one of 2 \.m4a") as error:
        list_audio([data])
    line = str(error.value).split("with: ")[1]
    ffmpeg = _touch(tmp_path / "bin", "ffmpeg") / "ffmpeg"
    ffmpeg.write_text('#!/bin/sh\nfor last; do :; done\necho x > "$last"\n')
    ffmpeg.chmod(0o755)
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(line, shell=True, check=True, env={"PATH": path})
    assert list_audio([data]).ids == ["c.wav", "s 1/a.wav", "s2/b.wav"]


def test_aac_without_a_wav_beside_it_is_listed_on_request(tmp_path):
    _touch(tmp_path, "a.m4a", "b.m4a", "b.wav", "c.wav")
    found = list_audio([tmp_path], with_aac=True)
    assert found.ids == ["a.m4a", "b.wav", "c.wav"]


def test_an_output_folder_among_the_input_is_refused(tmp_path):
    with pytest.raises(InputError, match="choose another --output_folder"):
        refuse_inside(tmp_path / "data" / "out", [tmp_path / "data"])
    refuse_inside(tmp_path / "data2", [tmp_path / "data"])


def test_is_inside_follows_links(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert is_inside(tmp_path / "link" / "out", tmp_path / "real")
