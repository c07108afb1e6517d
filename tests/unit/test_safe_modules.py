"""Modules as data: known classes, nothing run, nothing fetched."""

import json
from pathlib import Path

import pytest
import torch
from tiny_wavlm import TINY

from speechbrain_ext.embedder import WaveEmbedder, build_embedder
from speechbrain_ext.files import InputError
from speechbrain_ext.safe_modules import (
    KNOWN,
    MODULES,
    build_modules,
    describe_modules,
)

RANDOM = {"encoder_source": None, "encoder_config": TINY}
ECAPA = {
    "width": 16,
    "width_last": 24,
    "attention_channels": 8,
    "embedding_size": 8,
}
HEADS = {"n_heads": 2, "compression_size": 4, "embedding_size": 8}
PARTS = {
    "ecapa": ECAPA,
    "wavlm_mhfa": {**RANDOM, **HEADS},
    "wavlm_camhfa": {**RANDOM, **HEADS},
    "wavlm_ecapa": {**RANDOM, **ECAPA},
    "wavlm_tdnn": {
        **RANDOM,
        "width": 16,
        "width_last": 24,
        "embedding_size": 8,
    },
}
RAW = {"!": "!new:speechbrain_ext.wavlm.RawWaveform"}


def test_no_part_is_forgotten():
    parts = {path.stem for path in Path("hparams/parts").glob("*.yaml")}
    assert parts - {"debug"} == PARTS.keys()


@pytest.mark.parametrize("part", PARTS)
def test_every_part_becomes_data_and_the_same_model_again(part):
    embedder = build_embedder(f"hparams/parts/{part}.yaml", PARTS[part])
    described = json.loads(json.dumps(describe_modules(embedder.yaml_text)))
    modules = build_modules(described)
    again = WaveEmbedder(*(modules[name] for name in MODULES))
    again.model.load_state_dict(embedder.model.state_dict())
    wavs = 0.1 * torch.randn(2, 8000)
    assert torch.equal(again.eval().embed(wavs), embedder.eval().embed(wavs))


@pytest.mark.parametrize(
    "node",
    [
        {"!": "!apply:os.system", "command": "touch canary"},
        {"!": "!new:os.system", "command": "touch canary"},
        {"!": "!new:torch.nn.Linear", "in_features": 1},
        {"!": "!module:os"},
        "!apply:os.system",
        {**RAW, "deep": [{"!": "!apply:os.system"}]},
        {**RAW, "deep": {"deeper": "!name:os.system"}},
    ],
)
def test_anything_else_than_known_classes_is_refused(node):
    described = {**dict.fromkeys(MODULES, RAW), "embedding_model": node}
    with pytest.raises(InputError, match="not among the known classes"):
        build_modules(described)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"encoder_source": "owner/model"}, "takes its encoder from"),
        (
            {"encoder_source": None, "encoder_config": {"_name_or_path": "x"}},
            "no fields of an architecture",
        ),
        (
            {
                "encoder_source": None,
                "encoder_config": {**TINY, "attn_implementation": "owner/x"},
            },
            "no fields of an architecture",
        ),
    ],
)
def test_an_encoder_is_never_fetched(arguments, message):
    node = {"!": "!new:speechbrain_ext.wavlm.WavLMSpeaker", **arguments}
    described = {**dict.fromkeys(MODULES, RAW), "embedding_model": node}
    with pytest.raises(InputError, match=message):
        build_modules(described)


@pytest.mark.parametrize(
    "described", [None, [], {}, {"compute_features": RAW}, "text"]
)
def test_what_describes_no_embedder_is_refused(described):
    with pytest.raises(InputError, match="does not describe"):
        build_modules(described)


def test_a_wrong_argument_is_one_clear_error():
    node = {"!": "!new:speechbrain.lobes.features.Fbank", "n_mel": 3}
    with pytest.raises(InputError, match="cannot be built.*n_mel"):
        build_modules({**dict.fromkeys(MODULES, RAW), MODULES[0]: node})


@pytest.mark.parametrize(
    "value",
    [
        "/data/me/a.pt",
        "~/a.pt",
        "C:\\\\models\\\\a",
        "https://example.com/a.pt",
    ],
)
def test_a_yaml_that_names_a_place_elsewhere_is_refused(value):
    text = build_embedder("hparams/parts/ecapa.yaml", ECAPA).yaml_text
    with pytest.raises(InputError, match="a path or address"):
        describe_modules(text + f'place: "{value}"\n')


def test_a_class_of_ones_own_can_be_made_known(monkeypatch):
    monkeypatch.setitem(KNOWN, "torch.nn.Identity", torch.nn.Identity)
    node = {"!": "!new:torch.nn.Identity"}
    found = build_modules({**dict.fromkeys(MODULES, RAW), MODULES[2]: node})
    assert isinstance(found[MODULES[2]], torch.nn.Identity)
