"""Contrastive losses: margins, queues, rows that go together."""

import pytest
import torch

from speechbrain_ext.losses.contrastive import (
    Contrast,
    MoCoLoss,
    MoCoQueue,
    NTXentLoss,
)
from speechbrain_ext.utils.errors import InputError


def views(n_views=2, n_utterances=8, size=6):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n_views, n_utterances, size, generator=generator)


def test_norms_do_not_matter():
    first, second = views()
    scales = torch.linspace(0.1, 9, 8)[:, None]
    expected = NTXentLoss()(first, second)
    found = NTXentLoss()(scales * first, second / scales)
    assert float(found) == pytest.approx(float(expected), rel=1e-4)


def test_the_loss_is_symmetric_in_the_views():
    first, second = views()
    one, other = NTXentLoss()(first, second), NTXentLoss()(second, first)
    assert float(one) == pytest.approx(float(other), rel=1e-6)


@pytest.mark.parametrize("form", ["additive", "angular"])
def test_a_margin_raises_the_loss(form):
    first, second = views()
    losses = [
        float(NTXentLoss(0.1, margin, form)(first, second))
        for margin in (0.0, 0.1, 0.2)
    ]
    assert losses == sorted(losses) and losses[0] < losses[2] - 0.5


def test_gradient_descent_lowers_the_loss():
    embeddings = views().requires_grad_()
    optimizer = torch.optim.Adam([embeddings], lr=0.05)
    loss = NTXentLoss(temperature=0.1)
    values = []
    for _ in range(60):
        value = loss(*embeddings)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(float(value.detach()))
    assert values[-1] < 0.02 * values[0]


def test_equal_embeddings_are_at_chance():
    # Each of 7 other rows is as near.
    same = torch.ones(4, 3)
    expected = torch.log(torch.tensor(7.0))
    assert NTXentLoss()(same, same).item() == pytest.approx(float(expected))


def test_an_unknown_margin_is_refused():
    with pytest.raises(InputError, match="margin_form is 'arc'; it must be"):
        Contrast(margin_form="arc")


def test_a_queue_begins_with_unit_keys_and_forgets_the_oldest():
    queue = MoCoQueue(n_keys=5, size=3)
    torch.testing.assert_close(queue.keys.norm(dim=1), torch.ones(5))
    began = queue.keys.clone()
    queue.push(torch.eye(3))
    assert torch.equal(queue.keys[3:], began[3:])
    queue.push(2 * torch.eye(3))
    assert torch.equal(queue.keys[[3, 4, 0]], 2 * torch.eye(3))
    assert torch.equal(queue.keys[1:3], torch.eye(3)[1:])


def test_the_loss_does_not_change_the_queue_before_the_gradient():
    loss, (queries, keys) = MoCoLoss(6, 16), views(4).split(2)
    queries.requires_grad_()
    began = loss.first.keys.clone()
    value = loss(queries, keys)
    assert torch.equal(loss.first.keys, began)
    value.backward()
    loss.push(keys)
    unit = torch.nn.functional.normalize(keys, dim=2)
    for queue, expected in zip((loss.first, loss.second), unit, strict=True):
        torch.testing.assert_close(queue.keys[:8], expected)
