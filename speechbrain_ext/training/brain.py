"""What training on views without labels does, whatever its loss.

Crops of utterances, augmented one by one; positives drawn before an epoch; a
step with scheduled rates and clipped gradients; figures, the EER and a
checkpoint after it. A recipe's Brain adds its networks and its loss.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import speechbrain as sb
import torch
from speechbrain.dataio.sampler import ReproducibleRandomSampler
from speechbrain.utils.distributed import get_rank
from torch.nn.parallel import DistributedDataParallel

from speechbrain_ext.augment.augmenter import from_folder
from speechbrain_ext.dataio.audio import RandomCrop
from speechbrain_ext.dataio.manifest import SAMPLE_RATE, Manifest
from speechbrain_ext.experiment.recipe_run import Stage
from speechbrain_ext.models.extraction import embed_manifest
from speechbrain_ext.training.checkpoints import WholeCheckpointer
from speechbrain_ext.training.finite import require_finite
from speechbrain_ext.training.optim import clip_each_
from speechbrain_ext.training.step_logger import Monitor
from speechbrain_ext.training.train_curve import TrainCurve
from speechbrain_ext.training.validation import EerWatch
from speechbrain_ext.training.views import ViewData, augment_views, batch_views
from speechbrain_ext.utils.distributed import share_batch_norm
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.keyed_random import crop_keys, seed_step
from speechbrain_ext.utils.validation import check_counts, check_positive

logger = logging.getLogger(__name__)

CURVE = "train_curve.csv"


class ViewBrain(sb.Brain):
    """A student of views, and all that a resumed run needs of it.

    Arguments
    ---------
    stage : Stage
        The recipe's.
    hparams : dict
        Its objects.
    modules : dict of str to torch.nn.Module
        Checkpointed: ``student``, ``health`` and what else there is; with
        positives of other utterances also ``positives``.
    manifest : Manifest
        The training utterances.
    lengths : list of int
        Samples of each crop of an utterance, global crops first.
    n_global : int
        How many of them are global.
    recoverables : dict, optional
        What else is checkpointed.
    """

    # Of how many of the last epochs; a recipe sets them.
    n_positive_epochs = 0
    n_averaged_epochs = 1
    watch: EerWatch | None = None

    def __init__(
        self,
        stage: Stage,
        hparams: dict[str, Any],
        modules: dict[str, Any],
        manifest: Manifest,
        lengths: list[int],
        n_global: int,
        recoverables: dict[str, Any] | None = None,
    ):
        settings = stage.settings
        self.folder = stage.folder
        self.epochs = sb.utils.epoch_loop.EpochCounter(settings["n_epochs"])
        self.curve = TrainCurve(stage.folder / CURVE)
        kept = {name: m for name, m in modules.items() if m.state_dict()}
        kept |= {"epochs": self.epochs, "curve": self.curve}
        super().__init__(
            modules,
            hparams["opt_class"],
            hparams,
            stage.run_opts,
            WholeCheckpointer(
                stage.folder / "save", {**kept, **(recoverables or {})}
            ),
        )
        self.random_crop = RandomCrop(lengths, settings["seed"])
        self.augment = from_folder(
            hparams["augment"], settings["augment_folder"]
        )
        self.dataset = ViewData(manifest, self.random_crop, n_global)

    @property
    def embedder(self) -> Any:
        """What becomes the embedder: watched, averaged, and asked for SSPS."""
        raise NotImplementedError

    @property
    def averaged(self) -> Any:
        """The mean of the last epochs' embedders, an `AveragedModel`."""
        raise NotImplementedError

    def set_rates(self) -> None:
        """Learning rates of the step to come."""
        raise NotImplementedError

    def rate(self, step: int) -> float:
        """What `lr` is in a step, counted from 0."""
        raise NotImplementedError

    def count_step(self, outputs: Any) -> dict[str, float]:
        """Figures of the step that was made."""
        raise NotImplementedError

    def chosen(self, views: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Of the views of a batch, those that the loss needs."""
        return views

    def before_step(self, student: Any) -> None:
        """Change gradients before they are clipped."""

    def after_step(self, student: Any) -> None:
        """Let others follow the student."""

    def end_of_epoch(self, epoch: int) -> None:
        """Write what else an epoch leaves, before its checkpoint."""

    def _views(self, batch: Any) -> dict[str, torch.Tensor]:
        """Views [V, B, T] of each name, each crop augmented on its own."""
        views = self.chosen(batch_views(batch))
        if self.augment is None:
            return views
        seed, epoch = self.hparams.seed, self.random_crop.epoch
        keys = crop_keys(seed, epoch, batch.id, sum(map(len, views.values())))
        return augment_views(views, self.augment.by_keys, keys)

    def on_fit_batch_start(self, batch: Any, should_step: bool) -> None:
        """Dropout, if any, is drawn for the step: a resumed run replays it."""
        seed_step(self.hparams.seed, self.optimizer_step, get_rank() or 0)

    def on_fit_batch_end(
        self, batch: Any, outputs: Any, loss: torch.Tensor, should_step: bool
    ) -> None:
        """Count the step's figures."""
        self.monitor.step(self.optimizer_step, self.count_step(outputs))

    def _wrap_distributed(self) -> None:
        if self.distributed_launch:
            # All modules, though `Brain` leaves out what has no gradients.
            share_batch_norm(self.modules, self.device)
        super()._wrap_distributed()

    def init_optimizers(self) -> None:
        """One optimiser of the student, which SpeechBrain's hook knows."""
        self.optimizer = self.opt_class(self.parameter_groups())
        self.optimizers_dict = {"opt_class": self.optimizer}
        self.checkpointer.add_recoverable("optimizer", self.optimizer)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Of the optimiser."""
        raise NotImplementedError

    def on_fit_start(self) -> None:
        """After what is resumed is known, open the monitor."""
        super().on_fit_start()
        self.monitor = Monitor(
            self.folder / "tensorboard",
            self.optimizer_step,
            shown=not self.noprogressbar,
        )

    def optimizers_step(self) -> None:
        """Step the student with its schedules, then those that follow it."""
        self.set_rates()
        self.scaler.unscale_(self.optimizer)
        student = unwrapped(self.modules.student)
        self.before_step(student)
        clip_each_(student.parameters(), self.hparams.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.after_step(student)
        self.optimizer_step += 1

    def check_loss_isfinite(self, loss: torch.Tensor) -> None:
        """Stop before a step that would ruin the weights."""
        remedy = f"lower --lr (now {self.hparams.lr})"
        require_finite(loss, self.random_crop.epoch, self.step, remedy)

    def on_stage_start(self, stage: sb.Stage, epoch: Any = None) -> None:
        """Crops are drawn for the epoch that begins; positives, if any."""
        self.random_crop.epoch = epoch
        if epoch > self.hparams.n_epochs - self.n_positive_epochs:
            positives = self.modules.positives
            # A run resumed in mid-epoch has them already.
            if int(positives.epoch) != epoch:
                known = positives.by_embeddings
                embeddings = self.embed_training_set() if known else None
                positives.draw(embeddings, epoch)
            self.dataset.use_positives(positives.rows.cpu().numpy())

    def embed_training_set(self) -> np.ndarray:
        """Embeddings [N, D] of the clean utterances."""
        return embed_manifest(
            self.embedder,
            self.dataset.manifest,
            None if self.noprogressbar else "SSPS",
            self.hparams.num_workers,
            grain=SAMPLE_RATE,
        )

    def on_stage_end(
        self, stage: sb.Stage, stage_loss: float, epoch: Any = None
    ) -> None:
        """Log the epoch and checkpoint everything that changed."""
        if epoch > self.hparams.n_epochs - self.n_averaged_epochs:
            self.averaged.update_parameters(self.embedder)
        figures = self.modules.health.close()
        figures["lr"] = self.rate(self.optimizer_step - 1)
        if self.watch and epoch % self.hparams.eer_interval == 0:
            workers = self.hparams.num_workers
            figures["eer"] = self.watch.percent(self.embedder, workers)
        self.curve.append(epoch=epoch, **figures)
        self.monitor.epoch(self.optimizer_step, figures)
        words = ", ".join(f"{k} {v:.4g}" for k, v in figures.items())
        logger.info(f"epoch {epoch}/{self.hparams.n_epochs}: {words}")
        self.end_of_epoch(epoch)
        # What the checkpoint resumes is the epoch to come.
        self.step, self.avg_train_loss = 0, 0.0
        self.checkpointer.save_and_keep_only(
            meta={"epoch": epoch}, num_to_keep=1
        )

    def fit_views(self, batch_size: int) -> None:
        """Train to the end, from the last checkpoint if there is one.

        Arguments
        ---------
        batch_size : int
            This process's part.
        """
        # With `shuffle`, several processes would draw another order than one.
        self.train_sampler = ReproducibleRandomSampler(
            self.dataset, self.hparams.seed
        )
        self.fit(
            self.epochs,
            self.dataset,
            train_loader_kwargs={
                "batch_size": batch_size,
                "sampler": self.train_sampler,
                "drop_last": True,
                "num_workers": self.hparams.num_workers,
            },
        )

    def finished(self) -> Any:
        """The embedder that the training was for."""
        if not self.averaged.n_averaged:
            # Stopped before the epochs that count, by --debug for instance.
            self.averaged.update_parameters(self.embedder)
        return self.averaged.module


def unwrapped(module: torch.nn.Module) -> Any:
    """The module inside DistributedDataParallel, or itself.

    Example
    -------
    >>> layer = torch.nn.PReLU()
    >>> unwrapped(layer) is layer
    True
    """
    if isinstance(module, DistributedDataParallel):
        return module.module
    return module


def check_views(stage: Stage, manifest: Manifest) -> None:
    """Refuse settings with which no training on views can go on.

    Arguments
    ---------
    stage : Stage
        The recipe's.
    manifest : Manifest
        The training utterances.

    Raises
    ------
    InputError
        With the key, its value and the rule.
    """
    settings = stage.settings
    check_counts(settings, n_epochs=1, batch_size=2)
    check_counts(settings, n_ssps_epochs=0, num_workers=0)
    check_positive(settings, "clip")
    if settings["n_ssps_epochs"] > settings["n_epochs"]:
        raise InputError(
            f"n_ssps_epochs is {settings['n_ssps_epochs']}, the last of "
            f"{settings['n_epochs']} n_epochs; give fewer"
        )
    factor = stage.run_opts.grad_accumulation_factor
    if factor != 1:
        raise InputError(
            f"grad_accumulation_factor is {factor}; what utterances are "
            "compared with moves with every batch: give 1 and a --batch_size "
            "that fits"
        )
    if len(manifest) < settings["batch_size"]:
        raise InputError(
            f"{len(manifest)} utterances do not fill one batch of "
            f"{settings['batch_size']}; lower --batch_size"
        )
