"""Log-mel features are those that w2v-BERT 2.0 was trained on."""

import pytest
import torch
from transformers import SeamlessM4TFeatureExtractor

from speechbrain_ext.models.log_mel import LogMel


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


def test_nothing_is_saved_or_trained():
    assert not LogMel().state_dict()
    assert not list(LogMel().parameters())
