"""Learning rates and weight decay reach the right parameters."""

import pytest
import torch

from speechbrain_ext.training.optim import clip_each_, parameter_groups
from speechbrain_ext.utils.errors import InputError


@pytest.fixture
def model():
    parts = {"encoder": torch.nn.Linear(3, 3), "pooling": torch.nn.Linear(3, 2)}
    return torch.nn.ModuleDict(parts)


@pytest.fixture
def classifier():
    return torch.nn.Linear(2, 4, bias=False)


def test_every_trained_parameter_is_in_one_group(model, classifier):
    groups = parameter_groups(model, classifier, 0.1, {"encoder": 0.01})
    found = [id(p) for group in groups for p in group["params"]]
    wanted = [*model.parameters(), *classifier.parameters()]
    assert sorted(found) == sorted(id(p) for p in wanted)


def test_each_part_has_the_rate_of_lr_parts(model, classifier):
    groups = parameter_groups(model, classifier, 0.1, {"encoder": 0.01})
    rates = {id(p): g["lr"] for g in groups for p in g["params"]}
    assert rates[id(model["encoder"].weight)] == 0.01
    assert rates[id(model["encoder"].bias)] == 0.01
    assert rates[id(model["pooling"].weight)] == 0.1
    assert rates[id(classifier.weight)] == 0.1
    assert all(g["peak"] == g["lr"] for g in groups)


def test_vectors_have_no_weight_decay(model, classifier):
    optimizer = torch.optim.AdamW(
        parameter_groups(model, classifier, 0.1, {}), weight_decay=0.5
    )
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            expected = 0.5 if parameter.ndim > 1 else 0.0
            assert group["weight_decay"] == expected


def test_frozen_parameters_are_left_out(model, classifier):
    model["encoder"].requires_grad_(False)
    groups = parameter_groups(model, classifier, 0.1, {"encoder": 0.01})
    assert {group["lr"] for group in groups} == {0.1}


def test_a_misspelt_part_is_refused(model, classifier):
    with pytest.raises(InputError, match="did you mean 'encoder'"):
        parameter_groups(model, classifier, 0.1, {"encodr": 0.01})
    with pytest.raises(InputError, match="use .'encoder', 'pooling'."):
        parameter_groups(model, classifier, 0.1, {"zzz": 0.01})


def transformer(n_layers=3):
    """A model whose encoder has layers, and something before them."""
    encoder = torch.nn.ModuleDict(
        {
            "cnn": torch.nn.Linear(2, 2),
            "layers": torch.nn.ModuleList(
                torch.nn.Linear(2, 2) for _ in range(n_layers)
            ),
        }
    )
    pooling = torch.nn.Linear(2, 2)
    return torch.nn.ModuleDict({"encoder": encoder, "pooling": pooling})


def rates_of(model, classifier, *settings):
    """Rate of the weight of each part."""
    groups = parameter_groups(model, classifier, *settings)
    rates = {id(p): g["peak"] for g in groups for p in g["params"]}
    return {
        name.removesuffix(".weight"): pytest.approx(rates[id(parameter)])
        for name, parameter in model.named_parameters()
        if name.endswith("weight")
    }


def test_rates_fall_from_the_top_layer_down(classifier):
    rates = rates_of(transformer(), classifier, 0.1, {"encoder": 0.08}, 0.5)
    assert rates == {
        "encoder.cnn": 0.01,
        "encoder.layers.0": 0.02,
        "encoder.layers.1": 0.04,
        "encoder.layers.2": 0.08,
        "pooling": 0.1,
    }


def test_a_part_of_a_part_has_its_own_rate(classifier):
    parts = {"encoder": 0.08, "encoder.cnn": 0.008, "encoder.layers.1": 0.5}
    assert rates_of(transformer(), classifier, 0.1, parts) == {
        "encoder.cnn": 0.008,
        "encoder.layers.0": 0.08,
        "encoder.layers.1": 0.5,
        "encoder.layers.2": 0.08,
        "pooling": 0.1,
    }


def test_a_part_with_a_common_prefix_is_another_part(classifier):
    model = torch.nn.ModuleDict(
        {"a": torch.nn.Linear(2, 2), "ab": torch.nn.Linear(2, 2)}
    )
    rates = rates_of(model, classifier, 0.1, {"a": 0.5})
    assert rates == {"a": 0.5, "ab": 0.1}


def test_the_last_group_has_the_rate_of_the_classifier(classifier):
    model = transformer()
    groups = parameter_groups(model, classifier, 0.1, {"pooling": 0.3}, 0.9)
    assert groups[-1]["peak"] == 0.1
    assert groups[-1]["params"] == [classifier.weight]


def test_a_decay_without_layers_is_refused(model, classifier):
    with pytest.raises(InputError, match="has 0 transformer layers"):
        parameter_groups(model, classifier, 0.1, {}, 0.9)


def test_each_gradient_is_clipped_as_torch_clips_one():
    """Long, short, nil, missing and scalar, whatever their type."""
    generator = torch.Generator().manual_seed(0)
    gradients = [
        scale * torch.randn(shape, generator=generator).to(dtype)
        for scale, shape, dtype in [
            (9.0, (4, 5), torch.float32),
            (0.1, (4, 5), torch.float32),
            (0.0, (3,), torch.float32),
            (99.0, (), torch.float32),
            (9.0, (2, 3, 4), torch.bfloat16),
        ]
    ]
    ours, theirs = (
        [torch.nn.Parameter(torch.zeros_like(g)) for g in gradients]
        for _ in range(2)
    )
    for parameters in (ours, theirs):
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient.clone()
    for parameter in theirs:
        torch.nn.utils.clip_grad_norm_(parameter, 1.5)
    clip_each_([*ours, torch.nn.Parameter(torch.ones(2))], 1.5)
    for own, other in zip(ours, theirs, strict=True):
        assert own.grad.dtype == other.grad.dtype
        torch.testing.assert_close(own.grad, other.grad)
    assert ours[0].grad.norm() == pytest.approx(1.5, rel=1e-4)
    assert torch.equal(ours[1].grad, gradients[1])


def test_clipping_without_gradients_does_nothing():
    parameter = torch.nn.Parameter(torch.ones(2))
    clip_each_([parameter], 1.0)
    assert parameter.grad is None
