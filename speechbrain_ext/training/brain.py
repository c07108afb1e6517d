"""Base class of the Brains of the three training recipes.

Optimiser groups and their schedule, clipping, a check for finite losses,
checkpoints within an epoch, several processes that train as one, statistics to
all loggers, and the mean of the last epochs. A recipe's Brain adds its forward
pass and its loss.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import speechbrain as sb
import torch
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.utils.distributed import get_rank, if_main_process
from speechbrain.utils.run_opts import RunOptions
from speechbrain.utils.train_logger import FileTrainLogger
from torch.optim.swa_utils import AveragedModel

from speechbrain_ext.augment.augmenter import from_folder
from speechbrain_ext.dataio.audio import RandomCrop, check_audio
from speechbrain_ext.dataio.manifest import Manifest, read_manifest, select
from speechbrain_ext.models.embedder import broken_weight, save_embedder
from speechbrain_ext.training.checkpoints import N_KEPT
from speechbrain_ext.training.networks import Networks
from speechbrain_ext.training.optim import clip_each_, parameter_groups
from speechbrain_ext.training.settings import ModelSettings, TrainingSettings
from speechbrain_ext.training.step_logger import StepLogger
from speechbrain_ext.training.train_curve import TrainCurve
from speechbrain_ext.training.validation import build_validation
from speechbrain_ext.utils.compat import foreach_norm
from speechbrain_ext.utils.devices import HostCopy, loader_options
from speechbrain_ext.utils.distributed import (
    n_processes,
    process_mean,
    share_batch_norm,
)
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.keyed_random import seed_step
from speechbrain_ext.utils.terminal import statistics_in_words

logger = logging.getLogger(__name__)

CURVE = "train_curve.csv"
TRAIN_LOG = "train_log.txt"
_MOST_NAMES = 8


class ManifestData(DynamicItemDataset):
    """SpeechBrain's dataset over a manifest, without a list of its IDs.

    Arguments
    ---------
    manifest : Manifest
        The utterances.
    dynamic_items, output_keys : Any
        As of `speechbrain.dataio.dataset.DynamicItemDataset`.

    Example
    -------
    >>> import pandas as pd
    >>> rows = Manifest(pd.DataFrame({"ID": ["a", "b"]}), "oracle")
    >>> ManifestData(rows, [], ["id"])[1]
    {'id': 'b'}
    """

    def __init__(
        self, manifest: Manifest, dynamic_items: Any, output_keys: Any
    ):
        # It asks for the columns, and lists the IDs: of one row.
        one = select(manifest, np.arange(1))
        super().__init__(one, dynamic_items, output_keys)
        self.data, self.data_ids = manifest, manifest.ids


class TrainingData(NamedTuple):
    """Utterances, crops and sampler of a training."""

    manifest: Manifest  # the utterances that are trained on
    whole: Manifest  # these and those that are held out
    dataset: DynamicItemDataset  # of these
    crop: RandomCrop  # cuts them; its epoch is set as an epoch begins
    sampler: Any  # their order; seeded, so that all processes have the same


class Objective(NamedTuple):
    """Return value of `compute_objectives`: the loss and extra outputs."""

    loss: torch.Tensor  # scalar, with gradients
    facts: tuple[torch.Tensor, ...] = ()  # what the step's statistics need


class TrainingBrain(sb.Brain):
    """Brain with the state of a training, so that it can be resumed.

    Arguments
    ---------
    settings : TrainingSettings
        The recipe's.
    objects : mapping
        What its YAML wires: ``augment``, ``opt_class``, ``lr_schedule``,
        ``epoch_counter``, ``checkpointer`` and ``train_logger``.
    networks : Networks
        What is trained.
    data : TrainingData
        What it is trained on.
    folder : pathlib.Path
        Where checkpoints and logs are written.
    options : RunOptions, optional
        SpeechBrain's run options.
    recoverables : mapping, optional
        What else is checkpointed.

    Raises
    ------
    InputError
        The utterances do not fill a batch, or processes cannot share it.
    """

    step: int  # batches of the epoch, counted by SpeechBrain
    step_loss: float  # this process's, of the last batch

    def __init__(
        self,
        settings: TrainingSettings,
        objects: Mapping[str, Any],
        networks: Networks,
        data: TrainingData,
        folder: Path,
        options: RunOptions | None = None,
        recoverables: Mapping[str, Any] | None = None,
    ):
        self.n_batches = len(data.sampler) // settings.batch_size
        _check_batch(settings, len(data.sampler))
        self.settings, self.objects = settings, objects
        self.data, self.folder = data, folder
        self.embedder = networks.kept
        self.mean_embedder = _mean_embedder(settings, networks.kept)
        modules = dict(networks.modules)
        if self.mean_embedder is not None:
            modules["mean_embedder"] = self.mean_embedder
        # Unwrapped, whereas `modules` may wrap them for several processes.
        self.parts = SimpleNamespace(**modules)
        self.trained, self.head = networks.trained, networks.head
        self.epochs = objects["epoch_counter"](settings.n_epochs)
        self.curve = TrainCurve(folder / CURVE)
        kept = {name: m for name, m in modules.items() if m.state_dict()}
        kept |= {"epochs": self.epochs, "curve": self.curve}
        super().__init__(
            modules,
            objects["opt_class"],
            {"output_folder": str(folder)},
            options,
            objects["checkpointer"](
                folder / "save", {**kept, **(recoverables or {})}
            ),
        )
        self.train_sampler = data.sampler
        self.lr_schedule = objects["lr_schedule"]
        self.augment = from_folder(
            objects["augment"], *settings.sound_folders()
        )
        self.validation = build_validation(settings)
        self.train_loggers = _train_loggers(objects["train_logger"], folder)

    # Methods that a recipe's Brain overrides.

    def epoch_statistics(self, epoch: int, loss: float) -> dict[str, float]:
        """Return the statistics of an epoch; ``loss`` is the mean loss."""
        raise NotImplementedError

    def step_statistics(
        self, outputs: Any, objective: Objective
    ) -> dict[str, float]:
        """Return the statistics of the step that was just made."""
        raise NotImplementedError

    def before_step(self) -> None:
        """Change gradients before they are clipped."""

    def after_step(self) -> None:
        """Update what depends on the trained weights, such as a teacher."""

    def on_epoch_end(self, epoch: int) -> None:
        """Write the other files of an epoch, before its checkpoint."""

    # Training on batches.

    def fit_batch(self, batch: Any) -> torch.Tensor:
        """Train on a batch; return the loss of this process."""
        should_step = self.step % self.grad_accumulation_factor == 0
        self.on_fit_batch_start(batch, should_step)
        with self.no_sync(not should_step):
            with self.training_ctx:
                outputs = self.compute_forward(batch, sb.Stage.TRAIN)
                objective = self.compute_objectives(
                    outputs, batch, sb.Stage.TRAIN
                )
            # Its copy is waited for while the device computes gradients.
            copy = HostCopy(objective.loss)
            share = objective.loss / self.grad_accumulation_factor
            self.scaler.scale(share).backward()
        loss = copy.read()
        self.require_finite(loss, batch.id)
        self.step_loss = loss.item()
        if should_step:
            self.optimizers_step()
        statistics = self.step_statistics(outputs, objective)
        if should_step:
            self.step_logger.step(self.optimizer_step, statistics)
        return loss

    @property
    def batch_number(self) -> int:
        """Number of the batch in the whole training, which seeds dropout."""
        return (self.epochs.current - 1) * self.n_batches + self.step

    def on_fit_batch_start(self, batch: Any, should_step: bool) -> None:
        """Seed dropout for the batch, so that a resumed run replays it."""
        seed_step(self.settings.seed, self.batch_number, get_rank() or 0)

    def require_finite(self, loss: torch.Tensor, names: list[str]) -> None:
        """Raise InputError, with the utterances, if the loss is not finite."""
        if torch.isfinite(loss):
            return
        place = f"epoch {self.epochs.current}, batch {self.step}"
        logger.error(f"{place}: the utterances are {', '.join(names)}")
        shown = ", ".join(names[:_MOST_NAMES])
        if len(names) > _MOST_NAMES:
            shown += f" and {len(names) - _MOST_NAMES} more, see log.txt"
        # Samples that are not finite are refused where they are read.
        cause = f"lower --lr (now {self.settings.lr}), for the samples are"
        name = broken_weight(self.modules)
        if name is not None and not self.optimizer_step:
            cause = (
                f"weight {name} was not before the first step; begin with "
                "another model"
            )
        raise InputError(
            f"the loss is {loss.item()} in {place}, utterances {shown}; it "
            f"must be finite; {cause}, and start anew with --overwrite=true"
        )

    def require_finite_weights(self) -> None:
        """Raise InputError if a weight is not finite.

        The loss of a step is that of the weights before it: without this, what
        a last step has broken would be saved.
        """
        named = dict(self.modules.named_parameters())
        largest = foreach_norm([p.detach() for p in named.values()], math.inf)
        finite = torch.stack([x.float() for x in largest]).isfinite()
        if bool(finite.all()):
            return
        raise InputError(
            f"{list(named)[int(finite.long().argmin())]} is not finite after "
            f"epoch {self.epochs.current}, batch {self.step}; weights must be "
            f"finite; lower --lr (now {self.settings.lr}) and start anew with "
            "--overwrite=true"
        )

    def update_average(self, loss: torch.Tensor, avg_loss: float) -> float:
        """Average the loss over processes, so that all report the same one."""
        loss = process_mean(loss, self.device)
        return super().update_average(loss, avg_loss)

    def _should_save_intra_epoch_ckpt(
        self, last_ckpt_time: float, steps_since_ckpt: int
    ) -> bool:
        # A clock that was set back would put the next one off for as long.
        if last_ckpt_time > time.time():
            last_ckpt_time = 0.0
        wanted = super()._should_save_intra_epoch_ckpt(
            last_ckpt_time, steps_since_ckpt
        )
        # Accumulated gradients are not part of a checkpoint.
        return wanted and self.step % self.grad_accumulation_factor == 0

    def _save_intra_epoch_ckpt(self) -> None:
        self._save_checkpoint(end_of_epoch=False)

    def _save_checkpoint(self, end_of_epoch: bool) -> None:
        """Save all state, with the place in the training that it is of."""
        self.require_finite_weights()
        meta = {"epoch": self.epochs.current, "step": self.step}
        if end_of_epoch:
            # A checkpoint resumes at the next epoch.
            self.step, self.avg_train_loss = 0, 0.0
        self.checkpointer.save_and_keep_only(
            meta=meta,
            end_of_epoch=end_of_epoch,
            num_to_keep=N_KEPT,
            verbosity=logging.INFO if end_of_epoch else logging.DEBUG,
        )

    # The optimiser.

    def init_optimizers(self) -> None:
        """Make one optimiser whose groups each have their own peak rate."""
        settings = self.settings
        groups = parameter_groups(
            self.trained.model,
            self.head,
            settings.lr,
            settings.lr_parts,
            settings.layer_decay,
        )
        self.optimizer = self.opt_class(groups)
        self.optimizers_dict = {"opt_class": self.optimizer}
        self.checkpointer.add_recoverable("optimizer", self.optimizer)

    @property
    def steps_per_epoch(self) -> int:
        """Number of optimiser steps in an epoch."""
        return self.n_batches // self.grad_accumulation_factor

    def lr_factor(self, step: int) -> float:
        """Return the factor of all peak rates at a step, counted from 0."""
        settings = self.settings
        return self.lr_schedule(
            step,
            settings.n_epochs * self.steps_per_epoch,
            start=1.0,
            end=settings.lr_end,
            n_warmup=settings.n_warmup_epochs * self.steps_per_epoch,
        )

    def set_rates(self) -> None:
        """Set each group's learning rate for the next step."""
        factor = self.lr_factor(self.optimizer_step)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * factor

    def optimizers_step(self) -> None:
        """Make an optimiser step with scheduled rates and clipped gradients."""
        self.set_rates()
        self.scaler.unscale_(self.optimizer)
        self.before_step()
        self.clip_gradients()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.after_step()
        self.optimizer_step += 1

    def clip_gradients(self) -> None:
        """Clip gradients by their common norm, or each by its own norm."""
        if self.max_grad_norm <= 0:
            return
        groups = self.optimizer.param_groups
        trained = [p for group in groups for p in group["params"]]
        if self.settings.clip_per_tensor:
            clip_each_(trained, self.max_grad_norm)
        else:
            torch.nn.utils.clip_grad_norm_(trained, self.max_grad_norm)

    # Epochs.

    def _compile(self) -> None:
        """Compile the networks that see each batch, in place.

        Features and losses are left as they are, and so are all names: those
        of checkpoints, of the embedder folder and of messages.
        """
        if not self.compile:
            return
        if getattr(self.settings, "recompute_blocks", False):
            raise InputError(
                "recompute_blocks is True and compile True; torch cannot "
                "compile blocks that are computed again with other buffers; "
                "leave one of them out"
            )
        models = {id(e): e.model for e in (self.trained, self.embedder)}
        for model in models.values():
            model.compile(
                mode=self.compile_mode,
                fullgraph=self.compile_using_fullgraph,
                dynamic=self.compile_using_dynamic_shape_tracing,
            )

    def _wrap_distributed(self) -> None:
        if self.distributed_launch:
            # All modules, though `Brain` leaves out what has no gradients.
            share_batch_norm(self.modules, self.device)
        super()._wrap_distributed()

    def on_fit_start(self) -> None:
        """Resume, then open the step logger at the resumed step."""
        super().on_fit_start()
        self._rewrite_train_log()
        self.step_logger = StepLogger(
            self.folder / "tensorboard",
            self.optimizer_step,
            shown=not self.noprogressbar,
        )

    def _rewrite_train_log(self) -> None:
        """Bring the log of epochs to the checkpoint, each epoch once.

        A killed run may have written an epoch that is trained again.
        """
        if if_main_process():
            (self.folder / TRAIN_LOG).unlink(missing_ok=True)
        own, options = self.train_loggers[0]
        for row in self.curve.rows:
            rest = {
                name: value for name, value in row.items() if name != "epoch"
            }
            own.log_stats({"epoch": row["epoch"]}, rest, **options)

    def on_stage_start(self, stage: sb.Stage, epoch: Any = None) -> None:
        """Set the epoch that decides the random crops."""
        self.data.crop.epoch = epoch
        self.step_logger.begin_epoch(epoch, self.settings.n_epochs)

    def on_stage_end(
        self, stage: sb.Stage, stage_loss: float, epoch: Any = None
    ) -> None:
        """Log the epoch and save a checkpoint of all state that changed."""
        settings = self.settings
        first = settings.n_epochs - settings.n_averaged_epochs + 1
        if self.mean_embedder is not None and epoch >= first:
            self.mean_embedder.update_parameters(self.embedder)
        statistics = self.epoch_statistics(epoch, stage_loss)
        last_step = max(self.optimizer_step - 1, 0)
        statistics["lr"] = settings.lr * self.lr_factor(last_step)
        if self.validation and epoch % settings.eer_interval == 0:
            with self.evaluation_ctx:
                statistics["eer"] = self.validation.percent(
                    self.embedder, settings.num_workers
                )
        self.log_epoch(epoch, statistics)
        self.on_epoch_end(epoch)
        # SpeechBrain's early stopping.
        if hasattr(self.epochs, "update_metric"):
            loss = statistics["loss"]
            self.epochs.update_metric(statistics.get("valid_error", loss))
        self._save_checkpoint(end_of_epoch=True)

    def log_epoch(self, epoch: int, statistics: dict[str, float]) -> None:
        """Write an epoch's statistics to the curve and to all loggers."""
        self.curve.append(epoch=epoch, **statistics)
        self.step_logger.epoch(self.optimizer_step, statistics)
        words = statistics_in_words(statistics)
        logger.info(f"epoch {epoch} of {self.settings.n_epochs}: {words}")
        for each, options in self.train_loggers:
            each.log_stats({"epoch": epoch}, statistics, **options)

    # The whole training.

    def train(self) -> None:
        """Train to the end, from the last checkpoint if there is one."""
        self.fit(
            self.epochs,
            self.data.dataset,
            train_loader_kwargs={
                "sampler": self.data.sampler,
                "drop_last": True,
                **self.loader_options(),
            },
        )

    def loader_options(self) -> dict[str, Any]:
        """Return the options of a loader for this process's part of a batch."""
        return {
            "batch_size": self.settings.batch_size // n_processes(),
            "num_workers": self.settings.num_workers,
            **loader_options(self.device),
        }

    @property
    def finished(self) -> Any:
        """Return the embedder that the training produces."""
        mean = self.mean_embedder
        # The average is empty if --debug or early stopping ended the run.
        if mean is None or not mean.n_averaged:
            return self.embedder
        return mean.module

    def save(self) -> list[str]:
        """Write the embedder and other files; return their names."""
        names = save_embedder(self.folder / "embedder", self.finished)
        return [*(f"embedder/{name}" for name in names), CURVE]

    def summary(self) -> dict[str, Any]:
        """Return the facts of the training for its stage record."""
        return {
            "n_utterances": len(self.data.whole),
            "hours": float(self.data.whole.duration.sum() / 3600),
            "final_loss": self.curve.rows[-1]["loss"],
            "random_encoder": self.embedder.is_random,
            "encoder_source": self.settings.hub_encoder,
        }


def read_training_manifest(settings: ModelSettings) -> Manifest:
    """Read the manifest of a training and check that its audio exists.

    Raises
    ------
    InputError
        It is not of the training's kind, or audio is missing.
    """
    manifest = read_manifest(
        settings.train_annotation, settings.manifest_kind, settings.data_folder
    )
    check_audio(manifest)
    return manifest


def _check_batch(settings: TrainingSettings, n_utterances: int) -> None:
    size, factor = settings.batch_size, settings.grad_accumulation_factor
    if n_utterances < size:
        raise InputError(
            f"batch_size is {size}; it must be at most the utterances of an "
            f"epoch, which are {n_utterances}; lower --batch_size"
        )
    if size % n_processes():
        raise InputError(
            f"batch_size is {size}; it must be a multiple of the "
            f"{n_processes()} processes that share it; correct --batch_size"
        )
    if n_utterances // size < factor:
        raise InputError(
            f"grad_accumulation_factor is {factor}; it must be at most the "
            f"batches of an epoch, which are {n_utterances // size}, or no "
            "step is ever made; lower --grad_accumulation_factor"
        )


def _mean_embedder(
    settings: TrainingSettings, embedder: torch.nn.Module
) -> AveragedModel | None:
    """Make the average of the last epochs' embedders; None for the last one."""
    if settings.n_averaged_epochs == 1:
        return None
    mean = AveragedModel(embedder, use_buffers=True)
    return mean.requires_grad_(False)


def _train_loggers(wired: Any, folder: Path) -> list[tuple[Any, dict]]:
    """Make the loggers of epochs, with options: our file, and the YAML's."""
    own = FileTrainLogger(folder / TRAIN_LOG, precision=4)
    # The training writes its own line to `log.txt`.
    found: list[tuple[Any, dict]] = [(own, {"verbose": False})]
    if wired is not None:
        found.append((wired if hasattr(wired, "log_stats") else wired(), {}))
    return found
