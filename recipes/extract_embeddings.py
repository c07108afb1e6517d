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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from speechbrain.utils.distributed import (
    ddp_barrier,
    get_rank,
    if_main_process,
    infer_device,
    run_on_main,
)
from tqdm import tqdm

from speechbrain_ext.dataio.audio import check_audio
from speechbrain_ext.dataio.embedding_files import CROPS, read_embeddings
from speechbrain_ext.dataio.manifest import (
    SAMPLE_RATE,
    Manifest,
    read_manifest,
    write_manifest,
)
from speechbrain_ext.experiment.recipe_run import RecipeRun
from speechbrain_ext.models.embedder import (
    batches_of_one_length,
    load_embedder,
)
from speechbrain_ext.models.extraction import Crops, embed_batches
from speechbrain_ext.models.settings import ExtractEmbeddings
from speechbrain_ext.utils.command_line import run
from speechbrain_ext.utils.files import atomic_path

logger = logging.getLogger(__name__)


def chunks(
    manifest: Manifest, max_frames: int, chunk_size: int
) -> Iterator[list[list[int]]]:
    """Group batches into chunks of about ``chunk_size`` utterances."""
    chunk: list[list[int]] = []
    size = 0
    for batch in batches_of_one_length(
        manifest.stop - manifest.start, max_frames
    ):
        chunk.append(batch)
        size += len(batch)
        if size >= chunk_size:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def extract(recipe: RecipeRun, manifest: Manifest, folder: Path) -> None:
    """Compute and write the chunks that do not exist yet."""
    settings = recipe.settings
    device = recipe.run_opts.device or infer_device()
    embedder = load_embedder(settings.embedder_folder, device)
    world = recipe.world_size
    rank = (get_rank() or 0) % world
    max_frames = round(settings.max_batch_seconds * SAMPLE_RATE)
    crops = crops_of(settings)
    with tqdm(
        total=len(manifest), desc="embed", disable=not if_main_process()
    ) as bar:
        plan = chunks(manifest, max_frames, settings.chunk_size)
        for number, batches in enumerate(plan):
            path = folder / f"{number:06d}.npz"
            if path.exists():
                bar.update(sum(map(len, batches)))
            elif number % world == rank:
                reading = (settings.num_workers, bar, 1, crops)
                rows, found = embed_batches(
                    embedder, manifest, batches, *reading
                )
                arrays: dict[str, Any] = {"rows": rows, "embeddings": found}
                if crops:
                    arrays["embeddings"] = found[:, 0]
                    arrays["crops"] = found[:, 1:]
                with atomic_path(path) as part, open(part, "wb") as stream:
                    np.savez(stream, **arrays)


def crops_of(settings: ExtractEmbeddings) -> Crops | None:
    """Return the crops to embed besides whole utterances, if any."""
    if settings.n_crops == 0:
        return None
    return Crops(settings.n_crops, round(settings.crop * SAMPLE_RATE))


def assemble(folder: Path, manifest: Manifest, output: Path) -> list[str]:
    """Join chunks into arrays and ``embeddings.csv``; return the names."""
    # Ignores temporary files that a killed process has left.
    paths = sorted(folder.glob("[0-9]*.npz"))
    with np.load(paths[0]) as first:
        shapes = {name: first[name].shape[1:] for name in first.files}
    names = {"embeddings": "embeddings.npy", "crops": CROPS}
    written = ["embeddings.csv"]
    for key, name in names.items():
        if key in shapes:
            join(paths, key, output / name, (len(manifest), *shapes[key]))
            written.append(name)
    table = pd.DataFrame({"ID": manifest.ids, "row": np.arange(len(manifest))})
    write_manifest(output / "embeddings.csv", table, "embeddings")
    shutil.rmtree(folder)
    return written


def join(
    paths: list[Path], key: str, output: Path, shape: tuple[int, ...]
) -> None:
    """Write the chunks as one array, atomically."""
    with atomic_path(output) as part:
        whole = np.lib.format.open_memmap(part, "w+", np.float32, shape)
        for path in paths:
            with np.load(path) as chunk:
                whole[chunk["rows"]] = chunk[key]
        whole.flush()


def main(argv: list[str] | None = None) -> None:
    """Embed the utterances of a manifest and write the embeddings."""
    recipe = RecipeRun(__file__, ExtractEmbeddings, argv)
    settings = recipe.settings
    if recipe.is_done(settings.inputs()):
        return
    manifest = read_manifest(
        settings.annotation, "utterances", settings.data_folder
    )
    check_audio(manifest)
    folder = recipe.folder / "chunks"
    extract(recipe, manifest, folder)
    # Every chunk must be written before one process assembles them.
    ddp_barrier()
    names = run_on_main(assemble, [folder, manifest, recipe.folder])
    recipe.finish(
        names,
        n_utterances=len(manifest),
        embedding_size=read_embeddings(recipe.folder)[0].shape[1],
    )


if __name__ == "__main__":
    run(main)
