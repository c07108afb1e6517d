"""Views of an utterance: random crops of it and of its positive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from speechbrain.dataio.sampler import ReproducibleRandomSampler
from speechbrain.utils.data_pipeline import provides, takes

from speechbrain_ext.dataio.audio import RandomCrop, check_crop
from speechbrain_ext.dataio.manifest import Manifest
from speechbrain_ext.training.brain import ManifestData, TrainingData
from speechbrain_ext.training.settings import TrainDino, ViewSettings

VIEWS = ("global_crops", "local_crops", "positive_crops")


def batch_views(batch: Any) -> dict[str, torch.Tensor]:
    """Return the `VIEWS` that a batch contains, each [V, B, T]."""
    return {
        name: getattr(batch, name).data.transpose(0, 1)
        for name in VIEWS
        if hasattr(batch, name)
    }


def augment_views(
    views: dict[str, torch.Tensor],
    augment: Callable[[torch.Tensor, np.ndarray], torch.Tensor],
    keys: np.ndarray,
) -> dict[str, torch.Tensor]:
    """Augment each crop separately.

    Arguments
    ---------
    views : dict of str to torch.Tensor
        Crops [V_i, B, T_i] of each name.
    augment : callable
        Crops [M, T] and keys [M] to crops [M, T], as `Augment.by_keys`.
    keys : numpy.ndarray
        [B, sum of V_i], one for each crop, in the order of ``views``.

    Returns
    -------
    dict of str to torch.Tensor
        As ``views``.

    Example
    -------
    >>> def louder(wavs, keys):
    ...     return wavs * torch.from_numpy(keys)[:, None]
    >>> views = {"a": torch.ones(2, 1, 4), "b": torch.ones(1, 1, 3)}
    >>> found = augment_views(views, louder, np.array([[5, 6, 7]]))
    >>> found["a"][:, 0, 0].tolist(), found["b"].tolist()
    ([5.0, 6.0], [[[7.0, 7.0, 7.0]]])
    """
    n_views = [len(crops) for crops in views.values()]
    own = np.split(keys, np.cumsum(n_views)[:-1], axis=1)
    return {
        name: augment(crops.flatten(0, 1), key.T.flatten()).unflatten(
            0, crops.shape[:2]
        )
        for (name, crops), key in zip(views.items(), own, strict=True)
    }


class ViewData(ManifestData):
    """Dataset of global [G, T_g], local [L, T_l] and positive [G, T_g] crops.

    Arguments
    ---------
    manifest : Manifest
        The training utterances.
    crop : RandomCrop
        Cuts all crops of an utterance, G global ones first.
    n_global : int
        G.
    """

    def __init__(self, manifest: Manifest, crop: RandomCrop, n_global: int):
        self.manifest = manifest
        self.names = VIEWS[: 1 + (len(crop.n_frames) > n_global)]
        positive_crop = RandomCrop(crop.n_frames[:n_global], crop.seed)

        @takes("id", "wav", "start", "stop")
        @provides(*self.names)
        def own_pipeline(utterance, wav, start, stop):
            crops = crop(utterance, wav, start, stop)
            yield torch.stack(crops[:n_global])
            if len(crops) > n_global:
                yield torch.stack(crops[n_global:])

        @takes("id")
        @provides(VIEWS[2])
        def positive_pipeline(utterance):
            row = self.positives[manifest.rows_of([utterance])[0]]
            entry = manifest.entry(row)
            # Different crops from those drawn when the positive is the anchor.
            name = f"positive of {utterance}"
            positive_crop.epoch = crop.epoch
            place = entry["wav"], entry["start"], entry["stop"]
            return torch.stack(positive_crop(name, *place))

        pipelines = [own_pipeline, positive_pipeline]
        super().__init__(manifest, pipelines, ["id", *self.names])

    def use_positives(self, rows: np.ndarray) -> None:
        """Give each utterance a positive, rows [N], from now on."""
        self.positives = rows
        self.set_output_keys(["id", *self.names, VIEWS[2]])


def view_data(
    settings: ViewSettings,
    manifest: Manifest,
    lengths: list[int],
    n_global: int,
) -> TrainingData:
    """Build the data of a training on views.

    Arguments
    ---------
    settings : ViewSettings
        Of the recipe.
    manifest : Manifest
        The training utterances.
    lengths : list of int
        Samples of each crop of an utterance, global crops first.
    n_global : int
        How many of them are global.
    """
    crop = RandomCrop(lengths, settings.seed)
    dataset = ViewData(manifest, crop, n_global)
    # With `shuffle`, several processes would draw a different order.
    sampler = ReproducibleRandomSampler(dataset, settings.seed)
    return TrainingData(manifest, manifest, dataset, crop, sampler)


def crop_lengths(settings: TrainDino, manifest: Manifest) -> list[int]:
    """Return the lengths of an utterance's crops in samples, global first."""
    frames = check_crop(manifest, settings.global_crop, "global_crop")
    lengths = [frames] * settings.n_global
    if settings.n_local:
        frames = check_crop(manifest, settings.local_crop, "local_crop")
        lengths += [frames] * settings.n_local
    return lengths
