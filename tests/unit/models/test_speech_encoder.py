"""WavLM: all layers, nothing padded, what is frozen stays as it was."""

import json

import numpy as np
import pytest
import speechbrain as sb
import torch
from speechbrain.inference.speaker import SpeakerRecognition
from tiny_wavlm import LARGE
from tiny_wavlm import SMALL as TINY
from tiny_whisper import TINY as WHISPER
from tiny_whisper import whole
from transformers import AutoConfig, AutoModel

from speechbrain_ext.models.embedder import build_embedder, save_embedder
from speechbrain_ext.models.embedder_folder import load_embedder
from speechbrain_ext.models.log_mel import LogMel
from speechbrain_ext.models.pooling import MHFA
from speechbrain_ext.models.speech_encoder import (
    FREEZE,
    RawWaveform,
    SpeakerEncoder,
    SpeechEncoder,
)
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.yaml_trees import parse_yaml, plain


@pytest.fixture
def wavs():
    return torch.randn(3, 4000, generator=torch.Generator().manual_seed(0))


BERT = {
    "model_type": "wav2vec2-bert",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "conv_depthwise_kernel_size": 5,
}
KINDS = {
    "wavlm": TINY,
    "wavlm_large": LARGE,
    "hubert": {"model_type": "hubert", **TINY},
    "wav2vec2": {"model_type": "wav2vec2", **TINY},
    "wav2vec2_large": {"model_type": "wav2vec2", **LARGE},
    "unispeech_sat": {"model_type": "unispeech-sat", **TINY},
    "wav2vec2-bert": BERT,
    "whisper": WHISPER,
}


def saved_model(folder, config=TINY):
    """A folder of transformers, with weights that are not as they start."""
    torch.manual_seed(1)
    config = {"model_type": "wavlm", **config}
    made = AutoConfig.for_model(config.pop("model_type"), **config)
    if made.model_type == "whisper":
        model = whole()
    else:
        model = AutoModel.from_config(made).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return model


# Whisper's are compared in test_fronts.py.
@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"whisper"}))
def test_hidden_states_are_those_of_transformers(tmp_path, wavs, kind):
    model = saved_model(tmp_path, KINDS[kind])
    with torch.no_grad():
        if kind == "wav2vec2-bert":
            output = model(LogMel()(wavs), output_hidden_states=True)
        else:
            output = model(wavs, output_hidden_states=True)
    encoder = SpeechEncoder(tmp_path).eval()
    encoder.do_normalize = False
    found = encoder(wavs)
    assert len(found) == encoder.n_layers == len(output.hidden_states)
    for ours, theirs in zip(found[:-1], output.hidden_states, strict=False):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    # Some kinds put a LayerNorm after the last, which is none of the layers.
    last = found[-1]
    if getattr(model.config, "do_stable_layer_norm", False):
        last = model.encoder.layer_norm(last)
    torch.testing.assert_close(
        last, output.last_hidden_state, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("n_layers", [1, 3, 24])
def test_encoders_of_any_number_of_layers_work(wavs, n_layers):
    encoder = SpeechEncoder(config={**TINY, "num_hidden_layers": n_layers})
    assert encoder.n_layers == n_layers + 1
    assert encoder(wavs).shape == (n_layers + 1, 3, 12, 32)


def test_layerdrop_is_off_in_training(wavs):
    encoder = SpeechEncoder(config={**TINY, "layerdrop": 0.99}, freeze="none")
    for _ in range(5):
        assert len(encoder.train()(wavs)) == 3


def test_spec_augment_is_off_in_training(wavs):
    names = ("hidden_dropout", "activation_dropout", "attention_dropout")
    config = {**TINY, **dict.fromkeys(names, 0.0), "mask_time_prob": 0.9}
    encoder = SpeechEncoder(config=config, freeze="none").train()
    assert torch.equal(encoder(wavs), encoder(wavs))


def wanted(name, freeze):
    """Whether a weight is trained, by its name."""
    if ".encoder.layers." in name:
        return freeze != "all"
    is_cnn = ".feature_extractor." in name
    return freeze == "none" or (freeze == "cnn" and not is_cnn)


@pytest.mark.parametrize("freeze", FREEZE)
def test_frozen_parts_get_no_gradient(wavs, freeze):
    encoder = SpeechEncoder(config=TINY, freeze=freeze)
    hidden = encoder(wavs)
    if hidden.requires_grad:
        hidden.square().sum().backward()
    for name, parameter in encoder.named_parameters():
        expected = wanted(name, freeze)
        assert parameter.requires_grad == expected, name
        assert (parameter.grad is not None) == expected, name


@pytest.mark.parametrize("freeze", FREEZE)
def test_frozen_parts_stay_in_eval_mode(freeze):
    encoder = SpeechEncoder(config=TINY, freeze=freeze)
    whole = torch.nn.ModuleDict({"encoder": encoder})
    whole.eval()
    whole.train()
    modules = dict(encoder.model.named_modules())
    parts = ("feature_extractor", "encoder.pos_conv_embed", "encoder.layers.1")
    for part in parts:
        assert modules[part].training == wanted(f"model.{part}.", freeze), part
    whole.eval()
    assert not any(module.training for module in encoder.modules())


@pytest.mark.parametrize(
    ("freeze", "names"),
    [
        ("all", []),
        ("front", ["layers"]),
        ("cnn", ["feature_projection", "pos_conv_embed", "layers"]),
        (
            "none",
            [
                "feature_extractor",
                "feature_projection",
                "pos_conv_embed",
                "layers",
            ],
        ),
    ],
)
def test_no_graph_is_kept_of_frozen_parts(wavs, freeze, names):
    encoder = SpeechEncoder(config=TINY, freeze=freeze)
    kept = set()
    model = encoder.model
    watched = {
        "feature_extractor": model.feature_extractor.conv_layers[-1].activation,
        "feature_projection": model.feature_projection.projection,
        "pos_conv_embed": model.encoder.pos_conv_embed,
        "layers": model.encoder.layers[0].feed_forward,
    }
    for name, module in watched.items():
        module.register_forward_hook(
            lambda _, __, output, name=name: (
                kept.add(name) if output.requires_grad else None
            )
        )
    encoder(wavs)
    assert kept == set(names)


def test_a_stable_layer_norm_model_trains_exactly_the_weights_it_uses(wavs):
    encoder = SpeechEncoder(config=LARGE, freeze="none")
    encoder(wavs).square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    # What follows the last hidden state is not used.
    frozen = {n for n, p in encoder.named_parameters() if not p.requires_grad}
    assert frozen == {
        f"model.encoder.layer_norm.{x}" for x in ("bias", "weight")
    }


class HiddenStatesBrain(sb.Brain):
    """Trains a pooling on a frozen encoder and keeps what it was given."""

    def compute_forward(self, batch, stage):
        assert not self.modules.encoder.model.training
        hidden = self.modules.encoder(batch[0])
        self.seen.append(hidden.detach())
        return self.modules.pooling(hidden)

    def compute_objectives(self, predictions, batch, stage):
        return predictions.square().mean()


def test_a_frozen_wavlm_is_deterministic_inside_brain_fit(wavs):
    torch.manual_seed(0)
    names = ("hidden_dropout", "activation_dropout", "attention_dropout")
    config = {**TINY, **dict.fromkeys((*names, "feat_proj_dropout"), 0.5)}
    encoder = SpeechEncoder(config=config, freeze="all")
    weights = {k: v.clone() for k, v in encoder.state_dict().items()}
    pooling = MHFA(3, 32, n_heads=2, compression_size=4, embedding_size=5)
    before = pooling.output.weight.detach().clone()
    brain = HiddenStatesBrain(
        {"encoder": encoder, "pooling": pooling},
        lambda parameters: torch.optim.SGD(parameters, lr=0.1),
        run_opts={"device": "cpu"},
    )
    brain.seen = []
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(wavs), batch_size=3
    )
    brain.fit(range(3), loader, loader, progressbar=False)
    assert len(brain.seen) == 6
    assert all(torch.equal(hidden, brain.seen[0]) for hidden in brain.seen)
    assert all(
        torch.equal(encoder.state_dict()[k], weights[k]) for k in weights
    )
    assert not torch.equal(pooling.output.weight, before)


def test_the_layers_of_a_front_frozen_wavlm_have_dropout(wavs):
    config = {**TINY, "hidden_dropout": 0.5, "feat_proj_dropout": 0.5}
    encoder = SpeechEncoder(config=config)
    assert not torch.equal(encoder(wavs)[-1], encoder(wavs)[-1])
    assert torch.equal(encoder(wavs)[0], encoder(wavs)[0])


def gradients_with(checkpoint_layers, config, freeze, wavs, **options):
    torch.manual_seed(0)
    encoder = SpeechEncoder(
        config=config,
        freeze=freeze,
        checkpoint_layers=checkpoint_layers,
        **options,
    )
    if options:
        for name, parameter in encoder.named_parameters():
            if name.endswith("lora_b"):
                torch.nn.init.normal_(parameter)
    torch.manual_seed(1)
    hidden = encoder(wavs)
    kept = {}
    weights = torch.linspace(1, 2, hidden.numel()).view_as(hidden)
    (hidden * weights).sum().backward()
    for name, parameter in encoder.named_parameters():
        if parameter.grad is not None:
            kept[name] = parameter.grad
    return hidden.detach(), kept


@pytest.mark.parametrize(
    ("config", "freeze", "options"),
    [
        (TINY, "front", {}),
        (LARGE, "none", {}),
        (TINY, "all", {"lora_rank": 2}),
        ({**TINY, "model_type": "hubert"}, "front", {}),
    ],
)
def test_checkpointing_changes_no_gradient(wavs, config, freeze, options):
    config = {**config, "hidden_dropout": 0.3, "attention_dropout": 0.3}
    plain = gradients_with(False, config, freeze, wavs, **options)
    lean = gradients_with(True, config, freeze, wavs, **options)
    torch.testing.assert_close(lean[0], plain[0])
    assert lean[1].keys() == plain[1].keys()
    for name, gradient in plain[1].items():
        torch.testing.assert_close(lean[1][name], gradient, msg=name)


def test_checkpointing_keeps_fewer_activations(wavs):
    kept = []
    for checkpoint_layers in (False, True):
        encoder = SpeechEncoder(
            config=TINY, checkpoint_layers=checkpoint_layers
        )
        n_bytes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x, sizes=n_bytes: (sizes.append(x.numel()), x)[1],
            lambda x: x,
        ):
            encoder(wavs)
        kept.append(sum(n_bytes))
    assert kept[1] < kept[0] / 3


def test_only_low_rank_matrices_are_trained(wavs):
    encoder = SpeechEncoder(config=TINY, freeze="all", lora_rank=2)
    start = {k: v.clone() for k, v in encoder.state_dict().items()}
    trained = [p for p in encoder.parameters() if p.requires_grad]
    n_layers = TINY["num_hidden_layers"]
    assert sum(p.numel() for p in trained) == n_layers * 2 * 2 * (32 + 32)
    optimizer = torch.optim.SGD(trained, lr=0.1)
    for _ in range(2):
        encoder(wavs)[..., 0].sum().backward()
        optimizer.step()
    changed = {
        name
        for name, value in encoder.state_dict().items()
        if not torch.equal(value, start[name])
    }
    assert len(changed) == n_layers * 2 * 2
    assert all("lora_" in name for name in changed)


@pytest.mark.parametrize("kind", ["wavlm", "hubert", "wav2vec2-bert"])
def test_low_rank_matrices_are_added_to_all_kinds(wavs, kind):
    encoder = SpeechEncoder(config=KINDS[kind], freeze="all", lora_rank=2)
    encoder(wavs).square().sum().backward()
    n_trained = sum(p.grad is not None for p in encoder.parameters())
    assert n_trained == encoder.model.config.num_hidden_layers * 2 * 2


def test_eval_mode_reaches_trained_parts(wavs):
    encoder = SpeechEncoder(config={**TINY, "hidden_dropout": 0.5}).eval()
    assert torch.equal(encoder(wavs), encoder(wavs))


def test_audio_is_normalised_only_if_the_config_says_so(wavs):
    # Group norm would hide it: it normalises channels over time itself.
    plain = SpeechEncoder(config=LARGE).eval()
    normalising = SpeechEncoder(config={**LARGE, "do_normalize": True}).eval()
    normalising.model.load_state_dict(plain.model.state_dict())
    standard = (wavs - wavs.mean(1, True)) / wavs.var(
        1, keepdim=True, unbiased=False
    ).sqrt()
    shifted = 3 * wavs + 1
    torch.testing.assert_close(normalising(shifted), plain(standard))
    assert (plain(shifted) - plain(standard)).abs().max() > 1e-3


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_plain_config_makes_the_same_architecture(tmp_path, wavs, kind):
    saved_model(tmp_path, KINDS[kind])
    encoder = SpeechEncoder(tmp_path).eval()
    # What a YAML can hold, and nothing else.
    config = json.loads(json.dumps(encoder.plain_config))
    other = SpeechEncoder(config=config).eval()
    other.load_state_dict(encoder.state_dict())
    assert torch.equal(other(wavs), encoder(wavs))
    assert other.plain_config == encoder.plain_config


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_number_of_states_is_known_before_they_are_computed(kind):
    encoder = SpeechEncoder(config=KINDS[kind]).eval()
    least = encoder.shortest
    lengths = [least, least + 1, 799, 800, 8000, 8161, 16319]
    # Around a window of the small Whisper, and beyond.
    lengths += [15990, 16000, 16001, 16079, 16161, 20000, 33333]
    with torch.no_grad():
        found = [encoder(torch.zeros(1, n)).shape[2] for n in lengths]
    assert encoder.n_states(np.array(lengths)).tolist() == found
    assert [encoder.n_states(n) for n in lengths] == found


def test_states_computed_before_are_pooled(wavs):
    model = SpeakerEncoder(None, TINY, MHFA, freeze="all").eval()
    states = model.encoder(wavs).permute(1, 2, 0, 3)
    assert torch.equal(model(states), model(wavs))
    torch.testing.assert_close(
        model(states.half()), model(wavs), rtol=1e-2, atol=1e-3
    )


@pytest.mark.parametrize(
    "kind", ["wavlm", "wavlm_large", "wav2vec2-bert", "whisper"]
)
def test_the_first_layers_alone_have_the_states_of_the_whole(
    tmp_path, wavs, kind
):
    saved_model(tmp_path, KINDS[kind])
    whole_encoder = SpeechEncoder(tmp_path).eval()
    first = SpeechEncoder(tmp_path, n_layers=1).eval()
    assert first.n_layers == 2 and first.plain_config["num_hidden_layers"] == 1
    assert torch.equal(first(wavs), whole_encoder(wavs)[:2])
    # What was cut off is not there: neither in memory nor in what is saved.
    n_all, n_kept = (
        sum(p.numel() for p in e.parameters()) for e in (whole_encoder, first)
    )
    layer = whole_encoder.front.layers(whole_encoder.model)[1]
    assert n_all - n_kept == sum(p.numel() for p in layer.parameters())
    assert not any(".layers.1." in name for name in first.state_dict())


@pytest.mark.parametrize("config", [TINY, WHISPER])
def test_a_random_encoder_can_be_cut_too(wavs, config):
    encoder = SpeechEncoder(config=config, n_layers=1)
    assert len(encoder(wavs)) == encoder.n_layers == 2
    again = SpeechEncoder(config=encoder.plain_config)
    assert again.state_dict().keys() == encoder.state_dict().keys()


@pytest.mark.parametrize("kind", ["wavlm", "whisper"])
def test_a_cut_encoder_is_published_as_it_is(tmp_path, wavs, kind):
    saved_model(tmp_path / "whole", KINDS[kind])
    changes = {"encoder_source": str(tmp_path / "whole"), "n_layers": 1}
    changes |= {"n_heads": 2, "compression_size": 4, "embedding_size": 8}
    embedder = build_embedder("embedders/encoder_mhfa.yaml", changes).eval()
    save_embedder(tmp_path / "saved", embedder)
    (tmp_path / "whole").rename(tmp_path / "gone")
    tree = plain(parse_yaml(embedder.yaml_text))
    assert tree["n_layers"] is tree["embedding_model"]["n_layers"] is None
    assert tree["encoder_config"]["num_hidden_layers"] == 1
    wanted = embedder.embed(wavs)
    assert torch.equal(load_embedder(tmp_path / "saved").embed(wavs), wanted)
    stock = SpeakerRecognition.from_hparams(
        tmp_path / "saved", savedir=tmp_path / "stock"
    )
    found = stock.encode_batch(wavs)[:, 0]
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n_layers", [0, -1, 3, 1.0, True, "one"])
def test_a_number_of_layers_that_is_not_there_is_refused(n_layers):
    message = "n_layers is .*; it must be .* from 1 to the encoder's 2 layers"
    with pytest.raises(InputError, match=message):
        SpeechEncoder(config=TINY, n_layers=n_layers)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"config": TINY, "freeze": "some"}, "'some'.*'cnn'"),
        (
            {"config": TINY, "freeze": "front", "lora_rank": 8},
            "lora_rank is 8; it must be 0.*'front'.*set freeze to all",
        ),
        (
            {"config": TINY, "freeze": "all", "lora_rank": -1},
            "lora_rank is -1.*1 or more",
        ),
    ],
)
def test_bad_arguments_are_one_clear_message(arguments, words):
    with pytest.raises(InputError, match=words):
        SpeechEncoder(**arguments)


def test_the_shortest_utterance_is_one_frame():
    encoder = SpeechEncoder(config=TINY)
    # 16 frames of the first convolution: 15 strides of 20 and a kernel.
    assert encoder(torch.randn(1, 325)).shape[2] == 1
    with pytest.raises(InputError, match="324 samples long.* 325"):
        encoder(torch.randn(1, 324))


def test_log_mel_features_need_two_frames():
    encoder = SpeechEncoder(config=BERT)
    assert encoder(torch.randn(1, 560)).shape[2] == 1
    with pytest.raises(InputError, match="559 samples long.* 560"):
        encoder(torch.randn(1, 559))


@pytest.mark.parametrize("kind", sorted(KINDS))
@torch.no_grad()
def test_an_utterance_is_embedded_alike_alone_and_in_a_batch(kind):
    torch.manual_seed(0)
    model = SpeakerEncoder(None, KINDS[kind], MHFA).eval()
    wavs = torch.randn(5, 4000)
    together = model(wavs)
    for wav, embedding in zip(wavs, together, strict=True):
        alone = model(wav[None])[0]
        torch.testing.assert_close(alone, embedding, rtol=1e-5, atol=1e-5)


def test_a_padded_batch_is_embedded_without_its_padding():
    torch.manual_seed(0)
    model = SpeakerEncoder(None, TINY, MHFA).eval()
    wavs = torch.randn(2, 4000)
    wavs[1, 3000:] = 0
    embeddings = model(wavs, torch.tensor([1.0, 0.75]))
    assert embeddings.shape == (2, 1, 256)
    torch.testing.assert_close(embeddings[0], model(wavs[:1])[0])
    torch.testing.assert_close(embeddings[1], model(wavs[1:, :3000])[0])


def test_is_random_is_saved_with_the_weights(tmp_path):
    saved_model(tmp_path)
    pretrained = SpeakerEncoder(tmp_path, None, MHFA)
    arguments = pretrained.published_arguments
    fresh = SpeakerEncoder(None, arguments["encoder_config"], MHFA)
    assert (pretrained.is_random, fresh.is_random) == (False, True)
    fresh.load_state_dict(pretrained.state_dict())
    assert not fresh.is_random


def test_raw_waveforms_pass_unchanged():
    wavs = torch.randn(2, 10)
    assert RawWaveform()(wavs) is wavs
    assert RawWaveform()(wavs, torch.ones(2)) is wavs
