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

import logging
from typing import Any

import numpy as np
import pandas as pd
import speechbrain as sb
import torch
from speechbrain.dataio.sampler import ReproducibleRandomSampler
from speechbrain.utils.distributed import get_rank, run_on_main
from torch.nn.parallel import DistributedDataParallel

from speechbrain_ext.audio import RandomCrop, check_audio
from speechbrain_ext.augment import from_folder
from speechbrain_ext.checkpoints import WholeCheckpointer
from speechbrain_ext.curve import TrainCurve
from speechbrain_ext.dino import target_statistics
from speechbrain_ext.dino_modules import build_modules
from speechbrain_ext.dino_schedules import DinoSchedules
from speechbrain_ext.eer_watch import watch_from
from speechbrain_ext.embedder import save_embedder
from speechbrain_ext.extraction import embed_manifest
from speechbrain_ext.files import InputError
from speechbrain_ext.finite import require_finite
from speechbrain_ext.manifest import SAMPLE_RATE, Manifest, read_manifest
from speechbrain_ext.monitor import Monitor
from speechbrain_ext.parameters import clip_each_, decay_groups
from speechbrain_ext.plots import dino_health, save_png
from speechbrain_ext.processes import share_batch_norm
from speechbrain_ext.ranges import check_counts, check_positive, check_shares
from speechbrain_ext.rng import crop_keys, seed_step
from speechbrain_ext.stage import Stage, run
from speechbrain_ext.views import (
    ViewData,
    augment_views,
    batch_views,
    crop_lengths,
)

logger = logging.getLogger(__name__)


class DinoBrain(sb.Brain):
    """Student, teacher, centre and their schedules."""

    def compute_forward(self, batch: Any, stage: sb.Stage) -> tuple:
        """`Outputs` of the student and of the teacher."""
        views = self._views(batch.to(self.device))
        # SSPS: the teacher hears another utterance.
        heard = views.pop("positive_crops", views["global_crops"])
        # First, so that what it needs is free again for the student.
        teacher = self.modules.teacher(heard)
        return self.modules.student(*views.values()), teacher

    def _views(self, batch: Any) -> dict[str, torch.Tensor]:
        """Views [V, B, T] of each name, each crop augmented on its own."""
        views = batch_views(batch)
        if self.augment is None:
            return views
        seed, epoch = self.hparams.seed, self.random_crop.epoch
        keys = crop_keys(seed, epoch, batch.id, sum(map(len, views.values())))
        return augment_views(views, self.augment.by_keys, keys)

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

    def on_fit_batch_start(self, batch: Any, should_step: bool) -> None:
        """Dropout, if any, is drawn for the step: a resumed run replays it."""
        seed_step(self.hparams.seed, self.optimizer_step, get_rank() or 0)

    def on_fit_batch_end(
        self, batch: Any, outputs: Any, loss: torch.Tensor, should_step: bool
    ) -> None:
        """Count the step's figures; a collapse ends the run here."""
        figures = self.modules.health.update(
            *self.facts, outputs[1].embeddings, self.modules.loss.center
        )
        self.monitor.step(self.optimizer_step, figures)

    def _wrap_distributed(self) -> None:
        if self.distributed_launch:
            # All modules, though `Brain` leaves out the teacher.
            share_batch_norm(self.modules, self.device)
        super()._wrap_distributed()

    def init_optimizers(self) -> None:
        """One optimiser of the student, which SpeechBrain's hook knows."""
        groups = decay_groups(self.modules.student.parameters())
        self.optimizer = self.opt_class(groups)
        self.optimizers_dict = {"opt_class": self.optimizer}
        self.checkpointer.add_recoverable("optimizer", self.optimizer)

    def on_fit_start(self) -> None:
        """After what is resumed is known, open the monitor."""
        super().on_fit_start()
        self.monitor = Monitor(
            self.folder / "tensorboard",
            self.optimizer_step,
            shown=not self.noprogressbar,
        )

    def optimizers_step(self) -> None:
        """Step the student with its schedules, then move the teacher."""
        now = self.schedules.at(self.optimizer_step)
        for group in self.optimizer.param_groups:
            group["lr"] = now.lr
        self.scaler.unscale_(self.optimizer)
        student = unwrapped(self.modules.student)
        if now.prototypes_rest:
            student.head.prototypes.grad = None
        clip_each_(student.parameters(), self.hparams.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.modules.teacher.update(student, now.teacher_momentum)
        self.optimizer_step += 1

    def check_loss_isfinite(self, loss: torch.Tensor) -> None:
        """Stop before a step that would ruin the weights."""
        remedy = f"lower --lr (now {self.hparams.lr})"
        require_finite(loss, self.random_crop.epoch, self.step, remedy)

    def on_stage_start(self, stage: sb.Stage, epoch: int | None = None) -> None:
        """Crops are drawn for the epoch that begins; positives, with SSPS."""
        self.random_crop.epoch = epoch
        if epoch > self.hparams.n_epochs - self.hparams.n_ssps_epochs:
            positives = self.modules.positives
            # A run resumed in mid-epoch has them already.
            if int(positives.epoch) != epoch:
                positives.draw(self.embed_training_set(), epoch)
            self.dataset.use_positives(positives.rows.cpu().numpy())

    def embed_training_set(self) -> np.ndarray:
        """Teacher's embeddings [N, D] of the clean utterances."""
        return embed_manifest(
            self.modules.teacher.model.embedder,
            self.dataset.manifest,
            None if self.noprogressbar else "SSPS",
            self.hparams.num_workers,
            grain=SAMPLE_RATE,
        )

    def on_stage_end(
        self, stage: sb.Stage, stage_loss: float, epoch: int | None = None
    ) -> None:
        """Log the epoch and checkpoint everything that changed."""
        teacher = self.modules.teacher.model.embedder
        if epoch > self.hparams.n_epochs - self.hparams.n_averaged_teachers:
            self.modules.mean_teacher.update_parameters(teacher)
        figures = self.modules.health.close()
        figures["lr"] = self.optimizer.param_groups[0]["lr"]
        if self.watch and epoch % self.hparams.eer_interval == 0:
            workers = self.hparams.num_workers
            figures["eer"] = self.watch.percent(teacher, workers)
        self.curve.append(epoch=epoch, **figures)
        self.monitor.epoch(self.optimizer_step, figures)
        words = ", ".join(f"{k} {v:.4g}" for k, v in figures.items())
        logger.info(f"epoch {epoch}/{self.hparams.n_epochs}: {words}")
        # What the checkpoint resumes is the epoch to come.
        self.step, self.avg_train_loss = 0, 0.0
        self.checkpointer.save_and_keep_only(
            meta={"epoch": epoch}, num_to_keep=1
        )


def unwrapped(module: torch.nn.Module) -> Any:
    """The module inside DistributedDataParallel, or itself."""
    if isinstance(module, DistributedDataParallel):
        return module.module
    return module


def build_brain(stage: Stage, manifest: Manifest) -> DinoBrain:
    """The brain with all that it trains, checkpoints and draws from."""
    settings, hparams = stage.settings, stage.load()
    crop = RandomCrop(crop_lengths(settings, manifest), settings["seed"])
    steps_per_epoch = len(manifest) // settings["batch_size"]
    modules = build_modules(settings, hparams, len(manifest), steps_per_epoch)
    epochs = sb.utils.epoch_loop.EpochCounter(settings["n_epochs"])
    curve = TrainCurve(stage.folder / "train_curve.csv")
    checkpointer = WholeCheckpointer(
        stage.folder / "save", {**modules, "epochs": epochs, "curve": curve}
    )
    brain = DinoBrain(
        modules, hparams["opt_class"], hparams, stage.run_opts, checkpointer
    )
    brain.folder, brain.epochs, brain.curve = stage.folder, epochs, curve
    brain.schedules = DinoSchedules(settings, steps_per_epoch)
    brain.random_crop = crop
    brain.augment = from_folder(hparams["augment"], settings["augment_folder"])
    brain.dataset = ViewData(manifest, crop, settings["n_global"])
    brain.watch = watch_from(settings)
    return brain


def check(stage: Stage, manifest: Manifest) -> None:
    """Refuse settings that cannot train, or not as they seem to."""
    settings = stage.settings
    check_counts(settings, n_epochs=1, batch_size=2, n_averaged_teachers=1)
    check_counts(settings, n_ssps_epochs=0, num_workers=0)
    check_positive(settings, "student_temperature", "teacher_temperature")
    check_positive(settings, "teacher_temperature_start", "clip")
    check_shares(settings, "center_momentum", "teacher_momentum")
    sizes = {f"head.{key}": size for key, size in settings["head"].items()}
    least = {key: int(key != "head.expander_size") for key in sizes}
    check_counts(sizes, **least)
    if settings["n_ssps_epochs"] > settings["n_epochs"]:
        raise InputError(
            f"n_ssps_epochs is {settings['n_ssps_epochs']}, the last of "
            f"{settings['n_epochs']} n_epochs; give fewer"
        )
    if settings["collapse_patience"] is not None:
        check_positive(settings, "collapse_patience")
    factor = stage.run_opts.grad_accumulation_factor
    if factor != 1:
        raise InputError(
            f"grad_accumulation_factor is {factor}; DINO's centre and teacher "
            "move with every batch: give 1 and a --batch_size that fits"
        )
    if len(manifest) < settings["batch_size"]:
        raise InputError(
            f"{len(manifest)} utterances do not fill one batch of "
            f"{settings['batch_size']}; lower --batch_size"
        )


def train(stage: Stage, manifest: Manifest) -> DinoBrain:
    """Build, resume and fit."""
    settings = stage.settings
    brain = build_brain(stage, manifest)
    # With `shuffle`, several processes would draw another order than one.
    brain.train_sampler = ReproducibleRandomSampler(
        brain.dataset, settings["seed"]
    )
    brain.fit(
        brain.epochs,
        brain.dataset,
        train_loader_kwargs={
            "batch_size": stage.share(settings["batch_size"]),
            "sampler": brain.train_sampler,
            "drop_last": True,
            "num_workers": settings["num_workers"],
        },
    )
    return brain


def save(stage: Stage, brain: DinoBrain) -> list[str]:
    """Write what the training leaves; names for the receipt."""
    mean_teacher = brain.modules.mean_teacher
    if not mean_teacher.n_averaged:
        # Stopped before the epochs that count, by --debug for instance.
        mean_teacher.update_parameters(brain.modules.teacher.model.embedder)
    names = save_embedder(stage.folder / "embedder", mean_teacher.module)
    curve = pd.DataFrame(brain.curve.rows)
    figure = dino_health(curve, brain.modules.health.uniform)
    save_png(figure, stage.folder / "health.png")
    outputs = [f"embedder/{name}" for name in names]
    return [*outputs, "train_curve.csv", "health.png"]


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
    brain = train(stage, manifest)
    stage.finish(
        run_on_main(save, [stage, brain]),
        n_utterances=len(manifest),
        hours=float(manifest.duration.sum() / 3600),
        final_loss=brain.curve.rows[-1]["loss"],
        ln_k=brain.modules.health.uniform,
        random_encoder=brain.modules.teacher.model.embedder.is_random,
    )


if __name__ == "__main__":
    run(main)
