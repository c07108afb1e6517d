"""Train speaker embeddings without labels: SimCLR or MoCo.

An utterance's embedding is to be nearer to that of its positive than to those
of all others: in the batch (SimCLR), or in a queue of a momentum encoder's
(MoCo). The positive is another crop of the utterance, which shares its channel;
one of an utterance from a nearby cluster (SSPS); or, as a diagnostic that says
so, one of another utterance of the true speaker (oracle). To run it:

> python recipes/train_contrastive.py hparams/train_contrastive_ecapa.yaml \
      --train_annotation=CORPUS/train.csv --data_folder=DATA_ROOT \
      --output_folder=exp/simclr
> ... --method=moco
> python recipes/train_contrastive.py hparams/train_contrastive_encoder.yaml \
      --embedder="{freeze: all}" ...

The same command after a kill continues from the last checkpoint.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import speechbrain as sb
import torch
from speechbrain.utils.run_opts import RunOptions

from speechbrain_ext.commands.command_line import run
from speechbrain_ext.dataio.audio import check_crop
from speechbrain_ext.dataio.manifest import Manifest
from speechbrain_ext.experiment.recipe_run import RecipeRun
from speechbrain_ext.experiment.training_run import run_training
from speechbrain_ext.training import plots
from speechbrain_ext.training.brain import Objective, TrainingData
from speechbrain_ext.training.contrastive import Compared, build_contrastive
from speechbrain_ext.training.layer_distances import of_embedder
from speechbrain_ext.training.networks import Networks
from speechbrain_ext.training.settings import TrainContrastive
from speechbrain_ext.training.train_curve import TrainCurve
from speechbrain_ext.training.view_brain import ViewBrain
from speechbrain_ext.training.views import view_data
from speechbrain_ext.utils.plotting import save_png

logger = logging.getLogger(__name__)

DISTANCES = "layer_distances.csv"


class Predictions(NamedTuple):
    """Outputs of the student and, with MoCo, of the momentum encoder."""

    student: Compared
    teacher: Compared | None


class ContrastiveBrain(ViewBrain):
    """Student and loss; with MoCo also a momentum encoder and queues."""

    settings: TrainContrastive

    def __init__(
        self,
        settings: TrainContrastive,
        objects: Mapping[str, Any],
        networks: Networks,
        data: TrainingData,
        folder: Path,
        options: RunOptions,
    ):
        # Set before resuming: the weights from which the encoder started.
        self.distances = of_embedder(networks.trained.model)
        self.layer_curve = TrainCurve(folder / DISTANCES)
        own = {"layer_curve": self.layer_curve}
        super().__init__(
            settings, objects, networks, data, folder, options, own
        )

    @property
    def is_moco(self) -> bool:
        """Whether the method is MoCo, whose keys are a momentum encoder's."""
        return self.settings.method == "moco"

    def chosen(self, views: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Select SimCLR's two views: one own crop and one of the positive."""
        if self.is_moco:
            return views
        own = views["global_crops"]
        heard = views.get("positive_crops", own)
        return {"global_crops": own[:1], "positive_crops": heard[1:]}

    def compute_forward(self, batch: Any, stage: sb.Stage) -> Predictions:
        """Compute the outputs of the student and, with MoCo, of the teacher."""
        batch = batch.to(self.device, non_blocking=True)
        views = self.augmented_views(batch)
        if not self.is_moco:
            both = torch.cat(list(views.values()))
            return Predictions(self.modules.student(both), None)
        own = views["global_crops"]
        keys = self.modules.teacher(views.get("positive_crops", own))
        return Predictions(self.modules.student(own), keys)

    def compute_objectives(
        self, predictions: Predictions, batch: Any, stage: sb.Stage
    ) -> Objective:
        """Compute NT-Xent, or MoCo's cross-entropy."""
        student, keys = predictions
        if keys is None:
            return Objective(self.modules.loss(*student.projections))
        loss = self.modules.loss(student.projections, keys.projections)
        return Objective(loss)

    def step_statistics(
        self, outputs: Predictions, objective: Objective
    ) -> dict[str, float]:
        """Add the step's diagnostics and push its keys to the queues."""
        student, keys = outputs
        if keys is not None:
            # Only now: the gradients needed the queues unchanged.
            self.parts.loss.push(keys.projections)
        second = (student if keys is None else keys).embeddings[1]
        return self.parts.diagnostics.update(
            objective.loss, student.embeddings[0].detach(), second.detach()
        )

    def after_step(self) -> None:
        """Update the momentum encoder."""
        if self.is_moco:
            self.parts.teacher.update(
                self.parts.student, self.settings.momentum
            )

    def on_epoch_end(self, epoch: int) -> None:
        """Write the distance of each encoder layer from its initial weights."""
        if self.distances is not None:
            self.layer_curve.append(epoch=epoch, **self.distances())

    def save(self) -> list[str]:
        """Write the embedder and plots; return the names of all files."""
        drawn = {
            "diagnostics.png": plots.contrastive_diagnostics(
                pd.DataFrame(self.curve.rows)
            )
        }
        names = super().save()
        if self.distances is not None:
            table = pd.DataFrame(self.layer_curve.rows)
            drawn["layer_distances.png"] = plots.layer_distances(table)
            names.append(DISTANCES)
        for name, figure in drawn.items():
            save_png(figure, self.folder / name)
        return [*names, *drawn]

    def summary(self) -> dict[str, Any]:
        """Return the facts of the training for its stage record."""
        last = self.curve.rows[-1]
        return {
            **super().summary(),
            "alignment": last["alignment"],
            "uniformity": last["uniformity"],
            "oracle_positives": self.settings.positives == "oracle",
        }


def build_brain(recipe: RecipeRun, manifest: Manifest) -> ContrastiveBrain:
    """Build the Brain with its networks, checkpoints and data."""
    settings, objects = recipe.settings, recipe.objects()
    if settings.positives == "oracle":
        logger.warning("TRUE speakers choose the positives: a diagnostic")
    n_frames = check_crop(manifest, settings.crop, "crop")
    return ContrastiveBrain(
        settings,
        objects,
        build_contrastive(settings, objects, manifest),
        view_data(settings, manifest, [n_frames, n_frames], 2),
        recipe.folder,
        recipe.options,
    )


def main(argv: list[str] | None = None) -> None:
    """Train on a manifest without speakers and write an embedder folder."""
    run_training(RecipeRun(__file__, TrainContrastive, argv), build_brain)


if __name__ == "__main__":
    run(main)
