"""The settings class of each recipe, found by the recipe's name."""

from __future__ import annotations

import pkgutil

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.settings import Settings

# Recipe by file name: its settings class, imported when it is asked for.
RECIPE_SETTINGS = {
    "compare_scores": "speechbrain_ext.verification.settings:CompareScores",
    "convert_embeddings": "speechbrain_ext.dataio.settings:ConvertEmbeddings",
    "convert_labels": "speechbrain_ext.dataio.settings:ConvertLabels",
    "export_model": "speechbrain_ext.inference.settings:ExportModel",
    "extract_embeddings": "speechbrain_ext.models.settings:ExtractEmbeddings",
    "make_oracle_labels": "speechbrain_ext.dataio.settings:MakeOracleLabels",
    "make_pseudo_labels": "speechbrain_ext.clustering.settings:MakePseudoLabels",
    "prepare_folder": "speechbrain_ext.dataio.settings:PrepareFolder",
    "prepare_toy": "speechbrain_ext.dataio.settings:PrepareToy",
    "prepare_voxceleb": "speechbrain_ext.dataio.settings:PrepareVoxCeleb",
    "run_rounds": "speechbrain_ext.experiment.settings:RunRounds",
    "score_trials": "speechbrain_ext.verification.settings:ScoreTrials",
    "train_contrastive": "speechbrain_ext.training.settings:TrainContrastive",
    "train_dino": "speechbrain_ext.training.settings:TrainDINO",
    "train_speaker": "speechbrain_ext.training.settings:TrainSpeaker",
    "whiten_embedder": "speechbrain_ext.models.settings:WhitenEmbedder",
}


def settings_of(recipe: str) -> type[Settings]:
    """The settings class of a recipe.

    Arguments
    ---------
    recipe : str
        File name of the recipe, without ``.py``.

    Returns
    -------
    type
        A subclass of `speechbrain_ext.utils.settings.Settings`.

    Raises
    ------
    InputError
        There is no such recipe.

    Example
    -------
    >>> settings_of("prepare_toy").keys()["n_speakers"].default
    60
    """
    if recipe not in RECIPE_SETTINGS:
        raise InputError(
            f"recipe is {recipe!r}; it must be one of "
            f"{', '.join(RECIPE_SETTINGS)}; correct the name"
        )
    return pkgutil.resolve_name(RECIPE_SETTINGS[recipe])
