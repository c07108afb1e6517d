"""A pre-trained encoder's source: complete here, or on the hub."""

import json

import pytest

from speechbrain_ext.models import encoder_source
from speechbrain_ext.models.encoder_source import check_source
from speechbrain_ext.models.step_cost import random_like
from speechbrain_ext.utils.errors import InputError

INDEX = "model.safetensors.index.json"


@pytest.fixture
def folder(tmp_path):
    """A folder whose index names two files of weights."""
    (tmp_path / "config.json").write_text("{}")
    names = {"a": "1.safetensors", "b": "2.safetensors"}
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": names}))
    for name in names.values():
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def test_a_folder_with_all_files_is_complete(folder):
    check_source(folder)
    (folder / INDEX).unlink()
    (folder / "pytorch_model.bin").write_bytes(b"x")
    check_source(folder)


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("config.json", "the folder lacks config.json;"),
        (INDEX, "the folder has no weights"),
        ("2.safetensors", "lacks 2.safetensors, which model.safetensors.index"),
    ],
)
def test_a_missing_file_is_named(folder, lost, message):
    (folder / lost).unlink()
    with pytest.raises(InputError, match=message):
        check_source(folder)


@pytest.mark.parametrize("name", ["config.json", "1.safetensors", "notes.bin"])
def test_a_link_that_leaves_the_folder_is_refused(
    folder, tmp_path_factory, name
):
    """An archive of somebody else's could name any file of this machine."""
    outside = tmp_path_factory.mktemp("outside") / "a"
    outside.write_text("{}")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(outside)
    with pytest.raises(InputError, match=f"{name} is a link to .*outside"):
        check_source(folder)


def test_an_index_names_no_file_above_its_folder(folder):
    (folder / INDEX).write_text('{"weight_map": {"a": "../x.safetensors"}}')
    (folder.parent / "x.safetensors").write_bytes(b"x")
    with pytest.raises(InputError, match="x.safetensors.* outside of its"):
        check_source(folder)


def test_the_hubs_cache_of_links_is_no_fault(folder, tmp_path):
    snapshot = tmp_path / "m" / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    (tmp_path / "m" / "blobs").mkdir()
    for path in [each for each in folder.iterdir() if each.is_file()]:
        blob = tmp_path / "m" / "blobs" / path.name
        path.rename(blob)
        (snapshot / path.name).symlink_to(blob)
    check_source(snapshot)


def test_an_empty_file_of_weights_is_no_file(folder):
    (folder / "1.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match="lacks 1.safetensors"):
        check_source(folder)


def test_a_broken_index_is_named(folder):
    (folder / INDEX).write_text("{}")
    with pytest.raises(InputError, match="is not an index of weights"):
        check_source(folder)


@pytest.mark.parametrize("name", ["/no/folder", "./no/folder", "no/WavLM.pt"])
def test_a_path_that_is_not_there_is_not_looked_for_on_the_hub(name):
    with pytest.raises(InputError, match="there is no such"):
        check_source(name)


def test_offline_a_model_must_be_in_the_cache(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match="not all in the cache, and the hub"):
        check_source("nobody/no-such-model")


def test_online_the_hub_is_asked_for_config_and_weights(monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    there = {"config.json", "pytorch_model.bin"}

    def asked(name, file, seconds):
        return "" if file in there else f"no {file}"

    monkeypatch.setattr(encoder_source, "_asked", asked)
    check_source("me/model")
    there.remove("pytorch_model.bin")
    with pytest.raises(InputError, match="the hub has no weights of it"):
        check_source("me/model")
    there.clear()
    with pytest.raises(InputError, match="no config.json"):
        check_source("me/model")


@pytest.mark.parametrize("text", ["{", "[]", "\xff"])
def test_a_config_that_was_cut_off_is_named(folder, text):
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(
        InputError, match="the folder's config.json is not JSON"
    ):
        check_source(folder)
    changes = {"encoder_source": str(folder)}
    assert random_like("embedders/encoder_mhfa.yaml", changes) is None
