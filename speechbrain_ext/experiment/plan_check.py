"""Check of all values of a plan before its first step runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from speechbrain_ext.dataio.embedding_formats import files_of
from speechbrain_ext.experiment.artifacts import GivenArtifacts
from speechbrain_ext.experiment.late_values import stand_ins
from speechbrain_ext.experiment.launch import RECIPES, recipe_script
from speechbrain_ext.experiment.leaf import read_leaf
from speechbrain_ext.experiment.plan import Plan
from speechbrain_ext.experiment.recipe_settings import (
    RECIPE_SETTINGS,
    settings_of,
)
from speechbrain_ext.experiment.settings import RunRounds
from speechbrain_ext.experiment.steps import Role, Step
from speechbrain_ext.utils.errors import InputError

# Keys of a stage that have other names in a plan.
_OF_PLAN = {
    "protocol": "protocol",
    "backends": "backends",
    "whiten": "whiten_scores",
    "data_folder": "data_folder",
    "augment_folder": "augment_folder",
}


def check_plan(plan: Plan) -> None:
    """Raise InputError if a step of the plan would reject its settings.

    Arguments
    ---------
    plan : Plan
        With all steps that it may come to have.

    Raises
    ------
    InputError
        One line with the key as the plan has it, its value, the rule and a
        way out.
    """
    late = stand_ins(plan.corpus)
    for step in plan.steps:
        if not recipe_script(step.recipe).is_file():
            raise InputError(
                f"stages.{step.kind.stage}.recipe is {step.recipe!r}; "
                f"{RECIPES} has no such recipe; give one of "
                f"{sorted(RECIPE_SETTINGS)}"
            )
        try:
            kind = settings_of(step.recipe)
            found = read_leaf(kind, step.hparams, step.values(late)).settings
        except InputError as error:
            words = in_the_plans_words(str(error), step, plan.settings)
            raise InputError(words) from None
        _check_positives(step, found)


def check_start(settings: RunRounds) -> None:
    """Raise InputError if what a run is to start from is not there.

    Arguments
    ---------
    settings : RunRounds
        The plan.

    Raises
    ------
    InputError
        A file of the embedder or of the embeddings is missing.

    Example
    -------
    >>> plan = {"run": "a", "output_folder": "none", "stages": {}}
    >>> check_start(RunRounds(**plan, start_embedder="nowhere"))
    Traceback (most recent call last):
    speechbrain_ext.utils.errors.InputError: start_embedder is 'nowhere'; ...
    """
    if settings.start_embedder is not None:
        folder = Path(settings.start_embedder)
        if missing := GivenArtifacts(folder, folder).missing():
            raise InputError(
                f"start_embedder is {str(folder)!r}; it lacks {missing}; give "
                "the folder named embedder that a training left, or the one "
                "named model of an export"
            )
    for key in ("start_embeddings", "start_test_embeddings"):
        path = getattr(settings, key)
        if path is not None:
            given = settings.stage("start").set.get("from_format", "auto")
            for file in files_of(path, given).values():
                if not Path(file).is_file():
                    raise InputError(
                        f"{key} is {path!r}; {file} is missing; correct --{key}"
                    )


def _check_positives(step: Step[Any], found: Any) -> None:
    """Raise InputError if a training of the plan uses true positives."""
    if getattr(found, "positives", None) == "oracle":
        raise InputError(
            f"stages.{step.kind.stage}.set.positives is 'oracle'; a plan must "
            "not use true speakers, as no later result would say so; give "
            "ssps or utterance, or run train_contrastive alone with oracle"
        )


def in_the_plans_words(error: str, step: Step[Any], settings: RunRounds) -> str:
    """Return a recipe's error with its keys as the plan names them.

    Arguments
    ---------
    error : str
        ``KEY is VALUE; RULE; WAY OUT``.
    step : Step
        The step that the recipe was to do.
    settings : RunRounds
        The plan.

    Returns
    -------
    str
    """
    key = error.partition(" ")[0].partition(".")[0]
    stage = step.kind.stage
    change: Any = {}
    if step.system.role is Role.ABLATION:
        change = settings.ablations[step.system.row]
    if key in change:
        above = f"ablations.{step.system.row}."
    elif key in settings.stage(stage).set:
        above = f"stages.{stage}.set."
    elif key in _OF_PLAN:
        return error.replace(key, _OF_PLAN[key], 1).replace(
            f"--{key}", f"--{_OF_PLAN[key]}"
        )
    else:
        return f"{error} (step {step.name}, {step.hparams})"
    said, _, way = error.rpartition("; ")
    return f"{above}{said}; {way.replace('--', above)}"
