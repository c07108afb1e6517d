"""Files are whole or absent, whatever happens while they are written."""

import os
import signal
import subprocess
import sys

import pytest

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import (
    atomic_path,
    read_json,
    sha256,
    write_json,
    write_text,
)

_KILLED_WHILE_WRITING = """
import os, signal, sys
from speechbrain_ext.utils.files import atomic_path
with atomic_path(sys.argv[1]) as part:
    part.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_an_error_while_writing_keeps_the_old_file_and_leaves_no_other(
    tmp_path,
):
    path = tmp_path / "a.csv"
    write_text(path, "old")
    with pytest.raises(RuntimeError), atomic_path(path) as part:
        part.write_text("half")
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["a.csv"]
    assert path.read_text() == "old"


def test_a_kill_while_writing_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.csv"
    write_text(path, "old")
    done = subprocess.run(
        [sys.executable, "-c", _KILLED_WHILE_WRITING, str(path)]
    )
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"


def test_a_kill_while_writing_a_new_file_leaves_none_of_its_name(tmp_path):
    path = tmp_path / "new" / "a.csv"
    subprocess.run([sys.executable, "-c", _KILLED_WHILE_WRITING, str(path)])
    assert path.parent.is_dir() and not path.exists()
    assert all(p.name.startswith(".") for p in path.parent.iterdir())


def test_file_is_as_readable_as_the_umask_allows(tmp_path):
    old = os.umask(0o027)
    try:
        write_text(tmp_path / "a", "x")
    finally:
        os.umask(old)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_suffix_of_the_temporary_name_is_the_final_one(tmp_path):
    with atomic_path(tmp_path / "a.flac") as part:
        assert part.suffix == ".flac"


def test_json_is_read_back_as_written(tmp_path):
    write_json(tmp_path / "a.json", {"x": [1, 2.5, None]})
    assert read_json(tmp_path / "a.json") == {"x": [1, 2.5, None]}


def test_missing_json_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match="no such file; run the stage"):
        read_json(tmp_path / "a.json")


def test_broken_json_is_located(tmp_path):
    write_text(tmp_path / "a.json", '{\n "x": 1,\n}')
    with pytest.raises(InputError, match="a.json line 3: not JSON"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize(
    "content", [b"\xff\xfe{}", b"[" * 100_000, b"1" * 5000]
)
def test_malformed_json_of_any_kind_is_one_clear_error(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError, match="a.json: not JSON"):
        read_json(tmp_path / "a.json")


def test_sha256_is_that_of_the_bytes(tmp_path):
    write_text(tmp_path / "a", "abc")
    assert sha256(tmp_path / "a") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
