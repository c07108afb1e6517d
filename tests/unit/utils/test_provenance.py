"""Descriptions of inputs: hashes of files, and of YAMLs with their bases."""

import hashlib
import os

import pytest

from speechbrain_ext.utils import provenance
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import read_json
from speechbrain_ext.utils.provenance import (
    HASHES,
    describe_file,
    describe_yaml,
    known_sha256,
    recorded_command,
    remember_hashes,
    versions,
)


@pytest.fixture
def embedder_yaml(tmp_path):
    (tmp_path / "base.yaml").write_text("# Base.\nwidth: 8\n")
    path = tmp_path / "embedder.yaml"
    path.write_text("# Embedder.\nbase: base.yaml\nsize: 4\n")
    return path


def test_a_file_is_described_by_its_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert describe_file(tmp_path / "a") == {
        "path": str(tmp_path / "a"),
        "bytes": 3,
        "sha256": hashlib.sha256(b"abc").hexdigest(),
    }


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such file, and this stage"):
        describe_file(tmp_path / "a")


def test_a_yaml_without_a_base_is_described_as_a_file(tmp_path):
    path = tmp_path / "alone.yaml"
    path.write_text("width: 8\n")
    assert describe_yaml(path) == describe_file(path)


def test_a_change_of_a_base_changes_the_hash(embedder_yaml):
    before = describe_yaml(embedder_yaml)
    assert describe_yaml(embedder_yaml) == before
    embedder_yaml.with_name("base.yaml").write_text("# Base.\nwidth: 9\n")
    assert describe_yaml(embedder_yaml)["sha256"] != before["sha256"]


def test_yamls_of_the_package_are_found_from_any_directory(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    found = describe_yaml("embedders/encoder_mhfa.yaml")
    assert found["path"].endswith("hparams/embedders/encoder_mhfa.yaml")


def test_versions_name_the_packages_that_results_depend_on():
    assert {"python", "torch", "speechbrain", "numpy"} <= versions().keys()


def commands(folder):
    return read_json(folder / "commands.json")


def test_a_folder_lists_the_commands_that_worked_in_it(tmp_path):
    with recorded_command(tmp_path, ["python", "a.py", "--run=a b"]):
        (entry,) = commands(tmp_path)
        assert "end" not in entry
    with recorded_command(tmp_path, ["python", "b.py"]):
        pass
    first, second = commands(tmp_path)
    assert first["command"] == "python a.py '--run=a b'"
    assert second["command"] == "python b.py"
    assert first["end"] == second["end"] == "finished"
    assert first["folder"] == os.getcwd() and first["seconds"] >= 0
    assert first["started"] <= first["ended"] <= second["started"]
    assert first["versions"] == versions()


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (InputError("lr is 0; more"), "InputError: lr is 0; more"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
    ],
)
def test_a_command_that_failed_says_of_what(tmp_path, error, end):
    with pytest.raises(type(error)), recorded_command(tmp_path, ["a"]):
        raise error
    assert commands(tmp_path)[0]["end"] == end


@pytest.fixture
def hashed(tmp_path, monkeypatch):
    """A large file that was left alone since, and the files that were read."""
    monkeypatch.setattr(provenance, "_SETTLED", -1)
    read = []

    def digest(path):
        read.append(path.name)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    monkeypatch.setattr(provenance, "sha256", digest)
    path = tmp_path / "a.npy"
    path.write_bytes(bytes(2**20))
    return path, read


def test_a_large_file_is_hashed_once_until_it_changes(hashed):
    path, read = hashed
    first = known_sha256(path, keep=path.parent)
    assert known_sha256(path) == known_sha256(path) == first
    assert read == ["a.npy"]
    # In place, of the same size, and with its time set back.
    times = path.stat()
    with open(path, "r+b") as stream:
        stream.write(b"x")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    changed = hashlib.sha256(b"x" + bytes(2**20 - 1)).hexdigest()
    assert known_sha256(path, keep=path.parent) == changed != first
    assert known_sha256(path) == changed and len(read) == 2


def test_a_reader_remembers_the_hash_of_what_lies_elsewhere(hashed, tmp_path):
    path, read = hashed
    keep = tmp_path / "stage"
    keep.mkdir()
    assert known_sha256(path, keep) == known_sha256(path, keep)
    assert read == ["a.npy"]
    assert [*read_json(keep / HASHES)] == [str(path)]


def test_a_replaced_or_copied_file_is_hashed_again(hashed):
    path, read = hashed
    remember_hashes(path.parent, {path: "first"})
    assert known_sha256(path) == "first" and not read
    other = path.with_name("b.npy")
    other.write_bytes(path.read_bytes())
    other.replace(path)
    assert known_sha256(path) != "first" and read == ["a.npy"]


@pytest.mark.parametrize("harm", ["", "[]", '{"a.npy": 1}', '{"a.npy": []}'])
def test_a_damaged_table_of_hashes_is_as_none(hashed, harm):
    path, read = hashed
    (path.parent / HASHES).write_text(harm)
    assert len(known_sha256(path)) == 64 and read == ["a.npy"]


def test_small_files_and_those_just_written_are_always_read(
    hashed, monkeypatch
):
    path, read = hashed
    monkeypatch.setattr(provenance, "_SETTLED", 10**9)
    known_sha256(path, keep=path.parent)
    known_sha256(path, keep=path.parent)
    assert len(read) == 2 and not (path.parent / HASHES).exists()
    monkeypatch.setattr(provenance, "_SETTLED", -1)
    path.write_bytes(b"small")
    known_sha256(path, keep=path.parent)
    known_sha256(path, keep=path.parent)
    assert len(read) == 4
