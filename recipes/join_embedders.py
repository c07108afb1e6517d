"""Join embedders: one model that gives their embeddings side by side.

The cosine of two joined embeddings is the mean of the parts' cosines. Each
part's embeddings are whitened first, if wanted, by its own last layer; the
folder that is written loads like any other. To run it:

> python recipes/join_embedders.py hparams/join_embedders.yaml \
    --embedder_folders=[exp/a/embedder,exp/b/embedder] \
    --output_folder=exp/joined
"""

from __future__ import annotations

from speechbrain_ext.commands.command_line import run
from speechbrain_ext.dataio.embedding_files import read_embeddings
from speechbrain_ext.experiment.recipe_run import RecipeRun
from speechbrain_ext.models.embedder import save_embedder
from speechbrain_ext.models.embedder_folder import load_embedder
from speechbrain_ext.models.joined_embedder import join_embedders
from speechbrain_ext.models.settings import JoinEmbedders
from speechbrain_ext.utils.whitening import fold_whitening_, whitening


def main(argv: list[str] | None = None) -> None:
    """Read embedders, whiten each, and write one of all."""
    recipe = RecipeRun(__file__, JoinEmbedders, argv)
    settings: JoinEmbedders = recipe.settings
    embedders = [
        load_embedder(folder, trust_yaml=settings.trust_yaml)
        for folder in settings.embedder_folders
    ]
    if recipe.is_done(settings.inputs()):
        return
    if settings.whiten is not None:
        pairs = zip(embedders, settings.embeddings_folders, strict=True)
        for embedder, embeddings in pairs:
            vectors, _ = read_embeddings(embeddings)
            fold_whitening_(embedder.model, whitening(vectors, settings.whiten))
    folder = recipe.folder / "embedder"
    joined = join_embedders(embedders)
    names = save_embedder(folder, joined, settings.half_precision)
    recipe.finish([f"embedder/{name}" for name in names])


if __name__ == "__main__":
    run(main)
