"""Both forms of the L2 term: gradients as autograd finds for the formula."""

import pytest
import torch

from speechbrain_ext.losses.l2_sp import L2SP


def naive(parameters, pretrained, loss, weight, form):
    """The formulas of slides and code, tensor by tensor."""
    total = 0.0
    for parameter, original in zip(parameters, pretrained, strict=True):
        square = (parameter - original).square().sum()
        total = total + (square if form == "squared" else square.sqrt())
    if form == "squared":
        return loss + weight * total, total
    normalised = loss / loss.detach() + weight * total / (total.detach() + 1e-5)
    return normalised, total


def model_and_batch():
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)
    )
    return model, torch.randn(8, 3)


@pytest.mark.parametrize("form", ["squared", "normalised"])
@pytest.mark.parametrize("distance", [1e-3, 1.0])
def test_gradients_and_distance_are_those_of_the_formula(form, distance):
    model, batch = model_and_batch()
    penalty = L2SP(model.parameters(), 0.3, form)
    pretrained = [p.detach().clone() for p in model.parameters()]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += distance * torch.randn(parameter.shape)
    parameters = list(model.parameters())
    objective, total = naive(
        parameters, pretrained, model(batch).square().mean(), 0.3, form
    )
    expected = torch.autograd.grad(objective, parameters)
    loss = model(batch).square().mean()
    scaled = penalty.scale(loss)
    scaled.backward()
    penalty.pull_()
    assert scaled.item() == pytest.approx(loss.item(), rel=1e-6)
    for parameter, gradient in zip(parameters, expected, strict=True):
        torch.testing.assert_close(
            parameter.grad, gradient, rtol=1e-4, atol=1e-6
        )
    assert penalty.distance() == pytest.approx(total.item(), rel=1e-5)


@pytest.mark.parametrize("form", ["squared", "normalised"])
def test_the_penalty_has_no_gradient_at_the_pre_trained_weights(form):
    model, _ = model_and_batch()
    penalty = L2SP(model.parameters(), 0.3, form)
    penalty.pull_()
    assert penalty.distance() == 0
    assert all((p.grad == 0).all() for p in model.parameters())
