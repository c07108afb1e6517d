"""Which labels to believe: the gate on losses, and labels corrected.

Han, Chen and Qian, "Self-supervised speaker verification using dynamic
loss-gate and label correction", Interspeech 2022 (DLG-LC). Networks learn
right labels before wrong ones, so the logarithms of the losses of an epoch
have two modes; two Gaussians fitted to them cross where a label is as likely
right as wrong, and utterances of greater loss are left out of the next epoch.
Where the network is confident of another label, it is used instead.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import torch

from speechbrain_ext.losses.two_gaussians import (
    Mixture,
    fit_beside,
    fit_mixture,
)
from speechbrain_ext.utils.distributed import from_first_process, gathered

# The logarithm of the least positive float32: stands for that of zero.
_LEAST = math.log(torch.finfo(torch.float32).tiny)
_BINS = 60
FITS = ("mixture", "drawn")


class LossGate(torch.nn.Module):
    """Weights of utterances by their loss in the light of the last epoch's.

    Two ways to find the Gaussians of right and of wrong labels:

    - ``"mixture"``, of DLG: both are fitted to the log losses, by EM. If the
      density has no valley there is one mode, and no threshold.
    - ``"drawn"``, ours: each utterance also has its loss for another label,
      drawn at random. That is how wrong labels look, so their Gaussian and
      their share need not be guessed (`fit_beside`). The values are log odds
      against the label, log(exp(loss) - 1): like log losses where they are
      small, but great losses are not pressed together.

    With few utterances right labels too have great losses and there is one
    mode at most; then the second still works. It takes wrong labels to be of
    any speaker: those of a similar speaker look less wrong than drawn ones.

    All processes hold all losses, so that a checkpoint has them and any
    number of processes goes on from it. Losses of zero are always kept and
    left out of the fit. Where a fit gives no threshold (few losses, one mode,
    one Gaussian likelier all the way between the means), the last threshold
    stays; before the first, everything is kept.

    Arguments
    ---------
    n_utterances : int
        Rows N of the training manifest.
    soft : bool
        Weights are 1 or 0 by the threshold (DLG) or, soft, the posterior of
        the Gaussian of lower loss, as Cai et al., "Self-supervised
        reflective learning", 2024.
    fit : str
        ``"mixture"`` or ``"drawn"``.

    Example
    -------
    >>> gate = LossGate(n_utterances=60)
    >>> low, high = torch.linspace(0.1, 0.4, 40), torch.linspace(7, 12, 20)
    >>> losses = torch.cat([low, high])
    >>> gate.weights(gate.record(torch.arange(60), losses, epoch=1)).sum()
    tensor(60.)
    >>> round(gate.close(epoch=1), 2)
    1.15
    >>> gate.weights(gate.record(torch.arange(60), losses, epoch=2)).sum()
    tensor(40.)
    """

    log_losses: torch.Tensor
    log_drawn: torch.Tensor
    epochs: torch.Tensor

    def __init__(
        self, n_utterances: int, soft: bool = False, fit: str = "mixture"
    ):
        super().__init__()
        self.soft = soft
        self.fit = fit
        self.register_buffer("log_losses", torch.zeros(n_utterances))
        n_drawn = n_utterances if fit == "drawn" else 0
        self.register_buffer("log_drawn", torch.zeros(n_drawn))
        # The epoch in which it was seen last; 0 for never.
        epochs = torch.zeros(n_utterances, dtype=torch.int32)
        self.register_buffer("epochs", epochs)
        self.threshold = math.inf
        self.mixture: Mixture | None = None
        self.history: list[dict[str, Any]] = []

    @torch.no_grad()
    def record(
        self,
        rows: torch.Tensor,
        losses: torch.Tensor,
        epoch: int,
        drawn: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Note the losses of a batch of each process.

        Arguments
        ---------
        rows : torch.Tensor
            Of this process's utterances [B], int64, none twice in an epoch.
        losses : torch.Tensor
            Losses of their own labels [B].
        epoch : int
            From 1.
        drawn : torch.Tensor, optional
            Losses of labels drawn at random among the others [B], needed by
            the fit of that name.

        Returns
        -------
        torch.Tensor
            The logarithms of the losses [B].
        """
        log_losses = _log(losses)
        all_rows = gathered(rows)
        self.log_losses[all_rows] = gathered(log_losses)
        if drawn is not None:
            self.log_drawn[all_rows] = gathered(_log(drawn))
        self.epochs[all_rows] = epoch
        return log_losses

    def weights(self, log_losses: torch.Tensor) -> torch.Tensor:
        """Weights [B] in [0, 1] of utterances of such log losses [B]."""
        x = self._scaled(log_losses)
        if not self.soft or self.mixture is None:
            return (x <= self.threshold).float()
        lower = self.mixture.lower_share(x.cpu().numpy())
        return torch.from_numpy(lower).to(log_losses)

    def close(self, epoch: int) -> float:
        """Fit the losses of an epoch; the threshold of the next.

        It is a log loss or, with the fit ``"drawn"``, log odds.
        """
        seen = self.epochs == epoch
        scaled = self._scaled(self.log_losses[seen])
        positive = self.log_losses[seen] > _LEAST
        x = scaled[positive].double().cpu().numpy()
        if self.fit == "drawn":
            drawn = self._scaled(self.log_drawn[seen]).double().cpu().numpy()
            mixture, crossing = from_first_process(_fit_drawn, x, drawn)
        else:
            mixture, crossing = from_first_process(_fit_mixture, x)
        if crossing is not None:
            self.threshold, self.mixture = crossing, mixture
        counts, edges = np.histogram(x, bins=_BINS)
        self.history.append(
            {
                "epoch": epoch,
                "scale": "log odds" if self.fit == "drawn" else "log loss",
                "n_losses": int(seen.sum()),
                "n_zero": int(seen.sum()) - len(x),
                "edges": [float(edges[0]), float(edges[-1])],
                "counts": counts.tolist(),
                "mixture": mixture and dataclasses.asdict(mixture),
                # JSON knows no infinity.
                "threshold": _finite(self.threshold),
                "is_new": crossing is not None,
            }
        )
        return self.threshold

    def _scaled(self, log_losses: torch.Tensor) -> torch.Tensor:
        """What the Gaussians are of [B]: log losses or log odds."""
        if self.fit != "drawn":
            return log_losses
        losses = log_losses.exp()
        return losses + torch.log(-torch.expm1(-losses))

    def get_extra_state(self) -> dict[str, Any]:
        """What a checkpoint has besides the buffers."""
        mixture = self.mixture and dataclasses.asdict(self.mixture)
        return {
            "threshold": self.threshold,
            "mixture": mixture,
            "history": self.history,
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take up what `get_extra_state` gave."""
        self.threshold = state["threshold"]
        self.mixture = state["mixture"] and Mixture(**state["mixture"])
        self.history = state["history"]


def _log(losses: torch.Tensor) -> torch.Tensor:
    return losses.float().log().clamp(min=_LEAST)


def _fit_mixture(x: np.ndarray) -> tuple[Mixture | None, float | None]:
    """The Gaussians and where they cross, if there are two modes."""
    mixture = fit_mixture(x)
    if mixture is None or not mixture.has_two_modes():
        return mixture, None
    return mixture, mixture.crossing()


def _fit_drawn(
    x: np.ndarray, drawn: np.ndarray
) -> tuple[Mixture | None, float | None]:
    """The Gaussians, the upper that of drawn labels, and the crossing."""
    mixture = fit_beside(x, drawn)
    return mixture, None if mixture is None else mixture.crossing()


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


@torch.no_grad()
def correct_labels(
    cosines: torch.Tensor,
    sharpening: float | torch.Tensor,
    confidence: float = 0.5,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels that the network itself would give, where it is confident.

    q = softmax(cosines / c) of Han et al., Interspeech 2022, with cosines of
    clean utterances in place of unbounded logits: the sharpening c then means
    the same whatever the length of an embedding.

    Arguments
    ---------
    cosines : torch.Tensor
        Of utterances with classes [B, C].
    sharpening : float
        c, above 0; see `speechbrain_ext.losses.noisy_labels.Sharpening`.
    confidence : float
        tau_2: the greatest q must exceed it.

    Returns
    -------
    tuple of torch.Tensor
        Labels [B], int64, and whether to use them [B].

    Example
    -------
    >>> cosines = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.2, 0.2]])
    >>> correct_labels(cosines, sharpening=0.1)
    (tensor([0, 0]), tensor([ True, False]))
    """
    shares, labels = torch.softmax(cosines.float() / sharpening, 1).max(1)
    return labels, shares > confidence
