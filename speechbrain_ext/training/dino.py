"""What a DINO training consists of: all that has weights or state."""

from __future__ import annotations

from typing import Any

from torch.optim.swa_utils import AveragedModel

from speechbrain_ext.losses.dino import DINOLoss
from speechbrain_ext.models.embedder import build_embedder
from speechbrain_ext.models.heads import Projector
from speechbrain_ext.models.momentum_teacher import MomentumTeacher
from speechbrain_ext.training.dino_diagnostics import Health, patience_steps
from speechbrain_ext.training.positives import PositiveSampler
from speechbrain_ext.utils.errors import InputError


def build_modules(
    settings: dict[str, Any],
    hparams: dict[str, Any],
    n_utterances: int,
    steps_per_epoch: int,
) -> dict[str, Any]:
    """The modules of a recipe, in the order in which they are drawn.

    Arguments
    ---------
    settings : dict
        The recipe's YAML as plain values.
    hparams : dict
        Its objects: ``head``, a function of the embedding size.
    n_utterances : int
        Of the training manifest.
    steps_per_epoch : int
        Optimiser steps.

    Returns
    -------
    dict of str to torch.nn.Module
        ``student``, ``teacher``, ``mean_teacher``, ``loss`` and ``health``;
        with SSPS also ``positives``.

    Raises
    ------
    InputError
        RDINO's terms are asked for and the head has no layer for them.
    """
    embedder = build_embedder(settings["embedder_yaml"], settings["embedder"])
    head = hparams["head"](embedder.embedding_size)
    if settings["regularizer_weight"] > 0 and not head.expander_size:
        raise InputError(
            f"regularizer_weight is {settings['regularizer_weight']} and "
            "head.expander_size is 0; RDINO's terms are of that layer: give "
            "--head='{expander_size: 8192}', or --regularizer_weight=0"
        )
    student = Projector(embedder, head)
    mean_teacher = AveragedModel(embedder, use_buffers=True)
    n_prototypes = len(head.prototypes)
    modules: dict[str, Any] = {
        "student": student,
        "teacher": MomentumTeacher(student),
        "mean_teacher": mean_teacher.requires_grad_(False),
        "loss": DINOLoss(
            n_prototypes,
            settings["student_temperature"],
            settings["center_momentum"],
        ),
        "health": Health(
            n_prototypes,
            embedder.embedding_size,
            patience_steps(settings["collapse_patience"], steps_per_epoch),
        ),
    }
    if settings["n_ssps_epochs"] > 0:
        modules["positives"] = PositiveSampler(
            n_utterances,
            settings["ssps_clusters"],
            settings["ssps_neighbours"],
            settings["seed"],
        )
    return modules
