"""Convert embeddings from and to the formats of other tools.

To run it, for instance to cluster with another tool what was extracted here:

> python recipes/convert_embeddings.py hparams/convert_embeddings.yaml \
      --embeddings=exp/dino/train_embeddings --to_format=pt \
      --output_folder=exp/dino/pt

Formats: npy, pt, kaldi (`speechbrain_ext.dataio.embedding_formats`). With
--annotation=train.csv only that manifest's utterances are written, in its
order, and each must be there: a run then starts from them (start_embeddings of
run_rounds).
"""

from __future__ import annotations

from speechbrain_ext.commands.command_line import run
from speechbrain_ext.dataio.embedding_formats import (
    files_of,
    read_vectors,
    select_utterances,
    write_vectors,
)
from speechbrain_ext.dataio.manifest import read_manifest
from speechbrain_ext.dataio.settings import ConvertEmbeddings
from speechbrain_ext.experiment.recipe_run import RecipeRun


def main(argv: list[str] | None = None) -> None:
    """Read one format, select the utterances and write another format."""
    recipe = RecipeRun(__file__, ConvertEmbeddings, argv)
    settings: ConvertEmbeddings = recipe.settings
    inputs = files_of(settings.embeddings, settings.from_format)
    ids, vectors = read_vectors(inputs["embeddings"], settings.from_format)
    n_read = len(ids)
    if settings.annotation is not None:
        inputs["annotation"] = settings.annotation
        wanted = read_manifest(settings.annotation, "utterances").ID
        where = f"{settings.embeddings} for {settings.annotation}"
        vectors = select_utterances(ids, vectors, wanted, where)
        ids = wanted
    if recipe.is_done(inputs):
        return
    names = write_vectors(recipe.folder, ids, vectors, settings.to_format)
    recipe.finish(
        names,
        n_utterances=len(ids),
        n_left_out=n_read - len(ids),
        embedding_size=vectors.shape[1],
    )


if __name__ == "__main__":
    run(main)
