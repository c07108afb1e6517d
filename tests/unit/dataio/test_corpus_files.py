"""Files of a corpus: found alike by recipes and by checks."""

import pytest

from speechbrain_ext.dataio import corpus_files
from speechbrain_ext.dataio.corpus_files import (
    find_corpus,
    keep_downloads,
    read_lists,
)
from speechbrain_ext.dataio.settings import PrepareVoxCeleb
from speechbrain_ext.utils.errors import InputError

LIST = "1 t/a.wav t/b.wav\n0 t/a.wav u/a.wav\n"


@pytest.fixture
def settings(tmp_path):
    for name in ("dev/a/1.wav", "wav/t/a.wav", "wav/t/b.wav", "wav/u/a.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "o.txt").write_text(LIST)
    return PrepareVoxCeleb(
        data_folder=str(tmp_path),
        output_folder=f"{tmp_path}/out",
        train_wav="dev",
        trials={"O": "o.txt"},
    )


def test_test_files_are_those_of_the_lists(settings, tmp_path):
    (tmp_path / "wav" / "u" / "b.wav").touch()
    found = find_corpus(settings)
    assert found.train.ids == ["a/1.wav"]
    assert found.test.ids == ["t/a.wav", "t/b.wav", "u/a.wav"]
    request = found.request()
    assert request["trial_lists"]["O"]["count"] == 2
    assert request["test_files"]["count"] == 3


def test_an_unknown_file_is_named_with_its_line(settings, tmp_path):
    (tmp_path / "o.txt").write_text(LIST + "0 t/a.wav u/z.wav\n")
    with pytest.raises(InputError, match=r"o.txt line 3: 'u/z.wav' is not in"):
        find_corpus(settings)


def test_a_downloaded_list_is_kept_and_read_again(tmp_path, monkeypatch):
    address = "http://localhost/o.txt"
    monkeypatch.setattr(corpus_files, "_fetch", lambda *_: LIST.encode())
    lists = read_lists({"O": address}, tmp_path, tmp_path / "kept")
    keep_downloads(tmp_path / "kept", lists)
    monkeypatch.undo()
    again = read_lists({"O": address}, tmp_path, tmp_path / "kept")
    assert again[0].content == LIST.encode()
