"""The anchor: what it holds, where, and how hard in either form."""

import pytest
import torch

from speechbrain_ext.losses.l2_sp import WeightAnchor
from speechbrain_ext.utils.errors import InputError


def test_what_is_frozen_is_not_held():
    model = torch.nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    anchor = WeightAnchor(model.parameters(), 0.1)
    anchor.pull_()
    assert len(anchor.pretrained) == 1
    assert model.bias.grad is None


def test_with_nothing_trained_it_does_nothing():
    model = torch.nn.Linear(2, 2).requires_grad_(False)
    anchor = WeightAnchor(model.parameters(), 0.1)
    anchor.pull_()
    assert anchor.distance() == 0


@pytest.mark.parametrize("form", ["squared", "normalised"])
def test_training_without_a_loss_goes_back_to_the_pre_trained_weights(form):
    model = torch.nn.Linear(4, 4)
    anchor = WeightAnchor(model.parameters(), 1.0, form)
    with torch.no_grad():
        model.weight += torch.randn(4, 4)
    start = anchor.distance()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        anchor.pull_()
        optimizer.step()
    assert anchor.distance() < 0.7 * start


def test_the_normalised_form_hardly_holds_what_has_gone_far():
    """A thousand times less than the squared one: why that is the default."""
    pulls = {}
    for form in ("squared", "normalised"):
        tensors = [torch.nn.Parameter(torch.zeros(50)) for _ in range(100)]
        anchor = WeightAnchor(tensors, 0.01, form)
        for tensor in tensors:
            tensor.data += 1 / 50**0.5  # by a norm of 1
        anchor.pull_()
        pulls[form] = tensors[0].grad.norm().item()
    assert pulls["squared"] == pytest.approx(0.02)
    assert pulls["normalised"] == pytest.approx(1e-4, rel=1e-3)


def test_an_unknown_form_is_refused():
    with pytest.raises(InputError, match="anchor_form is 'cubed'"):
        WeightAnchor([], 0.1, "cubed")


def test_the_normalised_form_of_no_loss_has_no_gradient():
    anchor = WeightAnchor([], form="normalised")
    loss = torch.tensor([1.0, 2.0], requires_grad=True)
    scaled = anchor.scale((0 * loss).sum())
    scaled.backward()
    assert scaled == 0
    assert torch.equal(loss.grad, torch.zeros(2))
