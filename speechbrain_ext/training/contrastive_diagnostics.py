"""Diagnostics of a contrastive training: alignment and uniformity.

Wang and Isola, "Understanding contrastive representation learning through
alignment and uniformity on the hypersphere", ICML 2020: positives should lie
near each other, and all embeddings far apart. Neither needs labels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from speechbrain_ext.training.epoch_statistics import EpochStatistics
from speechbrain_ext.utils.distributed import gathered

STATISTICS = "loss alignment uniformity".split()


def alignment(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    r"""Return the mean squared distance between positives on the sphere.

    .. math:: \frac{1}{N} \sum_i \|f(x_i) - f(y_i)\|^2

    Wang and Isola, Eq. 3 with alpha = 2.

    Arguments
    ---------
    first, second : torch.Tensor
        Embeddings of positives [N, D], of any norm; rows go together.

    Returns
    -------
    torch.Tensor
        Scalar: 0 where all are the same, 2 for random directions.

    Example
    -------
    >>> alignment(torch.eye(2), torch.ones(2, 2)).item()
    0.585...
    """
    difference = F.normalize(first.float()) - F.normalize(second.float())
    return difference.square().sum(1).mean()


def uniformity(embeddings: torch.Tensor) -> torch.Tensor:
    r"""Return how evenly the embeddings cover the sphere.

    .. math:: \log \frac{1}{N (N - 1)} \sum_{i \neq j}
        e^{-2 \|f(x_i) - f(x_j)\|^2}

    Wang and Isola, section 4.1.2 (Eq. 4) with t = 2.

    Arguments
    ---------
    embeddings : torch.Tensor
        Of different utterances [N, D], of any norm; two or more.

    Returns
    -------
    torch.Tensor
        Scalar: 0 where all are the same, near -4 for random directions.

    Example
    -------
    >>> round(uniformity(torch.eye(3)).item(), 4)
    -4.0
    """
    unit = F.normalize(embeddings.float())
    return torch.pdist(unit).square().mul(-2).exp().mean().log()


class ContrastiveDiagnostics(EpochStatistics):
    """Loss, alignment, uniformity and spread of embeddings over an epoch.

    Arguments
    ---------
    embedding_size : int
        Dimension D of the embeddings.

    Example
    -------
    >>> diagnostics = ContrastiveDiagnostics(embedding_size=3)
    >>> loss, units = torch.tensor(1.5), torch.eye(3)
    >>> found = diagnostics.update(loss, units, units)
    >>> found["alignment"], round(found["uniformity"], 6)
    (0.0, -4.0)
    """

    def __init__(self, embedding_size: int):
        super().__init__(STATISTICS, embedding_size)

    @torch.no_grad()
    def update(
        self, loss: torch.Tensor, first: torch.Tensor, second: torch.Tensor
    ) -> dict[str, float]:
        """Add the statistics of a step.

        Arguments
        ---------
        loss : torch.Tensor
            Of this process's batch, scalar.
        first : torch.Tensor
            Its embeddings [B, D], before the projection.
        second : torch.Tensor
            Those of their positives [B, D].

        Returns
        -------
        dict of str to float
            `STATISTICS` of the step, over all processes.
        """
        own = [loss.detach()[None], alignment(first, second)[None]]
        means = self.over_processes(own, first)
        return self.count([*means, uniformity(gathered(first)).double()])
