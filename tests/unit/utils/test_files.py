"""Files are whole or absent, whatever happens while they are written."""

import errno
import multiprocessing
import os
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
from small_disk import small_disk

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import (
    atomic_path,
    check_links,
    copy_file,
    move_synced,
    read_json,
    read_json_object,
    remove_leftovers,
    reserve,
    sha256,
    write_json,
    write_text,
)
from speechbrain_ext.utils.shipped import PACKAGE

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


# --- disks ------------------------------------------------------------------


def recorded(monkeypatch):
    """What is synced and renamed, in order, by name."""
    calls, sync, replace = [], os.fsync, os.replace

    def fsync(descriptor):
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        calls.append(("sync", os.path.basename(path)))
        sync(descriptor)

    def move(old, new):
        calls.append(("move", os.path.basename(new)))
        replace(old, new)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", move)
    return calls


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_a_file_is_on_the_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    """After a power cut, stage.json was there, and empty."""
    calls = recorded(monkeypatch)
    write_text(tmp_path / "a", "x")
    (before, part), *after = calls
    assert before == "sync" and part.startswith(".a.part")
    assert after == [("move", "a"), ("sync", tmp_path.name)]


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_a_copy_is_on_the_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    """Result files of a run were copied, and empty after a power cut."""
    (tmp_path / "a").write_text("x")
    calls = recorded(monkeypatch)
    copy_file(tmp_path / "a", tmp_path / "b")
    (before, part), *after = calls
    assert before == "sync" and part.startswith(".b.part")
    assert after == [("move", "b"), ("sync", tmp_path.name)]


def test_a_link_to_itself_is_named(tmp_path):
    """Python's RuntimeError was taken for a fault of the program."""
    (tmp_path / "config.json").symlink_to("config.json")
    try:
        check_links(tmp_path, ["config.json"])
    except InputError as error:
        assert "config.json is a link to itself" in str(error)
    else:
        # Later Pythons resolve it to where it is; reading it fails, then.
        assert sys.version_info >= (3, 13)


def test_no_other_module_copies_files():
    """Scripts and results were copied by shutil, which syncs nothing."""
    for path in PACKAGE.rglob("*.py"):
        if path.name != "files.py":
            assert "shutil.copy" not in path.read_text("utf-8"), path


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_all_files_of_a_folder_are_on_the_disk_before_it_takes_its_name(
    tmp_path, monkeypatch
):
    folder = tmp_path / "partial"
    folder.mkdir()
    for name in "ab":
        (folder / name).write_text(name)
    calls = recorded(monkeypatch)
    move_synced(folder, tmp_path / "whole")
    assert sorted(calls[:3]) == [
        ("sync", name) for name in ("a", "b", "partial")
    ]
    assert calls[3:] == [("move", "whole"), ("sync", tmp_path.name)]


WRITERS = {
    "text": lambda path: path.write_text("x" * 10**6),
    "numpy": lambda path: np.save(path, np.zeros(10**5)),
    "torch": lambda path: torch.save(torch.zeros(10**5), path),
    "soundfile": lambda path: soundfile.write(path, np.ones(10**6), 16000),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_full_disk_is_named_whatever_a_library_calls_it(tmp_path, kind):
    """soundfile says "System error", torch "unexpected pos 576 vs 534"."""
    path = tmp_path / "small" / "a.wav"
    if kind == "numpy":
        path = path.with_suffix(".npy")
    with small_disk(path.parent):
        with pytest.raises(OSError) as found, atomic_path(path) as part:
            WRITERS[kind](part)
        assert found.value.errno == errno.ENOSPC
        assert found.value.filename == str(path)
        assert not list(path.parent.iterdir())


def test_an_error_of_another_kind_is_kept(tmp_path):
    with pytest.raises(ValueError, match="mine"), atomic_path(tmp_path / "a"):
        raise ValueError("mine")


def _ends_with_number(write, path):
    try:
        write(path)
    except OSError as error:
        os._exit(error.errno)
    os._exit(0)


def number_of(write, path):
    """The number of the error of writing, in a process of its own."""
    fork = multiprocessing.get_context("fork")
    process = fork.Process(target=_ends_with_number, args=(write, path))
    process.start()
    process.join()
    return process.exitcode


def _limited(path):
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    with atomic_path(path) as part:
        np.save(part, np.zeros(10**4))


def test_a_limit_of_file_sizes_is_named(tmp_path):
    assert number_of(_limited, tmp_path / "a.npy") == errno.EFBIG
    assert not list(tmp_path.iterdir())


def _mapped(path):
    path.touch()
    reserve(path, 10**6)
    np.memmap(path, np.uint8, "r+", shape=10**6)[:] = 1


def test_a_full_disk_is_an_error_before_a_memory_map_is_written(tmp_path):
    """Embeddings were joined so: the process was gone without a word."""
    with small_disk(tmp_path / "small") as folder:
        assert number_of(_mapped, folder / "a") == errno.ENOSPC


@pytest.mark.parametrize("how", ["missing", "unsupported"])
def test_space_is_reserved_by_writing_where_the_system_cannot(
    tmp_path, monkeypatch, how
):
    def refuse(*_):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    if how == "missing":
        monkeypatch.delattr(os, "posix_fallocate")
    else:
        monkeypatch.setattr(os, "posix_fallocate", refuse)
    path, content = tmp_path / "a", os.urandom(3000)
    path.write_bytes(content)
    reserve(path, 3 * 2**20 + 5)
    assert path.read_bytes() == content + bytes(3 * 2**20 + 5 - 3000)
    assert path.stat().st_blocks * 512 >= 3 * 2**20
    with small_disk(tmp_path / "small") as folder:
        (folder / "a").touch()
        with pytest.raises(OSError) as found:
            reserve(folder / "a", 10**6)
    assert found.value.errno == errno.ENOSPC
    assert found.value.filename == str(folder / "a")
