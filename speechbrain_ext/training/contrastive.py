"""What a contrastive training consists of: all that has weights or state."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.optim.swa_utils import AveragedModel

from speechbrain_ext.dataio.manifest import Manifest
from speechbrain_ext.dataio.oracle import true_speakers
from speechbrain_ext.losses.contrastive import MoCoLoss, NTXentLoss
from speechbrain_ext.models.embedder import build_embedder
from speechbrain_ext.models.heads import Projection
from speechbrain_ext.models.momentum_teacher import MomentumTeacher
from speechbrain_ext.training.contrastive_diagnostics import ContrastiveHealth
from speechbrain_ext.training.oracle_positives import OraclePositives
from speechbrain_ext.training.positives import Positives, PositiveSampler
from speechbrain_ext.utils.errors import InputError

METHODS = ("simclr", "moco")
POSITIVES = ("utterance", "ssps", "oracle")


class Compared(NamedTuple):
    """What a network makes of V views of B utterances."""

    embeddings: torch.Tensor  # [V, B, D]
    projections: torch.Tensor  # [V, B, size]


class ContrastiveNet(torch.nn.Module):
    """Embedder and projection: views to what is compared.

    Arguments
    ---------
    embedder : torch.nn.Module
        Waveforms [B, T] to embeddings [B, D].
    projection : Projection
        For embeddings of size D.

    Example
    -------
    >>> net = ContrastiveNet(torch.nn.Linear(40, 8), Projection(8, 32, 16))
    >>> net(torch.randn(2, 3, 40)).projections.shape
    torch.Size([2, 3, 16])
    """

    def __init__(self, embedder: torch.nn.Module, projection: Projection):
        super().__init__()
        self.embedder = embedder
        self.projection = projection

    def forward(self, views: torch.Tensor) -> Compared:
        """Outputs for views [V, B, T], which are one batch."""
        embeddings = self.embedder(views.flatten(0, 1))
        projections = self.projection(embeddings)
        shape = views.shape[:2]
        return Compared(
            embeddings.unflatten(0, shape), projections.unflatten(0, shape)
        )


def build_modules(
    settings: dict[str, Any], hparams: dict[str, Any], manifest: Manifest
) -> dict[str, Any]:
    """The modules of a recipe, in the order in which they are drawn.

    Arguments
    ---------
    settings : dict
        The recipe's YAML as plain values.
    hparams : dict
        Its objects: ``projection``, a function of the embedding size.
    manifest : Manifest
        The training utterances.

    Returns
    -------
    dict of str to torch.nn.Module
        ``student``, ``mean_embedder``, ``loss`` and ``health``; with MoCo
        also ``teacher``, with positives of other utterances ``positives``.

    Raises
    ------
    InputError
        A setting makes no such module.
    """
    embedder = build_embedder(settings["embedder_yaml"], settings["embedder"])
    size = embedder.embedding_size
    student = ContrastiveNet(embedder, hparams["projection"](size))
    mean_embedder = AveragedModel(embedder, use_buffers=True)
    forms = settings["temperature"], settings["margin"], settings["margin_form"]
    modules: dict[str, Any] = {
        "student": student,
        "mean_embedder": mean_embedder.requires_grad_(False),
        "health": ContrastiveHealth(size),
    }
    if settings["method"] == "moco":
        compared = student.projection.size
        modules["teacher"] = MomentumTeacher(student)
        modules["loss"] = MoCoLoss(compared, settings["n_keys"], *forms)
    else:
        modules["loss"] = NTXentLoss(*forms)
    positives = build_positives(settings, manifest)
    if positives is not None:
        modules["positives"] = positives
    return modules


def build_positives(
    settings: dict[str, Any], manifest: Manifest
) -> Positives | None:
    """Whose crops an utterance is to be near; None for its own.

    Arguments
    ---------
    settings : dict
        ``positives`` and what goes with it: ``ssps_clusters``,
        ``ssps_neighbours``; ``oracle``.
    manifest : Manifest
        The training utterances.

    Raises
    ------
    InputError
        See `check_positives`; clusters that cannot be; an utterance that the
        oracle lacks.
    """
    if settings["positives"] == "ssps":
        return PositiveSampler(
            len(manifest),
            settings["ssps_clusters"],
            settings["ssps_neighbours"],
            settings["seed"],
        )
    if settings["positives"] == "oracle":
        speakers = true_speakers(settings["oracle"], manifest)
        return OraclePositives(speakers, settings["seed"])
    return None


def n_positive_epochs(settings: dict[str, Any]) -> int:
    """Last epochs with positives of other utterances.

    Example
    -------
    >>> settings = {"n_ssps_epochs": 2, "n_epochs": 9}
    >>> n_positive_epochs({**settings, "positives": "utterance"})
    0
    >>> n_positive_epochs({**settings, "positives": "oracle"})
    9
    """
    by_kind = {
        "utterance": 0,
        "ssps": settings["n_ssps_epochs"],
        "oracle": settings["n_epochs"],
    }
    return by_kind[settings["positives"]]


def check_positives(settings: dict[str, Any]) -> None:
    """Refuse positives that are unknown, or true speakers that nobody named.

    Raises
    ------
    InputError
        With the key, its value and the rule.

    Example
    -------
    >>> check_positives({"positives": "utterance", "oracle": "oracle.csv"})
    Traceback (most recent call last):
    speechbrain_ext.utils.errors.InputError: oracle is 'oracle.csv' and ...
    """
    kind, oracle = settings["positives"], settings["oracle"]
    if kind not in POSITIVES:
        raise InputError(
            f"positives is {kind!r}; it must be one of {list(POSITIVES)}"
        )
    if kind == "oracle" and oracle is None:
        raise InputError(
            "positives is 'oracle', which are of one TRUE speaker, a "
            "diagnostic: give the true speakers with --oracle=oracle.csv, or "
            "--positives=ssps, which needs none"
        )
    if kind != "oracle" and oracle is not None:
        raise InputError(
            f"oracle is {oracle!r} and positives {kind!r}, which reads no "
            "true speakers: leave --oracle out"
        )
    n_epochs = settings["n_ssps_epochs"]
    if (kind == "ssps") != bool(n_epochs):
        raise InputError(
            f"positives is {kind!r} and n_ssps_epochs is {n_epochs}; SSPS "
            "needs both, --positives=ssps and in how many of the last epochs, "
            "e.g. --n_ssps_epochs=20; without it that is 0"
        )


def check_method(settings: dict[str, Any], n_utterances: int) -> None:
    """Refuse a method that is unknown, or a queue of no use.

    It must be of whole batches, and not so long that keys of an utterance
    are still there, as its own negatives, when its turn comes again.

    Arguments
    ---------
    settings : dict
        ``method``, ``n_keys`` and ``batch_size``.
    n_utterances : int
        Of the training set.

    Raises
    ------
    InputError
        With the key, its value and the rule.

    Example
    -------
    >>> check_method({"method": "moco", "n_keys": 100, "batch_size": 32}, 999)
    Traceback (most recent call last):
    speechbrain_ext.utils.errors.InputError: n_keys is 100 and batch_size ...
    """
    if settings["method"] not in METHODS:
        raise InputError(
            f"method is {settings['method']!r}; it must be one of "
            f"{list(METHODS)}"
        )
    n_keys, size = settings["n_keys"], settings["batch_size"]
    if settings["method"] != "moco":
        return
    if n_keys < size or n_keys % size:
        nearest = max(round(n_keys / size), 1) * size
        raise InputError(
            f"n_keys is {n_keys} and batch_size {size}; whole batches leave "
            f"MoCo's queue: give a multiple, e.g. --n_keys={nearest}"
        )
    if n_keys > n_utterances:
        raise InputError(
            f"n_keys is {n_keys} and there are {n_utterances} utterances: "
            "MoCo's queue would hold keys of the very utterance that is "
            "compared, as negatives; give few, e.g. --n_keys="
            f"{max(n_utterances // (2 * size), 1) * size}"
        )
