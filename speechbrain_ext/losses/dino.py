"""DINO: self-distillation with no labels, for speakers.

Caron et al., "Emerging Properties in Self-Supervised Vision Transformers",
ICCV 2021 (Eq. 1-4, Algorithm 1); for speakers, Chen et al., ICASSP 2023
(RDINO). A student is trained to predict, from any crop of an utterance, the
distribution over prototypes that a slowly moving teacher gives for another,
longer crop of it.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from speechbrain_ext.utils.distributed import process_mean
from speechbrain_ext.utils.precision import single_precision


class DINOLoss(torch.nn.Module):
    r"""DINO loss: cross-entropy of teacher and student views, with centring.

    Caron et al., "Emerging properties in self-supervised vision transformers",
    ICCV 2021, Algorithm 1:

    .. math:: L = \frac{-1}{|P|\,B} \sum_{(t,s) \in P} \sum_b
        \mathrm{softmax}((T_{tb} - c)/\tau_t) \cdot
        \log \mathrm{softmax}(S_{sb}/\tau_s)

    with P the pairs of a teacher view t and a different student view s
    (Caron et al. 2021, Eq. 3), and the centre c an exponential mean of the
    teacher's output over all processes (Eq. 4).

    Arguments
    ---------
    n_prototypes : int
        Number K of outputs of the head.
    student_temperature : float
        tau_s, above 0.
    center_momentum : float
        Weight of the past in the centre, from 0 to 1.

    Notes
    -----
    The head is `speechbrain_ext.models.DINOHead`, the teacher a
    `speechbrain_ext.models.MomentumTeacher`. The centre is a buffer: put the
    loss among the modules of a Brain, for its device and its checkpoints.

    A head takes the crops [B, D] of one view at a time; stack its outputs.

    Example
    -------
    >>> loss = DINOLoss(n_prototypes=16)
    >>> student = torch.randn(6, 4, 16, requires_grad=True)  # 2 global, 4 local
    >>> teacher = torch.randn(2, 4, 16)
    >>> value = loss(student, teacher, teacher_temperature=0.04)
    >>> value.backward()
    >>> bool(value > 0)
    True

    With networks, and views of unequal length:

    >>> from speechbrain_ext.models import DINOHead, MHFA, MomentumTeacher
    >>> head = DINOHead(256, hidden_size=8, bottleneck_size=4, n_prototypes=16)
    >>> network = torch.nn.Sequential(MHFA(n_layers=3, input_size=8), head)
    >>> mean_of = MomentumTeacher(network)
    >>> views = [torch.randn(3, 4, frames, 8) for frames in (50, 50, 20, 20)]
    >>> teacher = torch.stack([mean_of(view) for view in views[:2]])
    >>> student = torch.stack([network(view) for view in views])
    >>> loss(student, teacher).backward()
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
        """Return the loss of a batch; in train mode, then update the centre.

        Arguments
        ---------
        student : torch.Tensor
            Student outputs of S views of B utterances [S, B, K]; the first G
            views are those that the teacher was given.
        teacher : torch.Tensor
            Teacher outputs [G, B, K].
        teacher_temperature : float
            tau_t, above 0.

        Returns
        -------
        torch.Tensor
            Scalar, float32.
        """
        targets = self.targets(teacher, teacher_temperature)
        value = self.cross_entropy(student, targets)
        if self.training:
            self.update_center(teacher)
        return value

    def cross_entropy(
        self, student: torch.Tensor, targets: torch.Tensor
    ) -> torch.Tensor:
        """Return the cross-entropy of student outputs with targets (Eq. 3).

        Arguments
        ---------
        student : torch.Tensor
            Student outputs [S, B, K]; the first G views are the targets'.
        targets : torch.Tensor
            Distributions [G, B, K] from `targets`; they get no gradient.

        Returns
        -------
        torch.Tensor
            Scalar, float32.
        """
        with single_precision(student):
            return _CrossEntropy.apply(
                student.float(), targets.float(), self.student_temperature
            )

    @torch.no_grad()
    def targets(
        self, teacher: torch.Tensor, teacher_temperature: float
    ) -> torch.Tensor:
        """Return the centred softmax of teacher outputs at its temperature.

        Arguments
        ---------
        teacher : torch.Tensor
            Teacher outputs [..., K].
        teacher_temperature : float
            tau_t, above 0.

        Returns
        -------
        torch.Tensor
            Distributions [..., K], float32.
        """
        centred = teacher.detach().float() - self.center
        return F.softmax(centred.div_(teacher_temperature), dim=-1)

    @torch.no_grad()
    def update_center(self, teacher: torch.Tensor) -> None:
        """Move the centre toward the mean output of the teacher (Eq. 4).

        Arguments
        ---------
        teacher : torch.Tensor
            Teacher outputs [..., K].
        """
        mean = teacher.detach().float().flatten(0, -2).mean(0)
        mean = process_mean(mean, mean.device)
        self.center.lerp_(mean, 1 - self.center_momentum)


class _CrossEntropy(torch.autograd.Function):
    """Mean cross-entropy over all pairs of different views.

    As a target sums to one, its cross-entropy with the student's softmax is
    the student's log-sum-exp minus their inner product. So no log-softmax
    [S, B, K] is kept, and a view needs the sum of its targets only.
    """

    @staticmethod
    def forward(ctx, student, targets, temperature):
        """Return the scalar loss of student [S, B, K] and targets [G, B, K]."""
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
        """Return the gradient: softmax minus target, summed over targets."""
        student, targets, *log_sums = ctx.saved_tensors
        result = torch.empty_like(student)
        mixtures = _mixtures(targets, len(student))
        for view, (mixture, n_targets) in enumerate(mixtures):
            guess = torch.div(student[view], ctx.temperature, out=result[view])
            guess.sub_(log_sums[view]).exp_().mul_(n_targets).sub_(mixture)
        return result.mul_(gradient * ctx.weight / ctx.temperature), None, None


def _mixtures(targets: torch.Tensor, n_views: int) -> Iterator:
    """Yield sum [B, K] and number of the other views' targets, by view."""
    total, n_targets = targets.sum(0), len(targets)
    for view in range(n_views):
        if view < n_targets:
            yield total - targets[view], n_targets - 1
        else:
            yield total, n_targets


def target_statistics(
    targets: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean entropy and mean distribution of DINO's targets.

    They show a collapse: uniform targets have the entropy ln K; targets that
    are all one prototype have the entropy 0 and a one-hot mean.

    Arguments
    ---------
    targets : torch.Tensor
        Distributions [..., K] from `DINOLoss.targets`.

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
