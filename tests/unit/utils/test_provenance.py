"""Descriptions of inputs: hashes of files, and of YAMLs with their bases."""

import dataclasses
import hashlib

import pytest

from speechbrain_ext.experiment.recipe_run import RecipeRun
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.provenance import (
    describe_file,
    describe_yaml,
    versions,
)
from speechbrain_ext.utils.settings import Settings, setting


@dataclasses.dataclass(kw_only=True)
class Train(Settings):
    """Train an embedder."""

    recipe = "train"

    embedder_yaml: str = setting(doc="an embedder YAML", path=True)


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


def test_the_package_has_its_own_yamls_for_every_directory(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    found = describe_yaml("embedders/encoder_mhfa.yaml")
    assert found["path"].endswith("hparams/embedders/encoder_mhfa.yaml")


def test_a_finished_stage_is_not_skipped_after_a_change_of_a_base(
    embedder_yaml, tmp_path
):
    leaf = tmp_path / "train.yaml"
    leaf.write_text(f"output_folder: {tmp_path / 'out'}\n")
    argv = [str(leaf), f"--embedder_yaml={embedder_yaml}"]

    def run():
        return RecipeRun(__file__, Train, argv)

    inputs = {"embedder_yaml": embedder_yaml}
    first = run()
    assert not first.is_done(inputs)
    (first.folder / "model").write_text("weights")
    first.finish(["model"])
    assert run().is_done(inputs)
    embedder_yaml.with_name("base.yaml").write_text("# Base.\nwidth: 9\n")
    with pytest.raises(InputError, match="inputs.embedder_yaml"):
        run().is_done(inputs)


def test_versions_of_packages_that_decide_a_result_are_known():
    assert {"python", "torch", "speechbrain", "numpy"} <= versions().keys()
