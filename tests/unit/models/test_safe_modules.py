"""Modules as data: known classes, nothing run, nothing fetched."""

import json
import sys
from pathlib import Path

import pytest
import torch
from tiny_wavlm import TINY
from tiny_whisper import MHFA as WHISPER

from speechbrain_ext.models import safe_modules
from speechbrain_ext.models.embedder import WaveEmbedder, build_embedder
from speechbrain_ext.models.joined_embedder import join_embedders
from speechbrain_ext.models.pretrained import KINDS
from speechbrain_ext.models.safe_modules import (
    KNOWN,
    MODULES,
    build_modules,
    check_node,
    check_trainable,
    describe_modules,
)
from speechbrain_ext.utils.errors import InputError

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
    "ecapa_512": ECAPA,
    "ecapa_512_40mel": ECAPA,
    "resnet": {
        "channels": [8, 8, 16, 16],
        "blocks": [1, 1, 1, 1],
        "embedding_size": 8,
    },
    "xvector": {"channels": [8, 8, 8, 8, 16], "embedding_size": 8},
    "encoder_mhfa": {**RANDOM, **HEADS},
    "encoder_camhfa": {**RANDOM, **HEADS},
    "encoder_ecapa": {**RANDOM, **ECAPA},
    "encoder_mean": {**RANDOM, "layers": [1, 2]},
    "encoder_tdnn": {
        **RANDOM,
        "width": 16,
        "width_last": 24,
        "embedding_size": 8,
    },
}
BERT = {
    "model_type": "wav2vec2-bert",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
PARTS |= {
    f"{kind.replace('-', '_')}_mhfa": {
        **RANDOM,
        **HEADS,
        "encoder_config": {**TINY, "model_type": kind},
    }
    for kind in ("hubert", "wav2vec2", "unispeech-sat")
}
PARTS |= {
    "w2v_bert_mhfa": {**RANDOM, **HEADS, "encoder_config": BERT},
    "whisper_mhfa": WHISPER,
}
RAW = {"!": "!new:speechbrain_ext.models.RawWaveform"}
NAME = "speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN"


def published(part):
    embedder = build_embedder(f"hparams/embedders/{part}.yaml", PARTS[part])
    described = describe_modules(embedder.yaml_text)
    return described, embedder.model.state_dict()


def test_every_embedder_yaml_is_tested():
    parts = {path.stem for path in Path("hparams/embedders").glob("*.yaml")}
    assert parts - {"debug"} == PARTS.keys()


@pytest.mark.parametrize("part", PARTS)
def test_every_part_becomes_data_and_the_same_model_again(part):
    embedder = build_embedder(f"hparams/embedders/{part}.yaml", PARTS[part])
    described = json.loads(json.dumps(describe_modules(embedder.yaml_text)))
    modules = build_modules(described, embedder.model.state_dict())
    again = WaveEmbedder(*(modules[name] for name in MODULES))
    wavs = 0.1 * torch.randn(2, 8000)
    assert torch.equal(again.eval().embed(wavs), embedder.eval().embed(wavs))


def test_an_encoder_that_was_cut_is_loaded_as_data():
    changes = {**PARTS["whisper_mhfa"], "n_layers": 1}
    embedder = build_embedder("hparams/embedders/whisper_mhfa.yaml", changes)
    modules = build_modules(
        describe_modules(embedder.yaml_text), embedder.model.state_dict()
    )
    assert len(modules["embedding_model"].encoder.model.layers) == 1


def test_joined_embedders_are_loaded_as_data():
    parts = [
        build_embedder(f"hparams/embedders/{part}.yaml", PARTS[part])
        for part in ("ecapa", "encoder_mean")
    ]
    embedder = join_embedders(parts)
    described = json.loads(json.dumps(describe_modules(embedder.yaml_text)))
    modules = build_modules(described, embedder.model.state_dict())
    again = WaveEmbedder(*(modules[name] for name in MODULES))
    wavs = 0.1 * torch.randn(2, 8000)
    assert torch.equal(again.eval().embed(wavs), embedder.eval().embed(wavs))


def joined(part):
    name = "!new:speechbrain_ext.models.JoinedEmbedder"
    return {"!": name, "parts": [part, part]}


def refuse(node, message):
    """An embedding model described so is one clear error."""
    described = {**dict.fromkeys(MODULES, RAW), "embedding_model": node}
    with pytest.raises(InputError, match=message):
        build_modules(described, {})


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
        joined("!new:os.system"),
        joined({**RAW, "model": {"!": "!apply:os.system"}}),
        joined({"features": "touch canary"}),
    ],
)
def test_anything_else_than_known_classes_is_refused(node):
    refuse(node, "not among the known classes")


@pytest.mark.parametrize(
    "node",
    [5, None, [], {}, "text", ["!new:" + next(iter(KNOWN))], {"!": 5}],
)
def test_a_module_that_is_no_class_is_refused(node):
    refuse(node, "not among the known classes")


@pytest.mark.parametrize(
    "node",
    [
        "!name:speechbrain_ext.models.RawWaveform",
        {"!": "!new:" + NAME, "activation": "!name:" + NAME},
        {"!": "!new:" + NAME, "channels": [RAW]},
        {
            "!": "!new:speechbrain_ext.models.SpeakerEncoder",
            "pooling": RAW,
        },
        joined("!name:speechbrain_ext.models.RawWaveform"),
    ],
)
def test_a_known_class_out_of_place_is_refused(node):
    refuse(node, "out of place")


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
        ({"encoder_source": None, "encoder_config": 5}, "must be a mapping"),
    ],
)
def test_an_encoder_is_never_fetched(arguments, message):
    node = {
        "!": "!new:speechbrain_ext.models.SpeakerEncoder",
        **arguments,
    }
    refuse(node, message)


@pytest.mark.parametrize(
    "described", [None, [], {}, {"compute_features": RAW}, "text"]
)
def test_a_description_of_something_else_than_an_embedder_is_refused(described):
    with pytest.raises(InputError, match="does not describe"):
        build_modules(described, {})


def test_a_wrong_argument_is_one_clear_error():
    node = {"!": "!new:speechbrain.lobes.features.Fbank", "n_mel": 3}
    with pytest.raises(InputError, match="cannot be built.*n_mel"):
        build_modules({**dict.fromkeys(MODULES, RAW), MODULES[0]: node}, {})


def test_a_number_beyond_float_range_is_one_clear_error():
    described, weights = published("ecapa")
    described[MODULES[2]]["se_channels"] = 10**400
    with pytest.raises(InputError, match="cannot be built") as caught:
        build_modules(described, weights)
    assert len(str(caught.value).splitlines()) == 1


def test_very_deep_nesting_is_one_clear_error():
    node = RAW
    for _ in range(100_000):
        node = [node]
    described = dict.fromkeys(MODULES, {**RAW, "deep": node})
    with pytest.raises(InputError, match="cannot be built"):
        build_modules(described, {})


# More than the weights hold.


@pytest.fixture
def devices(monkeypatch):
    """Where anything was built."""
    found = []
    build = safe_modules._build

    def noted(node):
        found.append(torch.empty(0).device.type)
        return build(node)

    monkeypatch.setattr(safe_modules, "_build", noted)
    return found


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        (MODULES[0], {"n_fft": 4 * 10**7}),
        (MODULES[0], {"n_mels": 10**6}),
        (MODULES[0], {"win_length": 1e9}),
        (MODULES[0], {"context": True, "left_frames": 10**5}),
        (MODULES[2], {"channels": [3000] * 5}),
        (MODULES[2], {"lin_neurons": 10**9}),
        (MODULES[2], {"kernel_sizes": [10**9] * 5}),
        (MODULES[2], {"channels": [10**6] * 5, "res2net_scale": 10**6}),
    ],
)
def test_an_ecapa_larger_than_its_weights_is_not_built(
    module, arguments, devices
):
    described, weights = published("ecapa")
    described[module].update(arguments)
    with pytest.raises(InputError, match="larger than its weights"):
        build_modules(described, weights)
    assert set(devices) == {"meta"}


@pytest.mark.parametrize(
    "fields",
    [
        {"num_hidden_layers": 10**6},
        {"hidden_size": 2**20},
        {"conv_dim": [8, 10**8]},
        {"num_conv_pos_embeddings": 10**9},
        {"num_buckets": 10**9},
        {"lora_rank": 10**9},
        {"model_type": "unispeech-sat", "hidden_size": 10**9},
        {"model_type": "wav2vec2-bert", "left_max_position_embeddings": 10**9},
        {
            "model_type": "wav2vec2-bert",
            "position_embeddings_type": "relative",
            "max_source_positions": 10**8,
        },
        {"model_type": "whisper", "max_source_positions": 10**9},
        {"model_type": "whisper", "num_mel_bins": 10**9},
    ],
)
def test_an_encoder_larger_than_its_weights_is_not_built(fields, devices):
    described, weights = published("encoder_mhfa")
    fields = dict(fields)
    rank = fields.pop("lora_rank", 0)
    tiny = {} if "model_type" in fields else TINY
    described[MODULES[2]].update(
        encoder_config={**tiny, **fields}, freeze="all", lora_rank=rank
    )
    with pytest.raises(InputError, match="larger than its weights"):
        build_modules(described, weights)
    assert set(devices) == {"meta"}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda weights: weights.pop("fc.conv.bias"),
        lambda weights: weights.update(more=torch.zeros(1)),
        lambda weights: weights.update({"fc.conv.bias": torch.zeros(9)}),
    ],
)
def test_weights_of_another_model_are_refused_before_it_is_built(
    spoil, devices
):
    described, weights = published("ecapa")
    spoil(weights)
    with pytest.raises(InputError, match="does not hold the weights"):
        build_modules(described, weights)
    assert set(devices) == {"meta"}


@pytest.mark.parametrize("kind", KINDS)
def test_the_largest_models_of_all_kinds_are_within_bounds(kind):
    large = {
        "model_type": kind,
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
    }
    size = "encoder_ffn_dim" if kind == "whisper" else "intermediate_size"
    large[size] = 4096
    described, _ = published("encoder_ecapa")
    described[MODULES[2]]["encoder_config"] = large
    # Shapes alone do; no weights, so nothing is built beyond them.
    with pytest.raises(InputError, match="does not hold the weights"):
        build_modules(described, {})


@pytest.mark.parametrize(
    "value",
    [
        "/data/me/a.pt",
        "~/a.pt",
        "C:\\\\models\\\\a",
        "https://example.com/a.pt",
    ],
)
def test_a_yaml_that_holds_a_path_or_address_is_refused(value):
    text = build_embedder("hparams/embedders/ecapa.yaml", ECAPA).yaml_text
    with pytest.raises(InputError, match="a path or address"):
        describe_modules(text + f'place: "{value}"\n')


def test_a_class_of_the_user_can_be_allowed(monkeypatch):
    monkeypatch.setitem(KNOWN, "torch.nn.Identity", torch.nn.Identity)
    node = {"!": "!new:torch.nn.Identity"}
    described = {**dict.fromkeys(MODULES, RAW), MODULES[2]: node}
    found = build_modules(described, {})
    assert isinstance(found[MODULES[2]], torch.nn.Identity)


# Classes of an installed package.


NET = "voice_net.Net"


def with_net(name=NET):
    return {**dict.fromkeys(MODULES, RAW), MODULES[2]: {"!": f"!new:{name}"}}


def test_a_class_that_a_package_names_can_be_built(plug_in):
    plug_in("voice_net")
    weights = {"linear.weight": torch.ones(8, 40), "linear.bias": torch.ones(8)}
    net = build_modules(with_net(), weights)[MODULES[2]]
    assert type(net).__module__ == "voice_net"
    assert torch.equal(net.linear.bias, torch.ones(8))


@pytest.mark.parametrize("name", ["voice_net.Other", "voice_net.torch.nn.Net"])
def test_no_other_class_of_that_package_can_be_built(plug_in, name):
    plug_in("voice_net")
    with pytest.raises(InputError, match="nor of a plug-in; install the"):
        build_modules(with_net(name), {})
    assert "voice_net" not in sys.modules


def test_a_package_is_not_imported_before_a_model_names_it(plug_in):
    plug_in("voice_net")
    published("ecapa")
    check_node(with_net()[MODULES[2]], "!new")
    assert "voice_net" not in sys.modules


def test_without_the_package_the_way_out_is_to_install_it():
    with pytest.raises(InputError, match="voice_net.Net.*install the") as error:
        build_modules(with_net(), {})
    assert len(str(error.value).splitlines()) == 1


def own(folder, model, more=""):
    path = folder / "own.yaml"
    path.write_text(
        f"base: embedders/ecapa.yaml\nembedding_model: !new:{model}\n{more}"
    )
    return path


def test_a_class_that_could_not_be_exported_is_refused_by_its_yaml(tmp_path):
    message = "own.yaml; its embedding_model has '!new:torch.nn.Flatten'.*give "
    with pytest.raises(InputError, match=message + "--trust_yaml=True"):
        check_trainable(own(tmp_path, "torch.nn.Flatten"), {})


def test_a_class_as_an_argument_is_refused_by_its_yaml(tmp_path):
    more = "    activation: !name:speechbrain.lobes.features.Fbank\n"
    with pytest.raises(InputError, match="out of place.*--trust_yaml"):
        check_trainable(own(tmp_path, NAME, more), {})


def test_a_yaml_without_modules_is_refused(tmp_path):
    path = tmp_path / "none.yaml"
    path.write_text("n_mels: 80\n")
    with pytest.raises(InputError, match="has .*under modules; begin it with"):
        check_trainable(path, {})


def test_a_plug_in_and_an_encoder_to_fetch_can_be_trained(plug_in, tmp_path):
    plug_in("voice_net")
    check_trainable(own(tmp_path, NET), {})
    check_trainable("embedders/encoder_mhfa.yaml", {"encoder_source": "a/b"})
