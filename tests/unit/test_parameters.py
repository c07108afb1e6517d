"""Learning rates and weight decay reach the right parameters."""

import pytest
import torch

from speechbrain_ext.files import InputError
from speechbrain_ext.parameters import clip_each_, parameter_groups


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


def test_rates_go_by_part(model, classifier):
    groups = parameter_groups(model, classifier, 0.1, {"encoder": 0.01})
    rates = {id(p): g["lr"] for g in groups for p in g["params"]}
    assert rates[id(model["encoder"].weight)] == 0.01
    assert rates[id(model["encoder"].bias)] == 0.01
    assert rates[id(model["pooling"].weight)] == 0.1
    assert rates[id(classifier.weight)] == 0.1
    assert all(g["peak"] == g["lr"] for g in groups)


def test_vectors_do_not_decay(model, classifier):
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
    with pytest.raises(InputError, match="of .'encoder', 'pooling'."):
        parameter_groups(model, classifier, 0.1, {"zzz": 0.01})


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
