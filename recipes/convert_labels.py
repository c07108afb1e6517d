"""Labelled utterances from and to the formats of other tools.

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
from typing import Any

from speechbrain_ext.dataio.label_formats import (
    FORMATS,
    check_format,
    file_of,
    read_labels,
    write_labels,
)
from speechbrain_ext.dataio.manifest import DATA_ROOT, read_manifest
from speechbrain_ext.experiment.recipe_run import Stage
from speechbrain_ext.utils.command_line import run
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike


def main(argv: list[str] | None = None) -> None:
    """One format in, another out."""
    stage = Stage(__file__, argv)
    settings = stage.settings
    check_format(settings["to_format"], FORMATS)
    root = data_root(settings)
    path = file_of(settings["labels"], settings["from_format"])
    inputs: dict[str, PathLike] = {"labels": path}
    train = None
    if settings["train_annotation"] is not None:
        inputs["train_annotation"] = settings["train_annotation"]
        train = read_manifest(settings["train_annotation"], "utterances")
    labels = read_labels(path, settings["from_format"], train, root)
    if stage.is_done(inputs, data_root=root):
        return
    names = write_labels(stage.folder, labels, settings["to_format"])
    stage.finish(names, n_utterances=len(labels))


def data_root(settings: dict[str, Any]) -> str:
    """What stands before the audio's names in what is written."""
    if settings["to_format"] not in ("kaldi", "wespeaker"):
        return DATA_ROOT
    if settings["data_folder"] is None:
        raise InputError(
            f"{settings['to_format']} names audio files by their paths; give "
            "--data_folder, what $data_root in the manifest stands for"
        )
    return str(Path(settings["data_folder"]).absolute())


if __name__ == "__main__":
    run(main)
