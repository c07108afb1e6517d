"""Train a speaker embedder with AAM-softmax on (pseudo-)labels.

The model is an embedder YAML: WavLM with MHFA, WavLM with ECAPA-TDNN, or
ECAPA-TDNN on mel bands. The labels are the manifest's ``spk_id``: clusters in
a round, true speakers in the supervised topline. Labels that may be wrong can
be gated by their losses, corrected, or weighted by how sure clustering was of
them; what became of each is written at the end. To run it:

> python recipes/train_speaker.py hparams/train_speaker_wavlm_mhfa.yaml \
      --train_annotation=exp/pseudo_labels.csv --data_folder=DATA_ROOT \
      --output_folder=exp/speaker

The same command after a kill continues from the last checkpoint.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import speechbrain as sb
import torch
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.dataio.sampler import ReproducibleRandomSampler
from speechbrain.utils.distributed import get_rank, run_on_main

from speechbrain_ext.augment.augmenter import from_folder
from speechbrain_ext.dataio.audio import RandomCrop, check_audio, check_crop
from speechbrain_ext.dataio.manifest import Manifest, read_manifest
from speechbrain_ext.dataio.samplers import CappedSampler
from speechbrain_ext.dataio.splits import hold_out
from speechbrain_ext.experiment.recipe_run import Stage
from speechbrain_ext.models.embedder import MODEL, save_embedder
from speechbrain_ext.training.checkpoints import WholeCheckpointer
from speechbrain_ext.training.finite import require_finite
from speechbrain_ext.training.gate_report import write_gate_files
from speechbrain_ext.training.optim import parameter_groups
from speechbrain_ext.training.schedules import margin_at
from speechbrain_ext.training.speaker import build_modules, initialise
from speechbrain_ext.training.train_curve import TrainCurve
from speechbrain_ext.utils.command_line import run
from speechbrain_ext.utils.distributed import process_mean, share_batch_norm
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import atomic_path
from speechbrain_ext.utils.keyed_random import crop_keys, seed_step

logger = logging.getLogger(__name__)

CURVE = "train_curve.csv"
CLASSIFIER = "classifier.ckpt"


class SpeakerBrain(sb.Brain):
    """An embedder and a margin classifier, each part with its own rate."""

    def compute_forward(self, batch: Any, stage: sb.Stage) -> torch.Tensor:
        """Embeddings [B, D]."""
        batch = batch.to(self.device)
        wavs = batch.sig.data
        if stage == sb.Stage.TRAIN and self.augment is not None:
            keys = crop_keys(
                self.hparams.seed, self.random_crop.epoch, batch.id, 1
            )
            wavs = self.augment.by_keys(wavs, keys[:, 0])
        return self.modules.embedder(wavs)

    def compute_objectives(
        self, predictions: torch.Tensor, batch: Any, stage: sb.Stage
    ) -> torch.Tensor:
        """AAM-softmax over the batch; counts errors in validation."""
        if stage == sb.Stage.VALID:
            guess = self.classifier.logits(predictions).argmax(dim=1)
            self.n_wrong += int((guess != batch.label).sum())
            self.n_valid += len(batch.label)
            return self.modules.classifier(predictions, batch.label).mean()
        rows = torch.from_numpy(self.manifest.rows_of(batch.id))
        labels, factors = self.noisy_labels.decide(
            self.epochs.current,
            rows.to(self.device),
            batch.label,
            predictions,
            self.classifier,
            lambda chosen: self.embedder.embed(batch.sig.data[chosen]),
        )
        losses = self.modules.classifier(predictions, labels)
        loss = (factors * losses).sum()
        return self.anchor.scale(loss) if self.anchor else loss

    def step_key(self) -> tuple[int, int, int]:
        """Seed, batches begun so far and process: a key for dropout."""
        done = (self.epochs.current - 1) * self.n_batches + self.step
        return self.hparams.seed, done, get_rank() or 0

    @property
    def steps_per_epoch(self) -> int:
        """Of the optimiser."""
        return self.n_batches // self.grad_accumulation_factor

    def on_fit_batch_start(self, batch: Any, should_step: bool) -> None:
        """Dropout is drawn for the step, so that a resumed run replays it."""
        seed_step(*self.step_key())
        self.classifier.margin = margin_at(
            self.optimizer_step,
            self.steps_per_epoch,
            self.hparams.margin,
            self.hparams.margin_rise,
        )

    def _wrap_distributed(self) -> None:
        if self.distributed_launch:
            share_batch_norm(self.modules, self.device)
        super()._wrap_distributed()

    def update_average(self, loss: torch.Tensor, avg_loss: float) -> float:
        """Average the loss of all processes, so that each reports the same."""
        loss = process_mean(loss, self.device)
        return super().update_average(loss, avg_loss)

    def init_optimizers(self) -> None:
        """One optimiser over groups, each with its own peak rate."""
        self.optimizer = self.opt_class(
            parameter_groups(
                self.embedder.model,
                self.classifier,
                self.hparams.lr,
                self.hparams.lr_parts,
                self.hparams.layer_decay,
            )
        )
        self.optimizers_dict = {"opt_class": self.optimizer}
        self.checkpointer.add_recoverable("optimizer", self.optimizer)

    def optimizers_step(self) -> None:
        """Step with the scheduled rates and all gradients clipped together."""
        per_epoch = self.steps_per_epoch
        factor = self.hparams.lr_schedule(
            self.optimizer_step,
            self.hparams.n_epochs * per_epoch,
            start=1.0,
            end=self.hparams.lr_end,
            n_warmup=self.hparams.n_warmup_epochs * per_epoch,
        )
        groups = self.optimizer.param_groups
        for group in groups:
            group["lr"] = group["peak"] * factor
        self.scaler.unscale_(self.optimizer)
        if self.anchor:
            self.anchor.pull_()
        if self.max_grad_norm > 0:
            torch.nn.utils.clip_grad_norm_(
                [p for group in groups for p in group["params"]],
                self.max_grad_norm,
            )
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.optimizer_step += 1

    def check_loss_isfinite(self, loss: torch.Tensor) -> None:
        """Stop before a step that would ruin the weights."""
        remedy = f"lower --lr (now {self.hparams.lr}) or --scale"
        require_finite(loss, self.epochs.current, self.step, remedy)

    def on_stage_start(self, stage: sb.Stage, epoch: int | None = None) -> None:
        """Draw the epoch's crops; count validation errors from zero."""
        if stage == sb.Stage.TRAIN:
            self.random_crop.epoch = epoch
        self.n_wrong = self.n_valid = 0

    def on_stage_end(
        self, stage: sb.Stage, stage_loss: float, epoch: int | None = None
    ) -> None:
        """After the last stage of an epoch, log it and checkpoint."""
        if stage == sb.Stage.TRAIN:
            self.figures = {"loss": stage_loss}
            self.figures.update(self.noisy_labels.close(epoch))
            if self.anchor:
                self.figures["l2"] = self.anchor.distance()
        if self.has_valid and stage == sb.Stage.TRAIN:
            return
        figures = self.figures
        if self.has_valid:
            figures["valid_error"] = self.n_wrong / self.n_valid
        # The last group is the pooling's or the whole model's: rate `lr`.
        figures["lr"] = self.optimizer.param_groups[-1]["lr"]
        self.curve.append(epoch=epoch, **figures)
        self.logger.log_stats({"epoch": epoch}, train_stats=figures)
        # What the checkpoint resumes is the epoch to come.
        self.step, self.avg_train_loss = 0, 0.0
        self.checkpointer.save_and_keep_only(
            meta={"epoch": epoch}, num_to_keep=1
        )

    def _should_save_intra_epoch_ckpt(self, *args: Any) -> bool:
        # Gradients being accumulated are in no checkpoint.
        wanted = super()._should_save_intra_epoch_ckpt(*args)
        return wanted and self.step % self.grad_accumulation_factor == 0


def dataio(
    manifest: Manifest, crop: RandomCrop, label_of: dict[str, int]
) -> DynamicItemDataset:
    """Dataset of one random crop [T] and the class of each utterance."""

    @sb.utils.data_pipeline.takes("id", "wav", "start", "stop")
    @sb.utils.data_pipeline.provides("sig")
    def audio_pipeline(utterance, wav, start, stop):
        return crop(utterance, wav, start, stop)[0]

    @sb.utils.data_pipeline.takes("spk_id")
    @sb.utils.data_pipeline.provides("label")
    def label_pipeline(spk_id):
        return label_of[spk_id]

    return DynamicItemDataset(
        manifest, [audio_pipeline, label_pipeline], ["id", "sig", "label"]
    )


def speakers(manifest: Manifest) -> list[str]:
    """The classes, sorted; one alone cannot be told from others."""
    names = sorted(set(manifest.spk_id))
    if len(names) < 2:
        raise InputError(
            f"train_annotation has the one speaker {names[0]!r}; training "
            "needs two or more: cluster into more, or bring more speakers"
        )
    return names


def build_brain(
    stage: Stage, manifest: Manifest, n_classes: int
) -> SpeakerBrain:
    """The brain with all that it trains, checkpoints and draws from."""
    settings, hparams = stage.settings, stage.load()
    n_frames = check_crop(manifest, settings["crop"], "crop")
    modules = build_modules(settings, manifest, n_classes)
    anchor = initialise(settings, modules["embedder"], modules["classifier"])
    if modules["embedder"].is_random:
        logger.warning("random WavLM: its training began without pre-training")
    recoverables = {
        **modules,
        "epochs": sb.utils.epoch_loop.EpochCounter(settings["n_epochs"]),
        "curve": TrainCurve(stage.folder / CURVE),
    }
    brain = SpeakerBrain(
        modules,
        hparams["opt_class"],
        hparams,
        stage.run_opts,
        WholeCheckpointer(stage.folder / "save", recoverables),
    )
    # As they are, whereas `modules` may wrap them for several processes.
    for name, part in recoverables.items():
        setattr(brain, name, part)
    brain.manifest = manifest
    brain.anchor = anchor.to(brain.device) if anchor else None
    brain.random_crop = RandomCrop([n_frames], settings["seed"])
    brain.augment = from_folder(hparams["augment"], settings["augment_folder"])
    brain.logger = sb.utils.train_logger.FileTrainLogger(
        stage.folder / "train_log.txt", precision=4
    )
    return brain


def save(folder: Path, brain: SpeakerBrain, names: list[str]) -> list[str]:
    """Write what the training leaves; its files, for the receipt."""
    files = save_embedder(folder / "embedder", brain.embedder)
    state = {k: v.cpu() for k, v in brain.classifier.state_dict().items()}
    # Through a stream: the archive would else hold the temporary name.
    with atomic_path(folder / CLASSIFIER) as part, open(part, "wb") as stream:
        torch.save(state, stream)
    gate_files = write_gate_files(
        folder, brain.noisy_labels, brain.manifest.ids, names
    )
    outputs = [f"embedder/{name}" for name in files]
    return [*outputs, CLASSIFIER, CURVE, *gate_files]


def sampler(
    settings: dict[str, Any], dataset: DynamicItemDataset, manifest: Manifest
) -> CappedSampler | ReproducibleRandomSampler:
    """Order of the utterances in an epoch: all, or so many a speaker."""
    cap, seed = settings["max_per_class"], settings["seed"]
    if cap is not None:
        return CappedSampler(manifest.spk_id, cap, seed)
    # With `shuffle`, several processes would draw another order than one.
    return ReproducibleRandomSampler(dataset, seed)


def train(stage: Stage, manifest: Manifest, names: list[str]) -> SpeakerBrain:
    """Build, resume and fit."""
    settings = stage.settings
    train_part, valid_part = hold_out(
        manifest, settings["valid_fraction"], settings["seed"]
    )
    brain = build_brain(stage, train_part, len(names))
    label_of = {name: label for label, name in enumerate(names)}
    options = {
        "batch_size": stage.share(settings["batch_size"]),
        "num_workers": settings["num_workers"],
    }
    dataset = dataio(train_part, brain.random_crop, label_of)
    order = brain.train_sampler = sampler(settings, dataset, train_part)
    loader = brain.make_dataloader(
        dataset,
        sb.Stage.TRAIN,
        sampler=order,
        drop_last=True,
        **options,
    )
    brain.n_batches = len(loader)
    if brain.n_batches == 0:
        raise InputError(
            f"{len(order)} utterances an epoch do not fill one "
            f"batch of {settings['batch_size']}; lower --batch_size"
        )
    brain.has_valid = valid_part is not None
    valid_set = None
    if valid_part is not None:
        # Another object: its epoch stays, and with it its crops.
        crop = RandomCrop(brain.random_crop.n_frames, settings["seed"])
        valid_set = dataio(valid_part, crop, label_of)
    brain.fit(brain.epochs, loader, valid_set, valid_loader_kwargs=options)
    return brain


def main(argv: list[str] | None = None) -> None:
    """Labelled manifest in, embedder folder out."""
    stage = Stage(__file__, argv)
    settings = stage.settings
    inputs = {
        "train_annotation": settings["train_annotation"],
        "embedder_yaml": settings["embedder_yaml"],
    }
    if settings["init_from"] is not None:
        inputs["init_from"] = Path(settings["init_from"]) / MODEL
    if settings["init_classifier"] is not None:
        inputs["init_classifier"] = settings["init_classifier"]
    if stage.is_done(inputs=inputs):
        return
    manifest = read_manifest(
        settings["train_annotation"], "pseudo_labels", settings["data_folder"]
    )
    check_audio(manifest)
    names = speakers(manifest)
    brain = train(stage, manifest, names)
    outputs = run_on_main(save, [stage.folder, brain, names])
    last = brain.curve.rows[-1]
    stage.finish(
        outputs,
        n_classes=len(names),
        n_utterances=len(manifest),
        hours=float(manifest.duration.sum() / 3600),
        final_loss=last["loss"],
        valid_error=last.get("valid_error"),
        kept=last.get("kept"),
        corrected=last.get("corrected"),
        random_encoder=brain.embedder.is_random,
    )


if __name__ == "__main__":
    run(main)
