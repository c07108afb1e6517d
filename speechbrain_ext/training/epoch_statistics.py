"""Label-free statistics of an epoch, accumulated step by step."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from speechbrain_ext.utils.distributed import process_mean


class EpochStatistics(torch.nn.Module):
    """Means of the steps' statistics, and the spread of embeddings.

    Everything is accumulated in buffers, the same in all processes, so that
    a checkpoint in mid-epoch resumes it.

    Arguments
    ---------
    names : sequence of str
        Statistics of a step.
    embedding_size : int
        Dimension D of the embeddings.

    Example
    -------
    >>> statistics = EpochStatistics(["loss"], embedding_size=2)
    >>> value = torch.tensor([2.5])
    >>> means = statistics.over_processes([value], torch.eye(2))
    >>> statistics.count(means)
    {'loss': 2.5}
    >>> {k: round(v, 3) for k, v in statistics.close().items()}
    {'loss': 2.5, 'spread': 0.5, 'effective_rank': 1.0}
    """

    sums: torch.Tensor
    mean: torch.Tensor
    second: torch.Tensor
    n_steps: torch.Tensor

    def __init__(self, names: Sequence[str], embedding_size: int):
        super().__init__()
        self.names = list(names)
        sums = torch.zeros(len(self.names), dtype=torch.float64)
        self.register_buffer("sums", sums)
        # Moments of the unit embeddings.
        mean = torch.zeros(embedding_size, dtype=torch.float64)
        self.register_buffer("mean", mean)
        self.register_buffer("second", torch.outer(mean, mean))
        self.register_buffer("n_steps", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def over_processes(
        self, values: Sequence[torch.Tensor], embeddings: torch.Tensor
    ) -> list[torch.Tensor]:
        """Average values over the processes, and count the embeddings.

        Arguments
        ---------
        values : sequence of torch.Tensor
            Of this process, each a vector.
        embeddings : torch.Tensor
            [N, D], of any norm.

        Returns
        -------
        list of torch.Tensor
            As ``values``, float64.
        """
        unit = torch.nn.functional.normalize(embeddings.float(), dim=1)
        own = [*values, unit.mean(0)]
        own.append((unit.T @ unit / len(unit)).flatten())
        parts = process_mean(torch.cat(own), unit.device).double()
        *means, mean, second = parts.split([len(value) for value in own])
        self.mean += mean
        self.second += second.view_as(self.second)
        return means

    @torch.no_grad()
    def count(self, values: Sequence[torch.Tensor]) -> dict[str, float]:
        """Add a step's statistics, each of one element, and name them."""
        step = torch.stack([value.squeeze() for value in values])
        self.sums += step
        self.n_steps += 1
        return dict(zip(self.names, step.tolist(), strict=True))

    def close(self) -> dict[str, float]:
        """Return the statistics of the epoch and reset them.

        Returns
        -------
        dict of str to float
            Means of the steps' statistics; ``spread``, the variance of the
            unit embeddings (0: all the same, 1: in all directions), and their
            ``effective_rank`` (Roy and Vetterli, EUSIPCO 2007), the number of
            directions that the embeddings use.
        """
        n_steps = max(int(self.n_steps), 1)
        means = (self.sums / n_steps).tolist()
        statistics = dict(zip(self.names, means, strict=True))
        mean, second = self.mean / n_steps, self.second / n_steps
        statistics["spread"] = 1 - float(mean.square().sum())
        covariance = second - torch.outer(mean, mean)
        statistics["effective_rank"] = effective_rank(covariance)
        for buffer in (self.sums, self.mean, self.second, self.n_steps):
            buffer.zero_()
        return statistics


def effective_rank(covariance: torch.Tensor) -> float:
    """Compute the exponential of the entropy of normalised eigenvalues.

    Roy and Vetterli, "The effective rank", EUSIPCO 2007, Eq. 2, of the
    covariance in place of the data's singular values.

    Arguments
    ---------
    covariance : torch.Tensor
        Symmetric, positive semi-definite [D, D].

    Returns
    -------
    float
        Between 1 and D; 1 if it is zero.

    Example
    -------
    >>> round(effective_rank(torch.diag(torch.tensor([2.0, 2.0, 0.0]))), 4)
    2.0
    """
    values = torch.linalg.eigvalsh(covariance.double().cpu()).clamp(min=0)
    total = values.sum()
    if total <= 0:
        return 1.0
    shares = values / total
    return float(torch.exp(-torch.special.xlogy(shares, shares).sum()))
