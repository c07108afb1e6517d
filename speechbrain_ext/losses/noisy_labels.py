"""A batch's labels and weights, when labels may be wrong.

The loss gate, label correction and the confidence of clustering, put together
into the labels to train on and a factor for each loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from speechbrain_ext.losses.aam_softmax import AAMSoftmax
from speechbrain_ext.losses.loss_gate import LossGate, correct_labels
from speechbrain_ext.utils.distributed import gathered, n_processes, process_sum
from speechbrain_ext.utils.keyed_random import hash_key, uniforms

_RATE = 0.1


class Sharpening(torch.nn.Module):
    r"""The number c by which cosines are divided before the softmax.

    Calibrated without labels of speakers: of utterances whose labels are
    trusted, the mean confidence should be the share whose greatest cosine is
    that of their label (Guo et al., "On calibration of modern neural
    networks", ICML 2017, with trusted pseudo-labels as the truth). With both
    measured on every batch, a root of their difference is followed
    (Robbins and Monro, 1951):

    .. math:: \ln c \leftarrow \ln c + 0.1 \,
        (\mathrm{confidence}_c - \mathrm{accuracy})

    Arguments
    ---------
    value : float or None
        A fixed c; None: calibrated.
    start : float
        Where calibration starts, the loss's own being one over its scale.

    Example
    -------
    >>> sharpening = Sharpening(None, start=1 / 30)
    >>> cosines = torch.tensor([[0.5, 0.1], [0.5, 0.1]])
    >>> labels, trusted = torch.tensor([0, 1]), torch.tensor([1.0, 1.0])
    >>> sharpening.update(cosines, labels, trusted)
    >>> bool(sharpening.value > 1 / 30)  # sure of both, right about one
    True
    """

    log_value: torch.Tensor

    def __init__(self, value: float | None, start: float):
        super().__init__()
        self.is_fixed = value is not None
        log_value = math.log(start if value is None else value)
        self.register_buffer("log_value", torch.tensor(log_value))

    @property
    def value(self) -> torch.Tensor:
        """c, a scalar on the module's device."""
        return self.log_value.exp()

    @torch.no_grad()
    def update(
        self, cosines: torch.Tensor, labels: torch.Tensor, trusted: torch.Tensor
    ) -> None:
        """Move c by a batch of each process.

        Arguments
        ---------
        cosines : torch.Tensor
            [B, C].
        labels : torch.Tensor
            The utterances' own [B].
        trusted : torch.Tensor
            1 where the label is trusted, else 0 [B].
        """
        if self.is_fixed:
            return
        shares, guesses = torch.softmax(cosines / self.value, 1).max(1)
        excess = trusted * (shares - (guesses == labels).float())
        sums = process_sum(torch.stack([excess.sum(), trusted.sum()]))
        self.log_value += _RATE * sums[0] / sums[1].clamp(min=1)


class NoisyLabels(torch.nn.Module):
    """Decides, batch by batch, what to train on and how much.

    With l_i the loss of utterance i, w_i the gate's weight of it (1 before
    ``gate_from_epoch``) and k_i the confidence of clustering in its label
    (1 without), the loss of a batch is

    - without correction: sum of w_i k_i l_i over the sum of w_i k_i;
    - from ``correct_from_epoch``: the sum of w_i k_i l_i over those that keep
      their labels and of l_i, of the new label, over those rejected
      (w_i < 1/2) and confident of another, over the batch size,

    which with a hard gate are the losses of Han et al., Interspeech 2022
    (DLG, DLG-LC). Sums are over the batches of all processes.

    Arguments
    ---------
    n_utterances : int
        Rows N of the training manifest.
    gate : str or None
        ``"hard"``, ``"soft"`` or none.
    gate_fit : str
        Of `LossGate`.
    gate_from_epoch : int
        The first whose utterances are gated, by the losses of the one
        before; from 1.
    correct_from_epoch : int or None
        The first in which labels are corrected; None: never.
    correct_confidence : float
        tau_2 of `correct_labels`.
    sharpening : float or None
        c of `correct_labels`; None: calibrated, see `Sharpening`.
    scale : float
        Of the loss's cosines: where calibration starts.
    confidence : numpy.ndarray or None
        k [N], from `label_confidence`.
    """

    confidence: torch.Tensor
    given: torch.Tensor
    corrected: torch.Tensor

    def __init__(
        self,
        n_utterances: int,
        gate: str | None = None,
        gate_fit: str = "mixture",
        gate_from_epoch: int = 5,
        correct_from_epoch: int | None = None,
        correct_confidence: float = 0.5,
        sharpening: float | None = None,
        scale: float = 30.0,
        confidence: np.ndarray | None = None,
    ):
        super().__init__()
        self.gate = None
        if gate is not None:
            self.gate = LossGate(n_utterances, gate == "soft", gate_fit)
        self.gate_from_epoch = gate_from_epoch
        self.correct_from_epoch = correct_from_epoch
        self.correct_confidence = correct_confidence
        self.sharpening = Sharpening(sharpening, 1 / scale)
        self.is_idle = gate is None and confidence is None
        if confidence is None:
            confidence = np.ones(n_utterances)
        dtype = torch.get_default_dtype()
        known = torch.as_tensor(confidence, dtype=dtype)
        self.register_buffer("confidence", known, persistent=False)
        # The gate's last weight of each label, and the new label or -1.
        n_gated = 0 if gate is None else n_utterances
        self.register_buffer("given", torch.ones(n_gated))
        corrected = torch.full((n_gated,), -1)
        self.register_buffer("corrected", corrected)

    @torch.no_grad()
    def decide(
        self,
        epoch: int,
        rows: torch.Tensor,
        labels: torch.Tensor,
        embeddings: torch.Tensor,
        classifier: AAMSoftmax,
        embed_clean: Callable[[torch.Tensor], torch.Tensor],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Labels of a batch and factors, whose products with losses add up.

        Arguments
        ---------
        epoch : int
            From 1.
        rows : torch.Tensor
            Of the utterances in the training manifest [B], int64.
        labels : torch.Tensor
            Their own labels [B].
        embeddings : torch.Tensor
            Of their augmented crops [B, D].
        classifier : AAMSoftmax
            As it is, outside of what wraps it for several processes.
        embed_clean : callable
            From a mask [B] of M utterances to embeddings [M, D] of their
            clean crops, in eval mode; called only where some are rejected.

        Returns
        -------
        tuple of torch.Tensor
            Labels [B] to train on and factors [B]: the mean over processes of
            ``(factors * losses).sum()`` is the loss.
        """
        weights = self.confidence[rows]
        if self.is_idle:
            return labels, weights / len(rows)
        if self.gate is None:
            return labels, _normalised(weights)
        cosines = classifier.cosines(embeddings)
        losses = classifier.losses(cosines, labels)
        drawn = None
        if self.gate.fit == "drawn":
            others = other_labels(rows, labels, cosines.shape[1], epoch)
            drawn = classifier.losses(cosines, others)
        log_losses = self.gate.record(rows, losses, epoch, drawn)
        gate = torch.ones_like(weights)
        if epoch >= self.gate_from_epoch:
            gate = self.gate.weights(log_losses)
        weights = weights * gate
        new = torch.full_like(labels, -1)
        first = self.correct_from_epoch
        if first is not None:
            self.sharpening.update(cosines, labels, (gate >= 0.5).float())
        if first is None or epoch < first:
            self._note(rows, gate, new)
            return labels, _normalised(weights)
        rejected = gate < 0.5
        if rejected.any():
            cosines = classifier.cosines(embed_clean(rejected))
            new[rejected] = self._guesses(cosines)
        self._note(rows, gate, new)
        weights = torch.where(new >= 0, 1.0, weights)
        return torch.where(new >= 0, new, labels), weights / len(rows)

    def _guesses(self, cosines: torch.Tensor) -> torch.Tensor:
        """New labels [M], -1 without confidence."""
        labels, confident = correct_labels(
            cosines, self.sharpening.value, self.correct_confidence
        )
        return torch.where(confident, labels, -1)

    def _note(
        self, rows: torch.Tensor, gate: torch.Tensor, new: torch.Tensor
    ) -> None:
        rows = gathered(rows)
        self.given[rows] = gathered(gate)
        self.corrected[rows] = gathered(new)

    def close(self, epoch: int) -> dict[str, float]:
        """Figures of an epoch, whose losses gate the next.

        Returns
        -------
        dict of str to float
            Shares of its utterances whose labels were ``kept`` (weight 1/2
            or more) and ``corrected``, with correction the ``sharpening``;
            nothing without a gate. The history has them too.
        """
        if self.gate is None:
            return {}
        seen = self.gate.epochs == epoch
        kept, corrected = self.given[seen] >= 0.5, self.corrected[seen] >= 0
        n_seen = max(int(seen.sum()), 1)
        figures = {"kept": float(kept.sum()) / n_seen}
        if self.correct_from_epoch is not None:
            figures["corrected"] = float(corrected.sum()) / n_seen
            figures["sharpening"] = float(self.sharpening.value)
        # The epoch was gated by the threshold that the next one replaces.
        self.gate.close(epoch)
        self.gate.history[-1].update(figures)
        return figures

    def states(self, ids: np.ndarray, names: list[str]) -> dict[str, Any]:
        """What the gate made of each utterance: columns of a table.

        Arguments
        ---------
        ids : numpy.ndarray
            IDs of the training manifest [N].
        names : list of str
            Of the classes.

        Returns
        -------
        dict of str to sequence
            ``ID``; the ``epoch`` in which it was seen last (0: never) and
            its ``log_loss`` then; the gate's ``weight`` of its label,
            ``kept`` (1/2 or more) and the ``corrected`` label, empty if there
            is none. Nothing without a gate.
        """
        if self.gate is None:
            return {}
        corrected = self.corrected.cpu().numpy()
        new = np.array([*names, ""], dtype=object)[corrected]
        given = self.given.cpu().numpy()
        return {
            "ID": ids,
            "epoch": self.gate.epochs.cpu().numpy(),
            "log_loss": self.gate.log_losses.cpu().numpy().round(4),
            "weight": given.round(4),
            "kept": given >= 0.5,
            "corrected": new,
        }


def other_labels(
    rows: torch.Tensor, labels: torch.Tensor, n_classes: int, epoch: int
) -> torch.Tensor:
    """A label that is not its own for each utterance of a batch.

    Any other is as likely. It is a function of row, label and epoch, so that
    it depends on neither batch nor process.

    Arguments
    ---------
    rows : torch.Tensor
        Of the utterances in the training manifest [B].
    labels : torch.Tensor
        Their own labels [B].
    n_classes : int
        C, 2 or more.
    epoch : int
        From 1.

    Returns
    -------
    torch.Tensor
        [B], int64.

    Example
    -------
    >>> other_labels(torch.arange(3), torch.tensor([0, 1, 1]), 2, epoch=1)
    tensor([1, 0, 0])
    """
    keys = rows.cpu().numpy().astype(np.uint64)
    keys += np.uint64(hash_key("other label", epoch) >> 8)
    steps = np.floor(uniforms(keys, 1)[:, 0] * (n_classes - 1)).astype(int)
    offset = torch.from_numpy(steps).to(labels.device) + 1
    return (labels + offset) % n_classes


def _normalised(weights: torch.Tensor) -> torch.Tensor:
    """Weights [B] over their sum in a mean process; zeros stay zeros."""
    total = process_sum(weights.sum()) / n_processes()
    return weights / torch.where(total > 0, total, 1.0)
