"""Loss gate and label correction: selection of labels to train on.

Han, Chen and Qian, "Self-supervised speaker verification using dynamic
loss-gate and label correction", Interspeech 2022 (DLG-LC). Networks learn
right labels before wrong ones, so the log losses of an epoch have two modes.
Two Gaussians fitted to them cross where a label is as likely right as wrong;
utterances of a higher loss are left out of the next epoch. Where the network
is confident of another label, that label is used instead.
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
from speechbrain_ext.utils.errors import InputError

# Log of the smallest positive float32, in place of log(0).
_LEAST = math.log(torch.finfo(torch.float32).tiny)
_BINS = 60
FITS = ("mixture", "valley", "drawn")


class LossGate(torch.nn.Module):
    """Gate that weights utterances by their loss and the last epoch's.

    Han, Chen and Qian, "Self-supervised speaker verification using dynamic
    loss-gate and label correction", Interspeech 2022 (DLG). In each epoch,
    `record` the losses of every batch and ask for its `weights`; `close` the
    epoch to get the threshold of the next one.

    There are three ways to find the Gaussians of right and of wrong labels:

    - ``"mixture"``, that of DLG: both are fitted to the log losses, by EM.
    - ``"valley"``, of this package: as ``"mixture"``, but a density without a
      valley between the means is taken for one mode, which gives no threshold.
      Two Gaussians fit a single skewed mode best too, and then cross in it.
    - ``"drawn"``, of this package: the loss of each utterance for another
      label, drawn at random, is recorded too. It shows how wrong labels look,
      so that their Gaussian and their share need not be guessed
      (`speechbrain_ext.losses.two_gaussians.fit_beside`). The values are the
      log odds against the label, log(exp(loss) - 1): near the log loss for
      low losses, without compressing high ones.

    With few utterances, right labels have high losses too and there is one
    mode at most; ``"drawn"`` still works there. It takes wrong labels to be of
    any speaker: those of a similar speaker look less wrong than drawn ones.

    Every process holds all losses, so that a checkpoint can be resumed by any
    number of processes. Losses of zero have weight 1 and are left out of the
    fit. Where a fit gives no threshold (few losses, one Gaussian likelier all
    the way between the means), the last threshold stays; before the first one,
    all weights are 1.

    Arguments
    ---------
    n_utterances : int
        Number N of utterances in the training set.
    soft : bool
        False: weights are 1 or 0, by the threshold (DLG). True: they are the
        posterior of the Gaussian of lower losses (Cai et al., "Self-supervised
        reflective learning through self-distillation and online clustering for
        speaker representation learning", 2024).
    fit : str
        ``"mixture"``, ``"valley"`` or ``"drawn"``.

    Raises
    ------
    InputError
        ``fit`` is none of these.

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
        if fit not in FITS:
            raise InputError(
                f"gate_fit is {fit!r}; it must be one of {', '.join(FITS)}; "
                "correct --gate_fit"
            )
        self.soft = soft
        self.fit = fit
        self.register_buffer("log_losses", torch.zeros(n_utterances))
        n_drawn = n_utterances if fit == "drawn" else 0
        self.register_buffer("log_drawn", torch.zeros(n_drawn))
        # The epoch in which each utterance was last seen; 0 for never.
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
        """Record the losses of each process's batch.

        Arguments
        ---------
        rows : torch.Tensor
            Indices of this process's utterances [B], int64, from 0 to N - 1;
            none twice in an epoch.
        losses : torch.Tensor
            Losses of their own labels [B], 0 or more, as a criterion returns
            them; what is recorded has no gradient.
        epoch : int
            Number of the epoch, from 1; others may have been left out.
        drawn : torch.Tensor, optional
            Losses of labels drawn at random among the others [B]; needed by
            the fit ``"drawn"``.

        Returns
        -------
        torch.Tensor
            Log losses [B], for `weights`.
        """
        log_losses = _log(losses)
        all_rows = gathered(rows)
        self.log_losses[all_rows] = gathered(log_losses)
        if drawn is not None:
            self.log_drawn[all_rows] = gathered(_log(drawn))
        self.epochs[all_rows] = epoch
        return log_losses

    def weights(self, log_losses: torch.Tensor) -> torch.Tensor:
        """Return the weights of utterances by the last epoch's threshold.

        Arguments
        ---------
        log_losses : torch.Tensor
            [B], from `record`.

        Returns
        -------
        torch.Tensor
            [B], from 0 to 1, without gradient; the loss of the batch is the
            mean of weight times loss.
        """
        x = self._scaled(log_losses)
        if not self.soft or self.mixture is None:
            return (x <= self.threshold).float()
        lower = self.mixture.lower_share(x.cpu().numpy())
        return torch.from_numpy(lower).to(log_losses)

    def close(self, epoch: int, sets_threshold: bool = True) -> float:
        """Fit an epoch's losses to set the weights of the next epoch.

        Arguments
        ---------
        epoch : int
            The epoch that ends. One without losses keeps the threshold.
        sets_threshold : bool
            False if the next epoch is not gated: the fit is only noted.

        Returns
        -------
        float
            Threshold: a log loss or, with the fit ``"drawn"``, log odds;
            infinite as long as no fit gave one. ``history`` has it, the fit
            and a histogram of each epoch.
        """
        seen = self.epochs == epoch
        scaled = self._scaled(self.log_losses[seen])
        positive = self.log_losses[seen] > _LEAST
        x = scaled[positive].double().cpu().numpy()
        if self.fit == "drawn":
            drawn = self._scaled(self.log_drawn[seen]).double().cpu().numpy()
            mixture, crossing = from_first_process(_fit_drawn, x, drawn)
        else:
            valley = self.fit == "valley"
            mixture, crossing = from_first_process(_fit_mixture, x, valley)
        is_new = crossing is not None and sets_threshold
        if is_new:
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
                # JSON has no infinity.
                "threshold": _finite(self.threshold),
                "is_new": is_new,
            }
        )
        return self.threshold

    def _scaled(self, log_losses: torch.Tensor) -> torch.Tensor:
        """Return the values to fit [B]: log losses or log odds."""
        if self.fit != "drawn":
            return log_losses
        losses = log_losses.exp()
        return losses + torch.log(-torch.expm1(-losses))

    def get_extra_state(self) -> dict[str, Any]:
        """Return the state that a checkpoint needs besides the buffers."""
        mixture = self.mixture and dataclasses.asdict(self.mixture)
        return {
            "threshold": self.threshold,
            "mixture": mixture,
            "history": self.history,
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore what `get_extra_state` returned."""
        self.threshold = state["threshold"]
        self.mixture = state["mixture"] and Mixture(**state["mixture"])
        self.history = state["history"]


def _log(losses: torch.Tensor) -> torch.Tensor:
    return losses.float().log().clamp(min=_LEAST)


def _fit_mixture(
    x: np.ndarray, valley: bool
) -> tuple[Mixture | None, float | None]:
    """Fit two Gaussians; return them, and their crossing if there is one."""
    mixture = fit_mixture(x)
    if mixture is None or (valley and not mixture.has_two_modes()):
        return mixture, None
    return mixture, mixture.crossing()


def _fit_drawn(
    x: np.ndarray, drawn: np.ndarray
) -> tuple[Mixture | None, float | None]:
    """Fit Gaussians of right and of redrawn labels, and their crossing."""
    mixture = fit_beside(x, drawn)
    return mixture, None if mixture is None else mixture.crossing()


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


@torch.no_grad()
def correct_labels(
    cosines: torch.Tensor,
    temperature: float | torch.Tensor,
    confidence: float = 0.5,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each utterance's predicted label and its confidence.

    Label correction of Han et al., Interspeech 2022: q = softmax(cosines / c),
    with cosines of clean utterances in place of unbounded logits, so that the
    temperature c does not depend on the norm of an embedding.

    Arguments
    ---------
    cosines : torch.Tensor
        Cosines of embeddings and class prototypes [B, C].
    temperature : float or torch.Tensor
        c, above 0; `speechbrain_ext.losses.noisy_labels.Temperature`
        calibrates it.
    confidence : float
        tau_2: a label is confident if its q is above.

    Returns
    -------
    labels : torch.Tensor
        Predicted labels [B], int64.
    confident : torch.Tensor
        Whether each is confident [B], bool.

    Example
    -------
    >>> cosines = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.2, 0.2]])
    >>> correct_labels(cosines, temperature=0.1)
    (tensor([0, 0]), tensor([ True, False]))
    """
    shares, labels = torch.softmax(cosines.float() / temperature, 1).max(1)
    return labels, shares > confidence
