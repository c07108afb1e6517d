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
from speechbrain.utils.distributed import run_on_main
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from speechbrain_ext.audio import RandomCrop, check_audio
from speechbrain_ext.augment import from_folder
from speechbrain_ext.checkpoints import WholeCheckpointer
from speechbrain_ext.curve import TrainCurve
from speechbrain_ext.dino import (
    DINOLoss,
    MomentumTeacher,
    Projector,
    target_statistics,
)
from speechbrain_ext.eer_watch import EerWatch
from speechbrain_ext.embedder import build_embedder, save_embedder
from speechbrain_ext.extraction import embed_manifest
from speechbrain_ext.files import InputError
from speechbrain_ext.finite import require_finite
from speechbrain_ext.health import Health
from speechbrain_ext.manifest import SAMPLE_RATE, Manifest, read_manifest
from speechbrain_ext.monitor import Monitor
from speechbrain_ext.parameters import clip_each_
from speechbrain_ext.plots import dino_health, save_png
from speechbrain_ext.processes import share_batch_norm
from speechbrain_ext.regularizers import rdino_regularizer
from speechbrain_ext.rng import crop_keys
from speechbrain_ext.schedules import cosine, linear
from speechbrain_ext.ssps import PositiveSampler
from speechbrain_ext.stage import Stage, run
from speechbrain_ext.views import VIEWS, ViewData, crop_lengths

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
        crops = {
            name: getattr(batch, name).data.transpose(0, 1)
            for name in VIEWS
            if hasattr(batch, name)
        }
        if self.augment is None:
            return crops
        sizes = [len(part) for part in crops.values()]
        epoch = self.random_crop.epoch
        keys = crop_keys(self.hparams.seed, epoch, batch.id, sum(sizes))
        own = np.split(keys, np.cumsum(sizes)[:-1], axis=1)
        return {
            name: self.augment.by_keys(
                part.flatten(0, 1), key.T.flatten()
            ).unflatten(0, part.shape[:2])
            for (name, part), key in zip(crops.items(), own, strict=True)
        }

    def compute_objectives(
        self, predictions: tuple, batch: Any, stage: sb.Stage
    ) -> torch.Tensor:
        """DINO's cross-entropy between views, and RDINO's terms if any."""
        student, teacher = predictions
        dino = self.modules.loss
        targets = dino.targets(teacher.cosines, self.teacher_temperature)
        loss = dino.cross_entropy(student.cosines, targets)
        dino.update_center(teacher.cosines)
        self.facts = (loss.detach(), *target_statistics(targets))
        if self.hparams.regularizer_weight > 0:
            term = rdino_regularizer(student.expansion[: len(targets)])
            loss = loss + self.regularizer_weight * term
        return loss

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
        """Two groups: weight decay is for matrices, not biases and norms."""
        params = list(self.modules.student.parameters())
        groups = [
            {"params": [p for p in params if p.ndim > 1]},
            {"params": [p for p in params if p.ndim <= 1], "weight_decay": 0.0},
        ]
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

    def schedule(self, start: float, end: float, n_warmup: int = 0) -> float:
        """A cosine over the whole training, at the current step."""
        n_steps = self.hparams.n_epochs * self.steps_per_epoch
        return cosine(self.optimizer_step, n_steps, start, end, n_warmup)

    def ramp(self, start: float, end: float, n_epochs: float) -> float:
        """A line over the first epochs, at the current step."""
        n_steps = round(n_epochs * self.steps_per_epoch)
        return linear(self.optimizer_step, n_steps, start, end)

    @property
    def teacher_temperature(self) -> float:
        """tau_t of this step."""
        return self.ramp(
            self.hparams.teacher_temperature_start,
            self.hparams.teacher_temperature,
            self.hparams.n_temperature_epochs,
        )

    @property
    def regularizer_weight(self) -> float:
        """Factor of RDINO's terms in this step."""
        return self.ramp(
            self.hparams.regularizer_weight_start,
            self.hparams.regularizer_weight,
            self.hparams.n_regularizer_epochs,
        )

    def optimizers_step(self) -> None:
        """Step the student with its schedules, then move the teacher."""
        warmup = self.hparams.n_warmup_epochs * self.steps_per_epoch
        lr = self.schedule(self.hparams.lr, self.hparams.lr_final, warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.scaler.unscale_(self.optimizer)
        student = unwrapped(self.modules.student)
        frozen = self.hparams.n_frozen_prototype_epochs * self.steps_per_epoch
        if self.optimizer_step < frozen:
            student.head.prototypes.grad = None
        clip_each_(student.parameters(), self.hparams.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        momentum = self.schedule(self.hparams.teacher_momentum, 1.0)
        self.modules.teacher.update(student, momentum)
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
            figures["eer"] = self.watch.percent(teacher)
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
    embedder = build_embedder(settings["embedder_yaml"], settings["embedder"])
    head = hparams["head"](embedder.embedding_size)
    student = Projector(embedder, head)
    mean_teacher = AveragedModel(embedder, use_buffers=True)
    steps_per_epoch = len(manifest) // settings["batch_size"]
    modules: dict[str, Any] = {
        "student": student,
        "teacher": MomentumTeacher(student),
        "mean_teacher": mean_teacher.requires_grad_(False),
        "loss": DINOLoss(
            len(head.prototypes),
            settings["student_temperature"],
            settings["center_momentum"],
        ),
        "health": Health(
            len(head.prototypes),
            embedder.embedding_size,
            round(settings["collapse_patience"] * steps_per_epoch),
        ),
    }
    if settings["n_ssps_epochs"] > 0:
        modules["positives"] = PositiveSampler(
            len(manifest),
            settings["ssps_clusters"],
            settings["ssps_neighbours"],
            settings["seed"],
        )
    epochs = sb.utils.epoch_loop.EpochCounter(settings["n_epochs"])
    curve = TrainCurve(stage.folder / "train_curve.csv")
    checkpointer = WholeCheckpointer(
        stage.folder / "save", {**modules, "epochs": epochs, "curve": curve}
    )
    brain = DinoBrain(
        modules, hparams["opt_class"], hparams, stage.run_opts, checkpointer
    )
    brain.folder, brain.steps_per_epoch = stage.folder, steps_per_epoch
    brain.random_crop, brain.epochs, brain.curve = crop, epochs, curve
    brain.augment = from_folder(hparams["augment"], settings["augment_folder"])
    brain.dataset = ViewData(manifest, crop, settings["n_global"])
    brain.watch = None
    if settings["eer_trials"] is not None:
        brain.watch = EerWatch(
            settings["eer_annotation"],
            settings["eer_trials"],
            settings["data_folder"],
        )
    return brain


def train(stage: Stage, manifest: Manifest) -> DinoBrain:
    """Build, resume and fit."""
    settings = stage.settings
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
    embedder = brain.modules.mean_teacher.module
    names = save_embedder(stage.folder / "embedder", embedder)
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
