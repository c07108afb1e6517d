"""The shared folder: its config, and what is read of a damaged one."""

import json
import math

import pytest
from shared_model import DECISION

from speechbrain_ext.inference.hub_folder import read_hub_folder
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import read_json, write_json


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 9}, "of format 1"),
        ({"weights": None}, "has no weights"),
        ({"modules": []}, "has no modules"),
        ({"decision": {}}, "weight is None"),
        ({"decision": {**DECISION._asdict(), "offset": math.nan}}, "offset"),
        ({"decision": {**DECISION._asdict(), "prior": 2}}, "prior is 2"),
        (
            {"decision": {**DECISION._asdict(), "weight": 10**400}},
            "weight is 1000",
        ),
    ],
)
def test_a_damaged_config_is_one_clear_error(model, change, message):
    config = read_json(model / "config.json")
    config["speechbrain_ext"].update(change)
    write_json(model / "config.json", config)
    with pytest.raises(InputError, match=message):
        read_hub_folder(model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sample_rate": 8000}, "sample_rate is 8000, and the model has 16000"),
        ({"sample_rate": True}, "sample_rate is True"),
        ({"sample_rate": None}, "sample_rate is None"),
        ({"embedding_size": 192}, "embedding_size is 192, .* model has 8"),
        ({"embedding_size": "8"}, "embedding_size is '8'"),
    ],
)
def test_what_a_config_says_of_its_model_must_be_so(model, change, message):
    config = read_json(model / "config.json")
    config["speechbrain_ext"].update(change)
    write_json(model / "config.json", config)
    with pytest.raises(InputError, match=message):
        read_hub_folder(model)


@pytest.mark.parametrize("hop_length", [0, -1, 1e-9, "10", None])
def test_a_model_that_cannot_embed_is_refused_when_it_is_loaded(
    model, hop_length
):
    config = read_json(model / "config.json")
    features = config["speechbrain_ext"]["modules"]["compute_features"]
    features["hop_length"] = hop_length
    write_json(model / "config.json", config)
    with pytest.raises(InputError, match="cannot embed a second|cannot be bu"):
        read_hub_folder(model)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_link_that_leaves_the_model_is_refused(model, tmp_path, name):
    (model / name).rename(tmp_path / "elsewhere")
    (model / name).symlink_to("../elsewhere")
    with pytest.raises(InputError, match=f"{name} is a link to .*elsewhere"):
        read_hub_folder(model)


def test_the_links_of_the_hubs_cache_are_followed(model, tmp_path):
    snapshot = tmp_path / "models--me--m" / "snapshots" / "1a2b"
    blobs = tmp_path / "models--me--m" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for name in ("config.json", "model.safetensors"):
        (model / name).rename(blobs / name)
        (snapshot / name).symlink_to(f"../../blobs/{name}")
    read_hub_folder(snapshot)


def test_a_broken_config_is_not_blamed_on_a_stage(model):
    (model / "config.json").write_text("{")
    with pytest.raises(InputError, match="from where it was published") as one:
        read_hub_folder(model)
    assert "stage" not in str(one.value)


def test_weights_of_another_model_are_refused(model, tmp_path):
    config = read_json(model / "config.json")
    inner = config["speechbrain_ext"]["modules"]["embedding_model"]
    inner["lin_neurons"] = 9
    write_json(model / "config.json", config)
    with pytest.raises(InputError, match="does not hold the weights"):
        read_hub_folder(model)


def test_the_config_is_plain_json_and_names_no_local_folder(published):
    text = (published / "config.json").read_text()
    assert json.loads(text)["speechbrain_interface"] == "SpeakerRecognition"
    assert str(published.parent) not in text
