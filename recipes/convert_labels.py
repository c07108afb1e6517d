"""Convert labelled utterances from and to the formats of other tools.

To run it, for a trainer that reads lines ``label path``:

> python recipes/convert_labels.py hparams/convert_labels.yaml \
      --labels=exp/dino/labels/pseudo_labels.csv --to_format=list \
      --output_folder=exp/dino/list

and back, for ours and SpeechBrain's, with the manifest of the utterances:

> ... --labels=exp/dino/list/labels.txt --from_format=list \
      --to_format=speechbrain --train_annotation=CORPUS/train.csv

Formats: speechbrain, list, kaldi, wespeaker; they are described in
`speechbrain_ext.dataio.label_formats`.
"""

from __future__ import annotations

from pathlib import Path

from speechbrain_ext.commands.command_line import run
from speechbrain_ext.dataio.label_formats import (
    file_of,
    read_labels,
    write_labels,
)
from speechbrain_ext.dataio.manifest import DATA_ROOT, read_manifest
from speechbrain_ext.dataio.settings import ConvertLabels
from speechbrain_ext.experiment.recipe_run import RecipeRun
from speechbrain_ext.utils.files import PathLike


def main(argv: list[str] | None = None) -> None:
    """Read one format and write another."""
    recipe = RecipeRun(__file__, ConvertLabels, argv)
    settings: ConvertLabels = recipe.settings
    root = data_root(settings)
    path = file_of(settings.labels, settings.from_format)
    inputs: dict[str, PathLike] = {"labels": path}
    train = None
    if settings.train_annotation is not None:
        inputs["train_annotation"] = settings.train_annotation
        train = read_manifest(settings.train_annotation, "utterances")
    labels = read_labels(path, settings.from_format, train, root)
    if recipe.is_done(inputs, data_root=root):
        return
    names = write_labels(recipe.folder, labels, settings.to_format)
    recipe.finish(names, n_utterances=len(labels))


def data_root(settings: ConvertLabels) -> str:
    """Return the root folder of the audio files named in the output."""
    names_files = settings.to_format in ("kaldi", "wespeaker")
    if not names_files or settings.data_folder is None:
        return DATA_ROOT
    return str(Path(settings.data_folder).absolute())


if __name__ == "__main__":
    run(main)
