"""Models from folders and configs: complete, of a known kind, or refused."""

import json

import pytest
import torch
from tiny_wavlm import LARGE
from tiny_wavlm import SMALL as TINY
from tiny_whisper import TINY as WHISPER
from tiny_whisper import whole
from transformers import (
    AutoConfig,
    AutoModel,
    Data2VecAudioConfig,
    WavLMConfig,
    WavLMForXVector,
    WavLMModel,
)

from speechbrain_ext.models.pretrained import KINDS, architecture, load_model
from speechbrain_ext.utils.errors import InputError

# Without the fields that only a model with a CNN has.
BERT = {k: v for k, v in TINY.items() if "conv" not in k}


def tiny(kind):
    if kind == "whisper":
        return dict(WHISPER)
    return {"model_type": kind, **(BERT if kind.endswith("bert") else TINY)}


def saved_model(folder, config=TINY):
    torch.manual_seed(1)
    model = WavLMModel(WavLMConfig(**config)).eval()
    model.save_pretrained(folder)
    return model


def test_a_local_folder_gives_its_weights(tmp_path):
    state = saved_model(tmp_path).state_dict()
    model, do_normalize = load_model(tmp_path, None)
    found = model.state_dict()
    # The vector of masked pre-training is gone.
    assert state.keys() - found.keys() == {"masked_spec_embed"}
    assert all(torch.equal(found[name], state[name]) for name in found)
    assert not do_normalize


def test_a_folder_of_a_model_with_a_head_gives_its_trunk(tmp_path):
    torch.manual_seed(1)
    whole = WavLMForXVector(WavLMConfig(**TINY))
    whole.save_pretrained(tmp_path)
    model, _ = load_model(tmp_path, None)
    state = whole.wavlm.state_dict()
    found = model.state_dict()
    assert all(torch.equal(found[name], state[name]) for name in found)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_comes_from_a_folder_and_from_a_config(tmp_path, kind):
    config = tiny(kind)
    made = AutoConfig.for_model(config.pop("model_type"), **config)
    model = whole() if kind == "whisper" else AutoModel.from_config(made)
    model.save_pretrained(tmp_path)
    saved, _ = load_model(tmp_path, None)
    plain, _ = load_model(None, tiny(kind))
    assert type(saved) is type(plain)
    assert saved.config.model_type == kind
    assert saved.state_dict().keys() == plain.state_dict().keys()
    assert architecture(saved.config) == architecture(plain.config)


@pytest.mark.parametrize("kind", KINDS)
def test_pretraining_is_off(kind):
    name = "encoder_layerdrop" if kind == "whisper" else "layerdrop"
    config = {**tiny(kind), name: 0.5, "mask_time_prob": 0.5}
    model, _ = load_model(None, config)
    assert getattr(model.config, name) == 0
    assert not model.config.apply_spec_augment
    assert "masked_spec_embed" not in model.state_dict()


@pytest.mark.parametrize("kind", KINDS)
def test_an_architecture_is_plain_and_makes_the_same_model(kind):
    name = "dropout" if kind == "whisper" else "hidden_dropout"
    model, _ = load_model(None, {**tiny(kind), name: 0.25})
    fields = json.loads(json.dumps(architecture(model.config)))
    again, _ = load_model(None, fields)
    assert architecture(again.config) == fields
    shapes = [
        {name: value.shape for name, value in m.state_dict().items()}
        for m in (model, again)
    ]
    assert shapes[0] == shapes[1]
    assert getattr(again.config, name) == 0.25


@pytest.mark.parametrize("wanted", [True, False])
def test_the_folder_s_preprocessor_decides_on_normalisation(tmp_path, wanted):
    saved_model(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "do_normalize": wanted,
                "feature_extractor_type": "Wav2Vec2FeatureExtractor",
            }
        )
    )
    assert load_model(tmp_path, None)[1] == wanted


def test_a_large_model_without_preprocessor_is_normalised(tmp_path):
    saved_model(tmp_path, LARGE)
    assert load_model(tmp_path, None)[1]


def test_a_missing_source_is_refused_with_a_way_out(tmp_path):
    with pytest.raises(InputError, match="local folder.*or encoder_config"):
        load_model(tmp_path / "a" / "b" / "nowhere", None)


def test_a_folder_without_weights_is_refused(tmp_path):
    WavLMConfig(**TINY).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="the folder has no weights"):
        load_model(tmp_path, None)


def test_a_folder_lacking_some_weights_is_refused(tmp_path):
    saved_model(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["num_hidden_layers"] = 3
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="lacks the weights.*layers.2"):
        load_model(tmp_path, None)


def test_an_unusable_kind_of_model_is_refused(tmp_path):
    Data2VecAudioConfig().save_pretrained(tmp_path)
    with pytest.raises(InputError, match="is a data2vec-audio.*'hubert'"):
        load_model(tmp_path, None)


@pytest.mark.parametrize(
    ("source", "config", "words"),
    [
        (None, None, "give exactly one"),
        ("x", TINY, "give exactly one"),
        (None, {**TINY, "hiden_size": 3}, "did you mean 'hidden_size'"),
        (None, {**TINY, "hidden_size": 33}, "makes no wavlm model"),
        (None, {**TINY, "hidden_size": "big"}, "makes no wavlm model"),
        (None, {"model_type": "bert"}, "model_type is 'bert'.*one of.*wavlm"),
        (None, {**WHISPER, "n_mel_bins": 3}, "did you mean 'num_mel_bins'"),
        (None, {**WHISPER, "hidden_size": 17}, "makes no whisper model"),
        (
            None,
            {**TINY, "model_type": "hubert", "num_buckets": 3},
            "num_buckets is 3; transformers.HubertConfig has no such",
        ),
    ],
)
def test_bad_arguments_are_one_clear_message(source, config, words):
    with pytest.raises(InputError, match=words):
        load_model(source, config)


@pytest.mark.parametrize("model_type", ["wavlm", "strange"])
def test_code_that_a_source_brings_is_never_run(
    tmp_path, monkeypatch, model_type
):
    """transformers asks whether to run it; the answer does not matter."""
    saved_model(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    config["model_type"] = model_type
    config["auto_map"] = {
        "AutoConfig": "strange.Config",
        "AutoModel": "strange.Model",
        "AutoFeatureExtractor": "strange.Extractor",
    }
    path.write_text(json.dumps(config))
    canary = tmp_path / "canary"
    code = f"import os\nos.mkdir({str(canary)!r})\nclass Config: pass\n"
    (tmp_path / "strange.py").write_text(code)
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    if model_type == "wavlm":
        load_model(tmp_path, None)
    else:
        with pytest.raises(InputError, match="cannot be loaded"):
            load_model(tmp_path, None)
    assert not canary.exists()
