"""Label-free diagnostics of DINO, and detection of its collapse.

DINO collapses in two ways (Caron et al., ICCV 2021, section 5.3): every
target p becomes the uniform distribution, or all become the same prototype.
The mean entropy of the targets shows the one, the entropy of their mean the
other, and the difference of the two,

    I = H(mean of p) - mean of H(p),

the mutual information of utterance and prototype, vanishes in both, whereas
the loss alone may look well.
"""

from __future__ import annotations

import logging
import math

import torch

from speechbrain_ext.training.epoch_statistics import EpochStatistics
from speechbrain_ext.utils.distributed import n_processes
from speechbrain_ext.utils.errors import InputError

logger = logging.getLogger(__name__)

STATISTICS = "loss kl entropy information prototypes center_norm".split()


class CollapseError(InputError):
    """Error that stops a collapsed training."""


def patience_steps(epochs: float | None, steps_per_epoch: int) -> int | None:
    """Convert a patience in epochs to at least one step; None stays None.

    Example
    -------
    >>> patience_steps(0.5, 100), patience_steps(0.001, 100)
    (50, 1)
    """
    if epochs is None or math.isinf(epochs):
        return None
    return max(round(epochs * steps_per_epoch), 1)


class DinoDiagnostics(EpochStatistics):
    """Statistics of a DINO epoch; raises `CollapseError` on collapse.

    Arguments
    ---------
    n_prototypes : int
        Outputs K of the head.
    embedding_size : int
        Dimension D of the embeddings.
    patience : int or None
        Collapsed steps in a row that end the run; None: none do.
    uniform_gap : float
        Targets are uniform if their mean entropy is within this many nats of
        ln K.
        At the start of training, cosines with prototypes in 256 dimensions
        over 0.04 leave 1.2 nats.
    one_hot_usage : float
        A batch whose targets use fewer prototypes has collapsed to one; if
        it has few targets, a quarter of their number counts.

    Example
    -------
    >>> diagnostics = DinoDiagnostics(4, embedding_size=2, patience=9)
    >>> targets = torch.eye(4)[[0, 1]]  # two utterances, two prototypes
    >>> step = diagnostics.update(
    ...     loss=torch.tensor(1.5),
    ...     entropy=torch.tensor(0.0),
    ...     usage=targets.mean(0),
    ...     embeddings=torch.eye(2),
    ...     center=torch.zeros(4),
    ... )
    >>> round(step["information"], 3), round(step["kl"], 3)
    (0.693, 1.5)
    >>> found = diagnostics.close()
    >>> round(found["spread"], 3), round(found["effective_rank"], 3)
    (0.5, 1.0)
    """

    n_collapsed: torch.Tensor

    def __init__(
        self,
        n_prototypes: int,
        embedding_size: int,
        patience: int | None,
        uniform_gap: float = 0.5,
        one_hot_usage: float = 4.0,
    ):
        super().__init__(STATISTICS, embedding_size)
        self.uniform = math.log(n_prototypes)
        self.patience = patience
        self.uniform_gap = uniform_gap
        self.one_hot_usage = one_hot_usage
        self.register_buffer("n_collapsed", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def update(
        self,
        loss: torch.Tensor,
        entropy: torch.Tensor,
        usage: torch.Tensor,
        embeddings: torch.Tensor,
        center: torch.Tensor,
    ) -> dict[str, float]:
        """Add the statistics of a step.

        Arguments
        ---------
        loss : torch.Tensor
            DINO's cross-entropy of this process's batch, scalar, nats.
        entropy : torch.Tensor
            Mean entropy of its targets, scalar, nats.
        usage : torch.Tensor
            Mean of its targets [K].
        embeddings : torch.Tensor
            The teacher's [N, D].
        center : torch.Tensor
            The loss's centre [K].

        Returns
        -------
        dict of str to float
            `STATISTICS` of the step over all processes: the loss, the
            student's divergence from the targets (``kl``), their entropy, the
            mutual information, the number of prototypes in use (exp of the
            entropy of the mean target) and the norm of the centre.

        Raises
        ------
        CollapseError
            ``patience`` steps in a row were collapsed.
        """
        loss, entropy, usage = self.over_processes(
            [loss[None], entropy[None], usage], embeddings
        )
        variety = torch.special.entr(usage).sum()
        values = [loss, loss - entropy, entropy, variety - entropy]
        values += [variety.exp(), center.double().norm()]
        statistics = self.count(values)
        n_targets = len(embeddings) * n_processes()
        least = min(self.one_hot_usage, n_targets / 4)
        self._check(statistics, least)
        return statistics

    def _check(self, statistics: dict[str, float], least: float) -> None:
        entropy, n_used = statistics["entropy"], statistics["prototypes"]
        uniform = entropy > self.uniform - self.uniform_gap
        collapsed = uniform or n_used < least
        self.n_collapsed.copy_((self.n_collapsed + 1) * collapsed)
        if self.patience is None or self.n_collapsed < self.patience:
            return
        if uniform:
            way = "uniform: all prototypes are equally likely"
            remedy = (
                "lower --teacher_temperature below the loss's "
                "student_temperature (0.04 and 0.1 are usual)"
            )
        else:
            way = "one-hot: every utterance has the same prototype"
            remedy = (
                "give --loss='{center_momentum: 0.9}' or raise "
                "--teacher_temperature"
            )
        message = (
            f"DINO has collapsed ({way}): for {self.patience} steps or more, "
            f"the teacher's targets have had an entropy of about {entropy:.3f} "
            f"(ln K is {self.uniform:.3f}) and used about {n_used:.1f} "
            f"prototypes; the loss is {statistics['loss']:.3f}; {remedy}, "
            "lower --lr or raise --batch_size, and start anew with "
            "--overwrite=true, or continue with a larger --collapse_patience"
        )
        logger.error(message)
        raise CollapseError(message)
