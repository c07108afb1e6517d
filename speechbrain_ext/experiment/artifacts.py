"""Files that the steps of a run write, one class for each kind of step.

These classes alone know the names of the files: later steps and the report
ask them.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from speechbrain_ext.experiment.stage_records import (
    RECORD,
    REQUEST,
    read_record,
)

# Of an embedder folder, named as SpeechBrain's own loader expects them.
_EMBEDDER_FILES = ("hyperparams.yaml", "embedding_model.ckpt")


@dataclasses.dataclass(frozen=True)
class Artifacts:
    """Output folder of a step, and its stage record."""

    folder: Path

    @property
    def record(self) -> Path:
        """Path of the stage record, which exists once the step has finished."""
        return self.folder / RECORD

    @property
    def is_done(self) -> bool:
        """Whether the step has finished."""
        return self.record.exists()

    @property
    def is_begun(self) -> bool:
        """Whether the step has started."""
        return (self.folder / REQUEST).exists()

    def facts(self) -> dict[str, Any]:
        """Facts in the stage record."""
        return read_record(self.record)


@dataclasses.dataclass(frozen=True)
class CorpusArtifacts(Artifacts):
    """Manifests, trial lists and true speakers of a corpus."""

    @property
    def train(self) -> Path:
        """Manifest of the training utterances."""
        return self.folder / "train.csv"

    @property
    def test(self) -> Path:
        """Manifest of the test utterances."""
        return self.folder / "test.csv"

    @property
    def oracle(self) -> Path:
        """True speakers, for reports and the supervised upper bound only."""
        return self.folder / "oracle.csv"

    @property
    def sounds(self) -> Path:
        """Folder of noise, music, speech and rooms of a synthetic corpus."""
        return self.folder / "augment"

    def trials(self) -> dict[str, Path]:
        """Paths of the trial lists, by name."""
        paths = sorted((self.folder / "trials").glob("*.txt"))
        return {path.stem: path for path in paths}


@dataclasses.dataclass(frozen=True)
class EmbedderArtifacts(Artifacts):
    """Model that embeds utterances."""

    @property
    def embedder(self) -> Path:
        """Folder of the embedder, in the form that is shared."""
        return self.folder / "embedder"

    @property
    def train_record(self) -> Path | None:
        """Stage record of the training; None if the step trains nothing."""
        return None


@dataclasses.dataclass(frozen=True)
class ModelArtifacts(EmbedderArtifacts):
    """Trained model, with the statistics of its training."""

    @property
    def train_record(self) -> Path | None:
        """Stage record of the training; None if there is none."""
        return self.record

    @property
    def classifier(self) -> Path:
        """Weights of the classifier that was trained with the model."""
        return self.folder / "classifier.ckpt"

    @property
    def curve(self) -> Path:
        """Training curve: the statistics of each epoch."""
        return self.folder / "train_curve.csv"

    @property
    def gate(self) -> Path:
        """Statistics of the loss gate in each epoch, if there was a gate."""
        return self.folder / "gate.json"

    @property
    def layer_choice(self) -> Path:
        """Criteria of each layer of an encoder, if one was chosen."""
        return self.folder / "layers.csv"

    @property
    def layer_distances(self) -> Path:
        """Distance of each layer from its start, if it was measured."""
        return self.folder / "layer_distances.csv"


@dataclasses.dataclass(frozen=True)
class GivenArtifacts(ModelArtifacts):
    """Embedder that a run starts from and did not train.

    Arguments
    ---------
    given : Path
        Its folder.
    """

    given: Path

    @property
    def embedder(self) -> Path:
        """Folder of the embedder, where it was given."""
        return self.given

    def missing(self) -> list[str]:
        """Names of files that the folder lacks."""
        return [n for n in _EMBEDDER_FILES if not (self.given / n).is_file()]

    @property
    def train_record(self) -> Path | None:
        """Record of the training that left it; None if it lies elsewhere."""
        record = self.given.parent / RECORD
        if not record.is_file():
            return None
        # An exported model lies beside the record of its export.
        found = read_record(record)
        is_training = "n_epochs" in found.get("hparams", {})
        is_fitted = found.get("recipe") == "embed_pretrained"
        return record if is_training or is_fitted else None


@dataclasses.dataclass(frozen=True)
class EmbeddingArtifacts(Artifacts):
    """Embeddings of the utterances of a manifest."""


@dataclasses.dataclass(frozen=True)
class LabelArtifacts(Artifacts):
    """Pseudo-speaker or true speaker of each training utterance."""

    @property
    def labels(self) -> Path:
        """Training manifest with a label for each utterance."""
        return self.folder / "pseudo_labels.csv"

    @property
    def clusters(self) -> Path:
        """Sizes of the clusters, and how their number was chosen."""
        return self.folder / "clusters.json"


@dataclasses.dataclass(frozen=True)
class ScoreArtifacts(Artifacts):
    """Scores and results: two files for each trial list and back-end."""

    def results(self) -> list[Path]:
        """All result files."""
        return sorted(self.folder.glob("result_*.json"))

    def result(self, trials: str, backend: str) -> Path:
        """Result file of one trial list and back-end."""
        return self.folder / f"result_{trials}_{backend}.json"

    def scores(self, trials: str, backend: str) -> Path:
        """Score file of one trial list and back-end."""
        return self.folder / f"scores_{trials}_{backend}.npy"


@dataclasses.dataclass(frozen=True)
class ExportArtifacts(Artifacts):
    """Exported model, ready to share."""

    @property
    def model(self) -> Path:
        """Folder with the model, its card and examples."""
        return self.folder / "model"
