"""L2-SP: which tensors it pulls, where to, and how hard in each form."""

import pytest
import torch

from speechbrain_ext.losses.l2_sp import L2SP
from speechbrain_ext.utils.errors import InputError


def test_frozen_parameters_are_not_pulled():
    model = torch.nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    penalty = L2SP(model.parameters(), 0.1)
    penalty.pull_()
    assert len(penalty.pretrained) == 1
    assert model.bias.grad is None


def test_it_does_nothing_when_no_parameter_is_trained():
    model = torch.nn.Linear(2, 2).requires_grad_(False)
    penalty = L2SP(model.parameters(), 0.1)
    penalty.pull_()
    assert penalty.distance() == 0


@pytest.mark.parametrize("form", ["squared", "normalised"])
def test_training_without_a_loss_goes_back_to_the_pre_trained_weights(form):
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 4)
    penalty = L2SP(model.parameters(), 1.0, form)
    with torch.no_grad():
        model.weight += torch.randn(4, 4)
    start = penalty.distance()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        penalty.pull_()
        optimizer.step()
    assert penalty.distance() < 0.8 * start


def test_the_normalised_form_hardly_pulls_distant_tensors():
    """Its pull is 200 times weaker than that of the squared form."""
    pulls = {}
    for form in ("squared", "normalised"):
        tensors = [torch.nn.Parameter(torch.zeros(50)) for _ in range(100)]
        penalty = L2SP(tensors, 0.01, form)
        for tensor in tensors:
            tensor.data += 1 / 50**0.5  # by a norm of 1
        penalty.pull_()
        pulls[form] = tensors[0].grad.norm().item()
    assert pulls["squared"] == pytest.approx(0.02)
    assert pulls["normalised"] == pytest.approx(1e-4, rel=1e-3)


def test_an_unknown_form_is_refused():
    with pytest.raises(InputError, match="form is 'cubed'"):
        L2SP([], 0.1, "cubed")


def test_the_normalised_form_of_a_zero_loss_has_no_gradient():
    penalty = L2SP([], form="normalised")
    loss = torch.tensor([1.0, 2.0], requires_grad=True)
    scaled = penalty.scale((0 * loss).sum())
    scaled.backward()
    assert scaled == 0
    assert torch.equal(loss.grad, torch.zeros(2))
