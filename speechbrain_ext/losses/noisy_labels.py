"""Training on labels that may be wrong.

The loss gate, label correction and the confidence of clustering together give
the labels to train on and a factor for each loss.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from speechbrain_ext.losses.aam_softmax import AAMSoftmax
from speechbrain_ext.losses.loss_gate import LossGate, correct_labels
from speechbrain_ext.utils.distributed import gathered, n_processes, process_sum
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.keyed_random import hash_key, uniforms

logger = logging.getLogger(__name__)

GATES = (None, "hard", "soft")
_RATE = 0.1
# Where an utterance has no new label: none was looked for or the network was
# not confident; or it was confident of the label that the utterance had.
_NONE, _CONFIRMED = -1, -2


class Temperature(torch.nn.Module):
    r"""Temperature c of the softmax that corrects labels, learnt or fixed.

    Calibration needs no true speakers. Over utterances whose labels are
    trusted, the mean confidence should equal the accuracy, that is the share
    whose highest cosine is that of their label (Guo et al., "On calibration
    of modern neural networks", ICML 2017, with trusted pseudo-labels as the
    truth). Each batch moves c toward the root of their difference (Robbins
    and Monro, 1951):

    .. math:: \ln c \leftarrow \ln c + 0.1 \,
        (\mathrm{confidence}_c - \mathrm{accuracy})

    Arguments
    ---------
    value : float or None
        A fixed c; None to calibrate it.
    start : float
        First value when calibrated: 1 / scale for the AAM loss's own.

    Example
    -------
    >>> temperature = Temperature(None, start=1 / 30)
    >>> cosines = torch.tensor([[0.5, 0.1], [0.5, 0.1]])
    >>> labels, trusted = torch.tensor([0, 1]), torch.tensor([1.0, 1.0])
    >>> temperature.update(cosines, labels, trusted)
    >>> bool(temperature.value > 1 / 30)  # confident of both, right about one
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
        """Return the temperature c, a scalar on the module's device."""
        return self.log_value.exp()

    @torch.no_grad()
    def update(
        self, cosines: torch.Tensor, labels: torch.Tensor, trusted: torch.Tensor
    ) -> None:
        """Update c from each process's batch.

        Arguments
        ---------
        cosines : torch.Tensor
            [B, C].
        labels : torch.Tensor
            The utterances' labels [B], int64.
        trusted : torch.Tensor
            1.0 where the label is trusted, else 0.0 [B].
        """
        if self.is_fixed:
            return
        shares, guesses = torch.softmax(cosines / self.value, 1).max(1)
        excess = trusted * (shares - (guesses == labels).float())
        sums = process_sum(torch.stack([excess.sum(), trusted.sum()]))
        self.log_value += _RATE * sums[0] / sums[1].clamp(min=1)


class NoisyLabels(torch.nn.Module):
    """Selection of the labels to train on, and of a weight for each loss.

    Han, Chen and Qian, "Self-supervised speaker verification using dynamic
    loss-gate and label correction", Interspeech 2022. Let l_i be the loss of
    utterance i, w_i its weight by the gate (1 before ``gate_from_epoch``) and
    k_i the confidence of clustering in its label (1 without ``confidence``).
    The loss of a batch is

    - without correction: sum of w_i k_i l_i, over the sum of w_i k_i;
    - from ``correct_from_epoch`` on: sum of w_i k_i l_i of the utterances that
      keep their labels, plus that of l_i with the label of which the network
      is confident of those that are rejected (w_i < 1/2), over the batch
      size. If it is another label, the utterance is corrected; if it is the
      label that was rejected, that label is confirmed.

    With a hard gate these are DLG and DLG-LC. Sums are over all processes.
    Call `decide` for each batch and `close` after each epoch.

    Arguments
    ---------
    n_utterances : int
        Number N of utterances in the training set.
    gate : str or None
        ``"hard"``, ``"soft"`` or None for no gate.
    gate_fit : str
        ``fit`` of `LossGate`.
    gate_from_epoch : int
        First epoch, from 1, whose utterances are gated, by the losses of the
        epoch before.
    correct_from_epoch : int or None
        First epoch whose labels are corrected; None for no correction.
    correct_confidence : float
        ``confidence`` of `correct_labels`.
    temperature : float or None
        ``temperature`` of `correct_labels`; None to calibrate it, see
        `Temperature`.
    scale : float
        Scale of the classifier's cosines: calibration starts at 1 / scale.
    confidence : numpy.ndarray or None
        Confidence k of clustering in each label [N], from 0 to 1.

    Raises
    ------
    InputError
        ``gate`` or ``gate_fit`` is none of these.

    Example
    -------
    >>> from speechbrain_ext.losses import AAMSoftmax
    >>> noisy = NoisyLabels(n_utterances=4, gate="hard", gate_from_epoch=2)
    >>> classifier = AAMSoftmax(embedding_size=8, n_classes=3)
    >>> rows, labels = torch.arange(4), torch.tensor([0, 1, 2, 0])
    >>> embeddings = torch.randn(4, 8)
    >>> labels, factors = noisy.decide(
    ...     1, rows, labels, embeddings, classifier, lambda m: embeddings[m]
    ... )
    >>> (factors * classifier(embeddings, labels)).sum().backward()
    >>> noisy.close(epoch=1)
    {'kept': 1.0}
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
        temperature: float | None = None,
        scale: float = 30.0,
        confidence: np.ndarray | None = None,
    ):
        super().__init__()
        if gate not in GATES:
            raise InputError(
                f"gate is {gate!r}; it must be hard, soft or null; correct "
                "--gate"
            )
        self.gate = None
        if gate is not None:
            self.gate = LossGate(n_utterances, gate == "soft", gate_fit)
        self.gate_from_epoch = gate_from_epoch
        self.correct_from_epoch = correct_from_epoch
        self.correct_confidence = correct_confidence
        self.temperature = Temperature(temperature, 1 / scale)
        self.is_idle = gate is None and confidence is None
        if confidence is None:
            confidence = np.ones(n_utterances)
        dtype = torch.get_default_dtype()
        known = torch.as_tensor(confidence, dtype=dtype)
        self.register_buffer("confidence", known, persistent=False)
        # Last weight of each label from the gate, and its new label if any.
        n_gated = 0 if gate is None else n_utterances
        self.register_buffer("given", torch.ones(n_gated))
        corrected = torch.full((n_gated,), _NONE)
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
        """Return the labels of a batch to train on, and weights of the losses.

        Arguments
        ---------
        epoch : int
            Number of the epoch, from 1.
        rows : torch.Tensor
            Indices of the utterances in the training set [B], int64.
        labels : torch.Tensor
            Their labels [B], int64.
        embeddings : torch.Tensor
            Embeddings of their augmented crops [B, D].
        classifier : AAMSoftmax
            The classifier itself, not its DistributedDataParallel.
        embed_clean : callable
            Takes a mask [B] of M utterances and returns embeddings [M, D] of
            their clean crops, in eval mode; called by label correction only.

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
        new = torch.full_like(labels, _NONE)
        first = self.correct_from_epoch
        if first is not None:
            self.temperature.update(cosines, labels, (gate >= 0.5).float())
        if first is None or epoch < first:
            self._note(rows, gate, new)
            return labels, _normalised(weights)
        rejected = gate < 0.5
        if rejected.any():
            cosines = classifier.cosines(embed_clean(rejected))
            new[rejected] = self._guesses(cosines)
        self._note(rows, gate, torch.where(new == labels, _CONFIRMED, new))
        weights = torch.where(new >= 0, 1.0, weights)
        return torch.where(new >= 0, new, labels), weights / len(rows)

    def _guesses(self, cosines: torch.Tensor) -> torch.Tensor:
        """Return new labels [M]; -1 where the network is not confident."""
        labels, confident = correct_labels(
            cosines, self.temperature.value, self.correct_confidence
        )
        return torch.where(confident, labels, _NONE)

    def _note(
        self, rows: torch.Tensor, gate: torch.Tensor, new: torch.Tensor
    ) -> None:
        rows = gathered(rows)
        self.given[rows] = gathered(gate)
        self.corrected[rows] = gathered(new)

    def close(self, epoch: int) -> dict[str, float]:
        """End an epoch: return its statistics and set the next threshold.

        Arguments
        ---------
        epoch : int
            The epoch that ends.

        Returns
        -------
        dict of str to float
            Shares of its utterances whose labels were ``kept`` (weight 1/2
            or more) and, with correction, ``corrected`` (changed to another
            label; a confirmed one is not), and the ``temperature``; empty
            without a gate. The gate's history has them too.
        """
        if self.gate is None:
            return {}
        seen = self.gate.epochs == epoch
        kept, corrected = self.given[seen] >= 0.5, self.corrected[seen] >= 0
        n_seen = max(int(seen.sum()), 1)
        statistics = {"kept": float(kept.sum()) / n_seen}
        if self.correct_from_epoch is not None:
            statistics["corrected"] = float(corrected.sum()) / n_seen
            statistics["temperature"] = float(self.temperature.value)
        # These belong to the threshold that is being replaced. One of an early
        # epoch would outlast it where later losses give none.
        is_next_gated = epoch + 1 >= self.gate_from_epoch
        self.gate.close(epoch, sets_threshold=is_next_gated)
        self.gate.history[-1].update(statistics)
        if is_next_gated:
            _say_if_no_threshold(self.gate)
        return statistics

    def states(self, ids: np.ndarray, names: list[str]) -> dict[str, Any]:
        """Return a table of the gate's decision for each utterance.

        Arguments
        ---------
        ids : numpy.ndarray
            IDs of the utterances [N].
        names : list of str
            Names of the classes.

        Returns
        -------
        dict of str to sequence
            ``ID``; the ``epoch`` in which it was seen last (0: never) and
            its ``log_loss`` then; the ``weight`` of its label, ``kept``
            (weight 1/2 or more); the ``corrected`` label, empty if it was
            not changed; and whether it was ``confirmed`` (rejected by the
            gate, but the network is confident of it: trained on in full).
            Empty without a gate.
        """
        if self.gate is None:
            return {}
        corrected = self.corrected.cpu().numpy()
        new = np.array([*names, ""], dtype=object)[np.maximum(corrected, _NONE)]
        given = self.given.cpu().numpy()
        return {
            "ID": ids,
            "epoch": self.gate.epochs.cpu().numpy(),
            "log_loss": self.gate.log_losses.cpu().numpy().round(4),
            "weight": given.round(4),
            "kept": given >= 0.5,
            "corrected": new,
            "confirmed": corrected == _CONFIRMED,
        }


def _say_if_no_threshold(gate: LossGate) -> None:
    """Warn if the last epoch's losses gave no threshold for the next one."""
    last = gate.history[-1]
    if last["is_new"]:
        return
    stays = "there is none yet, so that the gate keeps all labels"
    if last["threshold"] is not None:
        stays = f"the last one, {last['threshold']:.4g}, stays"
    logger.warning(
        f"epoch {last['epoch']}: NO THRESHOLD for the gate in its losses "
        f"(gate_fit {gate.fit}: nothing crosses between two means); {stays}"
    )


def other_labels(
    rows: torch.Tensor, labels: torch.Tensor, n_classes: int, epoch: int
) -> torch.Tensor:
    """Draw another label for each utterance, all others equally likely.

    It is a function of row, label and epoch: it depends neither on the batch
    nor on the process.

    Arguments
    ---------
    rows : torch.Tensor
        Indices of the utterances in the training set [B].
    labels : torch.Tensor
        Their labels [B].
    n_classes : int
        Number C of classes, 2 or more.
    epoch : int
        Number of the epoch, from 1.

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
    """Return weights [B] over the processes' mean sum; zeros stay zeros."""
    total = process_sum(weights.sum()) / n_processes()
    return weights / torch.where(total > 0, total, 1.0)
