"""AAM-softmax against ArcFace's equation, with angles, in loops."""

import math

import pytest
import torch

from speechbrain_ext.margin import AAMSoftmax


def naive(embeddings, prototypes, labels, scale, margin):
    losses = []
    for embedding, label in zip(embeddings, labels.tolist(), strict=True):
        logits = []
        for j, prototype in enumerate(prototypes):
            cosine = (embedding @ prototype) / (
                embedding.square().sum().sqrt()
                * prototype.square().sum().sqrt()
            )
            theta = torch.acos(cosine)
            if j != label:
                logits.append(scale * torch.cos(theta))
            elif theta < math.pi - margin:
                logits.append(scale * torch.cos(theta + margin))
            else:
                tail = torch.cos(theta) - margin * math.sin(margin)
                logits.append(scale * tail)
        total = sum(logit.exp() for logit in logits)
        losses.append(-(logits[label].exp() / total).log())
    return torch.stack(losses)


@pytest.mark.parametrize("margin", [0.0, 0.2, 0.5, 2.0])
def test_values_and_gradients_are_those_of_the_equation(margin):
    torch.manual_seed(0)
    loss = AAMSoftmax(3, 4, scale=8.0, margin=margin)
    embeddings = torch.randn(40, 3, requires_grad=True)
    labels = torch.arange(40) % 4
    # A large margin and 40 draws: some targets are beyond pi - margin.
    inputs = [embeddings, loss.prototypes]
    weights = torch.rand(40)
    value = loss(embeddings, labels)
    fast = [value, *torch.autograd.grad((value * weights).sum(), inputs)]
    doubles = [x.detach().double().requires_grad_() for x in inputs]
    value = naive(*doubles, labels, 8.0, margin)
    slow = [value, *torch.autograd.grad((value * weights).sum(), doubles)]
    for found, expected in zip(fast, slow, strict=True):
        torch.testing.assert_close(
            found.double(), expected, rtol=1e-4, atol=1e-4
        )
