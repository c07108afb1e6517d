"""AAM-softmax: its limits, its monotony, its numerics."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from speechbrain_ext.losses.aam_softmax import AAMSoftmax
from speechbrain_ext.utils.errors import InputError


def at_angle(angle, dtype=torch.float32):
    """An embedding at an angle from prototype 0 = (1, 0)."""
    return torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=dtype)


def plane(margin, scale=1.0):
    """A classifier whose two prototypes are the axes of a plane."""
    loss = AAMSoftmax(2, 2, scale=scale, margin=margin)
    loss.prototypes.data = torch.eye(2)[:, None]
    return loss


def target_logit(loss, angle):
    # With two classes, loss = log(1 + exp(other - target)).
    value = loss(at_angle(angle), torch.tensor([0])).double()
    return math.sin(angle) - torch.log(torch.expm1(value)).item()


def test_without_margin_it_is_cross_entropy_of_scaled_cosines():
    loss = AAMSoftmax(5, 4, scale=7.0, margin=0.0)
    embeddings, labels = torch.randn(6, 5), torch.tensor([0, 1, 2, 3, 0, 1])
    cosines = normalize(embeddings) @ normalize(loss.prototypes[:, 0]).T
    expected = cross_entropy(7.0 * cosines, labels, reduction="none")
    torch.testing.assert_close(loss(embeddings, labels), expected)
    torch.testing.assert_close(loss.logits(embeddings), 7.0 * cosines)


@pytest.mark.parametrize("margin", [0.2, 0.5])
def test_the_targets_logit_is_the_cosine_of_the_larger_angle(margin):
    loss = plane(margin)
    for angle in (0.1, 0.7, 1.5, 2.4):
        expected = math.cos(angle + margin)
        assert target_logit(loss, angle) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("margin", [0.2, 0.5])
def test_the_targets_logit_falls_over_all_angles(margin):
    loss = plane(margin)
    angles = torch.linspace(0, math.pi, 60).tolist()
    logits = [target_logit(loss, angle) for angle in angles]
    assert all(a > b for a, b in zip(logits, logits[1:], strict=False))


def test_the_margin_may_change_during_training():
    loss = AAMSoftmax(5, 4, margin=0.0)
    embeddings, labels = torch.randn(6, 5), torch.tensor([0, 1, 2, 3, 0, 1])
    before = loss(embeddings, labels)
    loss.margin = 0.3
    assert (loss(embeddings, labels) > before).all()


def test_the_loss_of_an_utterance_does_not_depend_on_its_batch():
    loss = AAMSoftmax(5, 4)
    embeddings, labels = torch.randn(6, 5), torch.tensor([0, 1, 2, 3, 0, 1])
    alone = [loss(embeddings[i, None], labels[i, None]) for i in range(6)]
    torch.testing.assert_close(loss(embeddings, labels), torch.cat(alone))


def test_the_length_of_an_embedding_does_not_matter():
    loss = AAMSoftmax(5, 4)
    embeddings, labels = torch.randn(2, 5), torch.tensor([3, 0])
    torch.testing.assert_close(
        loss(embeddings, labels), loss(17 * embeddings, labels)
    )


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_gradients_are_finite_on_and_opposite_a_prototype(sign):
    loss = AAMSoftmax(3, 2)
    embedding = (sign * loss.prototypes[:1, 0].detach()).requires_grad_()
    loss(embedding, torch.tensor([0])).sum().backward()
    assert torch.isfinite(embedding.grad).all()
    assert torch.isfinite(loss.prototypes.grad).all()


def test_autocast_does_not_lower_its_precision():
    loss = AAMSoftmax(64, 10)
    embeddings, labels = torch.randn(8, 64), torch.arange(8)
    expected = loss(embeddings, labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss(embeddings, labels)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_small_losses_keep_their_digits():
    # Cross-entropy of float32 logits has steps of 1e-7, and then zero.
    loss = AAMSoftmax(2, 2, scale=30.0, margin=0.0)
    loss.prototypes.data = torch.tensor([[[1.0, 0.0]], [[-1.0, 0.0]]])
    found = loss(torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    assert found.item() == pytest.approx(math.exp(-60), rel=1e-4)


def test_the_cosine_of_a_class_is_that_of_its_nearest_sub_centre():
    loss = AAMSoftmax(2, 2, scale=1.0, margin=0.0, n_subcentres=2)
    loss.prototypes.data = torch.tensor(
        [[[1.0, 0.0], [0.0, 1.0]], [[-1.0, 0.0], [0.0, -1.0]]]
    )
    cosines = loss.cosines(torch.tensor([[0.6, 0.8], [0.8, 0.6]]))
    torch.testing.assert_close(cosines[:, 0], torch.tensor([0.8, 0.8]))
    assert loss.logits(torch.randn(3, 2)).shape == (3, 2)


def test_only_the_nearest_sub_centre_learns():
    loss = AAMSoftmax(2, 2, n_subcentres=2)
    loss.prototypes.data = torch.tensor(
        [[[1.0, 0.0], [0.0, 1.0]], [[-1.0, 0.0], [0.0, -1.0]]]
    )
    loss(torch.tensor([[0.6, 0.8]]), torch.tensor([0])).sum().backward()
    gradients = loss.prototypes.grad.norm(dim=2)
    assert gradients[0, 1] > 0
    assert gradients[0, 0] == 0


def test_penalised_classes_cost_more_and_others_the_same():
    torch.manual_seed(0)
    embeddings, labels = torch.randn(6, 5), torch.arange(6)
    losses = []
    for inter_top_k in (0, 1, 5):
        torch.manual_seed(1)
        loss = AAMSoftmax(5, 6, inter_top_k=inter_top_k, inter_top_k_margin=0.3)
        losses.append(loss(embeddings, labels))
    assert (losses[0] < losses[1]).all()
    assert (losses[1] <= losses[2]).all()
    assert (losses[1] < losses[2]).any()


def test_a_penalised_logit_rises_over_all_angles():
    loss = AAMSoftmax(2, 2, inter_top_k=1, inter_top_k_margin=0.3)
    angles = torch.linspace(math.pi, 0, 60)
    logits = loss._penalise(torch.cos(angles)).tolist()
    assert all(a < b for a, b in zip(logits, logits[1:], strict=False))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_subcentres": 0}, "n_subcentres is 0"),
        ({"inter_top_k": 4}, "a whole number from 0 to 3"),
        ({"inter_top_k": -1}, "inter_top_k is -1"),
    ],
)
def test_impossible_arguments_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        AAMSoftmax(5, 4, **options)
