"""Whiten an embedder's output by its own last layer, without labels.

Its last layer is linear, so that partial whitening of its embeddings, learnt
on the training utterances, is another such layer: the folder that is written
loads like any other and needs no step after it. To run it:

> python recipes/whiten_embedder.py hparams/whiten_embedder.yaml \
    --embedder_folder=exp/dino/embedder \
    --embeddings_folder=exp/dino/train_embeddings --output_folder=exp/whitened
"""

from __future__ import annotations

from speechbrain_ext.commands.command_line import run
from speechbrain_ext.dataio.embedding_files import read_embeddings
from speechbrain_ext.experiment.recipe_run import RecipeRun
from speechbrain_ext.models.embedder import save_embedder
from speechbrain_ext.models.embedder_folder import load_embedder
from speechbrain_ext.models.settings import WhitenEmbedder
from speechbrain_ext.utils.whitening import (
    fold_whitening_,
    whitening,
)


def main(argv: list[str] | None = None) -> None:
    """Read an embedder and its embeddings, and write the whitened embedder."""
    recipe = RecipeRun(__file__, WhitenEmbedder, argv)
    settings: WhitenEmbedder = recipe.settings
    embedder = load_embedder(
        settings.embedder_folder, trust_yaml=settings.trust_yaml
    )
    vectors, _ = read_embeddings(settings.embeddings_folder)
    if recipe.is_done(settings.inputs()):
        return
    fold_whitening_(embedder.model, whitening(vectors, settings.whiten))
    folder = recipe.folder / "embedder"
    names = save_embedder(folder, embedder, settings.half_precision)
    recipe.finish([f"embedder/{name}" for name in names])


if __name__ == "__main__":
    run(main)
