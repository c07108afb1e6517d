"""AAM-softmax against its equations, with angles, in loops."""

import itertools
import math

import pytest
import torch

from speechbrain_ext.losses.aam_softmax import AAMSoftmax


def angle_of(embedding, subcentres):
    """Angle with the nearest prototype of a class."""
    angles = []
    for prototype in subcentres:
        cosine = (embedding @ prototype) / (
            embedding.square().sum().sqrt() * prototype.square().sum().sqrt()
        )
        angles.append(torch.acos(cosine))
    return min(angles)


def target_logit(theta, m):
    """ArcFace's, with the field's tail where the cosine would rise."""
    if theta < math.pi - m:
        return torch.cos(theta + m)
    return torch.cos(theta) - m * math.sin(m)


def penalised_logit(theta, m):
    """Inter-top-k's, continued where the cosine would fall."""
    if theta > m:
        return torch.cos(theta - m)
    return torch.cos(theta) + 1 - math.cos(m)


def naive(embeddings, prototypes, labels, scale, margin, inter_top_k, near):
    losses = []
    for embedding, label in zip(embeddings, labels.tolist(), strict=True):
        angles = [angle_of(embedding, centres) for centres in prototypes]
        others = [j for j in range(len(angles)) if j != label]
        nearest = sorted(others, key=lambda j: angles[j].item())[:inter_top_k]
        logits = []
        for j, theta in enumerate(angles):
            if j == label:
                logits.append(scale * target_logit(theta, margin))
            elif j in nearest:
                logits.append(scale * penalised_logit(theta, near))
            else:
                logits.append(scale * torch.cos(theta))
        total = sum(logit.exp() for logit in logits)
        losses.append(-(logits[label].exp() / total).log())
    return torch.stack(losses)


OPTIONS = itertools.product(
    [0.0, 0.2, 0.5, 2.0], [1, 2, 3], [0, 1, 2, 4], [0.06, 0.5]
)


@pytest.mark.parametrize(
    ("margin", "n_subcentres", "inter_top_k", "near"),
    # The angle of a penalty on none is nothing.
    [(m, k, n, near) for m, k, n, near in OPTIONS if n or near == 0.5],
)
def test_values_and_gradients_are_those_of_the_equations(
    margin, n_subcentres, inter_top_k, near
):
    torch.manual_seed(0)
    # Few dimensions, many draws: some targets are beyond pi - margin, some
    # others nearer than their margin.
    loss = AAMSoftmax(3, 5, 8.0, margin, n_subcentres, inter_top_k, near)
    embeddings = torch.randn(40, 3, requires_grad=True)
    labels = torch.arange(40) % 5
    inputs = [embeddings, loss.prototypes]
    weights = torch.rand(40)
    value = loss(embeddings, labels)
    fast = [value, *torch.autograd.grad((value * weights).sum(), inputs)]
    doubles = [x.detach().double().requires_grad_() for x in inputs]
    value = naive(*doubles, labels, 8.0, margin, inter_top_k, near)
    slow = [value, *torch.autograd.grad((value * weights).sum(), doubles)]
    for found, expected in zip(fast, slow, strict=True):
        torch.testing.assert_close(
            found.double(), expected, rtol=1e-4, atol=1e-4
        )
