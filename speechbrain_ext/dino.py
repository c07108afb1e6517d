"""DINO: self-distillation with no labels, for speakers.

Caron et al., "Emerging Properties in Self-Supervised Vision Transformers",
ICCV 2021 (Eq. 1-4, Algorithm 1); for speakers, Chen et al., ICASSP 2023
(RDINO). A student is trained to give, for any crop of an utterance, the
distribution over prototypes that a slowly moving teacher gives for another,
longer crop of it.
"""

from __future__ import annotations

import copy

import torch
import torch.distributed
import torch.nn.functional as F


class DINOHead(torch.nn.Module):
    """Projection head: MLP, L2 normalisation, unit-norm prototypes.

    Caron et al. 2021, section 3.1 and appendix C. BatchNorm inside the MLP is
    what keeps a convolutional encoder from collapsing (FB's ViT has none).

    Arguments
    ---------
    input_size : int
        Dimension of the embedding.
    hidden_size : int
        Width of the two hidden layers.
    bottleneck_size : int
        Dimension that is L2-normalised.
    n_prototypes : int
        Outputs K.

    Example
    -------
    >>> head = DINOHead(192, hidden_size=32, bottleneck_size=8, n_prototypes=64)
    >>> logits = head(torch.randn(4, 192))
    >>> logits.shape, bool((logits.abs() <= 1 + 1e-6).all())
    (torch.Size([4, 64]), True)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int = 2048,
        bottleneck_size: int = 256,
        n_prototypes: int = 65536,
    ):
        super().__init__()
        self.mlp = torch.nn.Sequential(
            torch.nn.Linear(input_size, hidden_size),
            torch.nn.BatchNorm1d(hidden_size),
            torch.nn.GELU(),
            torch.nn.Linear(hidden_size, hidden_size),
            torch.nn.BatchNorm1d(hidden_size),
            torch.nn.GELU(),
            torch.nn.Linear(hidden_size, bottleneck_size),
        )
        for layer in self.mlp:
            if isinstance(layer, torch.nn.Linear):
                torch.nn.init.trunc_normal_(layer.weight, std=0.02)
                torch.nn.init.zeros_(layer.bias)
        # Weight normalisation with its gain frozen at 1 is a unit-norm row.
        self.prototypes = torch.nn.Parameter(
            torch.empty(n_prototypes, bottleneck_size)
        )
        torch.nn.init.kaiming_uniform_(self.prototypes, a=5**0.5)

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Embeddings [B, D] to cosines with the prototypes [B, K]."""
        hidden = F.normalize(self.mlp(embeddings), dim=1)
        return F.linear(hidden, F.normalize(self.prototypes, dim=1))


class DINOLoss(torch.nn.Module):
    r"""Cross-entropy between teacher and student views, with centring.

    .. math:: L = \frac{-1}{|P|\,B} \sum_{(t,s) \in P} \sum_b
        \mathrm{softmax}((T_{tb} - c)/\tau_t) \cdot
        \log \mathrm{softmax}(S_{sb}/\tau_s)

    with P the pairs of a teacher view t and a different student view s
    (Caron et al. 2021, Eq. 3), and the centre c an exponential mean of the
    teacher's output over all processes (Eq. 4).

    Arguments
    ---------
    n_prototypes : int
        Outputs K.
    student_temperature : float
        tau_s.
    center_momentum : float
        Weight of the past in the centre.

    Example
    -------
    >>> loss = DINOLoss(n_prototypes=16)
    >>> student, teacher = torch.randn(6, 4, 16), torch.randn(2, 4, 16)
    >>> float(loss(student, teacher, teacher_temperature=0.04)) > 0
    True
    """

    center: torch.Tensor

    def __init__(
        self,
        n_prototypes: int = 65536,
        student_temperature: float = 0.1,
        center_momentum: float = 0.9,
    ):
        super().__init__()
        self.student_temperature = student_temperature
        self.center_momentum = center_momentum
        self.register_buffer("center", torch.zeros(n_prototypes))

    def forward(
        self,
        student: torch.Tensor,
        teacher: torch.Tensor,
        teacher_temperature: float = 0.04,
    ) -> torch.Tensor:
        """The loss of one batch; the centre is updated after it in training.

        Arguments
        ---------
        student : torch.Tensor
            Student outputs [S, B, K]; the first G views are the teacher's.
        teacher : torch.Tensor
            Teacher outputs [G, B, K].
        teacher_temperature : float
            tau_t.

        Returns
        -------
        torch.Tensor
            Scalar.
        """
        target = self.targets(teacher, teacher_temperature).flatten(1)
        log_p = F.log_softmax(student.float() / self.student_temperature, -1)
        # [G, B K] x [B K, S]: every pair of views in one product.
        cross = -target @ log_p.flatten(1).T / student.shape[1]
        pairs = 1 - torch.eye(*cross.shape, device=cross.device)
        if self.training:
            self.update_center(teacher)
        return (cross * pairs).sum() / pairs.sum()

    @torch.no_grad()
    def targets(
        self, teacher: torch.Tensor, teacher_temperature: float
    ) -> torch.Tensor:
        """Centred and sharpened teacher distributions, shaped as given."""
        centred = teacher.detach().float() - self.center
        return F.softmax(centred / teacher_temperature, dim=-1)

    @torch.no_grad()
    def update_center(self, teacher: torch.Tensor) -> None:
        """Eq. 4: move the centre toward the teacher's mean output."""
        mean = teacher.detach().float().flatten(0, -2).mean(0)
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(mean)
            mean /= torch.distributed.get_world_size()
        self.center.lerp_(mean, 1 - self.center_momentum)


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
