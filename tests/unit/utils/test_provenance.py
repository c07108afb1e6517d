"""Descriptions of inputs: hashes of files, and of YAMLs with their bases."""

import hashlib
import os

import pytest

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import read_json
from speechbrain_ext.utils.provenance import (
    describe_file,
    describe_yaml,
    recorded_command,
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
