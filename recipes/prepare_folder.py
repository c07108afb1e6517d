"""Make a training manifest of any folder of speech.

To run it:
> python recipes/prepare_folder.py hparams/prepare_folder.yaml \
    --data_folder=/data/speech --output_folder=exp/speech

Only headers are read, unless files are converted; AAC files (m4a) always are,
by ffmpeg, into wav copies below ``output_folder``. Files at another rate or
with several channels are kept: they are resampled and mixed when loaded. What
cannot be used is listed with its reason in ``rejects.csv``. No label is taken
from any path. With ``test_folder`` and ``trials`` there is a ``test.csv`` too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from speechbrain_ext.dataio.audio_tree import AudioTree, is_inside
from speechbrain_ext.dataio.corpus import (
    find_audio,
    named_files,
    prepare,
)
from speechbrain_ext.dataio.settings import PrepareFolder
from speechbrain_ext.dataio.trials import TrialList, read_trial_file
from speechbrain_ext.experiment.recipe_run import RecipeRun
from speechbrain_ext.utils.command_line import run
from speechbrain_ext.utils.errors import InputError


def main(argv: list[str] | None = None) -> None:
    """List, check and measure the files, and write the manifests."""
    recipe = RecipeRun(__file__, PrepareFolder, argv)
    settings: PrepareFolder = recipe.settings
    folder, test_folder = settings.data_folder, settings.test_folder
    if test_folder and is_inside(folder, test_folder):
        raise InputError(
            f"test_folder {test_folder} holds data_folder {folder}, whose "
            "files are for training; give a folder beside or below it"
        )
    train = find_audio(
        recipe.folder, [folder], exclude=[test_folder] if test_folder else []
    )
    test, trials = files_to_score(recipe.folder, test_folder, settings.trials)
    request: dict[str, Any] = {"train_files": train.summary()}
    if test is not None:
        request["test_files"] = test.summary()
        request["trial_lists"] = {some.name: some.summary() for some in trials}
    if recipe.is_done(**request):
        return
    names, facts = prepare(
        recipe.folder,
        folder,
        train,
        test,
        trials,
        settings.min_duration,
        convert_to_wav=settings.convert_to_wav,
        num_workers=settings.num_workers,
    )
    recipe.finish(names, **facts)


def files_to_score(
    output_folder: Path, folder: str | None, sources: dict[str, str]
) -> tuple[AudioTree | None, list[TrialList]]:
    """Find the test files, and read the lists that name them.

    Without lists all files below ``folder`` are test files.
    """
    if not folder:
        return None, []
    test = find_audio(output_folder, [folder])
    if not sources:
        return test, []
    lists = [read_trial_file(*item) for item in sources.items()]
    return named_files(test, lists, folder), lists


if __name__ == "__main__":
    run(main)
