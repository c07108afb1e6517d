"""Log-mel features are those that w2v-BERT and Whisper were trained on."""

import pytest
import torch
from transformers import SeamlessM4TFeatureExtractor, WhisperFeatureExtractor

from speechbrain_ext.models.log_mel import LogMel, WhisperLogMel


@pytest.mark.parametrize("n_samples", [16000, 16160, 7777, 560])
def test_features_are_those_of_the_published_extractor(n_samples):
    torch.manual_seed(0)
    wavs = 0.1 * torch.randn(2, n_samples)
    extractor = SeamlessM4TFeatureExtractor()
    expected = extractor(
        [wav.numpy() for wav in wavs], sampling_rate=16000, return_tensors="pt"
    )
    # It masks a last pair of which one frame is padding; we leave it out.
    n_pairs = int(expected["attention_mask"].sum(1)[0])
    found = LogMel()(wavs)
    assert found.shape == (2, n_pairs, 160)
    torch.testing.assert_close(
        found, expected["input_features"][:, :n_pairs], rtol=1e-3, atol=1e-3
    )


def test_silence_has_finite_features():
    assert LogMel()(torch.zeros(1, 3000)).isfinite().all()


def test_features_are_in_single_precision_under_autocast():
    wavs = torch.randn(1, 3000)
    with torch.autocast("cpu", torch.bfloat16):
        found = LogMel()(wavs)
    assert torch.equal(found, LogMel()(wavs))


@pytest.mark.parametrize("kind", [LogMel, WhisperLogMel])
def test_nothing_is_saved_or_trained(kind):
    assert not kind().state_dict()
    assert not list(kind().parameters())


def extracted(wavs, n_mels=80, seconds=30, **options):
    """The features of transformers' extractor [B, bands, frames]."""
    extractor = WhisperFeatureExtractor(n_mels, chunk_length=seconds)
    return extractor(
        [wav.numpy() for wav in wavs],
        sampling_rate=16000,
        return_tensors="pt",
        **options,
    )["input_features"]


@pytest.mark.parametrize("n_mels", [80, 128])
@pytest.mark.parametrize(
    "n_samples", [1, 160, 161, 399, 7777, 15700, 15999, 16000]
)
def test_whisper_s_features_are_those_of_its_extractor(n_mels, n_samples):
    torch.manual_seed(0)
    wavs = 0.1 * torch.randn(2, n_samples) * torch.rand(2, 1)
    found = WhisperLogMel(n_mels, n_frames=100)(wavs)
    assert found.shape == (2, n_mels, -(-n_samples // 160))
    expected = extracted(wavs, n_mels, seconds=1)[..., : found.shape[2]]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_whisper_s_features_of_30_s_are_those_of_its_extractor():
    torch.manual_seed(0)
    wavs = 0.1 * torch.randn(1, 480000)
    torch.testing.assert_close(
        WhisperLogMel()(wavs), extracted(wavs), rtol=0, atol=1e-5
    )


def test_longer_audio_has_the_features_of_the_extractor_without_truncation():
    torch.manual_seed(0)
    wavs = 0.1 * torch.randn(2, 20123)
    torch.testing.assert_close(
        WhisperLogMel(n_frames=100)(wavs),
        extracted(wavs, seconds=1, truncation=False),
        rtol=0,
        atol=1e-5,
    )


def test_the_floor_is_that_of_each_utterance():
    torch.manual_seed(0)
    wavs = torch.randn(3, 4000) * torch.tensor([[1.0], [1e-2], [1e-4]])
    wavs[:, 2000:] = 0
    together = WhisperLogMel()(wavs)
    for wav, bands in zip(wavs, together, strict=True):
        alone = WhisperLogMel()(wav[None])[0]
        torch.testing.assert_close(alone, bands, rtol=0, atol=1e-6)
    # 8 decades are 2 units, and the power of 1e-10 is the least.
    ranges = together.amax((1, 2)) - together.amin((1, 2))
    assert ranges[0] == pytest.approx(2) and ranges[2] < 2


def test_a_click_at_the_end_raises_the_floor_as_in_the_extractor():
    # The loudest frame is the one that begins after the utterance.
    wavs = torch.zeros(1, 32 * 160)
    wavs[0, -1] = 0.5
    found = WhisperLogMel(n_frames=100)(wavs)
    expected = extracted(wavs, seconds=1)
    assert expected[..., 32].max() > found.max()
    torch.testing.assert_close(found, expected[..., :32], rtol=0, atol=1e-5)


def test_whisper_s_features_are_in_single_precision_at_least():
    wavs = torch.randn(1, 3000)
    with torch.autocast("cpu", torch.bfloat16):
        found = WhisperLogMel()(wavs)
    assert torch.equal(found, WhisperLogMel()(wavs))
    assert WhisperLogMel()(wavs.half()).dtype == torch.float32
    assert WhisperLogMel()(wavs.double()).dtype == torch.float64
    assert not WhisperLogMel()(wavs.requires_grad_()).requires_grad
