"""Back-ends: sizes, their start, what they may not depend on."""

import pytest
import torch

from speechbrain_ext.models.pooling import (
    MHFA,
    ContextAwareMHFA,
    MeanAndDeviation,
    WeightedSumECAPA,
    WeightedSumTDNN,
)
from speechbrain_ext.utils.errors import InputError

SMALL = {"width": 16, "width_last": 24, "attention_channels": 8}


def test_mhfa_has_the_papers_number_of_parameters():
    pooling = MHFA(n_layers=13)
    assert sum(p.numel() for p in pooling.parameters()) == 2_302_554


def test_mhfa_starts_with_equal_layer_weights():
    pooling = MHFA(3, 8, n_heads=2, compression_size=4, embedding_size=5)
    hidden = torch.randn(3, 2, 20, 8)
    mean = hidden.mean(dim=0, keepdim=True).expand_as(hidden)
    torch.testing.assert_close(pooling(hidden), pooling(mean))


def test_mhfa_does_not_depend_on_the_order_of_frames():
    pooling = MHFA(3, 8, n_heads=2, compression_size=4, embedding_size=5)
    hidden = torch.randn(3, 2, 20, 8)
    order = torch.randperm(20)
    torch.testing.assert_close(pooling(hidden), pooling(hidden[:, :, order]))


def test_mhfa_layers_have_separate_weights_for_keys_and_values():
    pooling = MHFA(3, 8, n_heads=2, compression_size=4, embedding_size=5)
    hidden = torch.randn(3, 2, 20, 8)
    before = pooling(hidden)
    for weights in (pooling.key_layers, pooling.value_layers):
        with torch.no_grad():
            weights[0] += 5
        after = pooling(hidden)
        assert not torch.allclose(before, after)
        before = after


def test_context_aware_mhfa_depends_on_the_order_of_frames():
    torch.manual_seed(0)
    pooling = ContextAwareMHFA(3, 8, n_heads=2, compression_size=4)
    hidden = torch.randn(3, 2, 20, 8)
    order = torch.randperm(20)
    assert not torch.allclose(pooling(hidden), pooling(hidden[:, :, order]))


def test_context_aware_mhfa_embeds_less_than_its_context():
    pooling = ContextAwareMHFA(3, 8, n_heads=2, context=9, embedding_size=5)
    assert pooling(torch.randn(3, 2, 1, 8)).isfinite().all()


@pytest.mark.parametrize("context", [-1, 0, 4])
def test_an_even_context_is_refused(context):
    with pytest.raises(InputError, match=f"context is {context}.*odd"):
        ContextAwareMHFA(3, 8, context=context)


def test_ecapa_starts_with_equal_layer_weights():
    pooling = WeightedSumECAPA(3, 8, **SMALL, embedding_size=5).eval()
    hidden = torch.randn(3, 2, 20, 8)
    expected = pooling.ecapa(hidden.mean(dim=0))[:, 0]
    torch.testing.assert_close(pooling(hidden), expected)


def test_ecapa_s_layer_weights_select_a_layer():
    pooling = WeightedSumECAPA(3, 8, **SMALL, embedding_size=5).eval()
    with torch.no_grad():
        pooling.layer_weights[1] = 50
    hidden = torch.randn(3, 2, 20, 8)
    expected = pooling.ecapa(hidden[1])[:, 0]
    torch.testing.assert_close(pooling(hidden), expected)


def test_the_tdnn_is_given_the_average_of_the_layers():
    pooling = WeightedSumTDNN(3, 8, 16, 24, embedding_size=5).eval()
    with torch.no_grad():
        pooling.layer_weights[2] = 1
    hidden = torch.randn(3, 2, 20, 8)
    weights = torch.tensor([1, 1, 2.718281828]) / 4.718281828
    mixed = sum(w * h for w, h in zip(weights, hidden, strict=True))
    expected = pooling.tdnn(mixed)[:, 0]
    torch.testing.assert_close(pooling(hidden), expected, rtol=1e-4, atol=1e-5)


def test_the_tdnn_is_deterministic_and_independent_of_the_batch():
    pooling = WeightedSumTDNN(3, 8, 16, 24, embedding_size=5).eval()
    hidden = torch.randn(3, 4, 20, 8)
    together = pooling(hidden)
    assert torch.equal(pooling(hidden), together)
    alone = torch.cat([pooling(hidden[:, [n]]) for n in range(4)])
    torch.testing.assert_close(alone, together, rtol=1e-5, atol=1e-6)


def test_a_constant_channel_has_zero_deviation_and_a_finite_gradient():
    x = torch.ones(2, 5, 3, requires_grad=True)
    found = MeanAndDeviation()(x)
    assert found[..., :3].eq(1).all() and found[..., 3:].max() < 1e-4
    found.sum().backward()
    assert x.grad.isfinite().all()
    assert MeanAndDeviation()(x[:, :1]).isfinite().all()


def test_the_tdnn_equals_that_of_superb():
    found = [
        (layer.conv.out_channels, *layer.conv.kernel_size, *layer.conv.dilation)
        for layer in WeightedSumTDNN(13).tdnn.blocks
        if hasattr(layer, "conv")
    ]
    assert found == [
        (512, 5, 1),
        (512, 3, 2),
        (512, 3, 3),
        (512, 1, 1),
        (1500, 1, 1),
    ]


@pytest.mark.parametrize("n_layers", [1, 13])
def test_every_parameter_is_trained(n_layers):
    for pooling in (
        MHFA(n_layers, 8, n_heads=2, compression_size=4, embedding_size=5),
        ContextAwareMHFA(n_layers, 8, n_heads=2, compression_size=4),
        WeightedSumECAPA(n_layers, 8, **SMALL, embedding_size=5),
        WeightedSumTDNN(n_layers, 8, 16, 24, embedding_size=5),
    ):
        pooling(torch.randn(n_layers, 3, 20, 8)).square().sum().backward()
        for name, parameter in pooling.named_parameters():
            assert parameter.grad is not None, name
