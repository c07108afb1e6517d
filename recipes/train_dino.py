"""Train speaker embeddings without labels: DINO with multi-crop views.

A student sees all crops of an utterance, a momentum teacher the global ones;
the student learns to predict the teacher (Caron et al., ICCV 2021). The
teacher's encoder becomes the embedder. To run it:

> python recipes/train_dino.py hparams/train_dino_ecapa.yaml \
      --train_annotation=CORPUS/train.csv --data_folder=DATA_ROOT \
      --output_folder=exp/dino

The same command after a kill continues from the last checkpoint.
"""

from __future__ import annotations

import logging
from typing import Any

import speechbrain as sb
import torch
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.dataio.sampler import ReproducibleRandomSampler
from speechbrain.utils.distributed import get_rank, if_main_process
from torch.nn.parallel import DistributedDataParallel

from speechbrain_ext.audio import RandomCrop, check_audio, check_crop
from speechbrain_ext.augment import from_folder, step_generator
from speechbrain_ext.checkpoints import WholeCheckpointer
from speechbrain_ext.curve import TrainCurve
from speechbrain_ext.dino import DINOHead, DINOLoss, MomentumTeacher
from speechbrain_ext.embedder import Embedder, build_embedder, save_embedder
from speechbrain_ext.files import InputError
from speechbrain_ext.finite import require_finite
from speechbrain_ext.manifest import Manifest, read_manifest
from speechbrain_ext.processes import process_mean, share_batch_norm
from speechbrain_ext.schedules import cosine
from speechbrain_ext.stage import Stage, run

logger = logging.getLogger(__name__)

CROPS = ("global_crops", "local_crops")


class Projector(torch.nn.Module):
    """Embedder and head: crops of several lengths to prototype cosines."""

    def __init__(self, embedder: Embedder, head: DINOHead):
        super().__init__()
        self.embedder = embedder
        self.head = head

    def forward(self, *crops: torch.Tensor) -> torch.Tensor:
        """Crops [V_i, B, T_i] of each length to outputs [sum V_i, B, K]."""
        n_utterances = crops[0].shape[1]
        embeddings = [self.embedder(c.flatten(0, 1)) for c in crops]
        # One head pass over all crops: its BatchNorm sees them together.
        outputs = self.head(torch.cat(embeddings))
        return outputs.unflatten(0, (-1, n_utterances))


class DinoBrain(sb.Brain):
    """Student, teacher, centre and their schedules."""

    def compute_forward(self, batch: Any, stage: sb.Stage) -> tuple:
        """Outputs of student [S, B, K] and teacher [G, B, K]."""
        batch = batch.to(self.device)
        generator = step_generator(
            self.hparams.seed, self.optimizer_step, get_rank() or 0
        )
        crops = [
            self._views(getattr(batch, name).data, generator)
            for name in CROPS
            if hasattr(batch, name)
        ]
        return self.modules.student(*crops), self.modules.teacher(crops[0])

    def _views(
        self, crops: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        """Crops [B, V, T] as views [V, B, T], each augmented on its own."""
        crops = crops.transpose(0, 1)
        if self.augment is None:
            return crops
        flat = self.augment(crops.flatten(0, 1), generator)
        return flat.unflatten(0, crops.shape[:2])

    def compute_objectives(
        self, predictions: tuple, batch: Any, stage: sb.Stage
    ) -> torch.Tensor:
        """DINO's cross-entropy between views."""
        student, teacher = predictions
        return self.modules.loss(
            student, teacher, self.hparams.teacher_temperature
        )

    def _wrap_distributed(self) -> None:
        if self.distributed_launch:
            # The teacher's too, which `Brain` leaves out: it is not trained.
            share_batch_norm(self.modules, self.device)
        super()._wrap_distributed()

    def update_average(self, loss: torch.Tensor, avg_loss: float) -> float:
        """Average the loss of all processes, so that each reports the same."""
        loss = process_mean(loss, self.device)
        return super().update_average(loss, avg_loss)

    def init_optimizers(self) -> None:
        """Two groups: weight decay is for matrices, not biases and norms."""
        params = list(self.modules.student.parameters())
        groups = [
            {"params": [p for p in params if p.ndim > 1]},
            {"params": [p for p in params if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.optimizer = self.opt_class(groups)
        self.optimizers_dict = {"opt_class": self.optimizer}
        if self.checkpointer is not None:
            self.checkpointer.add_recoverable("optimizer", self.optimizer)

    def schedule(self, start: float, end: float, n_warmup: int = 0) -> float:
        """A cosine over the whole training, at the current step."""
        n_steps = self.hparams.n_epochs * self.steps_per_epoch
        return cosine(self.optimizer_step, n_steps, start, end, n_warmup)

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
        # Each tensor on its own, as the original: one exploding layer must
        # not silence the others.
        for parameter in student.parameters():
            if parameter.grad is not None:
                torch.nn.utils.clip_grad_norm_(parameter, self.hparams.clip)
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
        """Crops are drawn for the epoch that begins."""
        self.random_crop.epoch = epoch

    def on_stage_end(
        self, stage: sb.Stage, stage_loss: float, epoch: int | None = None
    ) -> None:
        """Log the epoch and checkpoint everything that changed."""
        lr = self.optimizer.param_groups[0]["lr"]
        self.curve.append(epoch=epoch, loss=stage_loss, lr=lr)
        n_epochs = self.hparams.n_epochs
        logger.info(
            f"epoch {epoch}/{n_epochs}: loss {stage_loss:.4f}, lr {lr:.2e}"
        )
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


def dataio(manifest: Manifest, crop: RandomCrop, n_global: int) -> Any:
    """Dataset of random crops: global [G, T_g] and, if any, local [L, T_l]."""
    names = CROPS if len(crop.n_frames) > n_global else CROPS[:1]

    @sb.utils.data_pipeline.takes("id", "wav", "start", "stop")
    @sb.utils.data_pipeline.provides(*names)
    def audio_pipeline(utterance, wav, start, stop):
        crops = crop(utterance, wav, start, stop)
        yield torch.stack(crops[:n_global])
        if len(crops) > n_global:
            yield torch.stack(crops[n_global:])

    return DynamicItemDataset(manifest, [audio_pipeline], ["id", *names])


def crop_lengths(settings: dict[str, Any], manifest: Manifest) -> list[int]:
    """Samples of each crop of an utterance, global crops first."""
    n_global, n_local = settings["n_global"], settings["n_local"]
    if n_global < 1 or n_global + n_local < 2:
        raise InputError(
            f"n_global is {n_global} and n_local is {n_local}; a global crop "
            "is compared with other crops: raise --n_global or --n_local"
        )
    frames = check_crop(manifest, settings["global_crop"], "global_crop")
    lengths = [frames] * n_global
    if n_local:
        frames = check_crop(manifest, settings["local_crop"], "local_crop")
        lengths += [frames] * n_local
    return lengths


def build_brain(stage: Stage, manifest: Manifest) -> DinoBrain:
    """The brain with all that it trains, checkpoints and draws from."""
    settings, hparams = stage.settings, stage.load()
    crop = RandomCrop(crop_lengths(settings, manifest), settings["seed"])
    embedder = build_embedder(settings["embedder_yaml"], settings["embedder"])
    head = hparams["head"](embedder.embedding_size)
    student = Projector(embedder, head)
    modules = {
        "student": student,
        "teacher": MomentumTeacher(student),
        "loss": DINOLoss(
            len(head.prototypes),
            settings["student_temperature"],
            settings["center_momentum"],
        ),
    }
    epochs = sb.utils.epoch_loop.EpochCounter(settings["n_epochs"])
    curve = TrainCurve(stage.folder / "train_curve.csv")
    checkpointer = WholeCheckpointer(
        stage.folder / "save", {**modules, "epochs": epochs, "curve": curve}
    )
    brain = DinoBrain(
        modules, hparams["opt_class"], hparams, stage.run_opts, checkpointer
    )
    brain.random_crop, brain.epochs, brain.curve = crop, epochs, curve
    brain.augment = from_folder(hparams["augment"], settings["augment_folder"])
    brain.steps_per_epoch = len(manifest) // settings["batch_size"]
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
    dataset = dataio(manifest, brain.random_crop, settings["n_global"])
    # With `shuffle`, several processes would draw another order than one.
    brain.train_sampler = ReproducibleRandomSampler(dataset, settings["seed"])
    brain.fit(
        brain.epochs,
        dataset,
        train_loader_kwargs={
            "batch_size": stage.share(settings["batch_size"]),
            "sampler": brain.train_sampler,
            "drop_last": True,
            "num_workers": settings["num_workers"],
        },
    )
    return brain


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
    if if_main_process():
        teacher = brain.modules.teacher.model
        save_embedder(stage.folder / "embedder", teacher.embedder)
    stage.finish(
        [
            "embedder/hyperparams.yaml",
            "embedder/embedding_model.ckpt",
            "train_curve.csv",
        ],
        n_utterances=len(manifest),
        hours=float(manifest.duration.sum() / 3600),
        final_loss=brain.curve.rows[-1]["loss"],
        random_encoder=brain.modules.teacher.model.embedder.is_random,
    )


if __name__ == "__main__":
    run(main)
