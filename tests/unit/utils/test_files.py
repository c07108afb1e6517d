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
    read_json_object,
    remove_leftovers,
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


def killed_while_writing(path):
    """Leave what a process leaves that is killed while it writes a file."""
    subprocess.run([sys.executable, "-c", _KILLED_WHILE_WRITING, str(path)])


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    killed_while_writing(tmp_path / "inner" / "a.csv")
    (left,) = (tmp_path / "inner").iterdir()
    mine = [".a-settings.csv", ".a.part-12345678.csv", "a.part1-12345678.csv"]
    for name in mine:
        (tmp_path / name).touch()
    with atomic_path(tmp_path / "b.csv") as part:
        # Of a process that lives, as its parent's child of another.
        living = part.with_name(
            part.name.replace(str(os.getpid()), str(os.getppid()))
        )
        living.touch()
        assert remove_leftovers(tmp_path, below=False) == [part.name]
        assert left.exists()
        found = remove_leftovers(tmp_path)
        part.touch()
    assert found == [f"inner/{left.name}"]
    assert living.exists() and all((tmp_path / name).exists() for name in mine)


def test_leftovers_behind_a_link_are_not_ours(tmp_path):
    killed_while_writing(tmp_path / "theirs" / "a.csv")
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "link").symlink_to(tmp_path / "theirs")
    assert remove_leftovers(tmp_path / "ours") == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "it must be an object and is a list"),
        ("null", "it must be an object and is null"),
        ("{}", "it has no n"),
        ('{"n": "1"}', "its n is a string; it must be a whole number"),
        ('{"n": true}', "its n is true or false; it must be a whole number"),
    ],
)
def test_json_of_another_shape_is_named(tmp_path, text, said):
    write_text(tmp_path / "a.json", text)
    with pytest.raises(InputError, match=rf"a\.json: {said}; delete it"):
        read_json_object(tmp_path / "a.json", {"n": int})
