"""Microsoft's files: the same model as transformers', or one message."""

import pytest
import torch
from transformers import WavLMConfig, WavLMModel

from speechbrain_ext.models.speech_encoder import SpeechEncoder
from speechbrain_ext.models.wavlm_checkpoint import read_official
from speechbrain_ext.utils.errors import InputError

TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "conv_dim": [16, 24, 24],
    "conv_stride": [20, 4, 4],
    "conv_kernel": [25, 5, 4],
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
    "num_buckets": 32,
    "max_bucket_distance": 40,
}
LARGE = {**TINY, "feat_extract_norm": "layer", "do_stable_layer_norm": True}


def official_cfg(config):
    """The cfg that Microsoft would have written for a config."""
    return {
        "extractor_mode": {"group": "default", "layer": "layer_norm"}[
            config.feat_extract_norm
        ],
        "encoder_layers": config.num_hidden_layers,
        "encoder_embed_dim": config.hidden_size,
        "encoder_ffn_embed_dim": config.intermediate_size,
        "encoder_attention_heads": config.num_attention_heads,
        "activation_fn": "gelu",
        "layer_norm_first": config.do_stable_layer_norm,
        "conv_feature_layers": "[(16,25,20)] + [(24,5,4)] + [(24,4,4)] * 1",
        "conv_bias": False,
        "feature_grad_mult": 1.0,
        "normalize": config.feat_extract_norm == "layer",
        "dropout": 0.1,
        "attention_dropout": 0.1,
        "activation_dropout": 0.0,
        "encoder_layerdrop": 0.05,
        "dropout_input": 0.1,
        "mask_prob": 0.65,
        "conv_pos": config.num_conv_pos_embeddings,
        "conv_pos_groups": config.num_conv_pos_embedding_groups,
        "relative_position_embedding": True,
        "num_buckets": config.num_buckets,
        "max_distance": config.max_bucket_distance,
        "gru_rel_pos": True,
    }


def official_state(model):
    """Its weights under Microsoft's names, written out one by one."""
    theirs = {"mask_emb": torch.randn(model.config.hidden_size)}

    def put(name, module):
        theirs[f"{name}.weight"] = module.weight.detach()
        if getattr(module, "bias", None) is not None:
            theirs[f"{name}.bias"] = module.bias.detach()

    group = model.config.feat_extract_norm == "group"
    for i, conv in enumerate(model.feature_extractor.conv_layers):
        name = f"feature_extractor.conv_layers.{i}"
        put(f"{name}.0", conv.conv)
        if hasattr(conv, "layer_norm"):
            put(f"{name}.2" if group else f"{name}.2.1", conv.layer_norm)
    put("layer_norm", model.feature_projection.layer_norm)
    put("post_extract_proj", model.feature_projection.projection)
    conv = model.encoder.pos_conv_embed.conv
    theirs["encoder.pos_conv.0.bias"] = conv.bias.detach()
    weight = conv.parametrizations.weight
    theirs["encoder.pos_conv.0.weight_g"] = weight.original0.detach()
    theirs["encoder.pos_conv.0.weight_v"] = weight.original1.detach()
    put("encoder.layer_norm", model.encoder.layer_norm)
    for i, layer in enumerate(model.encoder.layers):
        name, attention = f"encoder.layers.{i}", layer.attention
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            put(f"{name}.self_attn.{part}", getattr(attention, part))
        put(f"{name}.self_attn.grep_linear", attention.gru_rel_pos_linear)
        theirs[f"{name}.self_attn.grep_a"] = (
            attention.gru_rel_pos_const.detach()
        )
        if i == 0:
            put(
                f"{name}.self_attn.relative_attention_bias",
                attention.rel_attn_embed,
            )
        put(f"{name}.self_attn_layer_norm", layer.layer_norm)
        put(f"{name}.fc1", layer.feed_forward.intermediate_dense)
        put(f"{name}.fc2", layer.feed_forward.output_dense)
        put(f"{name}.final_layer_norm", layer.final_layer_norm)
    return theirs


def shaken_model(config):
    """No weight as it starts: a mistaken name would be seen."""
    torch.manual_seed(0)
    model = WavLMModel(WavLMConfig(**config)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def write_official(path, model, **changes):
    content = {
        "cfg": {**official_cfg(model.config), **changes},
        "model": official_state(model),
    }
    torch.save(content, path)
    return content


@pytest.mark.parametrize("config", [TINY, LARGE])
def test_hidden_states_equal_those_from_a_transformers_folder(tmp_path, config):
    model = shaken_model(config)
    write_official(tmp_path / "WavLM.pt", model)
    model.save_pretrained(tmp_path / "folder")
    official = SpeechEncoder(tmp_path / "WavLM.pt").eval()
    folder = SpeechEncoder(tmp_path / "folder").eval()
    wavs = torch.randn(2, 6000)
    assert torch.equal(official(wavs), folder(wavs))
    assert official.do_normalize == folder.do_normalize == (config is LARGE)
    assert not official.is_random


def test_every_weight_is_used(tmp_path):
    model = shaken_model(TINY)
    content = write_official(tmp_path / "WavLM.pt", model)
    _, state = read_official(tmp_path / "WavLM.pt")
    assert len(state) == len(content["model"]) - 1
    encoder = SpeechEncoder(tmp_path / "WavLM.pt")
    assert state.keys() == encoder.model.state_dict().keys()


@pytest.mark.parametrize("normalize", [False, True])
def test_the_cfg_decides_on_normalisation(tmp_path, normalize):
    write_official(
        tmp_path / "WavLM.pt", shaken_model(LARGE), normalize=normalize
    )
    assert SpeechEncoder(tmp_path / "WavLM.pt").do_normalize == normalize


def test_convolutions_are_read_as_data(tmp_path):
    write_official(
        tmp_path / "WavLM.pt",
        shaken_model(TINY),
        conv_feature_layers="[(512,10,5)] + [(512,3,2)] * 4 + [(512,2,2)] * 2",
    )
    fields, _ = read_official(tmp_path / "WavLM.pt")
    assert fields["conv_dim"] == [512] * 7
    assert fields["conv_kernel"] == [10, 3, 3, 3, 3, 2, 2]
    assert fields["conv_stride"] == [5, 2, 2, 2, 2, 2, 2]


def damage_code(content):
    content["cfg"]["conv_feature_layers"] = "print('hello')"


def damage_bias(content):
    content["cfg"]["relative_position_embedding"] = False


def damage_weight(content):
    del content["model"]["encoder.layers.1.fc2.weight"]


def damage_size(content):
    content["cfg"]["encoder_embed_dim"] = 64


def damage_config(content):
    content["cfg"]["encoder_attention_heads"] = 5


def damage_whole(content):
    del content["cfg"]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (damage_code, "no official WavLM file"),
        (damage_bias, "no relative_position_embedding in its cfg"),
        (damage_weight, "lacks the weights.*layers.1.feed_forward"),
        (damage_size, "do not fit its cfg"),
        (damage_config, "makes no wavlm model"),
        (damage_whole, "no official WavLM file .*cfg"),
    ],
)
def test_a_damaged_file_is_one_clear_message(tmp_path, damage, words):
    path = tmp_path / "WavLM.pt"
    content = write_official(path, shaken_model(TINY))
    damage(content)
    torch.save(content, path)
    with pytest.raises(InputError, match=words):
        SpeechEncoder(path)


class Code:
    """Were it unpickled, it would print."""

    def __reduce__(self):
        return print, ("code of a file was run",)


def test_no_code_in_a_file_is_run(tmp_path, capsys):
    torch.save({"cfg": Code(), "model": {}}, tmp_path / "WavLM.pt")
    with pytest.raises(InputError, match="no official WavLM file"):
        SpeechEncoder(tmp_path / "WavLM.pt")
    assert "was run" not in capsys.readouterr().out


def test_a_missing_or_other_file_is_one_clear_message(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        SpeechEncoder(tmp_path / "WavLM.pt")
    (tmp_path / "WavLM.pt").write_text("not a checkpoint")
    with pytest.raises(InputError, match="no official WavLM file"):
        SpeechEncoder(tmp_path / "WavLM.pt")


def test_a_folder_named_like_a_file_is_one_clear_message(tmp_path):
    (tmp_path / "WavLM.pt").mkdir()
    with pytest.raises(InputError, match="no official WavLM file .*directory"):
        SpeechEncoder(tmp_path / "WavLM.pt")
