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

from typing import Any

import pandas as pd
import speechbrain as sb
import torch
from speechbrain.utils.distributed import run_on_main

from speechbrain_ext.dataio.audio import check_audio
from speechbrain_ext.dataio.manifest import Manifest, read_manifest
from speechbrain_ext.experiment.recipe_run import Stage
from speechbrain_ext.losses.dino import target_statistics
from speechbrain_ext.models.embedder import save_embedder
from speechbrain_ext.training.brain import CURVE, ViewBrain, check_views
from speechbrain_ext.training.dino import build_modules
from speechbrain_ext.training.dino_schedules import DinoSchedules
from speechbrain_ext.training.optim import decay_groups
from speechbrain_ext.training.plots import dino_health
from speechbrain_ext.training.validation import watch_from
from speechbrain_ext.training.views import crop_lengths
from speechbrain_ext.utils.command_line import run
from speechbrain_ext.utils.plotting import save_png
from speechbrain_ext.utils.validation import (
    check_counts,
    check_positive,
    check_shares,
)


class DinoBrain(ViewBrain):
    """Student, teacher, centre and their schedules."""

    def compute_forward(self, batch: Any, stage: sb.Stage) -> tuple:
        """`Outputs` of the student and of the teacher."""
        views = self._views(batch.to(self.device))
        # SSPS: the teacher hears another utterance.
        heard = views.pop("positive_crops", views["global_crops"])
        # First, so that what it needs is free again for the student.
        teacher = self.modules.teacher(heard)
        return self.modules.student(*views.values()), teacher

    def compute_objectives(
        self, predictions: tuple, batch: Any, stage: sb.Stage
    ) -> torch.Tensor:
        """DINO's cross-entropy between views, and RDINO's terms if any."""
        student, teacher = predictions
        dino = self.modules.loss
        now = self.schedules.at(self.optimizer_step)
        targets = dino.targets(teacher.cosines, now.teacher_temperature)
        loss = dino.cross_entropy(student.cosines, targets)
        dino.update_center(teacher.cosines)
        self.facts = (loss.detach(), *target_statistics(targets))
        if self.hparams.regularizer_weight > 0:
            n_global = len(targets)
            term = self.hparams.regularizer(student.expansion[:n_global])
            loss = loss + now.regularizer_weight * term
        return loss

    def count_step(self, outputs: tuple) -> dict[str, float]:
        """Figures of the step; a collapse ends the run here."""
        return self.modules.health.update(
            *self.facts, outputs[1].embeddings, self.modules.loss.center
        )

    def parameter_groups(self) -> list[dict[str, Any]]:
        """All of the student at one rate."""
        return decay_groups(self.modules.student.parameters())

    def set_rates(self) -> None:
        """One rate for all."""
        rate = self.rate(self.optimizer_step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def rate(self, step: int) -> float:
        """As scheduled."""
        return self.schedules.at(step).lr

    def before_step(self, student: Any) -> None:
        """In the first epochs prototypes rest."""
        if self.schedules.at(self.optimizer_step).prototypes_rest:
            student.head.prototypes.grad = None

    def after_step(self, student: Any) -> None:
        """Move the teacher."""
        now = self.schedules.at(self.optimizer_step)
        self.modules.teacher.update(student, now.teacher_momentum)

    @property
    def embedder(self) -> Any:
        """The teacher's."""
        return self.modules.teacher.model.embedder

    @property
    def averaged(self) -> Any:
        """The mean of the last teachers."""
        return self.modules.mean_teacher


def build_brain(stage: Stage, manifest: Manifest) -> DinoBrain:
    """The brain with all that it trains, checkpoints and draws from."""
    settings, hparams = stage.settings, stage.load()
    lengths = crop_lengths(settings, manifest)
    steps_per_epoch = len(manifest) // settings["batch_size"]
    modules = build_modules(settings, hparams, len(manifest), steps_per_epoch)
    brain = DinoBrain(
        stage, hparams, modules, manifest, lengths, settings["n_global"]
    )
    brain.schedules = DinoSchedules(settings, steps_per_epoch)
    brain.watch = watch_from(settings)
    brain.n_positive_epochs = settings["n_ssps_epochs"]
    brain.n_averaged_epochs = settings["n_averaged_teachers"]
    return brain


def check(stage: Stage, manifest: Manifest) -> None:
    """Refuse settings that cannot train, or not as they seem to."""
    settings = stage.settings
    check_views(stage, manifest)
    check_counts(settings, n_averaged_teachers=1)
    check_positive(settings, "student_temperature", "teacher_temperature")
    check_positive(settings, "teacher_temperature_start")
    check_shares(settings, "center_momentum", "teacher_momentum")
    sizes = {f"head.{key}": size for key, size in settings["head"].items()}
    least = {key: int(key != "head.expander_size") for key in sizes}
    check_counts(sizes, **least)
    if settings["collapse_patience"] is not None:
        check_positive(settings, "collapse_patience")


def save(stage: Stage, brain: DinoBrain) -> list[str]:
    """Write what the training leaves; names for the receipt."""
    names = save_embedder(stage.folder / "embedder", brain.finished())
    curve = pd.DataFrame(brain.curve.rows)
    figure = dino_health(curve, brain.modules.health.uniform)
    save_png(figure, stage.folder / "health.png")
    outputs = [f"embedder/{name}" for name in names]
    return [*outputs, CURVE, "health.png"]


def main(argv: list[str] | None = None) -> None:
    """Manifest in, embedder folder out."""
    stage = Stage(__file__, argv)
    settings = stage.settings
    inputs = {
        "train_annotation": settings["train_annotation"],
        "embedder_yaml": settings["embedder_yaml"],
    }
    if stage.is_done(inputs=inputs):
        return
    manifest = read_manifest(
        settings["train_annotation"], "utterances", settings["data_folder"]
    )
    check_audio(manifest)
    check(stage, manifest)
    brain = build_brain(stage, manifest)
    brain.fit_views(stage.share(settings["batch_size"]))
    stage.finish(
        run_on_main(save, [stage, brain]),
        n_utterances=len(manifest),
        hours=float(manifest.duration.sum() / 3600),
        final_loss=brain.curve.rows[-1]["loss"],
        ln_k=brain.modules.health.uniform,
        random_encoder=brain.embedder.is_random,
    )


if __name__ == "__main__":
    run(main)
