"""Embed every utterance of a manifest, and optionally crops of it.

The embedding of an utterance does not depend on its neighbours: batches hold
utterances of exactly one length. Work is done in chunks, each written when it
is complete, so that a killed run (or one on another number of processes)
goes on where it stopped. To run it:

> python recipes/extract_embeddings.py hparams/extract_embeddings.yaml \
      --embedder_folder=exp/dino/embedder --annotation=CORPUS/train.csv \
      --data_folder=DATA_ROOT --output_folder=exp/dino/train_embeddings

With --n_crops=15 also 15 crops of each, for the protocol "crops" of
score_trials: crop_embeddings.npy [N, n_crops, D].
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
from speechbrain.utils.distributed import ddp_barrier, run_on_main

from speechbrain_ext.commands.command_line import run
from speechbrain_ext.dataio.audio import check_audio
from speechbrain_ext.dataio.embedding_files import CROPS, read_embeddings
from speechbrain_ext.dataio.manifest import (
    SAMPLE_RATE,
    Manifest,
    read_manifest,
    select,
    write_manifest,
)
from speechbrain_ext.dataio.samplers import draw_of_each
from speechbrain_ext.experiment.recipe_run import RecipeRun
from speechbrain_ext.models.embedder_folder import load_embedder
from speechbrain_ext.models.extraction import (
    Crops,
    embed_in_chunks,
    joined_chunks,
)
from speechbrain_ext.models.settings import ExtractEmbeddings

logger = logging.getLogger(__name__)


def extract(recipe: RecipeRun, manifest: Manifest, folder: Path) -> None:
    """Compute and write the chunks that do not exist yet."""
    settings: ExtractEmbeddings = recipe.settings
    with recipe.applying():
        embed_in_chunks(
            load_embedder(
                settings.embedder_folder, recipe.device, settings.trust_yaml
            ),
            manifest,
            folder,
            settings.max_batch_seconds,
            settings.chunk_size,
            settings.num_workers,
            crops_of(settings),
        )


def crops_of(settings: ExtractEmbeddings) -> Crops | None:
    """Return the crops to embed besides whole utterances, if any."""
    if settings.n_crops == 0:
        return None
    return Crops(settings.n_crops, round(settings.crop * SAMPLE_RATE))


def assemble(
    folder: Path, manifest: Manifest, output: Path, shard_rows: int | None
) -> list[str]:
    """Join chunks into arrays and ``embeddings.csv``; return the names."""
    names = {"embeddings": "embeddings.npy", "crops": CROPS}
    paths = {key: output / name for key, name in names.items()}
    found = joined_chunks(folder, len(manifest), paths, shard_rows)
    index = {"ID": manifest.ids, "row": np.arange(len(manifest))}
    rows = Manifest(index, "embeddings")
    write_manifest(output / "embeddings.csv", rows, "embeddings", shard_rows)
    shutil.rmtree(folder)
    return ["embeddings.csv", *(names[key] for key in found)]


def read_utterances(settings: ExtractEmbeddings) -> Manifest:
    """Read the utterances to embed: all, or some of each pseudo-speaker."""
    most = settings.max_per_speaker
    kind = "utterances" if most is None else "pseudo_labels"
    manifest = read_manifest(settings.annotation, kind, settings.data_folder)
    if most is None:
        return manifest
    drawn = draw_of_each(manifest.spk_id, most, settings.seed)
    return select(manifest, drawn)


def main(argv: list[str] | None = None) -> None:
    """Embed the utterances of a manifest and write the embeddings."""
    recipe = RecipeRun(__file__, ExtractEmbeddings, argv)
    settings = recipe.settings
    if recipe.is_done(settings.inputs(), **recipe.applied_request()):
        return
    manifest = read_utterances(settings)
    check_audio(manifest)
    folder = recipe.folder / "chunks"
    extract(recipe, manifest, folder)
    # Every chunk must be written before one process assembles them.
    ddp_barrier()
    names = run_on_main(
        assemble, [folder, manifest, recipe.folder, settings.shard_rows]
    )
    recipe.finish(
        names,
        n_utterances=len(manifest),
        embedding_size=read_embeddings(recipe.folder)[0].shape[1],
        precision=recipe.applied_precision,
    )


if __name__ == "__main__":
    run(main)
