"""Averages of layers: what they are, and what is fitted to them."""

import io

import numpy as np
import pytest
import torch
from speechbrain.inference.speaker import SpeakerRecognition
from tiny_whisper import TINY

from speechbrain_ext.models.embedder import (
    build_embedder,
    published_state,
    save_embedder,
)
from speechbrain_ext.models.embedder_folder import load_embedder
from speechbrain_ext.models.layer_means import (
    LayerMeans,
    RawStatistics,
    check_layers,
    fit_layer_means_,
    layer_statistics,
    length_basis,
)
from speechbrain_ext.models.safe_modules import (
    build_modules,
    describe_modules,
)
from speechbrain_ext.models.speech_encoder import SpeechEncoder
from speechbrain_ext.utils import vectors
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.whitening import standard_whitening

MEAN = "hparams/embedders/encoder_mean.yaml"
SMALL = {"encoder_source": None, "encoder_config": TINY}


def states(n_frames, n=2):
    torch.manual_seed(n_frames)
    return torch.randn(3, n, n_frames, 4)


def test_before_it_is_fitted_the_embedding_is_the_statistics():
    hidden = states(9)
    found = LayerMeans(3, 4, layers=[2, 0])(hidden)
    wanted = torch.cat([hidden[2].mean(1), hidden[0].mean(1)], dim=1)
    torch.testing.assert_close(found, wanted)
    found = LayerMeans(3, 4, layers=[1], statistics="mean_std")(hidden)
    deviation = hidden[1].std(dim=1, correction=0)
    wanted = torch.cat([hidden[1].mean(1), deviation], dim=1)
    torch.testing.assert_close(found, wanted)


def test_the_basis_is_legendres_polynomials_within_the_range():
    low, high = torch.tensor([1.0, 3.0]).double()
    length = torch.tensor([0.0, 1.0, 1.5, 2.0, 3.0, 9.0]).double()
    u = np.clip(length.numpy(), 1, 3) - 2
    wanted = np.polynomial.legendre.legvander(u, 4)
    found = length_basis(length, low, high).numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-12)


def utterances(n=300):
    """Averages of 4 channels that a trend over length is in, and lengths."""
    rng = np.random.default_rng(0)
    n_frames = rng.integers(40, 800, n)
    u = (
        2
        * np.log(n_frames / n_frames.min())
        / np.log(n_frames.max() / n_frames.min())
    )
    own = rng.normal(size=(n, 4)) * [1, 2, 30, 4] + [5, 0, -9, 1]
    trend = np.stack([u, u**2, -u, 0 * u], axis=1) * [3, 3, 60, 1]
    return n_frames, own + trend, own


@pytest.mark.parametrize("block", [10**6, 4 * 7])
def test_the_fit_takes_out_trend_scale_and_part_of_the_spread(
    monkeypatch, block
):
    monkeypatch.setattr(vectors, "_BLOCK", block)
    n_frames, x, _ = utterances()
    basis = np.polynomial.legendre.legvander(
        np.interp(
            np.log(n_frames), np.log([n_frames.min(), n_frames.max()]), [-1, 1]
        ),
        4,
    )
    residual = x - basis @ np.linalg.lstsq(basis, x, rcond=None)[0]
    scaled = residual / residual.std(axis=0)
    _, s, v = np.linalg.svd(scaled, full_matrices=False)
    wanted = scaled @ v.T / s**0.5
    pooling = LayerMeans(1, 4, layers=[0])
    share = fit_layer_means_(pooling, n_frames, x.copy(), power=0.5)
    variances = x.var(axis=0).sum(), residual.var(axis=0).sum()
    assert share == pytest.approx(1 - variances[1] / variances[0])
    with torch.no_grad():
        found = np.concatenate(
            [
                pooling(torch.from_numpy(row).float().expand(1, 1, int(n), -1))
                for n, row in zip(n_frames, x, strict=True)
            ]
        )
    ratio = np.linalg.norm(found) / np.linalg.norm(wanted)
    inner = found @ found.T / ratio**2
    np.testing.assert_allclose(inner, wanted @ wanted.T, rtol=1e-2, atol=1e-3)


def test_an_utterance_beyond_the_range_has_the_trend_of_its_end():
    n_frames, x, _ = utterances()
    pooling = LayerMeans(1, 4, layers=[0])
    fit_layer_means_(pooling, n_frames, x, power=0.5)
    ends = [
        pooling(torch.ones(1, 1, int(n), 4))
        for n in (n_frames.max(), 3 * n_frames.max(), n_frames.min(), 1)
    ]
    torch.testing.assert_close(ends[0], ends[1])
    torch.testing.assert_close(ends[2], ends[3])
    assert not torch.allclose(ends[0], ends[2])


def test_utterances_of_one_length_have_no_trend():
    _, x, _ = utterances(50)
    wanted = standard_whitening(x.copy(), 0.5)
    pooling = LayerMeans(1, 4, layers=[0])
    share = fit_layer_means_(pooling, np.full(50, 99), x.copy(), power=0.5)
    assert share == pytest.approx(0, abs=1e-9)
    hidden = torch.from_numpy(x[:3]).float()[None, :, None]
    found = pooling(hidden).detach().numpy()
    expected = (x[:3] - wanted.mean) @ wanted.matrix
    signs = np.sign((found * expected).sum(axis=0))
    np.testing.assert_allclose(found * signs, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "layers", [[], [3], [-1], [1, 1], [0.5], ["a"], [True, 1]]
)
def test_layers_that_are_not_there_are_refused(layers):
    with pytest.raises(InputError, match="layers is .*from 0 to 2.*--layers"):
        check_layers(layers, 3)


def test_unknown_statistics_are_refused():
    with pytest.raises(InputError, match="statistics is 'max'.*--embedder"):
        LayerMeans(3, 4, layers=[0], statistics="max")


@pytest.mark.parametrize("statistics", ["mean", "mean_std"])
def test_raw_statistics_are_those_that_are_pooled(statistics):
    torch.manual_seed(0)
    encoder = SpeechEncoder(config=TINY).eval()
    wavs = torch.randn(2, 9000)
    hidden = encoder(wavs)
    found = RawStatistics(encoder, None, statistics)(wavs)
    assert found[:, 0].tolist() == [hidden.shape[2]] * 2
    wanted = layer_statistics(hidden, [0, 1, 2], statistics).flatten(1)
    torch.testing.assert_close(found[:, 1:], wanted)
    one = RawStatistics(encoder, [1], statistics)(wavs)
    torch.testing.assert_close(
        one[:, 1:], layer_statistics(hidden, [1], statistics)[:, 0]
    )


@pytest.fixture
def fitted():
    torch.manual_seed(0)
    changes = {**SMALL, "layers": [1, 2], "statistics": "mean_std"}
    embedder = build_embedder(MEAN, changes)
    x = np.random.default_rng(0).normal(size=(99, 64))
    n_frames = np.arange(99) % 30 + 9
    fit_layer_means_(embedder.model.pooling, n_frames, x, power=0.5)
    return embedder.eval()


def test_a_fitted_embedder_is_the_same_in_both_loaders(fitted, tmp_path):
    wavs = torch.randn(2, 7000)
    wanted = fitted.embed(wavs)
    save_embedder(tmp_path, fitted)
    torch.testing.assert_close(load_embedder(tmp_path).embed(wavs), wanted)
    stock = SpeakerRecognition.from_hparams(tmp_path, savedir=tmp_path / "s")
    found = stock.encode_batch(wavs)[:, 0]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_it_is_among_the_modules_that_are_safe_to_load(fitted):
    described = describe_modules(fitted.yaml_text)
    modules = build_modules(described, published_state(fitted))
    wavs = torch.randn(2, 7000)
    found = modules["embedding_model"].eval()(wavs)[:, 0]
    torch.testing.assert_close(found, fitted.embed(wavs))


def test_half_precision_hardly_changes_it(fitted):
    buffer = io.BytesIO()
    state = {k: v.half() for k, v in published_state(fitted).items()}
    torch.save(state, buffer)
    wavs = torch.randn(4, 7000)
    before = fitted.embed(wavs)
    fitted.model.load_state_dict(state)
    after = fitted.embed(wavs)
    assert torch.cosine_similarity(before, after).min() > 0.999


def test_under_autocast_statistics_are_in_float32(fitted):
    """A count of 373 frames would become 372 in bf16."""
    encoder = fitted.model.encoder
    wavs = torch.randn(2, 373 * 320)
    wanted = RawStatistics(encoder)(wavs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = RawStatistics(encoder)(wavs)
        embedding = fitted.embed(wavs)
    assert found.dtype == embedding.dtype == torch.float32
    assert found[:, 0].tolist() == [373, 373]
    assert not torch.equal(found, wanted)
    assert torch.cosine_similarity(found[:, 1:], wanted[:, 1:]).min() > 0.999
