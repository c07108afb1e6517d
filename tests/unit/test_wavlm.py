"""WavLM: all layers, nothing padded, what is frozen stays as it was."""

import json

import pytest
import torch
from transformers import Wav2Vec2Config, WavLMConfig, WavLMModel

from speechbrain_ext.files import InputError
from speechbrain_ext.pooling import MHFA
from speechbrain_ext.wavlm import RawWaveform, WavLMEncoder, WavLMSpeaker

TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "conv_dim": [16, 16],
    "conv_stride": [20, 16],
    "conv_kernel": [25, 16],
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}
# Large: LayerNorm in the CNN and before each transformer layer.
LARGE = {**TINY, "feat_extract_norm": "layer", "do_stable_layer_norm": True}


@pytest.fixture
def wavs():
    return torch.randn(3, 4000, generator=torch.Generator().manual_seed(0))


def saved_model(folder, config=TINY):
    torch.manual_seed(1)
    model = WavLMModel(WavLMConfig(**config)).eval()
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("config", [TINY, LARGE])
@torch.no_grad()
def test_hidden_states_are_the_layers_input_and_every_output(wavs, config):
    encoder = WavLMEncoder(config=config).eval()
    model = encoder.model
    x = model.feature_extractor(wavs).transpose(1, 2)
    x = model.feature_projection(x)[0]
    x = x + model.encoder.pos_conv_embed(x)
    if config is TINY:
        x = model.encoder.layer_norm(x)
    expected, bias = [x], None
    for layer in model.encoder.layers:
        x, bias = layer(x, position_bias=bias)
        expected.append(x)
    torch.testing.assert_close(encoder(wavs), torch.stack(expected))


@pytest.mark.parametrize("n_layers", [1, 3])
def test_any_layer_count(wavs, n_layers):
    encoder = WavLMEncoder(config={**TINY, "num_hidden_layers": n_layers})
    assert encoder.n_layers == n_layers + 1
    assert encoder(wavs).shape == (n_layers + 1, 3, 12, 32)


def test_layerdrop_is_off_in_training(wavs):
    encoder = WavLMEncoder(config={**TINY, "layerdrop": 0.99}, freeze="none")
    for _ in range(5):
        assert len(encoder.train()(wavs)) == 3


def test_spec_augment_is_off_in_training(wavs):
    names = ("hidden_dropout", "activation_dropout", "attention_dropout")
    config = {**TINY, **dict.fromkeys(names, 0.0), "mask_time_prob": 0.9}
    encoder = WavLMEncoder(config=config, freeze="none").train()
    assert torch.equal(encoder(wavs), encoder(wavs))


def test_a_frozen_wavlm_is_deterministic_in_train_mode(wavs):
    encoder = WavLMEncoder(config={**TINY, "hidden_dropout": 0.5}, freeze="all")
    model = torch.nn.ModuleDict({"encoder": encoder})
    model.train()
    hidden = encoder(wavs)
    assert torch.equal(hidden, encoder(wavs))
    assert not hidden.requires_grad
    assert not any(p.requires_grad for p in encoder.parameters())


def test_freezing_the_cnn_trains_the_transformer_layers_only(wavs):
    encoder = WavLMEncoder(config={**TINY, "hidden_dropout": 0.5})
    encoder.eval()
    encoder.train()
    assert not torch.equal(encoder(wavs)[-1], encoder(wavs)[-1])
    assert torch.equal(encoder(wavs)[0], encoder(wavs)[0])
    encoder(wavs).sum().backward()
    for name, parameter in encoder.named_parameters():
        is_layer = ".encoder.layers." in name
        assert (parameter.grad is not None) == is_layer, name
        assert parameter.requires_grad == is_layer, name
    for module in encoder.model.feature_extractor.modules():
        assert not module.training


def test_freezing_nothing_trains_everything(wavs):
    encoder = WavLMEncoder(config=TINY, freeze="none")
    encoder(wavs).square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name


def test_eval_mode_reaches_what_is_trained(wavs):
    encoder = WavLMEncoder(config={**TINY, "hidden_dropout": 0.5}).eval()
    assert torch.equal(encoder(wavs), encoder(wavs))


def test_audio_is_normalised_only_on_demand(wavs):
    # Group norm would hide it: it normalises channels over time itself.
    plain = WavLMEncoder(config=LARGE).eval()
    normalising = WavLMEncoder(config={**LARGE, "do_normalize": True}).eval()
    normalising.model.load_state_dict(plain.model.state_dict())
    standard = (wavs - wavs.mean(1, True)) / wavs.var(
        1, keepdim=True, unbiased=False
    ).sqrt()
    shifted = 3 * wavs + 1
    torch.testing.assert_close(normalising(shifted), plain(standard))
    assert (plain(shifted) - plain(standard)).abs().max() > 1e-3


def test_a_local_folder_gives_its_weights(tmp_path, wavs):
    model = saved_model(tmp_path)
    encoder = WavLMEncoder(tmp_path).eval()
    with torch.no_grad():
        expected = model(wavs).last_hidden_state
    torch.testing.assert_close(encoder(wavs)[-1], expected)
    assert not encoder.is_random
    assert not encoder.do_normalize


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
    assert WavLMEncoder(tmp_path).do_normalize == wanted


def test_a_large_model_without_preprocessor_is_normalised(tmp_path):
    saved_model(tmp_path, LARGE)
    assert WavLMEncoder(tmp_path).do_normalize


def test_the_plain_config_makes_the_same_architecture(tmp_path, wavs):
    saved_model(tmp_path, LARGE)
    encoder = WavLMEncoder(tmp_path).eval()
    # What a YAML can hold, and nothing else.
    config = json.loads(json.dumps(encoder.plain_config))
    other = WavLMEncoder(config=config).eval()
    other.load_state_dict(encoder.state_dict())
    assert torch.equal(other(wavs), encoder(wavs))
    assert other.plain_config == encoder.plain_config


def test_an_absent_source_names_the_way_out(tmp_path):
    with pytest.raises(InputError, match="local folder.*or encoder_config"):
        WavLMEncoder(tmp_path / "a" / "b" / "nowhere")


def test_a_folder_without_weights_is_refused(tmp_path):
    WavLMConfig(**TINY).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="cannot be loaded"):
        WavLMEncoder(tmp_path)


def test_a_folder_lacking_some_weights_is_refused(tmp_path):
    saved_model(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["num_hidden_layers"] = 3
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="lacks the weights.*layers.2"):
        WavLMEncoder(tmp_path)


def test_another_kind_of_model_is_refused(tmp_path):
    Wav2Vec2Config().save_pretrained(tmp_path)
    with pytest.raises(InputError, match="is a wav2vec2 model"):
        WavLMEncoder(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "give exactly one"),
        ({"source": "x", "config": TINY}, "give exactly one"),
        ({"config": TINY, "freeze": "some"}, "'some'.*'cnn'"),
        ({"config": {**TINY, "hiden_size": 3}}, "did you mean 'hidden_size'"),
        ({"config": {**TINY, "hidden_size": 33}}, "makes no WavLM"),
        ({"config": {**TINY, "hidden_size": "big"}}, "makes no WavLM"),
    ],
)
def test_bad_arguments_are_one_clear_message(arguments, words):
    with pytest.raises(InputError, match=words):
        WavLMEncoder(**arguments)


def test_the_shortest_utterance_is_one_frame():
    encoder = WavLMEncoder(config=TINY)
    # 16 frames of the first convolution: 15 strides of 20 and a kernel.
    assert encoder(torch.randn(1, 325)).shape[2] == 1
    with pytest.raises(InputError, match="324 samples is shorter.*325"):
        encoder(torch.randn(1, 324))


def test_a_padded_batch_is_embedded_without_its_padding():
    torch.manual_seed(0)
    model = WavLMSpeaker(None, TINY, MHFA).eval()
    wavs = torch.randn(2, 4000)
    wavs[1, 3000:] = 0
    embeddings = model(wavs, torch.tensor([1.0, 0.75]))
    assert embeddings.shape == (2, 1, 256)
    torch.testing.assert_close(embeddings[0], model(wavs[:1])[0])
    torch.testing.assert_close(embeddings[1], model(wavs[1:, :3000])[0])


def test_randomness_of_the_start_travels_with_the_weights(tmp_path):
    saved_model(tmp_path)
    pretrained = WavLMSpeaker(tmp_path, None, MHFA)
    fresh = WavLMSpeaker(None, pretrained.encoder_config, MHFA)
    assert (pretrained.is_random, fresh.is_random) == (False, True)
    fresh.load_state_dict(pretrained.state_dict())
    assert not fresh.is_random


def test_raw_waveforms_pass_unchanged():
    wavs = torch.randn(2, 10)
    assert RawWaveform()(wavs) is wavs
    assert RawWaveform()(wavs, torch.ones(2)) is wavs
