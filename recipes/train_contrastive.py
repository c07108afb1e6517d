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
> python recipes/train_contrastive.py hparams/train_contrastive_wavlm.yaml \
      --embedder="{freeze: all}" ...

The same command after a kill continues from the last checkpoint.
"""

from __future__ import annotations

import logging
from typing import Any

import pandas as pd
import speechbrain as sb
import torch
from speechbrain.utils.distributed import run_on_main

from speechbrain_ext.dataio.audio import check_audio, check_crop
from speechbrain_ext.dataio.manifest import Manifest, read_manifest
from speechbrain_ext.experiment.recipe_run import Stage
from speechbrain_ext.models.embedder import save_embedder
from speechbrain_ext.training.brain import (
    CURVE,
    ViewBrain,
    check_views,
    unwrapped,
)
from speechbrain_ext.training.contrastive import (
    build_modules,
    check_method,
    check_positives,
    n_positive_epochs,
)
from speechbrain_ext.training.layer_distances import of_embedder
from speechbrain_ext.training.optim import parameter_groups
from speechbrain_ext.training.plots import contrastive_health, layers_moved
from speechbrain_ext.training.train_curve import TrainCurve
from speechbrain_ext.training.validation import watch_from
from speechbrain_ext.utils.command_line import run
from speechbrain_ext.utils.plotting import save_png
from speechbrain_ext.utils.validation import (
    check_counts,
    check_positive,
    check_shares,
)

logger = logging.getLogger(__name__)

DISTANCES = "layer_distances.csv"


class ContrastiveBrain(ViewBrain):
    """Student and loss; with MoCo a momentum encoder and its queues."""

    @property
    def is_moco(self) -> bool:
        """Whether keys are a momentum encoder's."""
        return self.hparams.method == "moco"

    def chosen(self, views: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """SimCLR: one crop of the utterance, and one of its positive."""
        if self.is_moco:
            return views
        own = views["global_crops"]
        heard = views.get("positive_crops", own)
        return {"global_crops": own[:1], "positive_crops": heard[1:]}

    def compute_forward(self, batch: Any, stage: sb.Stage) -> tuple:
        """`Compared` of the student, and of the teacher if there is one."""
        views = self._views(batch.to(self.device))
        if not self.is_moco:
            return self.modules.student(torch.cat(list(views.values()))), None
        own = views["global_crops"]
        keys = self.modules.teacher(views.get("positive_crops", own))
        return self.modules.student(own), keys

    def compute_objectives(
        self, predictions: tuple, batch: Any, stage: sb.Stage
    ) -> torch.Tensor:
        """NT-Xent, or MoCo's cross-entropy."""
        student, keys = predictions
        if keys is None:
            loss = self.modules.loss(*student.projections)
        else:
            loss = self.modules.loss(student.projections, keys.projections)
        self.loss_of_step = loss.detach()
        return loss

    def count_step(self, outputs: tuple) -> dict[str, float]:
        """Figures of the step; its keys join the queues."""
        student, keys = outputs
        if keys is not None:
            # Not before: the gradients needed the queues as they were.
            self.modules.loss.push(keys.projections)
        second = (student if keys is None else keys).embeddings[1]
        return self.modules.health.update(
            self.loss_of_step, student.embeddings[0].detach(), second.detach()
        )

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Each part of the model with its rate, as `lr_parts` says."""
        student = self.modules.student
        return parameter_groups(
            unwrapped(student).embedder.model,
            unwrapped(student).projection,
            self.hparams.lr,
            self.hparams.lr_parts,
            self.hparams.layer_decay,
        )

    def set_rates(self) -> None:
        """The schedule's factor of each group's peak."""
        factor = self.factor(self.optimizer_step)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * factor

    def rate(self, step: int) -> float:
        """That of what `lr_parts` does not name."""
        return self.hparams.lr * self.factor(step)

    def factor(self, step: int) -> float:
        """Of all rates, relative to their peaks."""
        return self.hparams.lr_schedule(
            step,
            self.hparams.n_epochs * self.steps_per_epoch,
            start=1.0,
            end=self.hparams.lr_end,
            n_warmup=self.hparams.n_warmup_epochs * self.steps_per_epoch,
        )

    def after_step(self, student: Any) -> None:
        """Move the momentum encoder."""
        if self.is_moco:
            self.modules.teacher.update(student, self.hparams.key_momentum)

    def end_of_epoch(self, epoch: int) -> None:
        """How far the encoder's layers have gone."""
        if self.distances is not None:
            self.layer_curve.append(epoch=epoch, **self.distances())

    @property
    def embedder(self) -> Any:
        """The student's."""
        return unwrapped(self.modules.student).embedder

    @property
    def averaged(self) -> Any:
        """The mean of the student over the last epochs."""
        return self.modules.mean_embedder


def build_brain(stage: Stage, manifest: Manifest) -> ContrastiveBrain:
    """The brain with all that it trains, checkpoints and draws from."""
    settings, hparams = stage.settings, stage.load()
    n_frames = check_crop(manifest, settings["crop"], "crop")
    modules = build_modules(settings, hparams, manifest)
    # Before anything is resumed: from where the encoder began.
    distances = of_embedder(modules["student"].embedder.model)
    layer_curve = TrainCurve(stage.folder / DISTANCES)
    brain = ContrastiveBrain(
        stage,
        hparams,
        modules,
        manifest,
        [n_frames, n_frames],
        n_global=2,
        recoverables={"layer_curve": layer_curve},
    )
    brain.distances, brain.layer_curve = distances, layer_curve
    brain.steps_per_epoch = len(manifest) // settings["batch_size"]
    brain.watch = watch_from(settings)
    brain.n_positive_epochs = n_positive_epochs(settings)
    brain.n_averaged_epochs = settings["n_averaged_epochs"]
    if modules["student"].embedder.is_random:
        logger.warning("random WavLM: its training began without pre-training")
    if settings["positives"] == "oracle":
        logger.warning("TRUE speakers choose the positives: a diagnostic")
    return brain


def check(stage: Stage, manifest: Manifest) -> None:
    """Refuse settings that cannot train, or not as they seem to."""
    settings = stage.settings
    check_views(stage, manifest)
    check_counts(settings, n_averaged_epochs=1, n_keys=1)
    check_positive(settings, "temperature", "lr", "lr_end")
    check_shares(settings, "key_momentum", "margin")
    sizes = settings["projection"]
    check_counts(
        {f"projection.{key}": size for key, size in sizes.items()},
        **{"projection.hidden_size": 0, "projection.output_size": 1},
    )
    check_method(settings, len(manifest))


def save(stage: Stage, brain: ContrastiveBrain) -> list[str]:
    """Write what the training leaves; names for the receipt."""
    names = save_embedder(stage.folder / "embedder", brain.finished())
    outputs = [f"embedder/{name}" for name in names] + [CURVE, "health.png"]
    figure = contrastive_health(pd.DataFrame(brain.curve.rows))
    save_png(figure, stage.folder / "health.png")
    if brain.distances is not None:
        figure = layers_moved(pd.DataFrame(brain.layer_curve.rows))
        save_png(figure, stage.folder / "layer_distances.png")
        outputs += [DISTANCES, "layer_distances.png"]
    return outputs


def main(argv: list[str] | None = None) -> None:
    """Manifest in, embedder folder out."""
    stage = Stage(__file__, argv)
    settings = stage.settings
    check_positives(settings)
    inputs = {
        "train_annotation": settings["train_annotation"],
        "embedder_yaml": settings["embedder_yaml"],
    }
    if settings["oracle"] is not None:
        inputs["oracle"] = settings["oracle"]
    if stage.is_done(inputs=inputs):
        return
    manifest = read_manifest(
        settings["train_annotation"], "utterances", settings["data_folder"]
    )
    check_audio(manifest)
    check(stage, manifest)
    brain = build_brain(stage, manifest)
    brain.fit_views(stage.share(settings["batch_size"]))
    last = brain.curve.rows[-1]
    stage.finish(
        run_on_main(save, [stage, brain]),
        n_utterances=len(manifest),
        hours=float(manifest.duration.sum() / 3600),
        final_loss=last["loss"],
        alignment=last["alignment"],
        uniformity=last["uniformity"],
        oracle_positives=settings["positives"] == "oracle",
        random_encoder=brain.embedder.is_random,
    )


if __name__ == "__main__":
    run(main)
