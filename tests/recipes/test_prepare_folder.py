"""prepare_folder: any tree of speech, through the command line."""

import os
import sys

import numpy as np
import pandas as pd
import pytest
import soundfile
import warm
from fake_ffmpeg import FakeFfmpeg, hide_ffmpeg, write_m4a
from odd_audio import READ, REFUSED, write, write_all

from recipes import prepare_folder
from speechbrain_ext.dataio.audio import read_crop
from speechbrain_ext.dataio.manifest import read_manifest
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import read_json

LEAF = "hparams/prepare_folder.yaml"


def _speech(path, seconds=1.5, rate=16000):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(path.name))
    soundfile.write(path, 0.1 * rng.standard_normal(int(seconds * rate)), rate)


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    for name in ("spk1/a.wav", "spk1/b.flac", "deep/er/c.ogg"):
        _speech(folder / name)
    _speech(folder / "short.wav", seconds=0.3)
    return folder


def _prepare(data, out, **changes):
    options = {
        "data_folder": data,
        "output_folder": out,
        "num_workers": 1,
        **changes,
    }
    prepare_folder.main([LEAF, *(f"--{k}={v}" for k, v in options.items())])
    return out


def test_a_tree_becomes_a_training_manifest_without_speakers(data, tmp_path):
    out = _prepare(data, tmp_path / "out")
    manifest = read_manifest(out / "train.csv", "utterances")
    assert list(manifest.ids) == ["deep/er/c.ogg", "spk1/a.wav", "spk1/b.flac"]
    columns = list(pd.read_csv(out / "train.csv", nrows=1).columns)
    assert columns == ["ID", "duration", "wav", "start", "stop"]
    made = {path.name for path in out.iterdir()}
    assert "oracle.csv" not in made and "test.csv" not in made
    (reason,) = pd.read_csv(out / "rejects.csv")["reason"]
    assert reason == "too short: 0.30 s is shorter than min_duration 1.0 s"


@pytest.mark.parametrize("convert", [False, True])
def test_the_stage_record_says_what_data_root_is(data, tmp_path, convert):
    out = _prepare(data, tmp_path / "out", convert_to_wav=convert)
    data_root = read_json(out / "stage.json")["data_root"]
    assert os.path.isabs(data_root)
    manifest = read_manifest(out / "train.csv", "utterances", data_root)
    for path, stop in zip(manifest.paths(), manifest.stop, strict=True):
        assert len(read_crop(path, 0, stop)) == stop == 24000


def test_a_manifest_in_parts_has_the_rows_of_one_file(data, tmp_path):
    whole = _prepare(data, tmp_path / "whole")
    parts = _prepare(data, tmp_path / "parts", shard_rows=2)
    assert len(list((parts / "train.csv").glob("*.csv"))) > 1
    one, other = (
        read_manifest(folder / "train.csv", "utterances")
        for folder in (whole, parts)
    )
    pd.testing.assert_frame_equal(one.table, other.table)
    record = parts / "stage.json"
    before = record.stat().st_mtime_ns
    _prepare(data, parts, shard_rows=2)
    assert record.stat().st_mtime_ns == before


def test_an_attempt_in_parts_goes_on_as_one_file(data, tmp_path):
    folder = _prepare(data, tmp_path / "out", shard_rows=2)
    (folder / "stage.json").unlink()
    _prepare(data, folder)
    assert (folder / "train.csv").is_file()


def test_a_finished_folder_is_left_alone_until_the_data_change(data, tmp_path):
    out = _prepare(data, tmp_path / "out")
    receipt = (out / "stage.json").read_bytes()
    _prepare(data, out)
    assert (out / "stage.json").read_bytes() == receipt
    _speech(data / "new.wav")
    with pytest.raises(InputError, match=r"train_files\.bytes was"):
        _prepare(data, out)
    assert (out / "stage.json").read_bytes() == receipt
    _prepare(data, out, overwrite=True)
    assert "new.wav" in read_manifest(out / "train.csv", "utterances")
    assert (tmp_path / "out.old1" / "stage.json").read_bytes() == receipt


@pytest.mark.parametrize("convert", [False, True])
def test_bad_files_are_left_out_with_reasons_and_odd_ones_are_kept(
    tmp_path, convert
):
    data = write_all(tmp_path / "data", REFUSED)
    write_all(data, READ)
    # One name that is not UTF-8 must not stop the others.
    latin = os.path.join(os.fsencode(data), b"caf\xe9.wav")
    write(data / "good.wav").rename(os.fsdecode(latin))
    out = _prepare(data, tmp_path / "out", convert_to_wav=convert)
    root = read_json(out / "stage.json")["data_root"]
    manifest = read_manifest(out / "train.csv", "utterances", root)
    assert list(manifest.ids) == sorted(READ)
    for path, stop in zip(manifest.paths(), manifest.stop, strict=True):
        assert len(read_crop(path, 0, stop)) == stop
    rejects = pd.read_csv(out / "rejects.csv", index_col="wav")["reason"]
    for name, (_, reason) in REFUSED.items():
        assert rejects[str(data / name)].startswith(reason)
    assert rejects[f"{data}/caf\\udce9.wav"] == "the file name is not UTF-8"
    line = f"{len(REFUSED) + 1} of {len(REFUSED) + len(READ) + 1} train files"
    log = (out / "log.txt").read_text()
    assert f"{line} are left out (" in log
    assert "2 silent" in log and "rejects.csv names each" in log


def test_headers_alone_are_read_if_one_says_so(tmp_path):
    data = write_all(tmp_path / "data", REFUSED)
    out = _prepare(data, tmp_path / "out", check_samples=False)
    kept = set(read_manifest(out / "train.csv", "utterances").ids)
    # What only decoding shows; what a header shows is refused as before.
    assert kept >= {"silent.wav", "nan.wav", "cut.mp3", "cut.flac"}
    assert not kept & {"cut.wav", "stream.flac", "slow.wav", "text.wav"}


@pytest.mark.parametrize("place", ["data/held_out", "test"])
def test_trials_and_test_folder_make_a_test_manifest(data, tmp_path, place):
    test = tmp_path / place
    for name in ("x.wav", "y.wav", "z.wav", "unused.wav"):
        _speech(test / name, seconds=0.5)
    trials = tmp_path / "list.txt"
    trials.write_text("1 x.wav y.wav\n0 y.wav z.wav\n")
    out = _prepare(
        data,
        tmp_path / "out",
        test_folder=test,
        trials=f"{{mine: {trials}}}",
    )
    receipt = read_json(out / "stage.json")
    manifest = read_manifest(out / "test.csv", "utterances", data)
    assert list(manifest.ids) == ["x.wav", "y.wav", "z.wav"]
    assert all(len(read_crop(path)) == 8000 for path in manifest.paths())
    assert (out / "trials" / "mine.txt").read_bytes() == trials.read_bytes()
    assert receipt["n_trials"] == {"mine": 2}
    assert receipt["n_train"] == 3


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("1 x.wav x.wav\n0 x.wav y.wav\n", "line 1: .*with itself"),
        ("1 x.wav y.wav\n0 y.wav x.wav\n", "line 2: .*the other label too"),
    ],
)
def test_a_list_that_no_scoring_takes_is_refused_at_once(
    data, tmp_path, lines, message
):
    for name in ("x.wav", "y.wav"):
        _speech(tmp_path / "test" / name)
    trials = tmp_path / "list.txt"
    trials.write_text(lines)
    given = {
        "test_folder": tmp_path / "test",
        "trials": f"{{mine: {trials}}}",
    }
    with pytest.raises(InputError, match=message):
        _prepare(data, tmp_path / "out", **given)


def test_trials_that_come_later_leave_the_training_manifest(data, tmp_path):
    # What was trained on it then counts as done, as the README promises.
    before = _prepare(data, tmp_path / "before")
    _speech(tmp_path / "test" / "x.wav")
    after = _prepare(data, tmp_path / "after", test_folder=tmp_path / "test")
    manifests = [(out / "train.csv").read_bytes() for out in (before, after)]
    assert manifests[0] == manifests[1]


def test_a_test_folder_alone_gives_all_its_files(data, tmp_path):
    _speech(tmp_path / "test" / "x.wav")
    out = _prepare(data, tmp_path / "out", test_folder=tmp_path / "test")
    assert list(read_manifest(out / "test.csv", "utterances").ids) == ["x.wav"]


def test_a_changed_list_is_not_answered_with_the_old_manifest(data, tmp_path):
    for name in ("w.wav", "x.wav", "y.wav", "z.wav"):
        _speech(tmp_path / "test" / name)
    trials = tmp_path / "list.txt"
    more = {
        "test_folder": tmp_path / "test",
        "trials": f"{{mine: {trials}}}",
    }
    trials.write_text("1 x.wav y.wav\n0 y.wav z.wav\n")
    out = _prepare(data, tmp_path / "out", **more)
    trials.write_text("1 x.wav y.wav\n0 y.wav w.wav\n")
    with pytest.raises(InputError, match=r"test_files\.names was"):
        _prepare(data, out, **more)


def test_m4a_files_are_decoded_for_training_and_test(
    data, tmp_path, monkeypatch
):
    ffmpeg = FakeFfmpeg(tmp_path / "bin", monkeypatch)
    write_m4a(data / "spk2" / "d.m4a", 24000)
    write_m4a(tmp_path / "test" / "x.m4a", 8000)
    out = _prepare(data, tmp_path / "out", test_folder=tmp_path / "test")
    assert ffmpeg.decoded == ["d.m4a", "x.m4a"]
    root = read_json(out / "stage.json")["data_root"]
    for name, stop in (("train", 24000), ("test", 8000)):
        manifest = read_manifest(out / f"{name}.csv", "utterances", root)
        for path in manifest.paths():
            assert len(read_crop(path)) == stop
    # Finished, it needs ffmpeg no more.
    ffmpeg.remove()
    _prepare(data, out, test_folder=tmp_path / "test")


def _bad(tmp_path, data, said, **changes):
    with pytest.raises(InputError, match=said):
        _prepare(data, tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


def test_folders_without_audio_are_refused_before_any_work(
    tmp_path, monkeypatch
):
    (tmp_path / "empty").mkdir()
    _bad(tmp_path, tmp_path / "empty", "empty: no audio file below")
    _bad(tmp_path, tmp_path / "none", "none: no such folder")
    (tmp_path / "empty" / "a.m4a").touch()
    hide_ffmpeg(monkeypatch, tmp_path / "nothing")
    _bad(tmp_path, tmp_path / "empty", r"one of 1 \.m4a .*ffmpeg -nost")


def test_impossible_requests_are_refused_before_any_work(data, tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("1 spk1/a.wav x.wav\n0 x.wav gone.wav\n")
    lists = {"trials": f"{{mine: {path}}}"}
    _speech(tmp_path / "test" / "x.wav")
    test = {"test_folder": tmp_path / "test"}
    said = "test_folder, which is null; give --test_folder"
    _bad(tmp_path, data, said, **lists)
    _bad(tmp_path, data, "must be a map", trials=f"[{path}]", **test)
    said = r"list.txt line 1: 'spk1/a.wav' is not .* \(2 of 2 trials"
    _bad(tmp_path, data, said, **test, **lists)
    _bad(tmp_path, data, "holds data_folder", test_folder=tmp_path)
    _bad(tmp_path, data, "did you mean --min_dur", min_durration=1)
    _bad(
        tmp_path,
        data,
        "min_duration is 'soon'; .* 0 or more",
        min_duration="soon",
    )
    with pytest.raises(InputError, match="is inside .*, whose audio"):
        _prepare(data, data / "out")


def test_no_readable_file_is_one_message_and_a_list_of_reasons(tmp_path):
    (tmp_path / "data").mkdir()
    for name in "ab":
        (tmp_path / "data" / f"{name}.wav").write_text("text")
    with pytest.raises(InputError, match="none of 2 train files can be used"):
        _prepare(tmp_path / "data", tmp_path / "out")
    rejects = pd.read_csv(tmp_path / "out" / "rejects.csv")
    assert len(rejects) == 2
    assert not (tmp_path / "out" / "stage.json").exists()


def test_the_command_line_ends_in_one_line_and_status_2(tmp_path):
    done = warm.run(
        [
            sys.executable,
            "recipes/prepare_folder.py",
            LEAF,
            f"--data_folder={tmp_path}/none",
            f"--output_folder={tmp_path}/out",
        ],
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if "rror" in line]
    assert len(errors) == 1 and errors[0].startswith("error: ")
    assert "Traceback" not in done.stderr
