"""What the steps of a run leave in their folders, by kind of step.

These classes alone know the names of the files: later steps and the report
ask them.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from speechbrain_ext.experiment.stage_records import RECORD, REQUEST
from speechbrain_ext.utils.files import read_json


@dataclasses.dataclass(frozen=True)
class Artifacts:
    """Folder of a step, and the record of its end."""

    folder: Path

    @property
    def record(self) -> Path:
        """The stage record, there once the step has ended."""
        return self.folder / RECORD

    @property
    def is_done(self) -> bool:
        """Whether the step has ended."""
        return self.record.exists()

    @property
    def is_begun(self) -> bool:
        """Whether the step has begun."""
        return (self.folder / REQUEST).exists()

    def facts(self) -> dict[str, Any]:
        """What the stage record says."""
        return read_json(self.record)


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
        """True speakers, for reports and for the supervised upper bound."""
        return self.folder / "oracle.csv"

    @property
    def sounds(self) -> Path:
        """Noise, music, speech and rooms that came with synthetic voices."""
        return self.folder / "augment"

    def trials(self) -> dict[str, Path]:
        """Trial lists by name."""
        paths = sorted((self.folder / "trials").glob("*.txt"))
        return {path.stem: path for path in paths}


@dataclasses.dataclass(frozen=True)
class EmbedderArtifacts(Artifacts):
    """A model that embeds utterances."""

    @property
    def embedder(self) -> Path:
        """Folder of the model, as it is shared."""
        return self.folder / "embedder"


@dataclasses.dataclass(frozen=True)
class ModelArtifacts(EmbedderArtifacts):
    """A trained model, and what its training was like."""

    @property
    def classifier(self) -> Path:
        """Weights of the classifier that was trained with it."""
        return self.folder / "classifier.ckpt"

    @property
    def curve(self) -> Path:
        """Statistics of each epoch."""
        return self.folder / "train_curve.csv"

    @property
    def gate(self) -> Path:
        """What the loss gate did in each epoch, if there was one."""
        return self.folder / "gate.json"

    @property
    def layer_distances(self) -> Path:
        """Distance of each layer from its start, if that was measured."""
        return self.folder / "layer_distances.csv"


@dataclasses.dataclass(frozen=True)
class EmbeddingArtifacts(Artifacts):
    """Embeddings of the utterances of a manifest."""


@dataclasses.dataclass(frozen=True)
class LabelArtifacts(Artifacts):
    """Pseudo-speakers, or true ones, of the training utterances."""

    @property
    def labels(self) -> Path:
        """Training manifest with a label for each utterance."""
        return self.folder / "pseudo_labels.csv"

    @property
    def clusters(self) -> Path:
        """Sizes of the clusters and how their number was chosen."""
        return self.folder / "clusters.json"


@dataclasses.dataclass(frozen=True)
class ScoreArtifacts(Artifacts):
    """Scores and results of trial lists, a pair for each list and back-end."""

    def results(self) -> list[Path]:
        """All result files."""
        return sorted(self.folder.glob("result_*.json"))

    def result(self, trials: str, backend: str) -> Path:
        """Result file of a trial list and back-end."""
        return self.folder / f"result_{trials}_{backend}.json"

    def scores(self, trials: str, backend: str) -> Path:
        """Scores of a trial list and back-end."""
        return self.folder / f"scores_{trials}_{backend}.npy"


@dataclasses.dataclass(frozen=True)
class ExportArtifacts(Artifacts):
    """The model as it is shared."""

    @property
    def model(self) -> Path:
        """Folder of model, card and examples."""
        return self.folder / "model"
