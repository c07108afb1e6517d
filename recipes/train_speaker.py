"""Train a speaker embedder with AAM-softmax on (pseudo-)labels.

The model is an embedder YAML: a pre-trained encoder (WavLM, Whisper, ...) with
MHFA or ECAPA-TDNN, or ECAPA-TDNN on mel bands. The labels are the manifest's
``spk_id``: clusters in a round, true speakers in the supervised topline. Labels
that may be wrong can be gated by their losses, corrected, or weighted by how
sure clustering was of them; what became of each is written at the end. To run
it:

> python recipes/train_speaker.py hparams/train_speaker_encoder_mhfa.yaml \
      --train_annotation=exp/pseudo_labels.csv --data_folder=DATA_ROOT \
      --output_folder=exp/speaker

The same command after a kill continues from the last checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import speechbrain as sb
import torch
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.utils.run_opts import RunOptions

from speechbrain_ext.commands.command_line import run
from speechbrain_ext.dataio.manifest import Manifest
from speechbrain_ext.dataio.splits import hold_out
from speechbrain_ext.experiment.recipe_run import RecipeRun
from speechbrain_ext.experiment.training_run import run_training
from speechbrain_ext.models.state_cache import RandomStates
from speechbrain_ext.training.brain import (
    Objective,
    TrainingBrain,
    TrainingData,
)
from speechbrain_ext.training.gate_report import (
    never_acted,
    write_gate_files,
)
from speechbrain_ext.training.networks import Networks
from speechbrain_ext.training.schedules import margin_at
from speechbrain_ext.training.settings import TrainSpeaker
from speechbrain_ext.training.speaker import (
    build_speaker,
    held_states,
    initialise,
    save_classifier,
    speaker_data,
    speaker_names,
)
from speechbrain_ext.utils.keyed_random import crop_keys
from speechbrain_ext.utils.terminal import progress_bar

CLASSIFIER = "classifier.ckpt"


class SpeakerBrain(TrainingBrain):
    """Embedder and margin classifier; each part has its own rate.

    Arguments
    ---------
    settings, objects, networks, data, folder, options : Any
        As of `TrainingBrain`.
    names : list of str
        The classes.
    valid_set : DynamicItemDataset, optional
        Validation utterances, for ``valid_error``.
    """

    settings: TrainSpeaker

    def __init__(
        self,
        settings: TrainSpeaker,
        objects: Mapping[str, Any],
        networks: Networks,
        data: TrainingData,
        folder: Path,
        options: RunOptions,
        names: list[str],
        valid_set: DynamicItemDataset | None = None,
    ):
        l2_sp = initialise(settings, networks)
        super().__init__(settings, objects, networks, data, folder, options)
        self.l2_sp = l2_sp.to(self.device) if l2_sp else None
        self.names, self.valid_set = names, valid_set
        self.margin = getattr(networks.head, "margin", None)
        # Crops of a frozen encoder's states, if they are kept.
        crop = data.crop
        self.states = crop if isinstance(crop, RandomStates) else None

    def on_fit_start(self) -> None:
        """Resume, then compute the states that are kept."""
        super().on_fit_start()
        if self.states and self.epochs.current < self.settings.n_epochs:
            with self.evaluation_ctx:
                self.states.copies.make(
                    self.augment and self.augment.by_keys,
                    self.settings.num_workers,
                    not self.noprogressbar,
                )

    def compute_forward(self, batch: Any, stage: sb.Stage) -> torch.Tensor:
        """Compute embeddings [B, D] of audio, or of states that are kept."""
        batch = batch.to(self.device, non_blocking=True)
        wavs = batch.sig.data
        is_audio = self.states is None
        if stage == sb.Stage.TRAIN and is_audio and self.augment is not None:
            seed, epoch = self.settings.seed, self.data.crop.epoch
            keys = crop_keys(seed, epoch, batch.id, 1)
            wavs = self.augment.by_keys(wavs, keys[:, 0])
        return self.modules.embedder(wavs)

    def compute_objectives(
        self, predictions: torch.Tensor, batch: Any, stage: sb.Stage
    ) -> Objective:
        """Compute the loss with the given or corrected labels."""
        rows = torch.from_numpy(self.data.manifest.rows_of(batch.id))
        labels, factors = self.parts.noisy_labels.decide(
            self.epochs.current,
            rows.to(self.device),
            batch.label,
            predictions,
            self.parts.classifier,
            lambda chosen: self.parts.embedder.embed(self.clean(batch, chosen)),
        )
        losses = self.modules.classifier(predictions, labels)
        loss = (factors * losses).sum()
        return Objective(self.l2_sp.scale(loss) if self.l2_sp else loss)

    def clean(self, batch: Any, chosen: torch.Tensor) -> torch.Tensor:
        """Return the chosen crops [M, ...] of a batch without augmentation."""
        if not self.states:
            return batch.sig.data[chosen]
        names = [batch.id[row] for row in chosen.nonzero()[:, 0].tolist()]
        return self.states.clean(names).to(self.device)

    def on_fit_batch_start(self, batch: Any, should_step: bool) -> None:
        """Seed dropout and set the margin of the step."""
        super().on_fit_batch_start(batch, should_step)
        if self.margin is not None:
            self.parts.classifier.margin = margin_at(
                self.optimizer_step,
                self.steps_per_epoch,
                self.margin,
                self.settings.margin_rise,
            )

    def before_step(self) -> None:
        """Pull the weights toward the pre-trained ones."""
        if self.l2_sp:
            self.l2_sp.pull_()

    def step_statistics(
        self, outputs: torch.Tensor, objective: Objective
    ) -> dict[str, float]:
        """Return this process's loss."""
        return {"loss": self.step_loss}

    def epoch_statistics(self, epoch: int, loss: float) -> dict[str, float]:
        """Return the loss, the gate's statistics and the validation error."""
        statistics = {"loss": loss, **self.parts.noisy_labels.close(epoch)}
        if self.l2_sp:
            statistics["l2"] = self.l2_sp.distance()
        if self.valid_set is not None:
            statistics["valid_error"] = self.valid_error()
        return statistics

    @torch.no_grad()
    def valid_error(self) -> float:
        """Compute the share of wrongly classified validation utterances."""
        loader = self.make_dataloader(
            self.valid_set,
            sb.Stage.VALID,
            ckpt_prefix=None,
            **self.loader_options(),
        )
        self.modules.eval()
        n_wrong = n_seen = 0
        for number, batch in enumerate(progress_bar(loader), 1):
            with self.evaluation_ctx:
                embeddings = self.compute_forward(batch, sb.Stage.VALID)
                guesses = self.parts.classifier.logits(embeddings).argmax(1)
            n_wrong += int((guesses != batch.label).sum())
            n_seen += len(guesses)
            if self.debug and number == self.debug_batches:
                break
        return n_wrong / n_seen

    def save(self) -> list[str]:
        """Write embedder, classifier and gate files; return their names."""
        save_classifier(self.folder / CLASSIFIER, self.parts.classifier)
        gate_files = write_gate_files(
            self.folder,
            self.parts.noisy_labels,
            self.data.manifest.ID,
            self.names,
        )
        names = [*super().save(), CLASSIFIER, *gate_files]
        if self.states:
            self.states.copies.delete()
        return names

    def summary(self) -> dict[str, Any]:
        """Return the facts of the training for its stage record."""
        last = self.curve.rows[-1]
        found = {k: last.get(k) for k in ("valid_error", "kept", "corrected")}
        return {
            **super().summary(),
            "n_classes": len(self.names),
            "gate": self.settings.gate or "none",
            **found,
            "never_acted": never_acted(self.curve.rows),
        }


def build_brain(recipe: RecipeRun, manifest: Manifest) -> SpeakerBrain:
    """Build the Brain with its networks, checkpoints and data."""
    settings, objects = recipe.settings, recipe.objects()
    names = speaker_names(manifest)
    parts = hold_out(manifest, settings.valid_fraction, settings.seed)
    networks = build_speaker(settings, objects, parts[0], len(names))
    states = held_states(settings, manifest, networks.trained, recipe.request)
    data, valid_set = speaker_data(settings, manifest, parts, names, states)
    return SpeakerBrain(
        settings,
        objects,
        networks,
        data,
        recipe.folder,
        recipe.options,
        names,
        valid_set,
    )


def main(argv: list[str] | None = None) -> None:
    """Train on a labelled manifest and write an embedder folder."""
    run_training(RecipeRun(__file__, TrainSpeaker, argv), build_brain)


if __name__ == "__main__":
    run(main)
