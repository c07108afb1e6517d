"""Networks and schedules of DINO training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from speechbrain_ext.models.heads import Projector
from speechbrain_ext.models.momentum_teacher import MomentumTeacher
from speechbrain_ext.training.dino_diagnostics import (
    DinoDiagnostics,
    patience_steps,
)
from speechbrain_ext.training.networks import (
    Networks,
    new_embedder,
    recompute_blocks_,
)
from speechbrain_ext.training.positives import ssps_positives
from speechbrain_ext.training.schedules import cosine, linear
from speechbrain_ext.training.settings import TrainDino


def build_dino(
    settings: TrainDino, objects: Mapping[str, Any], n_utterances: int
) -> Networks:
    """Build the networks of DINO training, in the order of random draws.

    Arguments
    ---------
    settings : TrainDino
        Of the recipe.
    objects : mapping
        What its YAML wires: ``head``, called with the embedding size, and
        ``loss``, called with the number of prototypes.
    n_utterances : int
        Of the training manifest.

    Returns
    -------
    Networks
        Modules are ``student``, ``teacher``, ``loss`` and ``diagnostics``;
        with SSPS also ``positives``. The teacher's embedder is kept.
    """
    embedder = new_embedder(settings)
    size = embedder.embedding_size
    head = objects["head"](size)
    student = Projector(embedder, head)
    teacher = MomentumTeacher(student)
    if settings.recompute_blocks:
        # Of the student alone: the teacher keeps nothing.
        recompute_blocks_(embedder)
    n_prototypes = len(head.prototypes)
    patience = patience_steps(
        settings.collapse_patience, n_utterances // settings.batch_size
    )
    modules: dict[str, Any] = {
        "student": student,
        "teacher": teacher,
        "loss": objects["loss"](n_prototypes),
        "diagnostics": DinoDiagnostics(n_prototypes, size, patience),
    }
    if settings.positives == "ssps":
        modules["positives"] = ssps_positives(settings, n_utterances)
    return Networks(modules, embedder, head, teacher.model.embedder)


class StepValues(NamedTuple):
    """Scheduled values of a DINO step, besides the learning rates."""

    momentum: float  # of the teacher
    teacher_temperature: float  # tau_t
    regularizer_weight: float  # of RDINO's terms
    prototypes_frozen: bool  # whether the head's last layer is not moved


class DinoSchedules:
    """Schedules of Caron et al., ICCV 2021, over a whole training.

    The teacher's momentum rises to 1 as a half-cosine (section 3.1). Its
    temperature rises linearly over the first epochs (appendix), and so does
    the weight of RDINO's terms. In the first of them prototypes are frozen.

    Arguments
    ---------
    settings : TrainDino
        Of the recipe.
    steps_per_epoch : int
        Optimiser steps.

    Example
    -------
    >>> settings = TrainDino(
    ...     train_annotation="a", data_folder="b", output_folder="c"
    ... )
    >>> DinoSchedules(settings, steps_per_epoch=100).at(0)
    StepValues(momentum=0.996, teacher_temperature=0.04, ...)
    """

    def __init__(self, settings: TrainDino, steps_per_epoch: int):
        self.settings = settings
        self.steps_per_epoch = steps_per_epoch

    def at(self, step: int) -> StepValues:
        """Return the values for an optimiser step, counted from 0."""
        settings, one_epoch = self.settings, self.steps_per_epoch
        return StepValues(
            cosine(step, settings.n_epochs * one_epoch, settings.momentum, 1.0),
            linear(
                step,
                round(settings.n_temperature_epochs * one_epoch),
                settings.teacher_temperature_start,
                settings.teacher_temperature,
            ),
            linear(
                step,
                round(settings.n_regularizer_epochs * one_epoch),
                settings.regularizer_weight_start,
                settings.regularizer_weight,
            ),
            step < settings.n_frozen_prototype_epochs * one_epoch,
        )
