"""DINO's loss and its centre, and what a checkpoint holds."""

import pytest
import torch

from speechbrain_ext.losses import dino
from speechbrain_ext.losses.dino import DINOLoss, target_statistics
from speechbrain_ext.models.heads import DINOHead
from speechbrain_ext.models.momentum_teacher import MomentumTeacher


@pytest.fixture
def head():
    torch.manual_seed(0)
    return DINOHead(6, hidden_size=16, bottleneck_size=4, n_prototypes=10)


def test_defaults_are_the_papers():
    loss = DINOLoss()
    assert len(loss.center) == 65536
    assert (loss.student_temperature, loss.center_momentum) == (0.1, 0.9)


def test_autocast_does_not_reach_into_the_loss():
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(6, 4, 50, generator=generator).requires_grad_()
    teacher = torch.randn(2, 4, 50, generator=generator)
    exact, loss = DINOLoss(50), DINOLoss(50)
    value = exact(student, teacher)
    (gradient,) = torch.autograd.grad(value, student)
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(student, teacher)
        (found_gradient,) = torch.autograd.grad(found, student)
    assert found.dtype == loss.center.dtype == torch.float32
    assert torch.equal(found, value)
    assert torch.equal(found_gradient, gradient)
    assert torch.equal(loss.center, exact.center)


def test_gradients_reach_an_embedder_in_half_precision(head):
    """What lies under the head works in bfloat16 and is trained through it."""
    embedder = torch.nn.Linear(3, 6)
    crops, teacher = torch.randn(2, 4, 3), torch.rand(1, 4, 10)
    with torch.autocast("cpu", torch.bfloat16):
        embeddings = embedder(crops.flatten(0, 1))
        outputs = head(embeddings).unflatten(0, (2, 4))
        loss = DINOLoss(10)(outputs, teacher)
    loss.backward()
    assert embeddings.dtype == torch.bfloat16
    assert embedder.weight.grad.dtype == torch.float32
    assert embedder.weight.grad.norm() > 1e-4


def test_the_loss_is_the_cross_entropy_with_its_targets():
    """Forward is targets, cross-entropy, centre: a caller may do each."""
    student, teacher = torch.rand(4, 3, 8), torch.rand(2, 3, 8)
    whole, parts = DINOLoss(8), DINOLoss(8)
    for loss in (whole, parts):
        loss.center.copy_(torch.linspace(-0.3, 0.3, 8))
    expected = whole(student, teacher, 0.07)
    targets = parts.targets(teacher, 0.07)
    torch.testing.assert_close(targets.sum(-1), torch.ones(2, 3))
    assert torch.equal(parts.cross_entropy(student, targets), expected)
    parts.update_center(teacher)
    assert torch.equal(parts.center, whole.center)


def test_statistics_of_sharp_targets_are_finite():
    one_hot = torch.eye(4)[[0, 0, 3]].expand(2, 3, 4)
    entropy, mean = target_statistics(one_hot)
    assert entropy == 0
    torch.testing.assert_close(mean, torch.tensor([2, 0, 0, 1]) / 3)


def test_the_centre_moves_in_training_and_not_in_evaluation():
    loss, teacher = DINOLoss(8), torch.rand(2, 4, 8)
    student = torch.rand(3, 4, 8)
    loss.eval()(student, teacher)
    assert torch.equal(loss.center, torch.zeros(8))
    loss.train()(student, teacher)
    assert loss.center.min() > 0


def test_the_centre_is_in_the_state():
    loss = DINOLoss(8)
    loss.update_center(torch.rand(2, 4, 8))
    other = DINOLoss(8)
    other.load_state_dict(loss.state_dict())
    assert torch.equal(other.center, loss.center)
    assert other.center.abs().sum() > 0


def test_the_centre_is_a_mean_over_all_processes(monkeypatch):
    here, there = torch.rand(2, 4, 8), torch.rand(2, 4, 8)

    def mean_of_two(mean, device):
        return (mean + there.flatten(0, 1).mean(0)) / 2

    monkeypatch.setattr(dino, "process_mean", mean_of_two)
    loss = DINOLoss(8, center_momentum=0.0)
    loss.update_center(here)
    both = torch.cat([here, there]).flatten(0, 1)
    torch.testing.assert_close(loss.center, both.mean(0))


def test_half_precision_outputs_are_computed_in_single():
    student, teacher = torch.rand(4, 3, 8) - 0.5, torch.rand(2, 3, 8) - 0.5
    exact = DINOLoss(8)(student, teacher)
    loss = DINOLoss(8)
    value = loss(student.bfloat16(), teacher.bfloat16())
    assert value.dtype == loss.center.dtype == torch.float32
    assert float(value) == pytest.approx(float(exact), rel=0.05)


def test_a_student_learns_the_teachers_output(head):
    teacher = MomentumTeacher(head)
    x = torch.randn(8, 6)
    target = teacher(x)[None]
    loss = DINOLoss(10).eval()
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    values = []
    with torch.no_grad():
        for parameter in head.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    for _ in range(30):
        # View 0 is the teacher's own and is not compared with it.
        views = torch.stack([torch.zeros(8, 10), head(x)])
        values.append(loss(views, target))
        optimizer.zero_grad()
        values[-1].backward()
        optimizer.step()
    assert values[-1] < 0.8 * values[0]
