"""Base class of Brains that train on views of unlabelled utterances."""

from __future__ import annotations

from typing import Any

import numpy as np
import speechbrain as sb
import torch

from speechbrain_ext.dataio.manifest import SAMPLE_RATE
from speechbrain_ext.models.extraction import embed_manifest
from speechbrain_ext.training.brain import TrainingBrain
from speechbrain_ext.training.settings import ViewSettings
from speechbrain_ext.training.views import ViewData, augment_views, batch_views
from speechbrain_ext.utils.keyed_random import crop_keys


class ViewBrain(TrainingBrain):
    """Brain that trains on crops and, in its last epochs, on positives.

    Arguments are those of `TrainingBrain`. The networks' modules have
    ``student``, ``diagnostics`` and, with positives of other utterances,
    ``positives``; the dataset is a `ViewData`.
    """

    settings: ViewSettings

    def chosen(self, views: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the views of a batch that the loss needs."""
        return views

    def augmented_views(self, batch: Any) -> dict[str, torch.Tensor]:
        """Return views [V, B, T] by name, each crop augmented separately."""
        views = self.chosen(batch_views(batch))
        if self.augment is None:
            return views
        seed, epoch = self.settings.seed, self.data.crop.epoch
        keys = crop_keys(seed, epoch, batch.id, sum(map(len, views.values())))
        return augment_views(views, self.augment.by_keys, keys)

    @property
    def batch_number(self) -> int:
        """Number of the batch in the whole training, from 0."""
        return self.optimizer_step

    @property
    def n_positive_epochs(self) -> int:
        """Number of last epochs whose positives are of other utterances."""
        settings = self.settings
        of = {"ssps": settings.n_ssps_epochs, "oracle": settings.n_epochs}
        return of.get(settings.positives, 0)

    def epoch_statistics(self, epoch: int, loss: float) -> dict[str, float]:
        """Return the diagnostics of an epoch, including its mean loss."""
        return self.parts.diagnostics.close()

    def on_stage_start(self, stage: sb.Stage, epoch: Any = None) -> None:
        """Draw the epoch's positives, if it uses any."""
        super().on_stage_start(stage, epoch)
        if epoch <= self.settings.n_epochs - self.n_positive_epochs:
            return
        positives = self.parts.positives
        # A run that resumes within the epoch has loaded them already.
        if int(positives.epoch) != epoch:
            known = positives.by_embeddings
            embeddings = self.embed_training_set() if known else None
            positives.draw(embeddings, epoch, self.device)
        dataset: ViewData = self.data.dataset
        dataset.use_positives(positives.rows.cpu().numpy())

    def embed_training_set(self) -> np.ndarray:
        """Embed the training utterances without augmentation: [N, D]."""
        with self.evaluation_ctx:
            return embed_manifest(
                self.embedder,
                self.data.manifest,
                None if self.noprogressbar else "SSPS",
                self.settings.num_workers,
                grain=SAMPLE_RATE,
            )
