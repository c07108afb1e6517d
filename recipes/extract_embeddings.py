"""Embed every utterance of a manifest, whole, in eval mode.

The embedding of an utterance does not depend on its neighbours: batches hold
utterances of exactly one length. Work is done in chunks, each written when it
is complete, so that a killed run (or one on another number of processes)
goes on where it stopped. To run it:

> python recipes/extract_embeddings.py hparams/extract_embeddings.yaml \
      --embedder_folder=exp/dino/embedder --annotation=CORPUS/train.csv \
      --data_folder=DATA_ROOT --output_folder=exp/dino/train_embeddings
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

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

from speechbrain_ext.audio import check_audio
from speechbrain_ext.embedder import (
    MODEL,
    RECIPE,
    batches_of_one_length,
    load_embedder,
)
from speechbrain_ext.extraction import embed_batches
from speechbrain_ext.files import atomic_path
from speechbrain_ext.manifest import (
    SAMPLE_RATE,
    Manifest,
    read_manifest,
    write_manifest,
)
from speechbrain_ext.stage import Stage, run

logger = logging.getLogger(__name__)


def chunks(
    manifest: Manifest, max_frames: int, chunk_size: int
) -> Iterator[list[list[int]]]:
    """Batches, gathered in chunks of about ``chunk_size`` utterances."""
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


def extract(stage: Stage, manifest: Manifest, folder: Path) -> None:
    """Compute and write the chunks that are not there yet."""
    settings = stage.settings
    device = stage.run_opts.device or infer_device()
    embedder = load_embedder(settings["embedder_folder"], device)
    world = stage.world_size
    rank = (get_rank() or 0) % world
    max_frames = round(settings["max_batch_seconds"] * SAMPLE_RATE)
    with tqdm(
        total=len(manifest), desc="embed", disable=not if_main_process()
    ) as bar:
        plan = chunks(manifest, max_frames, settings["chunk_size"])
        for number, batches in enumerate(plan):
            path = folder / f"{number:06d}.npz"
            if path.exists():
                bar.update(sum(map(len, batches)))
            elif number % world == rank:
                rows, embeddings = embed_batches(
                    embedder, manifest, batches, settings["num_workers"], bar
                )
                with atomic_path(path) as part, open(part, "wb") as stream:
                    np.savez(stream, rows=rows, embeddings=embeddings)


def assemble(folder: Path, manifest: Manifest, output: Path) -> int:
    """Chunks to ``embeddings.npy`` and ``embeddings.csv``; the dimension."""
    # Not what a killed process has left under a temporary name.
    paths = sorted(folder.glob("[0-9]*.npz"))
    with np.load(paths[0]) as first:
        size = first["embeddings"].shape[1]
    shape = (len(manifest), size)
    with atomic_path(output / "embeddings.npy") as part:
        whole = np.lib.format.open_memmap(part, "w+", np.float32, shape)
        for path in paths:
            with np.load(path) as chunk:
                whole[chunk["rows"]] = chunk["embeddings"]
        whole.flush()
    table = pd.DataFrame({"ID": manifest.ids, "row": np.arange(len(manifest))})
    write_manifest(output / "embeddings.csv", table, "embeddings")
    shutil.rmtree(folder)
    return size


def main(argv: list[str] | None = None) -> None:
    """Manifest and embedder in, embeddings out."""
    stage = Stage(__file__, argv)
    settings = stage.settings
    embedder_folder = Path(settings["embedder_folder"])
    inputs = {
        "embedder": embedder_folder / MODEL,
        "embedder_yaml": embedder_folder / RECIPE,
        "annotation": settings["annotation"],
    }
    if stage.is_done(inputs=inputs):
        return
    manifest = read_manifest(
        settings["annotation"], "utterances", settings["data_folder"]
    )
    check_audio(manifest)
    folder = stage.folder / "chunks"
    extract(stage, manifest, folder)
    # Every chunk must be written before one process assembles them.
    ddp_barrier()
    size = run_on_main(assemble, [folder, manifest, stage.folder])
    stage.finish(
        ["embeddings.npy", "embeddings.csv"],
        n_utterances=len(manifest),
        embedding_size=size,
    )


if __name__ == "__main__":
    run(main)
