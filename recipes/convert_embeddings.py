"""Embeddings from and to the formats of other tools.

To run it, for instance to cluster with another tool what was extracted here:

> python recipes/convert_embeddings.py hparams/convert_embeddings.yaml \
      --embeddings=exp/dino/train_embeddings --to_format=pt \
      --output_folder=exp/dino/pt

Formats: npy, pt, kaldi (`speechbrain_ext.dataio.embedding_formats`).
"""

from __future__ import annotations

from speechbrain_ext.dataio.embedding_formats import (
    FORMATS,
    files_of,
    read_vectors,
    write_vectors,
)
from speechbrain_ext.dataio.label_formats import check_format
from speechbrain_ext.experiment.recipe_run import Stage
from speechbrain_ext.utils.command_line import run


def main(argv: list[str] | None = None) -> None:
    """One format in, another out."""
    stage = Stage(__file__, argv)
    settings = stage.settings
    check_format(settings["to_format"], FORMATS)
    inputs = files_of(settings["embeddings"], settings["from_format"])
    ids, vectors = read_vectors(inputs["embeddings"], settings["from_format"])
    if stage.is_done(inputs):
        return
    names = write_vectors(stage.folder, ids, vectors, settings["to_format"])
    stage.finish(names, n_utterances=len(ids), embedding_size=vectors.shape[1])


if __name__ == "__main__":
    run(main)
