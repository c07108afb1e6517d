"""What DINO's settings are in a step: rate, momentum, temperature, weight.

Functions of the step alone, so that resuming needs no state.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from speechbrain_ext.training.schedules import cosine, linear


class StepSettings(NamedTuple):
    """What a step is made with."""

    lr: float
    teacher_momentum: float
    teacher_temperature: float  # tau_t
    regularizer_weight: float  # of RDINO's terms
    prototypes_rest: bool  # the head's last layer is not moved


class DinoSchedules:
    """The schedules of Caron et al., ICCV 2021, over a whole training.

    The learning rate has a linear warm-up and then falls as a half-cosine;
    the teacher's momentum rises to 1 as one (section 3.1); its temperature
    rises in a line over the first epochs (appendix), as does the weight of
    RDINO's terms; the prototypes rest in the first of them.

    Arguments
    ---------
    settings : dict
        The recipe's: ``n_epochs``, ``n_warmup_epochs`` and what else the
        source of `at` names.
    steps_per_epoch : int
        Optimiser steps.

    Example
    -------
    >>> from speechbrain_ext.utils.yaml_trees import plain, read_yaml
    >>> settings = plain(read_yaml("hparams/train_dino_ecapa.yaml"))
    >>> schedules = DinoSchedules(settings, steps_per_epoch=100)
    >>> now = schedules.at(500)
    >>> now.lr, now.teacher_temperature, now.prototypes_rest
    (0.1, 0.04, False)
    """

    def __init__(self, settings: dict[str, Any], steps_per_epoch: int):
        self.settings = settings
        self.steps_per_epoch = steps_per_epoch

    def at(self, step: int) -> StepSettings:
        """Settings of an optimiser step, counted from 0."""
        settings, one_epoch = self.settings, self.steps_per_epoch
        lr, lr_final = settings["lr"], settings["lr_final"]
        n_steps = settings["n_epochs"] * one_epoch
        n_warmup = settings["n_warmup_epochs"] * one_epoch
        return StepSettings(
            cosine(step, n_steps, lr, lr_final, n_warmup),
            cosine(step, n_steps, settings["teacher_momentum"], 1.0),
            linear(
                step,
                round(settings["n_temperature_epochs"] * one_epoch),
                settings["teacher_temperature_start"],
                settings["teacher_temperature"],
            ),
            linear(
                step,
                round(settings["n_regularizer_epochs"] * one_epoch),
                settings["regularizer_weight_start"],
                settings["regularizer_weight"],
            ),
            step < settings["n_frozen_prototype_epochs"] * one_epoch,
        )
