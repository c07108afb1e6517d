"""A teacher whose weights are a running mean of the student's."""

from __future__ import annotations

import copy

import torch
import torch.distributed


class MomentumTeacher(torch.nn.Module):
    """A copy of the student whose weights follow it slowly.

    Arguments
    ---------
    student : torch.nn.Module
        What is copied.

    Notes
    -----
    The teacher stays in train mode while it teaches, as in the original: its
    BatchNorm normalises by the batch and its running statistics are those of
    the crops it saw itself. They are therefore not averaged from the
    student's, whose statistics also count the short crops.

    Example
    -------
    >>> student = torch.nn.Linear(2, 2)
    >>> teacher = MomentumTeacher(student)
    >>> _ = torch.nn.init.ones_(student.weight)
    >>> teacher.update(student, momentum=0.0)
    >>> bool((teacher.model.weight == 1).all())
    True
    """

    def __init__(self, student: torch.nn.Module):
        super().__init__()
        self.model = copy.deepcopy(student)
        self.model.requires_grad_(False)

    @torch.no_grad()
    def forward(self, *args: torch.Tensor) -> torch.Tensor:
        """The copy's output, without gradients."""
        return self.model(*args)

    @torch.no_grad()
    def update(self, student: torch.nn.Module, momentum: float) -> None:
        """theta_t <- momentum theta_t + (1 - momentum) theta_s."""
        own = [p.detach() for p in self.model.parameters()]
        theirs = [p.detach() for p in student.parameters()]
        torch._foreach_lerp_(own, theirs, 1 - momentum)
