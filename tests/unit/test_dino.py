"""DINO's state: what moves, what stays, what a checkpoint must hold."""

import pytest
import torch

from speechbrain_ext.dino import DINOHead, DINOLoss, MomentumTeacher


@pytest.fixture
def head():
    torch.manual_seed(0)
    return DINOHead(6, hidden_size=16, bottleneck_size=4, n_prototypes=10)


def test_prototypes_count_by_their_direction_alone(head):
    x = torch.randn(5, 6)
    before = head.eval()(x)
    with torch.no_grad():
        head.prototypes *= torch.rand(10, 1) + 0.5
    torch.testing.assert_close(head(x), before)
    assert before.abs().max() <= 1 + 1e-6


def test_the_gradient_never_lengthens_a_prototype(head):
    head(torch.randn(5, 6)).square().sum().backward()
    along = (head.prototypes.grad * head.prototypes).sum(1)
    assert head.prototypes.grad.norm() > 1e-3
    assert along.abs().max() < 1e-6


def test_defaults_are_the_papers():
    head = DINOHead(3, n_prototypes=2)
    shapes = [tuple(p.shape) for p in head.parameters() if p.ndim == 2]
    assert shapes == [(2, 256), (2048, 3), (2048, 2048), (256, 2048)]
    loss = DINOLoss()
    assert len(loss.center) == 65536
    assert (loss.student_temperature, loss.center_momentum) == (0.1, 0.9)


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

    def all_reduce(mean):
        mean += there.flatten(0, 1).mean(0)

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
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


def test_the_teacher_is_a_copy_that_cannot_be_trained(head):
    teacher = MomentumTeacher(head)
    x = torch.randn(5, 6)
    before = teacher(x)
    assert torch.equal(before, head(x))
    with torch.no_grad():
        for parameter in head.parameters():
            parameter += 1.0
    assert torch.equal(teacher(x), before)
    assert not before.requires_grad
    assert not any(p.requires_grad for p in teacher.parameters())
    assert next(head.parameters()).requires_grad


def test_momentum_one_keeps_the_teacher_and_zero_copies(head):
    teacher = MomentumTeacher(head)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter += torch.randn_like(parameter)
    before = [p.clone() for p in teacher.parameters()]
    teacher.update(head, momentum=1.0)
    for old, new in zip(before, teacher.parameters(), strict=True):
        assert torch.equal(old, new)
    teacher.update(head, momentum=0.0)
    for own, theirs in zip(
        teacher.parameters(), head.parameters(), strict=True
    ):
        assert torch.equal(own, theirs)


def test_the_teachers_batch_statistics_are_those_it_saw(head):
    teacher = MomentumTeacher(head)
    teacher(torch.randn(50, 6))
    before = {n: b.clone() for n, b in teacher.named_buffers()}
    head(10 * torch.randn(50, 6))
    teacher.update(head, momentum=0.0)
    for name, buffer in teacher.named_buffers():
        assert torch.equal(buffer, before[name]), name
    own, theirs = teacher.model.mlp[1], head.mlp[1]
    assert not torch.allclose(own.running_var, theirs.running_var)


def test_a_student_learns_what_the_teacher_says(head):
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
