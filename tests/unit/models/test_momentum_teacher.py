"""The momentum teacher: a copy that follows its student's weights alone."""

import pytest
import torch

from speechbrain_ext.models.heads import DINOHead
from speechbrain_ext.models.momentum_teacher import MomentumTeacher


@pytest.fixture
def head():
    torch.manual_seed(0)
    return DINOHead(6, hidden_size=16, bottleneck_size=4, n_prototypes=10)


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
