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
