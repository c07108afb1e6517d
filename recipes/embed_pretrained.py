"""Make a speaker embedder from a pre-trained encoder without training.

The embedding is the time average of a layer of the encoder, without its trend
over the utterance's length, standardised and whitened in part. All of this is
learnt from the unlabelled training utterances in closed form. The layer is
chosen without labels: two crops of an utterance, all crops of one length and
augmented apart, are told from crops of other utterances, and the layer with
the lowest equal error rate is taken. To run it:

> python recipes/embed_pretrained.py hparams/embed_pretrained.yaml \
      --embedder="{encoder_source: openai/whisper-base}" \
      --train_annotation=CORPUS/train.csv --data_folder=DATA_ROOT \
      --augment_folder=SOUNDS --output_folder=exp/whisper

The same command after a kill continues with what was not computed yet.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from speechbrain.utils.distributed import ddp_barrier, run_on_main

from speechbrain_ext.augment.augmenter import from_folder
from speechbrain_ext.augment.channel_filter import ChannelFilter
from speechbrain_ext.clustering.agreement import clustering_agreement
from speechbrain_ext.commands.command_line import run
from speechbrain_ext.dataio.manifest import SAMPLE_RATE, Manifest
from speechbrain_ext.experiment.recipe_run import RecipeRun
from speechbrain_ext.models.crop_pairs import (
    Augmentation,
    CropPairs,
    embed_crop_pairs,
    rows_with_pairs,
)
from speechbrain_ext.models.embedder import (
    Embedder,
    WaveEmbedder,
    build_embedder,
    save_embedder,
)
from speechbrain_ext.models.extraction import embed_in_chunks, joined_chunks
from speechbrain_ext.models.layer_means import (
    LayerMeans,
    RawStatistics,
    fit_layer_means_,
)
from speechbrain_ext.training.brain import read_training_manifest
from speechbrain_ext.training.plots import layer_choice
from speechbrain_ext.training.settings import EmbedPretrained
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import atomic_path
from speechbrain_ext.utils.plotting import save_png
from speechbrain_ext.utils.whitening import whiten_together
from speechbrain_ext.verification.pair_eer import pair_eer

logger = logging.getLogger(__name__)

CURVE, PLOT = "layers.csv", "layers.png"
FEWEST = 10  # utterances that layers are compared by
PER_CLUSTER = 10  # of them in a cluster, on average


def new_embedder(settings: EmbedPretrained, **changes: Any) -> Embedder:
    """Build the embedder; raise InputError if it has another pooling."""
    embedder = build_embedder(
        settings.embedder_yaml, {**settings.embedder, **changes}
    )
    if not isinstance(getattr(embedder.model, "pooling", None), LayerMeans):
        raise InputError(
            f"embedder_yaml is {settings.embedder_yaml!r}; embed_pretrained "
            "fits the pooling LayerMeans, and this YAML has another; give "
            "--embedder_yaml=embedders/encoder_mean.yaml"
        )
    return embedder


def raw_embedder(embedder: Embedder, layers: list[int] | None) -> WaveEmbedder:
    """Return what computes the statistics that are not fitted yet."""
    model: Any = embedder.model
    statistics = RawStatistics(model.encoder, layers, model.pooling.statistics)
    return WaveEmbedder(embedder.features, embedder.norm, statistics)


def augmentation(recipe: RecipeRun) -> Augmentation:
    """Return the augmentation of crops; without sounds, by channels alone."""
    settings: EmbedPretrained = recipe.settings
    sounds, responses = settings.sound_folders()
    if sounds is None:
        return ChannelFilter(**settings.filter_arguments()).by_keys
    augment = from_folder(recipe.objects()["augment"], sounds, responses)
    assert augment is not None  # a folder is given
    return augment.by_keys


def compare_layers(recipe: RecipeRun, manifest: Manifest) -> None:
    """Write the label-free criteria of each layer, unless they are there."""
    settings: EmbedPretrained = recipe.settings
    if (recipe.folder / CURVE).exists():
        return
    n_frames = round(settings.choice_crop * SAMPLE_RATE)
    rows = rows_with_pairs(
        manifest, n_frames, settings.n_choice_utterances, settings.seed
    )
    if len(rows) < FEWEST:
        raise InputError(
            f"choice_crop is {settings.choice_crop}; {len(rows)} of "
            f"{len(manifest)} utterances are as long as two crops, and layers "
            f"are compared by {FEWEST} or more; lower --choice_crop, or give "
            "--layers"
        )
    embedder = new_embedder(settings)
    with recipe.applying():
        found = embed_crop_pairs(
            raw_embedder(embedder, None).to(recipe.device),
            CropPairs(manifest, rows.tolist(), n_frames, settings.seed),
            augmentation(recipe),
            settings.max_batch_seconds,
            settings.num_workers,
        )
    model: Any = embedder.model
    n_layers = model.encoder.n_layers
    by_layer = {
        # The first number is that of frames.
        name: vectors[..., 1:].reshape(2, len(rows), n_layers, -1)
        for name, vectors in found.items()
    }
    table = pd.DataFrame(
        criteria(by_layer, layer, settings.whiten) for layer in range(n_layers)
    )
    with atomic_path(recipe.folder / CURVE) as part:
        table.to_csv(part, index=False)


def criteria(
    pairs: dict[str, np.ndarray], layer: int, power: float
) -> dict[str, Any]:
    """Return the label-free criteria of a layer, by column of the table.

    ``pairs`` are the averages [2, N, L + 1, C] of the crops as they are and
    augmented.
    """
    clean, other_clean = whiten_together(
        list(pairs["clean"][:, :, layer]), power
    )
    first, second = whiten_together(
        list(pairs["augmented"][:, :, layer]), power
    )
    n_clusters = max(len(first) // PER_CLUSTER, 2)
    return {
        "layer": layer,
        "eer": 100 * pair_eer(first, second),
        "eer_clean": 100 * pair_eer(clean, other_clean),
        "agreement": clustering_agreement(first, second, n_clusters),
    }


def choose_layers(recipe: RecipeRun, manifest: Manifest) -> dict[str, Any]:
    """Return the layers to average and, if they were chosen, by what."""
    settings: EmbedPretrained = recipe.settings
    if settings.layers != "auto":
        # Refuses layers that the whole encoder has not.
        new_embedder(settings, layers=settings.layers)
        return {"layers": settings.layers}
    run_on_main(compare_layers, args=[recipe, manifest])
    table = pd.read_csv(recipe.folder / CURVE)
    best = table.loc[table.eer.idxmin()]
    logger.info(f"layers by EER of crop pairs (%):\n{table.round(2)}")
    return {"layers": [int(best.layer)], "pair_eer": float(best.eer)}


def fit(
    recipe: RecipeRun, manifest: Manifest, embedder: Embedder, folder: Path
) -> tuple[list[str], float]:
    """Fit the pooling to the chunks of statistics and write all files.

    Returns their names, and the share of variance that was trend over length.
    """
    path = folder / "statistics.npy"
    joined_chunks(folder, len(manifest), {"embeddings": path})
    # Read and written in place: of a million utterances it is gigabytes.
    found = np.load(path, mmap_mode="r+")
    model: Any = embedder.model
    share = fit_layer_means_(
        model.pooling, found[:, 0].copy(), found[:, 1:], recipe.settings.whiten
    )
    names = [
        f"embedder/{name}"
        for name in save_embedder(recipe.folder / "embedder", embedder)
    ]
    if (recipe.folder / CURVE).exists():
        table = pd.read_csv(recipe.folder / CURVE)
        save_png(layer_choice(table), recipe.folder / PLOT)
        names += [CURVE, PLOT]
    shutil.rmtree(folder)
    return names, share


def main(argv: list[str] | None = None) -> None:
    """Choose the layer, fit the pooling and write an embedder folder."""
    recipe = RecipeRun(__file__, EmbedPretrained, argv)
    settings: EmbedPretrained = recipe.settings
    settings.check_modules()
    asked = {**settings.augment_files(), **recipe.applied_request()}
    if recipe.is_done(settings.inputs(), **asked):
        return
    manifest = read_training_manifest(settings)
    choice = choose_layers(recipe, manifest)
    layers = choice["layers"]
    # Layers above those that are averaged are neither kept nor computed.
    embedder = new_embedder(settings, layers=layers, n_layers=max(layers) or 1)
    folder = recipe.folder / "chunks"
    with recipe.applying():
        embed_in_chunks(
            raw_embedder(embedder, layers).to(recipe.device),
            manifest,
            folder,
            settings.max_batch_seconds,
            settings.chunk_size,
            settings.num_workers,
        )
    # Every chunk must be written before one process joins them.
    ddp_barrier()
    names, share = run_on_main(
        fit, [recipe, manifest, embedder.to("cpu"), folder]
    )
    recipe.finish(
        names,
        **choice,
        length_share=share,
        n_utterances=len(manifest),
        hours=float(manifest.duration.sum() / 3600),
        random_encoder=embedder.is_random,
        encoder_source=settings.hub_encoder,
        precision=recipe.applied_precision,
    )


if __name__ == "__main__":
    run(main)
