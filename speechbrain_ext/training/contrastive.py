"""Networks of contrastive training, SimCLR or MoCo."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from speechbrain_ext.dataio.manifest import Manifest
from speechbrain_ext.dataio.oracle import true_speakers
from speechbrain_ext.models.momentum_teacher import MomentumTeacher
from speechbrain_ext.training.contrastive_diagnostics import (
    ContrastiveDiagnostics,
)
from speechbrain_ext.training.networks import Networks, new_embedder
from speechbrain_ext.training.oracle_positives import OraclePositives
from speechbrain_ext.training.positives import Positives, ssps_positives
from speechbrain_ext.training.settings import TrainContrastive
from speechbrain_ext.utils.errors import InputError


class Compared(NamedTuple):
    """Outputs of a network for V views of B utterances."""

    embeddings: torch.Tensor  # [V, B, D]
    projections: torch.Tensor  # [V, B, size]


class ContrastiveNet(torch.nn.Module):
    """Embedder and projection head, applied to views.

    Arguments
    ---------
    embedder : torch.nn.Module
        Waveforms [B, T] to embeddings [B, D].
    projection : torch.nn.Module
        Embeddings to what is compared [B, size].

    Example
    -------
    >>> net = ContrastiveNet(torch.nn.Linear(40, 8), torch.nn.Linear(8, 16))
    >>> net(torch.randn(2, 3, 40)).projections.shape
    torch.Size([2, 3, 16])
    """

    def __init__(self, embedder: torch.nn.Module, projection: torch.nn.Module):
        super().__init__()
        self.embedder = embedder
        self.projection = projection

    def forward(self, views: torch.Tensor) -> Compared:
        """Compute the outputs for views [V, B, T], as one batch."""
        embeddings = self.embedder(views.flatten(0, 1))
        projections = self.projection(embeddings)
        shape = views.shape[:2]
        return Compared(
            embeddings.unflatten(0, shape), projections.unflatten(0, shape)
        )


def build_contrastive(
    settings: TrainContrastive, objects: Mapping[str, Any], manifest: Manifest
) -> Networks:
    """Build the networks of a contrastive training.

    Arguments
    ---------
    settings : TrainContrastive
        Of the recipe.
    objects : mapping
        What its YAML wires: ``projection``, called with the embedding size,
        and ``loss``, which MoCo calls with the size of what is compared and
        the number of its keys.
    manifest : Manifest
        The training utterances.

    Returns
    -------
    Networks
        Modules are ``student``, ``loss`` and ``diagnostics``; with MoCo also
        ``teacher``, with positives of other utterances ``positives``. The
        student's embedder is kept.

    Raises
    ------
    InputError
        MoCo's queue would hold keys of the utterances that it is compared
        with, or the oracle lacks an utterance.
    """
    embedder = new_embedder(settings)
    size = embedder.embedding_size
    projection = objects["projection"](size)
    student = ContrastiveNet(embedder, projection)
    modules: dict[str, Any] = {
        "student": student,
        "diagnostics": ContrastiveDiagnostics(size),
    }
    if settings.method == "moco":
        _check_queue(settings, len(manifest))
        modules["teacher"] = MomentumTeacher(student)
        modules["loss"] = objects["loss"](projection.size, settings.n_keys)
    else:
        modules["loss"] = objects["loss"]()
    positives = build_positives(settings, manifest)
    if positives is not None:
        modules["positives"] = positives
    # The loss may have weights of its own.
    head = torch.nn.ModuleList([projection, modules["loss"]])
    return Networks(modules, embedder, head, embedder)


def build_positives(
    settings: TrainContrastive, manifest: Manifest
) -> Positives | None:
    """Build the sampler of positives; None if each is of its own utterance.

    Raises
    ------
    InputError
        There are fewer utterances than clusters, or the oracle lacks one.
    """
    if settings.positives == "ssps":
        return ssps_positives(settings, len(manifest))
    if settings.oracle is not None:
        speakers = true_speakers(settings.oracle, manifest)
        return OraclePositives(speakers, settings.seed)
    return None


def _check_queue(settings: TrainContrastive, n_utterances: int) -> None:
    """Raise InputError if a queue can hold keys of the same utterance."""
    n_keys, size = settings.n_keys, settings.batch_size
    if n_keys > n_utterances:
        fewer = max(n_utterances // (2 * size), 1) * size
        raise InputError(
            f"n_keys is {n_keys} and there are {n_utterances} utterances; "
            "MoCo's queue must not hold keys of the compared utterance as "
            f"negatives; give fewer, e.g. --n_keys={fewer}"
        )
