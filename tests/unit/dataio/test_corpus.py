"""Corpora: which files are kept, which are rejected and why."""

import numpy as np
import pandas as pd
import pytest
import soundfile
from fake_ffmpeg import FakeFfmpeg, hide_ffmpeg, write_m4a

from speechbrain_ext.dataio.audio import read_crop
from speechbrain_ext.dataio.audio_tree import list_audio
from speechbrain_ext.dataio.corpus import (
    find_audio,
    named_files,
    prepare,
)
from speechbrain_ext.dataio.manifest import read_manifest
from speechbrain_ext.dataio.trials import parse_trials
from speechbrain_ext.utils.errors import InputError


def _speech(path, seconds=1.5, rate=16000, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(str(path)))
    wav = 0.1 * rng.standard_normal((round(seconds * rate), channels))
    soundfile.write(path, wav, rate)


@pytest.fixture
def data(tmp_path):
    """Good files of several kinds, and one of each bad kind."""
    folder = tmp_path / "data"
    _speech(folder / "s1" / "a.wav")
    _speech(folder / "s1" / "a.flac", rate=44100)
    _speech(folder / "s2" / "b.ogg", rate=8000, channels=2)
    _speech(folder / "s2" / "short.wav", seconds=0.4)
    (folder / "s2" / "empty.wav").touch()
    (folder / "s2" / "text.wav").write_text("text" * 99)
    (folder / "s2" / "gone.wav").symlink_to(folder / "nowhere.wav")
    return folder


def _prepare(folder, data, test=None, trials=(), convert=False, workers=1):
    return prepare(
        folder,
        data,
        list_audio([data]),
        test,
        trials,
        min_duration=1.0,
        convert_to_wav=convert,
        num_workers=workers,
    )


@pytest.mark.parametrize("convert", [False, True])
def test_good_files_are_kept_and_bad_ones_have_reasons(tmp_path, data, convert):
    out = tmp_path / "out"
    names, facts = _prepare(out, data, convert=convert)
    assert names == ["rejects.csv", "train.csv"]
    manifest = read_manifest(out / "train.csv", "utterances")
    assert list(manifest.ids) == ["s1/a.flac", "s1/a.wav", "s2/b.ogg"]
    assert list(manifest.stop) == [24000] * 3
    assert list(manifest.duration) == [1.5] * 3
    assert facts["n_train"] == 3 and facts["n_train_rejected"] == 4
    rejects = pd.read_csv(out / "rejects.csv").set_index("wav")["reason"]
    rejects.index = [name.rsplit("/", 1)[1] for name in rejects.index]
    assert rejects["short.wav"] == (
        "too short: 0.40 s is shorter than min_duration 1.0 s"
    )
    assert rejects["empty.wav"] == "no samples: the file is empty"
    assert rejects["text.wav"].startswith("unreadable: Format")
    assert rejects["gone.wav"].startswith("unreadable: No such file")


@pytest.mark.parametrize("convert", [False, True])
def test_every_row_can_be_read_to_its_stop(tmp_path, data, convert):
    out = tmp_path / "out"
    _, facts = _prepare(out, data, convert=convert)
    assert facts["data_root"] == str(out if convert else data)
    manifest = read_manifest(
        out / "train.csv", "utterances", facts["data_root"]
    )
    for path, stop in zip(manifest.paths(), manifest.stop, strict=True):
        assert len(read_crop(path, 0, stop)) == stop


def test_files_of_similar_names_get_copies_of_their_own(tmp_path, data):
    _prepare(tmp_path / "out", data, convert=True)
    wavs = read_manifest(tmp_path / "out" / "train.csv", "utterances").wav
    assert list(wavs) == [
        "$data_root/wav16k/train/s1/a.flac.wav",
        "$data_root/wav16k/train/s1/a.wav",
        "$data_root/wav16k/train/s2/b.ogg.wav",
    ]
    _speech(data / "s1" / "a.flac.wav")
    with pytest.raises(InputError, match="two files would be converted"):
        _prepare(tmp_path / "out", data, convert=True)


def test_conversion_goes_on_where_it_stopped(tmp_path, data):
    out = tmp_path / "out"
    _prepare(out, data, convert=True)
    kept = out / "wav16k" / "train" / "s1" / "a.wav"
    lost = out / "wav16k" / "train" / "s2" / "b.ogg.wav"
    before, whole = kept.stat().st_mtime_ns, lost.read_bytes()
    lost.unlink()
    _prepare(out, data, convert=True)
    assert kept.stat().st_mtime_ns == before
    assert lost.read_bytes() == whole


@pytest.mark.parametrize("convert", [False, True])
def test_the_number_of_workers_changes_nothing(tmp_path, data, convert):
    for workers in (1, 3):
        _prepare(tmp_path / str(workers), data, None, (), convert, workers)
    for name in ("train.csv", "rejects.csv"):
        one, three = (tmp_path / str(n) / name for n in (1, 3))
        assert one.read_bytes() == three.read_bytes()


def test_files_beside_the_data_folder_are_found_through_a_link(tmp_path, data):
    """They have absolute paths: $data_root/.. would leave the root."""
    (tmp_path / "far" / "deep").mkdir(parents=True)
    data.rename(tmp_path / "far" / "deep" / "data")
    data.symlink_to(tmp_path / "far" / "deep" / "data")
    _speech(tmp_path / "test" / "t.wav")
    test = list_audio([tmp_path / "test"])
    _prepare(tmp_path / "out", data, test)
    manifest = read_manifest(tmp_path / "out" / "test.csv", "utterances", data)
    assert len(read_crop(manifest.paths()[0], 0, 24000)) == 24000


def test_short_test_files_are_kept(tmp_path, data):
    _speech(tmp_path / "test" / "t.wav", seconds=0.2)
    test = list_audio([tmp_path / "test"])
    _prepare(tmp_path / "out", data, test)
    assert list(read_manifest(tmp_path / "out" / "test.csv", "utterances").ids)


def test_trials_on_damaged_files_are_refused(tmp_path, data):
    for name in "abc":
        _speech(tmp_path / "test" / f"{name}.wav")
    (tmp_path / "test" / "c.wav").write_text("text")
    test = list_audio([tmp_path / "test"])
    trials = parse_trials("dev", "dev.txt", b"1 a.wav b.wav\n0 a.wav c.wav\n")
    with pytest.raises(InputError, match="line 2: 'c.wav' is not in test.csv"):
        _prepare(tmp_path / "out", data, test, [trials])


def test_named_files_are_those_of_the_lists(tmp_path):
    for name in "abcd":
        _speech(tmp_path / f"{name}.wav")
    test = list_audio([tmp_path])
    lists = [
        parse_trials("x", "x", b"1 a.wav b.wav\n0 a.wav a.wav\n"),
        parse_trials("y", "y", b"1 d.wav b.wav\n0 d.wav a.wav\n"),
    ]
    found = named_files(test, lists, "test")
    assert found.ids == ["a.wav", "b.wav", "d.wav"]
    with pytest.raises(InputError, match="is not in the 3 files below here"):
        named_files(test.pick(["b.wav", "c.wav", "d.wav"]), lists, "here")


def test_when_nothing_is_usable_the_rejects_are_written_first(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.wav").write_text("text")
    with pytest.raises(InputError, match="none of 1 train files.*a.wav"):
        _prepare(tmp_path / "out", tmp_path / "data")
    assert "a.wav" in (tmp_path / "out" / "rejects.csv").read_text()
    assert not (tmp_path / "out" / "train.csv").exists()


# --- AAC --------------------------------------------------------------------


def test_aac_alone_is_copied_and_all_else_stays(tmp_path, data, monkeypatch):
    ffmpeg = FakeFfmpeg(tmp_path / "bin", monkeypatch)
    write_m4a(data / "s1" / "c.m4a", 32000)
    write_m4a(data / "s1" / "b.m4a", "damaged")
    out = tmp_path / "out"
    train = find_audio(out, [data])
    names, facts = prepare(out, data, train, None, (), 1.0, False, 2)
    assert ffmpeg.decoded == ["b.m4a", "c.m4a"]
    assert facts["data_root"] == str(out) and facts["data_in_output"]
    assert facts["ffmpeg"] == "ffmpeg version fake"
    manifest = read_manifest(out / "train.csv", "utterances", out)
    assert len(manifest) == 4
    assert manifest["s1/c.m4a"]["duration"] == 2.0
    assert list(manifest.wav)[:3] == [
        f"{data}/s1/a.flac",
        f"{data}/s1/a.wav",
        "$data_root/wav16k/train/s1/c.m4a.wav",
    ]
    for path, stop in zip(manifest.paths(), manifest.stop, strict=True):
        assert len(read_crop(path, 0, stop)) == stop
    rejects = pd.read_csv(out / "rejects.csv").set_index("wav")["reason"]
    reason = rejects[str(data / "s1" / "b.m4a")]
    assert reason == "unreadable: ffmpeg: moov atom not found"
    assert len(list((out / "wav16k").rglob("*.wav"))) == 1


def test_aac_without_ffmpeg_is_refused_unless_it_was_decoded(
    tmp_path, data, monkeypatch
):
    write_m4a(data / "s1" / "c.m4a", 32000)
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        hide_ffmpeg(patch, tmp_path / "none")
        with pytest.raises(InputError, match=r"c\.m4a .* install it and rep"):
            find_audio(out, [data])
    with monkeypatch.context() as patch:
        FakeFfmpeg(tmp_path / "bin", patch)
        prepare(out, data, find_audio(out, [data]), None, (), 1.0, False, 1)
    hide_ffmpeg(monkeypatch, tmp_path / "none")
    before = (out / "train.csv").read_bytes()
    prepare(out, data, find_audio(out, [data]), None, (), 1.0, False, 1)
    assert (out / "train.csv").read_bytes() == before


def test_an_output_folder_inside_the_audio_is_refused(data):
    with pytest.raises(InputError, match="choose another --output_folder"):
        find_audio(data / "out", [data])
