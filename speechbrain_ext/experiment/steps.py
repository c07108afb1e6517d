"""Steps of a run: their kinds, systems, values and artifacts."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

from speechbrain_ext.experiment import artifacts as left

A = TypeVar("A", bound=left.Artifacts, covariant=True)
B = TypeVar("B", bound=left.Artifacts)


class Kind(enum.StrEnum):
    """Kind of work that a step does."""

    PREPARE = "prepare"
    BOOTSTRAP = "bootstrap"
    START_TRAIN = "start_train"
    START_TEST = "start_test"
    EXTRACT_TRAIN = "extract_train"
    EXTRACT_TEST = "extract_test"
    EXTRACT_COHORT = "extract_cohort"
    LABELS = "labels"
    TRAIN = "train"
    LARGE_MARGIN = "large_margin"
    TRUE_LABELS = "true_labels"
    WHITEN = "whiten"
    JOIN = "join"
    SCORE = "score"
    EXPORT = "export"

    @property
    def stage(self) -> str:
        """Key of this kind in a plan's ``stages``."""
        return _STAGES.get(self, self.value)

    @property
    def folder_name(self) -> str:
        """Name of the step's folder in its system's; the corpus has its own."""
        return _FOLDERS[self]

    @property
    def launched(self) -> bool:
        """Whether the plan's ``launcher`` (torchrun) starts the step."""
        return self in _LAUNCHED


# Stages that make the embeddings of training and test utterances.
_STAGES = {
    Kind.START_TRAIN: "start",
    Kind.START_TEST: "start",
    Kind.EXTRACT_TRAIN: "extract",
    Kind.EXTRACT_TEST: "extract",
    Kind.EXTRACT_COHORT: "extract",
}
_FOLDERS = {
    Kind.PREPARE: "",
    Kind.BOOTSTRAP: "model",
    # Given embeddings take the place of those that a model would be asked for.
    Kind.START_TRAIN: "train_embeddings",
    Kind.START_TEST: "test_embeddings",
    Kind.EXTRACT_TRAIN: "train_embeddings",
    Kind.EXTRACT_TEST: "test_embeddings",
    Kind.EXTRACT_COHORT: "cohort_embeddings",
    Kind.LABELS: "labels",
    Kind.TRAIN: "model",
    Kind.LARGE_MARGIN: "model",
    Kind.TRUE_LABELS: "labels",
    Kind.WHITEN: "model",
    Kind.JOIN: "model",
    Kind.SCORE: "scores",
    Kind.EXPORT: "export",
}
# What a step does, in words.
_WORDS = {
    Kind.PREPARE: "manifests and trial lists",
    Kind.BOOTSTRAP: "training without labels",
    Kind.START_TRAIN: "given training embeddings",
    Kind.START_TEST: "given test embeddings",
    Kind.EXTRACT_TRAIN: "embedding the training utterances",
    Kind.EXTRACT_TEST: "embedding the test utterances",
    Kind.EXTRACT_COHORT: "embedding the cohort",
    Kind.LABELS: "clustering",
    Kind.TRAIN: "training",
    Kind.LARGE_MARGIN: "tuning with a larger margin",
    Kind.TRUE_LABELS: "true labels",
    Kind.WHITEN: "whitening",
    Kind.JOIN: "joining",
    Kind.SCORE: "scoring",
    Kind.EXPORT: "export",
}
# Stages that several processes share.
_LAUNCHED = {
    Kind.BOOTSTRAP,
    Kind.EXTRACT_TRAIN,
    Kind.EXTRACT_TEST,
    Kind.EXTRACT_COHORT,
    Kind.TRAIN,
    Kind.LARGE_MARGIN,
}


class Role(enum.StrEnum):
    """Purpose of a system in a run."""

    CORPUS = "corpus"
    BOOTSTRAP = "bootstrap"
    ABLATION = "ablation"
    ROUND = "round"
    LARGE_MARGIN = "large_margin"
    WHITENED = "whitened"
    JOINED = "joined"
    TOPLINE = "topline"
    TOPLINE_TUNED = "topline_tuned"
    TOPLINE_JOINED = "topline_joined"
    PUBLISHED = "published"


@dataclasses.dataclass(frozen=True)
class System:
    """Model of a run, with everything that is made with it.

    Arguments
    ---------
    role : Role
        What it is for.
    row : str
        Its label in tables.
    number : int, optional
        Of a round or an ablation, from 1.
    """

    role: Role
    row: str = ""
    number: int | None = None

    @property
    def name(self) -> str:
        """Name of the system's folder, such as ``round1``."""
        return f"{self.role.value}{self.number or ''}"

    @property
    def has_true_labels(self) -> bool:
        """Whether the system was trained on true speakers."""
        return self.role in (
            Role.TOPLINE,
            Role.TOPLINE_TUNED,
            Role.TOPLINE_JOINED,
        )


class Late(enum.StrEnum):
    """Values that are known after the corpus is prepared."""

    DATA_ROOT = "data_root"
    ORACLE = "oracle"
    TRIALS = "trials"


@dataclasses.dataclass(frozen=True)
class Step(Generic[A]):
    """Step of a run: one recipe with its values and output folder.

    Arguments
    ---------
    kind : Kind
        What it does.
    system : System
        The system that it belongs to.
    recipe : str
        Stem of the script in ``recipes/``.
    hparams : str
        Its YAML.
    artifacts : Artifacts
        What it leaves.
    options : dict of str to Any
        Values of the YAML's keys to change.
    late : dict of str to Late
        Keys whose values are known once the corpus is prepared.
    """

    kind: Kind
    system: System
    recipe: str
    hparams: str
    artifacts: A
    options: dict[str, Any]
    late: dict[str, Late] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the step: ``system/folder``, such as ``round1/model``."""
        parts = (self.system.name, self.kind.folder_name)
        return "/".join(filter(None, parts))

    @property
    def words(self) -> str:
        """Words for the step, such as ``round 1, training``."""
        return f"{self.system.row or self.system.name}, {_WORDS[self.kind]}"

    @property
    def folder(self) -> Path:
        """Output folder of the step."""
        return self.artifacts.folder

    def values(self, found: Mapping[Late, Any]) -> dict[str, Any]:
        """Return all values to change, given the late ones.

        Arguments
        ---------
        found : mapping of Late to Any
            The late values.
        """
        late = {key: found[which] for key, which in self.late.items()}
        return {**self.options, **late, "output_folder": str(self.folder)}


def steps_that_left(steps: Iterable[Step[Any]], kind: type[B]) -> list[Step[B]]:
    """Return the steps whose artifacts are of a class.

    Example
    -------
    >>> from pathlib import Path
    >>> corpus = left.CorpusArtifacts(Path("corpus"))
    >>> step = Step(Kind.PREPARE, System(Role.CORPUS), "", "", corpus, {})
    >>> len(steps_that_left([step], left.CorpusArtifacts))
    1
    """
    return [step for step in steps if isinstance(step.artifacts, kind)]
