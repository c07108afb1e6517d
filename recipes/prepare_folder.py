"""Make a training manifest of any folder of speech.

To run it:
> python recipes/prepare_folder.py hparams/prepare_folder.yaml \
    --data_folder=/data/speech --output_folder=exp/speech

Each file is decoded once, to find those that cannot be used; they are listed
with their reasons in ``rejects.csv`` (docs/audio.md has all reasons). With
``check_samples: False`` headers are read alone. AAC files (m4a) are converted,
by ffmpeg, into wav copies below ``output_folder``. Files at another rate or
with several channels are kept: they are resampled and mixed when loaded. No
label is taken from any path. With ``test_folder`` and ``trials`` there is a
``test.csv`` too.
"""

from __future__ import annotations

from speechbrain_ext.commands.command_line import run
from speechbrain_ext.dataio.corpus_files import find_corpus, prepare_corpus
from speechbrain_ext.dataio.settings import PrepareFolder
from speechbrain_ext.experiment.recipe_run import RecipeRun


def main(argv: list[str] | None = None) -> None:
    """List, check and measure the files, and write the manifests."""
    recipe = RecipeRun(__file__, PrepareFolder, argv)
    settings: PrepareFolder = recipe.settings
    found = find_corpus(settings)
    if recipe.is_done(**found.request()):
        return
    names, facts = prepare_corpus(settings, found)
    recipe.finish(names, **facts)


if __name__ == "__main__":
    run(main)
