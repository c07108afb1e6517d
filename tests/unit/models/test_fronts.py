"""Whisper's front: as transformers computes it, in windows, nothing padded."""

import shutil

import pytest
import torch
from tiny_whisper import MHFA as SMALL_MHFA
from tiny_whisper import SHARED, TINY, whole
from transformers import WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from speechbrain_ext.models.embedder import build_embedder
from speechbrain_ext.models.pooling import MHFA
from speechbrain_ext.models.speech_encoder import (
    FREEZE,
    SpeakerEncoder,
    SpeechEncoder,
)
from speechbrain_ext.utils.errors import InputError

SECOND = 16000
REAL = ["whisper-tiny.en-encoder", "whisper-base-encoder"]


def speech(n_samples, n=1, seed=0):
    """Noise whose level changes, so that frames differ as in speech."""
    generator = torch.Generator().manual_seed(seed)
    wavs = 0.1 * torch.randn(n, n_samples, generator=generator)
    levels = 4 * torch.rand(n, n_samples // 800 + 1, generator=generator)
    levels = levels.repeat_interleave(800, dim=1)
    return wavs * 10 ** -levels[:, :n_samples]


@pytest.fixture
def folder(tmp_path):
    """A whole Whisper as transformers saves it."""
    whole().save_pretrained(tmp_path / "whisper")
    return tmp_path / "whisper"


def theirs(model, wavs, seconds):
    """Hidden states as transformers has them, and the extractor's features."""
    extractor = WhisperFeatureExtractor(
        feature_size=model.config.num_mel_bins, chunk_length=seconds
    )
    features = extractor(
        [wav.numpy() for wav in wavs],
        sampling_rate=SECOND,
        return_tensors="pt",
    )["input_features"]
    with torch.no_grad():
        return model(features, output_hidden_states=True)


def assert_same_states(encoder, model, output, wavs):
    found = encoder(wavs)
    assert len(found) == encoder.n_layers == len(output.hidden_states)
    for ours, other in zip(found[:-1], output.hidden_states, strict=False):
        torch.testing.assert_close(ours, other, rtol=1e-5, atol=1e-5)
    # A LayerNorm follows the last layer, which is none of the layers.
    torch.testing.assert_close(
        model.layer_norm(found[-1]),
        output.last_hidden_state,
        rtol=1e-5,
        atol=1e-5,
    )


@torch.no_grad()
def test_hidden_states_of_a_full_window_are_those_of_transformers(folder):
    model = whole().model.encoder
    wavs = speech(SECOND, n=3)
    encoder = SpeechEncoder(folder).eval()
    assert_same_states(encoder, model, theirs(model, wavs, 1), wavs)


@torch.no_grad()
@pytest.mark.parametrize("name", REAL)
def test_real_encoders_give_the_states_of_transformers(name):
    if not (SHARED / name).is_dir():
        pytest.skip("no such model beside the repository")
    model = WhisperEncoder.from_pretrained(SHARED / name, dtype=torch.float32)
    wavs = speech(30 * SECOND)
    encoder = SpeechEncoder(SHARED / name).eval()
    assert_same_states(encoder, model, theirs(model.eval(), wavs, 30), wavs)
    assert not encoder.is_random


@torch.no_grad()
@pytest.mark.parametrize("name", REAL)
def test_real_encoders_do_not_depend_on_batch_and_order(name):
    if not (SHARED / name).is_dir():
        pytest.skip("no such model beside the repository")
    # In float64: Whisper base makes of float32's rounding, which is another in
    # another batch, up to 1e-4 of a frame, in transformers as well.
    model = SpeakerEncoder(SHARED / name, None, MHFA, "all").double().eval()
    wavs = speech(SECOND, n=3).double()
    together = model(wavs)
    torch.testing.assert_close(model(wavs.flip(0)).flip(0), together)
    padded = torch.nn.functional.pad(wavs, (0, 8000))
    lengths = torch.full((3,), 2 / 3)
    torch.testing.assert_close(model(padded, lengths), together)
    for wav, embedding in zip(wavs, together, strict=True):
        torch.testing.assert_close(model(wav[None])[0], embedding)


@torch.no_grad()
def test_short_audio_gets_the_first_positions_and_no_padding():
    encoder = SpeechEncoder(config=TINY).eval()
    for n_samples, n_states in ((160, 1), (321, 2), (8000, 25), (8001, 26)):
        found = encoder(speech(n_samples))
        assert found.shape == (3, 1, n_states, 16)
    features = encoder.front.windows(speech(8000))[0]
    frames = encoder.front.convolved(encoder.model, features)
    expected = frames + encoder.model.embed_positions.weight[:25]
    torch.testing.assert_close(encoder(speech(8000))[0], expected)


@torch.no_grad()
@pytest.mark.parametrize(
    ("n_samples", "sizes"),
    [
        (SECOND, [100]),
        (SECOND + 1, [100]),  # frames are begun hops: the next has no audio
        (SECOND + 160, [52, 49]),
        (2 * SECOND, [100, 100]),
        (5 * SECOND // 2, [84, 84, 82]),
    ],
)
def test_long_audio_is_cut_into_the_fewest_windows_of_equal_length(
    n_samples, sizes
):
    encoder = SpeechEncoder(config=TINY).eval()
    wavs = speech(n_samples, n=2)
    windows = encoder.front.windows(wavs)
    assert [part.shape[2] for part in windows] == sizes
    # Bands are those of the whole; each window starts at the first position.
    bands = encoder.front.log_mel(wavs)
    assert torch.equal(torch.cat(windows, dim=2), bands)
    found = encoder(wavs)
    assert found.shape[2] == sum(-(-size // 2) for size in sizes)
    first = 0
    for window in windows:
        states = encoder._states(window)
        last = first + states.shape[2]
        torch.testing.assert_close(found[:, :, first:last], states)
        first = last


def test_no_window_sees_another_one():
    encoder = SpeechEncoder(config=TINY).eval()
    wavs = speech(2 * SECOND)
    # Far from where the windows meet, and not the loudest, which is heard in
    # both by the floor of the bands.
    wavs[:, SECOND:] *= 0.01
    changed = wavs.clone()
    changed[:, -2000:] = wavs[:, -2000:].flip(1)
    before, after = encoder(wavs), encoder(changed)
    assert torch.equal(before[:, :, :50], after[:, :, :50])
    assert not torch.allclose(before[:, :, 50:], after[:, :, 50:])


def test_only_what_whisper_trains_is_trained():
    for freeze in FREEZE:
        encoder = SpeechEncoder(config=TINY, freeze=freeze)
        hidden = encoder(speech(4000, n=2))
        if hidden.requires_grad:
            hidden.square().sum().backward()
        kept = {n for n, p in encoder.named_parameters() if p.grad is not None}
        assert kept == {
            n for n, p in encoder.named_parameters() if p.requires_grad
        }
        parts = {name.split(".")[1] for name in kept}
        layers = set() if freeze == "all" else {"layers"}
        convolutions = {"conv1", "conv2"} if freeze == "none" else set()
        assert parts == layers | convolutions
        # The table of positions is fixed in every mode.
        assert not encoder.model.embed_positions.weight.requires_grad


@pytest.mark.parametrize("freeze", FREEZE)
def test_frozen_parts_have_no_dropout(freeze):
    config = {**TINY, "dropout": 0.5}
    encoder = SpeechEncoder(config=config, freeze=freeze).train()
    one, two = encoder(speech(4000)), encoder(speech(4000))
    # The first state is after the dropout of the front.
    assert torch.equal(one[0], two[0]) == (freeze in ("all", "front"))
    assert torch.equal(one[-1], two[-1]) == (freeze == "all")


@pytest.mark.parametrize(
    ("freeze", "options"),
    [("none", {}), ("all", {"lora_rank": 2})],
)
def test_checkpointing_changes_no_gradient(freeze, options):
    found = []
    for checkpoint_layers in (False, True):
        torch.manual_seed(0)
        encoder = SpeechEncoder(
            config={**TINY, "dropout": 0.3, "attention_dropout": 0.3},
            freeze=freeze,
            checkpoint_layers=checkpoint_layers,
            **options,
        )
        torch.manual_seed(1)
        # Two windows.
        encoder(speech(20000))[..., 0].sum().backward()
        gradients = {n: p.grad for n, p in encoder.named_parameters()}
        found.append({n: g for n, g in gradients.items() if g is not None})
    assert found[0].keys() == found[1].keys() and found[0]
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, msg=name)


def test_low_rank_matrices_are_beside_queries_and_values():
    encoder = SpeechEncoder(config=TINY, freeze="all", lora_rank=2)
    encoder(speech(4000)).square().sum().backward()
    trained = {n for n, p in encoder.named_parameters() if p.grad is not None}
    assert len(trained) == 2 * 2 * 2
    assert all("_proj.lora_" in name for name in trained)


@torch.no_grad()
def test_padding_in_a_batch_is_cut_before_anything_is_computed():
    torch.manual_seed(0)
    model = build_embedder("embedders/whisper_mhfa.yaml", SMALL_MHFA).model
    wavs = speech(8000, n=2)
    # Louder than all speech: it would move the floor of the bands.
    wavs[1, 6000:] = 1.0
    found = model.eval()(wavs, torch.tensor([1.0, 0.75]))
    torch.testing.assert_close(found[:1], model(wavs[:1]))
    torch.testing.assert_close(found[1:], model(wavs[1:, :6000]))


def test_whole_sharded_and_encoder_alone_are_one_model(folder, tmp_path):
    model = whole()
    encoder = model.model.encoder
    model.save_pretrained(tmp_path / "shards", max_shard_size="10kB")
    assert len(list((tmp_path / "shards").glob("model-*"))) > 1
    model.model.save_pretrained(tmp_path / "trunk")
    encoder.save_pretrained(tmp_path / "alone")
    (tmp_path / "bin").mkdir()
    shutil.copy(folder / "config.json", tmp_path / "bin")
    torch.save(model.state_dict(), tmp_path / "bin" / "pytorch_model.bin")
    state = encoder.state_dict()
    for name in ("whisper", "shards", "trunk", "alone", "bin"):
        found = SpeechEncoder(tmp_path / name).model.state_dict()
        assert found.keys() == state.keys()
        assert all(torch.equal(found[key], state[key]) for key in state), name


def test_half_precision_is_computed_in_float32(tmp_path):
    model = whole().half()
    model.save_pretrained(tmp_path)
    found = SpeechEncoder(tmp_path).model
    assert {p.dtype for p in found.parameters()} == {torch.float32}
    conv = model.model.encoder.conv1.weight
    assert torch.equal(found.conv1.weight, conv.float())


def test_an_incomplete_whisper_is_refused(tmp_path):
    encoder = whole().model.encoder
    state = encoder.state_dict()
    del state["layers.1.fc1.weight"]
    encoder.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(InputError, match=r"lacks the weights \['layers.1.fc1"):
        SpeechEncoder(tmp_path)


def test_a_speaker_encoder_has_no_place_for_audio_of_less_than_a_frame():
    encoder = SpeechEncoder(config=TINY)
    assert encoder(torch.randn(1, 160)).shape[2] == 1
    with pytest.raises(InputError, match="159 samples long.* 160"):
        encoder(torch.randn(1, 159))


def test_a_front_adds_no_weights_to_what_is_saved():
    encoder = SpeechEncoder(config=TINY)
    assert not encoder.front.state_dict()
    assert not list(encoder.front.parameters())
    assert encoder.has_windows
