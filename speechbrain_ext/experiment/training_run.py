"""Work that the training recipes share around their Brains."""

from __future__ import annotations

from collections.abc import Callable

from speechbrain.utils.distributed import run_on_main

from speechbrain_ext.dataio.manifest import Manifest
from speechbrain_ext.experiment.recipe_run import RecipeRun
from speechbrain_ext.training.brain import (
    TrainingBrain,
    read_training_manifest,
)


def run_training(
    recipe: RecipeRun, build: Callable[[RecipeRun, Manifest], TrainingBrain]
) -> None:
    """Train on a manifest and write an embedder folder, unless it exists.

    Arguments
    ---------
    recipe : RecipeRun
        Of a training.
    build : callable
        Builds its Brain for the training manifest.

    Raises
    ------
    InputError
        The embedder could not be exported, and ``trust_yaml`` is false.
    """
    settings = recipe.settings
    # Before the folder is begun: a corrected command is no other request.
    settings.check_modules()
    if recipe.is_done(settings.inputs(), **settings.augment_files()):
        return
    brain = build(recipe, read_training_manifest(settings))
    brain.train()
    recipe.finish(run_on_main(brain.save), **brain.summary())
