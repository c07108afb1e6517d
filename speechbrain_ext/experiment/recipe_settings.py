"""Settings class of each recipe, by the recipe's name."""

from __future__ import annotations

import pkgutil

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.settings import Settings

# Room, module and class of each recipe; imported at first use.
RECIPE_SETTINGS = {
    "compare_scores": "verification.settings:CompareScores",
    "convert_embeddings": "dataio.settings:ConvertEmbeddings",
    "convert_labels": "dataio.settings:ConvertLabels",
    "embed_pretrained": "training.settings:EmbedPretrained",
    "export_model": "inference.settings:ExportModel",
    "extract_embeddings": "models.settings:ExtractEmbeddings",
    "join_embedders": "models.settings:JoinEmbedders",
    "make_oracle_labels": "dataio.settings:MakeOracleLabels",
    "make_pseudo_labels": "clustering.settings:MakePseudoLabels",
    "prepare_folder": "dataio.settings:PrepareFolder",
    "prepare_toy": "dataio.settings:PrepareToy",
    "prepare_voxceleb": "dataio.settings:PrepareVoxCeleb",
    "run_rounds": "experiment.settings:RunRounds",
    "score_trials": "verification.settings:ScoreTrials",
    "train_contrastive": "training.settings:TrainContrastive",
    "train_dino": "training.settings:TrainDino",
    "train_speaker": "training.settings:TrainSpeaker",
    "whiten_embedder": "models.settings:WhitenEmbedder",
}


def settings_of(recipe: str) -> type[Settings]:
    """Return the settings class of a recipe.

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
    return pkgutil.resolve_name(f"speechbrain_ext.{RECIPE_SETTINGS[recipe]}")
