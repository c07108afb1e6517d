"""prepare_voxceleb: lists from files and addresses, never a stale answer."""

import functools
import http.server
import os
import signal
import sys
import threading

import numpy as np
import pandas as pd
import pytest
import soundfile
import warm
from fake_ffmpeg import FakeFfmpeg, hide_ffmpeg, write_m4a

from recipes import prepare_voxceleb
from speechbrain_ext.dataio.audio import read_crop
from speechbrain_ext.dataio.manifest import read_manifest
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import read_json

LEAF = "hparams/prepare_voxceleb.yaml"
LIST_O = "1 t1/x/1.ogg t1/y/1.ogg\n0 t1/x/1.ogg t2/x/1.ogg\n"
LIST_E = "1 t2/x/1.ogg t2/y/1.ogg\n0 t1/x/1.ogg t2/y/1.ogg\n"


@pytest.fixture
def data(tmp_path):
    """Two training and three test speakers, and two lists."""
    folder = tmp_path / "data"
    for part, speakers in (("train", "ab"), ("test", ["t1", "t2", "t3"])):
        for speaker in speakers:
            for session in "xy":
                path = folder / part / "wav" / speaker / session / "1.ogg"
                path.parent.mkdir(parents=True)
                rng = np.random.default_rng(len(speaker))
                wav = 0.1 * rng.standard_normal(20000)
                soundfile.write(path, wav, 16000)
    (folder / "meta").mkdir()
    (folder / "meta" / "o.txt").write_text(LIST_O)
    (folder / "meta" / "e.txt").write_text(LIST_E)
    return folder


def _prepare(data, out, **changes):
    options = {
        "data_folder": data,
        "output_folder": out,
        "train_wav": "train/wav",
        "test_wav": "test/wav",
        "trials": "{O: meta/o.txt}",
        "num_workers": 1,
        **changes,
    }
    prepare_voxceleb.main([LEAF, *(f"--{k}={v}" for k, v in options.items())])
    return out


def test_test_manifest_has_exactly_the_files_of_the_lists(data, tmp_path):
    out = _prepare(data, tmp_path / "out")
    ids = list(read_manifest(out / "test.csv", "utterances").ids)
    assert ids == ["t1/x/1.ogg", "t1/y/1.ogg", "t2/x/1.ogg"]
    both = _prepare(
        data, tmp_path / "both", trials="{O: meta/o.txt, E: meta/e.txt}"
    )
    ids = list(read_manifest(both / "test.csv", "utterances").ids)
    assert ids == ["t1/x/1.ogg", "t1/y/1.ogg", "t2/x/1.ogg", "t2/y/1.ogg"]
    assert (both / "trials" / "O.txt").read_text() == LIST_O
    assert (both / "trials" / "E.txt").read_text() == LIST_E
    facts = read_json(both / "stage.json")
    assert facts["n_trials"] == {"O": 2, "E": 2}


def test_speakers_are_in_the_oracle_alone(data, tmp_path):
    out = _prepare(data, tmp_path / "out")
    for name in ("train.csv", "test.csv"):
        columns = list(pd.read_csv(out / name, nrows=1).columns)
        assert columns == ["ID", "duration", "wav", "start", "stop"]
    oracle = read_manifest(out / "oracle.csv", "oracle")
    assert oracle["a/x/1.ogg"]["spk_id"] == "a"
    assert oracle["t2/x/1.ogg"]["spk_id"] == "t2"
    assert len(oracle) == 4 + 3


def test_converted_files_keep_the_ids_of_the_lists(data, tmp_path):
    plain = _prepare(data, tmp_path / "plain")
    wav = _prepare(data, tmp_path / "wav", convert_to_wav=True)
    assert read_json(plain / "stage.json")["data_root"] == str(data)
    assert read_json(wav / "stage.json")["data_root"] == str(wav)
    for name in ("train.csv", "test.csv"):
        before = read_manifest(plain / name, "utterances", data)
        after = read_manifest(wav / name, "utterances", wav)
        assert list(before.ids) == list(after.ids)
        assert list(before.stop) == list(after.stop)
        one, other = before.paths()[0], after.paths()[0]
        gap = read_crop(one) - read_crop(other)
        assert gap.abs().max() <= 0.5 / 32768 + 1e-7


def test_several_training_folders_are_one_manifest(data, tmp_path):
    (data / "more").mkdir()
    (data / "train" / "wav" / "b").rename(data / "more" / "b")
    out = _prepare(data, tmp_path / "out", train_wav="[train/wav, more]")
    manifest = read_manifest(out / "train.csv", "utterances", data)
    assert list(manifest.ids) == [
        "a/x/1.ogg",
        "a/y/1.ogg",
        "b/x/1.ogg",
        "b/y/1.ogg",
    ]
    assert all(len(read_crop(path)) == 20000 for path in manifest.paths())


def test_without_test_folder_there_is_only_training(data, tmp_path):
    out = _prepare(data, tmp_path / "out", test_wav="null", trials="{}")
    assert not (out / "test.csv").exists()
    assert len(read_manifest(out / "oracle.csv", "oracle")) == 4


def test_another_list_is_never_answered_with_the_old_manifest(data, tmp_path):
    out = _prepare(data, tmp_path / "out")
    before = (out / "test.csv").read_bytes()
    (data / "meta" / "o.txt").write_text(LIST_E)
    with pytest.raises(InputError, match=r"test_files\.names was"):
        _prepare(data, out)
    assert (out / "test.csv").read_bytes() == before
    _prepare(data, out, overwrite=True)
    ids = read_manifest(out / "test.csv", "utterances").ids
    assert list(ids) == ["t1/x/1.ogg", "t2/x/1.ogg", "t2/y/1.ogg"]


def test_a_lost_manifest_is_made_again(data, tmp_path):
    out = _prepare(data, tmp_path / "out")
    before = (out / "test.csv").read_bytes()
    (out / "test.csv").unlink()
    _prepare(data, out)
    assert (out / "test.csv").read_bytes() == before


@pytest.fixture
def server(data):
    """The lists at an address of this machine; requests are counted."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            seen.append(args)

    seen = []
    handler = functools.partial(Handler, directory=str(data / "meta"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{found.server_port}", seen
        found.shutdown()


def test_a_list_is_downloaded_once_and_then_found_off_line(
    data, tmp_path, server
):
    address, seen = server
    trials = f"{{O: {address}/o.txt}}"
    out = _prepare(data, tmp_path / "out", trials=trials)
    assert (out / "trials" / "O.txt").read_text() == LIST_O
    assert len(seen) == 1
    _prepare(data, out, trials=trials)
    assert len(seen) == 1


def test_official_lists_are_the_default(data, tmp_path, server):
    official = "{O: %s/o.txt, E: %s/e.txt, H: %s/e.txt}" % ((server[0],) * 3)
    out = _prepare(
        data, tmp_path / "out", official_trials=official, trials="{}"
    )
    assert sorted(read_json(out / "stage.json")["n_trials"]) == ["E", "H", "O"]


def test_a_failed_download_leaves_nothing_and_names_the_way_out(
    data, tmp_path, server
):
    trials = f"{{O: {server[0]}/gone.txt}}"
    said = "gone.txt cannot be fetched .*404.*download it yourself"
    with pytest.raises(InputError, match=said):
        _prepare(data, tmp_path / "out", trials=trials)
    assert not (tmp_path / "out").exists()


def _bad(data, tmp_path, said, **changes):
    with pytest.raises(InputError, match=said):
        _prepare(data, tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


def test_trials_on_unknown_files_are_counted(data, tmp_path):
    text = LIST_O + "1 t9/x/1.ogg t1/x/1.ogg\n0 t1/x/1.ogg t9/y/1.ogg\n"
    (data / "meta" / "o.txt").write_text(text)
    said = r"o.txt line 3: 't9/x/1.ogg' is not in the 6 files .* \(2 of 4"
    _bad(data, tmp_path, said)


def test_impossible_requests_are_refused_before_any_work(data, tmp_path):
    _bad(data, tmp_path, "O: .*none.txt is not", trials="{O: none.txt}")
    _bad(data, tmp_path, "trials is 'o.txt'; it must be a map", trials="o.txt")
    _bad(data, tmp_path, "dev: no such folder", train_wav="dev")
    _bad(
        data,
        tmp_path,
        "train_wav is null; it must be text or a list",
        train_wav="null",
    )
    _bad(data, tmp_path, "both in train_wav and", train_wav="test/wav")
    _bad(
        data,
        tmp_path,
        "min_duration is 'soon'; .* 0 or more",
        min_duration="soon",
    )


def test_m4a_files_without_ffmpeg_are_one_clear_error(
    data, tmp_path, monkeypatch
):
    hide_ffmpeg(monkeypatch, tmp_path / "none")
    write_m4a(data / "dev" / "aac" / "a" / "x" / "1.m4a", 32000)
    said = "needs ffmpeg, .* install it .*ffmpeg .* -ar 16000"
    _bad(data, tmp_path, said, train_wav="dev/aac")


def test_a_killed_decoding_goes_on_where_it_was(data, tmp_path, monkeypatch):
    """The tree is VoxCeleb's: m4a files to train on, wav to test with."""
    ffmpeg = FakeFfmpeg(tmp_path / "bin", monkeypatch)
    aac = data / "dev" / "aac"
    contents = [32000, 30000, "damaged", "deadly", 20000, 20001, 20002, 20003]
    for number, what in enumerate(contents):
        write_m4a(aac / f"id{number}" / "x" / f"{number}.m4a", what)
    before = {p: p.stat().st_mtime_ns for p in aac.rglob("*")}
    words = [sys.executable, "recipes/prepare_voxceleb.py", LEAF]
    options = {
        "data_folder": data,
        "output_folder": tmp_path / "out",
        "train_wav": "dev/aac",
        "test_wav": "test/wav",
        "trials": "{O: meta/o.txt}",
        "num_workers": 2,
    }
    words += [f"--{key}={value}" for key, value in options.items()]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    killed = warm.run(words, env=environment)
    assert killed.returncode == -signal.SIGKILL
    out = tmp_path / "out"
    assert not (out / "train.csv").exists()
    begun = {p.name[:5] for p in out.rglob("wav16k/*/*/*/*.wav")}
    done = warm.run(words, env=environment)
    assert done.returncode == 0, done.stderr
    assert "to wav" in done.stderr
    # Nothing that has a copy was decoded twice, and something had one.
    copied = [name for name in ffmpeg.decoded if name in begun]
    assert copied and len(set(copied)) == len(copied)
    manifest = read_manifest(out / "train.csv", "utterances", out)
    assert list(manifest.stop)[:2] == [32000, 30000]
    assert len(manifest) == 7
    rejects = pd.read_csv(out / "rejects.csv")
    assert list(rejects["reason"]) == [
        "unreadable: ffmpeg: moov atom not found"
    ]
    assert before == {p: p.stat().st_mtime_ns for p in aac.rglob("*")}
    test = read_manifest(out / "test.csv", "utterances", out)
    assert all(len(read_crop(path)) == 20000 for path in test.paths())


def test_test_speakers_in_training_are_warned_of(data, tmp_path, caplog):
    (data / "train" / "wav" / "t1").mkdir()
    (data / "train" / "wav" / "a").rename(data / "train" / "wav" / "t1" / "z")
    _prepare(data, tmp_path / "out")
    assert "1 test speakers (t1, ...) are in the training" in caplog.text
