"""DINO: self-distillation with no labels, for speakers.

Caron et al., "Emerging Properties in Self-Supervised Vision Transformers",
ICCV 2021 (Eq. 1-4, Algorithm 1); for speakers, Chen et al., ICASSP 2023
(RDINO). A student is trained to give, for any crop of an utterance, the
distribution over prototypes that a slowly moving teacher gives for another,
longer crop of it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.distributed
import torch.nn.functional as F
from torch.autograd.function import once_differentiable


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
    expander_size : int
        Width E of a linear layer before the bottleneck, for the terms of
        `regularizers` (RDINO: 8192); 0 for none.

    Notes
    -----
    Works in float32 under autocast too: cosines are divided by a temperature
    of 0.04, and half precision would leave two digits of them.

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
        expander_size: int = 0,
    ):
        super().__init__()
        self.expander_size = expander_size
        self.mlp = torch.nn.Sequential(
            torch.nn.Linear(input_size, hidden_size),
            torch.nn.BatchNorm1d(hidden_size),
            torch.nn.GELU(),
            torch.nn.Linear(hidden_size, hidden_size),
            torch.nn.BatchNorm1d(hidden_size),
            torch.nn.GELU(),
            torch.nn.Linear(hidden_size, expander_size or bottleneck_size),
        )
        self.bottleneck: torch.nn.Module = torch.nn.Identity()
        if expander_size:
            self.bottleneck = torch.nn.Linear(expander_size, bottleneck_size)
        for layer in (*self.mlp, self.bottleneck):
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
        return self.cosines(self.expand(embeddings))

    def expand(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Embeddings [B, D] to the expansion [B, E], or the bottleneck."""
        with _single_precision(embeddings):
            return self.mlp(embeddings.float())

    def cosines(self, expansion: torch.Tensor) -> torch.Tensor:
        """What `expand` gave to cosines with the prototypes [B, K]."""
        with _single_precision(expansion):
            hidden = F.normalize(self.bottleneck(expansion.float()), dim=1)
            # One kernel each way; of `normalize`, the backward takes three
            # times as long.
            gains = self.prototypes.new_ones(len(self.prototypes), 1)
            unit = torch._weight_norm(self.prototypes, gains)
            return F.linear(hidden, unit)


def _single_precision(x: torch.Tensor) -> torch.autocast:
    """No autocast on the device of x."""
    return torch.autocast(x.device.type, enabled=False)


class Outputs(NamedTuple):
    """What a network makes of V views of B utterances."""

    embeddings: torch.Tensor  # [V B, D]
    expansion: torch.Tensor  # [V, B, E]
    cosines: torch.Tensor  # [V, B, K]


class Projector(torch.nn.Module):
    """Embedder and head: crops of several lengths to prototype cosines.

    Arguments
    ---------
    embedder : torch.nn.Module
        Waveforms [B, T] to embeddings [B, D].
    head : DINOHead
        For embeddings of size D.

    Example
    -------
    >>> projector = Projector(
    ...     torch.nn.LazyLinear(8), DINOHead(8, n_prototypes=16)
    ... )
    >>> out = projector(torch.randn(2, 3, 40), torch.randn(4, 3, 40))
    >>> out.embeddings.shape, out.cosines.shape
    (torch.Size([18, 8]), torch.Size([6, 3, 16]))
    """

    def __init__(self, embedder: torch.nn.Module, head: DINOHead):
        super().__init__()
        self.embedder = embedder
        self.head = head

    def forward(self, *crops: torch.Tensor) -> Outputs:
        """Outputs for crops [V_i, B, T_i] of each length, in order."""
        shape = (-1, crops[0].shape[1])
        embeddings = torch.cat([self.embedder(c.flatten(0, 1)) for c in crops])
        # One head pass over all crops: its BatchNorm sees them together.
        expansion = self.head.expand(embeddings)
        cosines = self.head.cosines(expansion).unflatten(0, shape)
        return Outputs(embeddings, expansion.unflatten(0, shape), cosines)


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
        targets = self.targets(teacher, teacher_temperature)
        value = self.cross_entropy(student, targets)
        if self.training:
            self.update_center(teacher)
        return value

    def cross_entropy(
        self, student: torch.Tensor, targets: torch.Tensor
    ) -> torch.Tensor:
        """Eq. 3 for given targets.

        Arguments
        ---------
        student : torch.Tensor
            Student outputs [S, B, K]; the first G views are the targets'.
        targets : torch.Tensor
            Distributions [G, B, K], as of `targets`; they get no gradient.

        Returns
        -------
        torch.Tensor
            Scalar, float32.
        """
        with _single_precision(student):
            return _CrossEntropy.apply(
                student.float(), targets.float(), self.student_temperature
            )

    @torch.no_grad()
    def targets(
        self, teacher: torch.Tensor, teacher_temperature: float
    ) -> torch.Tensor:
        """Centred and sharpened teacher distributions, shaped as given."""
        centred = teacher.detach().float() - self.center
        return F.softmax(centred.div_(teacher_temperature), dim=-1)

    @torch.no_grad()
    def update_center(self, teacher: torch.Tensor) -> None:
        """Eq. 4: move the centre toward the teacher's mean output."""
        mean = teacher.detach().float().flatten(0, -2).mean(0)
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(mean)
            mean /= torch.distributed.get_world_size()
        self.center.lerp_(mean, 1 - self.center_momentum)


class _CrossEntropy(torch.autograd.Function):
    """Mean of the cross-entropies of all pairs of different views.

    As a target sums to one, its cross-entropy with the student's softmax is
    the student's log-sum-exp less their inner product: no log-softmax
    [S, B, K] is formed or kept, and a view needs its targets' sum alone.
    """

    @staticmethod
    def forward(ctx, student, targets, temperature):
        """Student outputs [S, B, K] and targets [G, B, K] to a scalar."""
        n_pairs = len(student) * len(targets) - min(len(student), len(targets))
        weight = 1 / (n_pairs * student.shape[1])
        total, log_sums = student.new_zeros(()), []
        mixtures = _mixtures(targets, len(student))
        for view, (mixture, n_targets) in enumerate(mixtures):
            logits = student[view] / temperature
            log_sums.append(torch.logsumexp(logits, -1, keepdim=True))
            total += n_targets * log_sums[-1].sum()
            total -= torch.dot(mixture.flatten(), logits.flatten())
        ctx.temperature, ctx.weight = temperature, weight
        ctx.save_for_backward(student, targets, *log_sums)
        return total * weight

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        """Softmax less target, summed over the targets of each view."""
        student, targets, *log_sums = ctx.saved_tensors
        result = torch.empty_like(student)
        mixtures = _mixtures(targets, len(student))
        for view, (mixture, n_targets) in enumerate(mixtures):
            guess = torch.div(student[view], ctx.temperature, out=result[view])
            guess.sub_(log_sums[view]).exp_().mul_(n_targets).sub_(mixture)
        return result.mul_(gradient * ctx.weight / ctx.temperature), None, None


def _mixtures(targets: torch.Tensor, n_views: int) -> Iterator:
    """For each view, the sum [B, K] of the others' targets and their count."""
    total, n_targets = targets.sum(0), len(targets)
    for view in range(n_views):
        if view < n_targets:
            yield total - targets[view], n_targets - 1
        else:
            yield total, n_targets


def target_statistics(
    targets: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """How sharp targets are, and how they share the prototypes.

    A collapse to uniform targets has an entropy of ln K; one to a single
    prototype an entropy of 0 and a mean that is one-hot.

    Arguments
    ---------
    targets : torch.Tensor
        Distributions [..., K], as of `DINOLoss.targets`.

    Returns
    -------
    entropy : torch.Tensor
        Mean entropy in nats, scalar.
    mean : torch.Tensor
        Mean distribution [K].

    Example
    -------
    >>> entropy, mean = target_statistics(torch.eye(4).expand(2, 4, 4))
    >>> float(entropy), mean.tolist()
    (0.0, [0.25, 0.25, 0.25, 0.25])
    """
    rows = targets.detach().flatten(0, -2)
    return torch.special.entr(rows).sum(-1).mean(), rows.mean(0)


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
