"""Heads: prototypes, expansion, precision, and an MLP that is optional."""

import pytest
import torch

from speechbrain_ext.models.heads import DINOHead, Projection


@pytest.fixture
def head():
    torch.manual_seed(0)
    return DINOHead(6, hidden_size=16, bottleneck_size=4, n_prototypes=10)


def test_only_the_direction_of_prototypes_matters(head):
    x = torch.randn(5, 6)
    before = head.eval()(x)
    with torch.no_grad():
        head.prototypes *= torch.rand(10, 1) + 0.5
    torch.testing.assert_close(head(x), before)
    assert before.abs().max() <= 1 + 1e-6


def test_the_gradient_never_lengthens_a_prototype(head):
    head(torch.randn(5, 6)).square().sum().backward()
    along = (head.prototypes.grad * head.prototypes).sum(1)
    assert head.prototypes.grad.norm() > 1e-3
    assert along.abs().max() < 1e-6


def test_the_expansion_lies_before_the_bottleneck():
    head = DINOHead(6, 16, 4, n_prototypes=10, expander_size=24)
    x = torch.randn(5, 6)
    expansion = head.expand(x)
    assert expansion.shape == (5, 24)
    assert head.bottleneck(expansion).shape == (5, 4)
    assert torch.equal(head.cosines(expansion), head(x))
    assert head.bottleneck.bias.abs().max() == 0


def test_without_an_expander_there_is_no_bottleneck_layer(head):
    names = {name.split(".")[0] for name in head.state_dict()}
    assert names == {"mlp", "prototypes"}
    assert head.expand(torch.randn(5, 6)).shape == (5, 4)


@pytest.mark.parametrize("expander_size", [0, 24])
def test_autocast_does_not_reach_into_the_head(expander_size):
    torch.manual_seed(0)
    head = DINOHead(6, 16, 4, n_prototypes=10, expander_size=expander_size)
    x = torch.randn(5, 6)
    exact, exact_expansion = head(x), head.expand(x)
    with torch.autocast("cpu", torch.bfloat16):
        cosines, expansion = head(x), head.expand(x)
    assert cosines.dtype == expansion.dtype == torch.float32
    assert torch.equal(cosines, exact)
    assert torch.equal(expansion, exact_expansion)


def test_the_dino_heads_defaults_are_the_papers():
    head = DINOHead(3, n_prototypes=2)
    shapes = [tuple(p.shape) for p in head.parameters() if p.ndim == 2]
    assert shapes == [(2, 256), (2048, 3), (2048, 2048), (256, 2048)]


def test_an_mlp_is_optional():
    x = torch.randn(4, 6)
    nothing = Projection(6)
    assert nothing(x) is x and not list(nothing.parameters())
    mlp = Projection(6, hidden_size=8, output_size=3)
    assert (nothing.size, mlp.size) == (6, 3)
    assert mlp(x).shape == (4, 3)
    kinds = [type(layer).__name__ for layer in mlp.mlp]
    hidden = ["Linear", "BatchNorm1d", "ReLU"]
    assert kinds == [*hidden, *hidden, "Linear"]
