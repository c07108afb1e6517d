"""Momentum teacher: a moving average of the student's weights."""

from __future__ import annotations

import copy

import torch

from speechbrain_ext.utils.compat import foreach_lerp_


class MomentumTeacher(torch.nn.Module):
    """Copy of a student with an exponential moving average of its weights.

    He et al., "Momentum contrast for unsupervised visual representation
    learning", CVPR 2020, Eq. 2; the teacher of DINO (Caron et al., ICCV 2021,
    section 3.1). Call `update` after each step of the optimiser.

    Arguments
    ---------
    student : torch.nn.Module
        The network to copy; for DINO the embedder and its head together.

    Notes
    -----
    The copy is the attribute ``model``. Its weights take no gradient, so that
    it may be among the modules of a Brain, whose optimiser leaves it alone.

    The teacher stays in train mode while it teaches, as in the original: its
    BatchNorm normalises by the batch and its running statistics are those of
    the crops it saw itself. They are therefore not averaged from the
    student's, which also count the short crops.

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
        """Return the output of the copy, without gradients.

        Arguments
        ---------
        *args : torch.Tensor
            As the student takes them.

        Returns
        -------
        torch.Tensor
            As the student returns it.
        """
        return self.model(*args)

    @torch.no_grad()
    def update(self, student: torch.nn.Module, momentum: float) -> None:
        """Update the weights: theta_t <- m theta_t + (1 - m) theta_s.

        Arguments
        ---------
        student : torch.nn.Module
            The network that was copied.
        momentum : float
            m, from 0 (copy the student) to 1 (stay).
        """
        own = [p.detach() for p in self.model.parameters()]
        theirs = [p.detach() for p in student.parameters()]
        foreach_lerp_(own, theirs, 1 - momentum)
