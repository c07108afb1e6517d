"""Train speaker embeddings without labels: DINO with multi-crop views.

A student sees all crops of an utterance, a momentum teacher the global ones;
the student learns to predict the teacher (Caron et al., ICCV 2021). The mean
of the last epochs' teachers becomes the embedder. To run it:

> python recipes/train_dino.py hparams/train_dino_ecapa.yaml \
      --train_annotation=CORPUS/train.csv --data_folder=DATA_ROOT \
      --output_folder=exp/dino

The same command after a kill continues from the last checkpoint.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pandas as pd
import speechbrain as sb

from speechbrain_ext.commands.command_line import run
from speechbrain_ext.dataio.manifest import Manifest
from speechbrain_ext.experiment.recipe_run import RecipeRun
from speechbrain_ext.experiment.training_run import run_training
from speechbrain_ext.losses.dino import target_statistics
from speechbrain_ext.models.heads import Outputs
from speechbrain_ext.training.brain import Objective
from speechbrain_ext.training.dino import DinoSchedules, build_dino
from speechbrain_ext.training.plots import dino_diagnostics
from speechbrain_ext.training.settings import TrainDino
from speechbrain_ext.training.view_brain import ViewBrain
from speechbrain_ext.training.views import crop_lengths, view_data
from speechbrain_ext.utils.plotting import save_png


class Predictions(NamedTuple):
    """Outputs of student and teacher."""

    student: Outputs
    teacher: Outputs


class DinoBrain(ViewBrain):
    """Student and teacher with DINO's loss, whose centre is state."""

    settings: TrainDino

    @property
    def schedules(self) -> DinoSchedules:
        """Schedules of all values that change by step, except rates."""
        return DinoSchedules(self.settings, self.steps_per_epoch)

    def compute_forward(self, batch: Any, stage: sb.Stage) -> Predictions:
        """Compute the outputs of the student and of the teacher."""
        batch = batch.to(self.device, non_blocking=True)
        views = self.augmented_views(batch)
        # SSPS: the teacher sees another utterance.
        heard = views.pop("positive_crops", views["global_crops"])
        # The teacher runs first, so that its memory is free for the student.
        teacher = self.modules.teacher(heard)
        return Predictions(self.modules.student(*views.values()), teacher)

    def compute_objectives(
        self, predictions: Predictions, batch: Any, stage: sb.Stage
    ) -> Objective:
        """Compute DINO's cross-entropy, and RDINO's terms if they are used."""
        student, teacher = predictions
        dino = self.parts.loss
        now = self.schedules.at(self.optimizer_step)
        targets = dino.targets(teacher.cosines, now.teacher_temperature)
        cross_entropy = loss = dino.cross_entropy(student.cosines, targets)
        dino.update_center(teacher.cosines)
        if self.settings.regularizer_weight > 0:
            expansion = student.expansion[: len(targets)]
            term = self.objects["regularizer"](expansion)
            loss = loss + now.regularizer_weight * term
        facts = cross_entropy.detach(), *target_statistics(targets)
        return Objective(loss, facts)

    def step_statistics(
        self, outputs: Predictions, objective: Objective
    ) -> dict[str, float]:
        """Add the step's diagnostics; raise `CollapseError` on collapse."""
        return self.parts.diagnostics.update(
            *objective.facts, outputs.teacher.embeddings, self.parts.loss.center
        )

    def before_step(self) -> None:
        """Freeze the prototypes in the first epochs."""
        if self.schedules.at(self.optimizer_step).prototypes_frozen:
            self.parts.student.head.prototypes.grad = None

    def after_step(self) -> None:
        """Update the teacher."""
        now = self.schedules.at(self.optimizer_step)
        self.parts.teacher.update(self.parts.student, now.momentum)

    def save(self) -> list[str]:
        """Write the embedder and a plot; return the names of all files."""
        curve = pd.DataFrame(self.curve.rows)
        figure = dino_diagnostics(curve, self.parts.diagnostics.uniform)
        save_png(figure, self.folder / "diagnostics.png")
        return [*super().save(), "diagnostics.png"]

    def summary(self) -> dict[str, Any]:
        """Return the facts of the training for its stage record."""
        ln_k = self.parts.diagnostics.uniform
        return {**super().summary(), "ln_k": ln_k}


def build_brain(recipe: RecipeRun, manifest: Manifest) -> DinoBrain:
    """Build the Brain with its networks, checkpoints and data."""
    settings, objects = recipe.settings, recipe.objects()
    lengths = crop_lengths(settings, manifest)
    networks = build_dino(settings, objects, len(manifest))
    data = view_data(settings, manifest, lengths, settings.n_global)
    return DinoBrain(
        settings, objects, networks, data, recipe.folder, recipe.options
    )


def main(argv: list[str] | None = None) -> None:
    """Train on a manifest without speakers and write an embedder folder."""
    run_training(RecipeRun(__file__, TrainDino, argv), build_brain)


if __name__ == "__main__":
    run(main)
