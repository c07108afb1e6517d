"""Plan of a run: its recipes, their order, inputs and output folders.

Bootstrap, or what is given in its place, then rounds of training on the
clusters of the last embeddings, then large-margin fine-tuning, then the same
system with true labels (Miara, Lepage and Dehak, Interspeech 2024, Fig. 1).
With ``n_rounds: auto`` the plan grows as rounds end.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, TypeVar

from speechbrain_ext.clustering.stopping import AUTO, Rounds
from speechbrain_ext.experiment.artifacts import (
    Artifacts,
    CorpusArtifacts,
    EmbedderArtifacts,
    EmbeddingArtifacts,
    ExportArtifacts,
    GivenArtifacts,
    LabelArtifacts,
    ModelArtifacts,
    ScoreArtifacts,
)
from speechbrain_ext.experiment.rounds import round_system, rounds_of
from speechbrain_ext.experiment.settings import RunRounds
from speechbrain_ext.experiment.stage_records import read_record
from speechbrain_ext.experiment.steps import Kind, Late, Role, Step, System
from speechbrain_ext.utils.yaml_trees import merged, read_yaml
from speechbrain_ext.verification.results import CAVEATS

N_CROPS = 15  # of an utterance, under the paper's protocol
# Values of train_speaker that are for labels that may be wrong.
TRUSTED = {"gate": None, "correct_from_epoch": None, "label_confidence": None}

A = TypeVar("A", bound=Artifacts)
Embedder = Step[EmbedderArtifacts]
Model = Step[ModelArtifacts]
Labels = Step[LabelArtifacts]


@dataclasses.dataclass(frozen=True)
class Plan:
    """Steps of a run, in the order in which they run.

    Arguments
    ---------
    settings : RunRounds
        What it was made from.
    corpus : CorpusArtifacts
        What its first step leaves.
    steps : list of Step
        All that are certain; the export, if there is one, is the last.
    rounds : Rounds
        How many rounds there are, and which one the run is for.
    model : Step, optional
        The step that makes the run's model; None while rounds may follow.
    """

    settings: RunRounds
    corpus: CorpusArtifacts
    steps: list[Step[Any]]
    rounds: Rounds
    model: Embedder | None

    @property
    def export(self) -> Step[ExportArtifacts] | None:
        """Step that writes the folder to share, if the plan has one."""
        last = self.steps[-1]
        return last if last.kind is Kind.EXPORT else None

    @property
    def model_folder(self) -> Path | None:
        """Folder of the run's model: the exported one, else its embedder."""
        if self.export is not None:
            return self.export.artifacts.model
        return None if self.model is None else self.model.artifacts.embedder


def load_plan(settings: RunRounds) -> Plan:
    """Return the plan of a run; with ``n_rounds: auto``, as known so far."""
    return _Builder(settings).build()


def longest_plan(settings: RunRounds) -> Plan:
    """Return the plan with all steps that it can grow to."""
    if settings.n_rounds == AUTO:
        settings = dataclasses.replace(settings, n_rounds=settings.max_rounds)
    return load_plan(settings)


def embedder_of(settings: RunRounds, stage: str) -> dict[str, Any]:
    """Return the changes to the embedder that a stage trains."""
    if stage in (Kind.TRAIN.stage, Kind.LARGE_MARGIN.stage):
        chosen = settings.round_embedder
        return settings.embedder if chosen is None else chosen
    return settings.embedder if stage == Kind.BOOTSTRAP.stage else {}


class _Builder:
    """Builder of the steps of a run, one system after another."""

    def __init__(self, settings: RunRounds):
        self.settings = settings
        self.root = Path(settings.output_folder)
        self.corpus = CorpusArtifacts(self.root / Role.CORPUS.value)
        self.steps: list[Step[Any]] = []

    def build(self) -> Plan:
        """Build all steps that are certain, in the order in which they run."""
        self.prepare()
        first, labels = self.bootstrap()
        self.first = first
        start: dict[str, Any] = {"init_from": None}
        if self.settings.round_init == "bootstrap":
            start["init_from"] = str(first.artifacts.embedder)
        self.ablations(labels, start)
        rounds = rounds_of(self.settings)
        trained = [(first, labels)]
        for number in range(1, rounds.n_rounds + 1):
            model, found = self.round(number, labels, start)
            trained.append((model, labels))
            labels = found
        final = None
        if rounds.stopped:
            final = self.end(rounds, *trained[rounds.chosen], start)
        return Plan(self.settings, self.corpus, self.steps, rounds, final)

    def add(
        self,
        kind: Kind,
        system: System,
        artifacts: type[A],
        values: dict[str, Any],
        change: dict[str, Any] | None = None,
    ) -> Step[A]:
        """Append a step of one of the plan's ``stages``.

        ``change`` wins over what the stage sets, which wins over ``values``;
        maps, such as the embedder's sizes, are changed key by key.
        """
        stage = self.settings.stage(kind.stage)
        embedder = embedder_of(self.settings, kind.stage)
        sizes = {"embedder": embedder} if embedder else {}
        given = merged({**values, **sizes}, stage.set)
        given = merged(given, change or {})
        options = {"seed": self.settings.seed}
        options |= {k: v for k, v in given.items() if not isinstance(v, Late)}
        step = Step(
            kind,
            system,
            stage.recipe,
            stage.hparams,
            artifacts(self.root / system.name / kind.folder_name),
            options,
            {k: v for k, v in given.items() if isinstance(v, Late)},
        )
        self.steps.append(step)
        return step

    def prepare(self) -> None:
        """Append the preparation of the corpus."""
        values = {}
        if self.settings.data_folder is not None:
            values["data_folder"] = self.settings.data_folder
        self.add(Kind.PREPARE, System(Role.CORPUS), CorpusArtifacts, values)

    def bootstrap(self) -> tuple[Model, Labels]:
        """Append the training without labels, and its clustering.

        Without the training, if its embedder or its embeddings are given.
        """
        settings = self.settings
        name = settings.bootstrap_name or settings.start or self.method()
        system = System(Role.BOOTSTRAP, name)
        if settings.start is None:
            model = self.train_bootstrap(system)
        else:
            model = self.given(system)
        labels = self.labels(model)
        has_test = settings.start_test_embeddings is not None
        if has_test or settings.start_embeddings is None:
            self.score(model, labels, clusters=labels)
        return model, labels

    def method(self) -> str:
        """Return the name of the bootstrap's training, if it is trained."""
        stage = self.settings.stage(Kind.BOOTSTRAP.stage)
        if stage.recipe == "embed_pretrained":
            return "pre-trained encoder, no training"
        if stage.recipe != "train_contrastive":
            return "DINO"
        method = {**read_yaml(stage.hparams), **stage.set}.get("method")
        return "MoCo" if method == "moco" else "SimCLR"

    def train_bootstrap(self, system: System) -> Model:
        """Append the training without labels."""
        return self.add(
            Kind.BOOTSTRAP,
            system,
            ModelArtifacts,
            {
                "train_annotation": str(self.corpus.train),
                "data_folder": Late.DATA_ROOT,
                **self.sounds(),
            },
        )

    def given(self, system: System) -> Model:
        """Return what the run starts from as a step, which is not to be done.

        Given embeddings are read by steps of their own.
        """
        settings = self.settings
        folder = self.root / system.name / Kind.BOOTSTRAP.folder_name
        embedder = settings.start_embedder
        artifacts = GivenArtifacts(folder, Path(embedder or folder))
        sources = (
            (Kind.START_TRAIN, settings.start_embeddings, self.corpus.train),
            (Kind.START_TEST, settings.start_test_embeddings, self.corpus.test),
        )
        for kind, source, manifest in sources:
            if source is not None:
                values = {
                    "embeddings": source,
                    "annotation": str(manifest),
                    "to_format": "npy",
                }
                self.add(kind, system, EmbeddingArtifacts, values)
        return Step(Kind.BOOTSTRAP, system, "", "", artifacts, {})

    def sounds(self) -> dict[str, str | None]:
        """Return the folders of sounds that each training augments with."""
        return {
            key: getattr(self.settings, key)
            for key in ("augment_folder", "musan", "rirs")
        }

    def ablations(self, labels: Labels, start: dict[str, Any]) -> None:
        """Append a copy of round 1 for each ablation, with its values."""
        changes = self.settings.ablations.items()
        for number, (row, change) in enumerate(changes, start=1):
            system = System(Role.ABLATION, row, number)
            model = self.train(Kind.TRAIN, system, labels, start, change)
            self.score(model, labels)

    def round(
        self, number: int, labels: Labels, start: dict[str, Any]
    ) -> tuple[Model, Labels]:
        """Append a training on the last clusters, and the next clustering."""
        system = round_system(number)
        model = self.train(Kind.TRAIN, system, labels, start)
        found = self.labels(model, previous=labels)
        self.score(model, found, clusters=found)
        return model, found

    def end(
        self,
        rounds: Rounds,
        trained: Model,
        labels: Labels,
        start: dict[str, Any],
    ) -> Embedder:
        """Append all steps after the rounds; return that of the final model."""
        settings = self.settings
        tuned = settings.large_margin and rounds.chosen > 0
        if tuned:
            system = System(Role.LARGE_MARGIN, "+ large margin")
            trained = self.large_margin(system, trained, labels)
            self.score(trained, labels)
        joins = settings.join_final and rounds.chosen > 0
        model: Embedder = trained
        if joins:
            system = System(Role.JOINED, "+ joined with the bootstrap")
            model = self.join(system, trained)
            self.score(model, labels, trained=trained)
        elif settings.whiten_scores is not None:
            model = self.whiten(trained, labels)
        if settings.topline and settings.scored:
            self.topline(start, tuned, joins)
        if settings.export and settings.scored:
            self.export(model, trained, labels)
        return model

    def train(
        self,
        kind: Kind,
        system: System,
        labels: Labels,
        values: dict[str, Any],
        change: dict[str, Any] | None = None,
    ) -> Model:
        """Append a supervised training on pseudo-speakers or true speakers."""
        values = {
            "train_annotation": str(labels.artifacts.labels),
            "data_folder": Late.DATA_ROOT,
            **self.sounds(),
            **values,
        }
        return self.add(kind, system, ModelArtifacts, values, change)

    def large_margin(
        self,
        system: System,
        model: Model,
        labels: Labels,
        change: dict[str, Any] | None = None,
    ) -> Model:
        """Append a further training of a model with a larger margin."""
        values = {
            "init_from": str(model.artifacts.embedder),
            "init_classifier": str(model.artifacts.classifier),
        }
        return self.train(Kind.LARGE_MARGIN, system, labels, values, change)

    def topline(self, start: dict[str, Any], tuned: bool, joins: bool) -> None:
        """Append the supervised upper bound: this training on true speakers."""
        system = System(Role.TOPLINE, "topline (true labels)")
        labels = self.add(
            Kind.TRUE_LABELS,
            system,
            LabelArtifacts,
            {
                "train_annotation": str(self.corpus.train),
                "oracle": str(self.corpus.oracle),
            },
        )
        # True labels are trusted, whatever the setting of the rounds.
        model = self.train(Kind.TRAIN, system, labels, start, TRUSTED)
        self.score(model, labels)
        if tuned:
            system = System(Role.TOPLINE_TUNED, "topline + large margin")
            model = self.large_margin(system, model, labels, TRUSTED)
            self.score(model, labels)
        if joins:
            system = System(
                Role.TOPLINE_JOINED, "topline + joined with the bootstrap"
            )
            joined = self.join(system, model)
            self.score(joined, labels, trained=model)

    def join(self, system: System, model: Model) -> Embedder:
        """Append the joining of a model with the bootstrap's, whitened."""
        parts = (model, self.first)
        embeddings = [str(self.embed_train(part).folder) for part in parts]
        return self.add(
            Kind.JOIN,
            system,
            EmbedderArtifacts,
            {
                "embedder_folders": [str(p.artifacts.embedder) for p in parts],
                "embeddings_folders": embeddings,
                "whiten": self.settings.whiten_scores,
            },
        )

    def whiten(self, model: Model, labels: Labels) -> Embedder:
        """Append the whitening of the run's model, as it was scored."""
        return self.add(
            Kind.WHITEN,
            System(Role.WHITENED),
            EmbedderArtifacts,
            {
                "embedder_folder": str(model.artifacts.embedder),
                "embeddings_folder": str(
                    self.embed_cohort(model, labels).folder
                ),
                "whiten": self.settings.whiten_scores,
            },
        )

    def embed_train(self, model: Embedder) -> Step[EmbeddingArtifacts]:
        """Append the embedding of the training utterances."""
        # Calibration scores training utterances in the same way as the test.
        calibrated = "+" in str(self.settings.backends)
        return self.embed(Kind.EXTRACT_TRAIN, model, calibrated)

    def embed_cohort(
        self, model: Embedder, cohort: Labels
    ) -> Step[EmbeddingArtifacts]:
        """Append the embedding of what a system is normalised by.

        Those of a system that is clustered are there anyway, and a joined
        model is whitened on all of its parts' embeddings.
        """
        most = self.settings.cohort_per_speaker
        clustered = model.system.role in (Role.BOOTSTRAP, Role.ROUND)
        if most is None or clustered or self.settings.join_final:
            return self.embed_train(model)
        calibrated = "+" in str(self.settings.backends)
        labels = str(cohort.artifacts.labels)
        sample = {"annotation": labels, "max_per_speaker": most}
        return self.embed(Kind.EXTRACT_COHORT, model, calibrated, sample)

    def embed_test(self, model: Embedder) -> Step[EmbeddingArtifacts]:
        """Append the embedding of the test utterances."""
        return self.embed(Kind.EXTRACT_TEST, model, True)

    def embed(
        self,
        kind: Kind,
        model: Embedder,
        compared: bool,
        given: dict[str, Any] | None = None,
    ) -> Step[EmbeddingArtifacts]:
        """Append the embedding of a manifest, once for each system."""
        for step in self.steps:
            found = (step.kind.folder_name, step.system)
            if found == (kind.folder_name, model.system):
                return step
        is_train = kind is Kind.EXTRACT_TRAIN
        manifest = self.corpus.train if is_train else self.corpus.test
        values: dict[str, Any] = {
            "embedder_folder": str(model.artifacts.embedder),
            "annotation": str(manifest),
            "data_folder": Late.DATA_ROOT,
            **(given or {}),
        }
        if self.settings.protocol == "crops" and compared:
            values["n_crops"] = N_CROPS
        return self.add(kind, model.system, EmbeddingArtifacts, values)

    def labels(self, model: Model, previous: Labels | None = None) -> Labels:
        """Append the clustering of a system's embeddings."""
        values: dict[str, Any] = {
            "embeddings_folder": str(self.embed_train(model).folder),
            "train_annotation": str(self.corpus.train),
            "oracle": Late.ORACLE,
            "n_clusters": self.settings.n_clusters,
        }
        if previous is not None and self.settings.join_bootstrap:
            values["joined_folder"] = str(self.embed_train(self.first).folder)
        if previous is not None:
            values["previous_labels"] = str(previous.artifacts.labels)
        return self.add(Kind.LABELS, model.system, LabelArtifacts, values)

    def score(
        self,
        model: Embedder,
        cohort: Labels,
        clusters: Labels | None = None,
        trained: Model | None = None,
    ) -> None:
        """Append the scoring of the trial lists, if there are any.

        ``cohort`` are the speakers to normalise and calibrate by;
        ``clusters`` are the system's own, reported with it; ``trained`` is
        the training that a joined model comes from.
        """
        settings = self.settings
        if settings.scored:
            # A joined model's parts are whitened already.
            joined = model.kind is Kind.JOIN
            whiten = None if joined else settings.whiten_scores
            values = self.scored_values(model, trained or model)
            values |= {
                "protocol": settings.protocol,
                "backends": settings.backends,
                "whiten": whiten,
            }
            if clusters is not None:
                values["clusters"] = str(clusters.artifacts.clusters)
            raw = settings.backends in ("raw", ["raw"])
            if not raw or whiten is not None:
                values |= self.cohort_values(model, cohort)
            self.add(Kind.SCORE, model.system, ScoreArtifacts, values)

    def scored_values(
        self, model: Embedder, trained: Embedder
    ) -> dict[str, Any]:
        """Return values for scoring: its inputs, and facts for the results."""
        settings = self.settings
        record = trained.artifacts.train_record
        return {
            "embeddings_folder": str(self.embed_test(model).folder),
            "annotation": str(self.corpus.test),
            "oracle": Late.ORACLE,
            "trials": Late.TRIALS,
            "run": settings.run,
            "system": model.system.row,
            "corpus": settings.corpus,
            "caveat": self.caveat(trained.system),
            "train_device": settings.train_device,
            "train_record": None if record is None else str(record),
        }

    def caveat(self, system: System) -> str:
        """Return what readers of a row must know, its start included."""
        settings = self.settings
        words = [settings.caveat]
        # True labels owe nothing to a start whose weights are not used.
        inherits = settings.round_init == "bootstrap"
        if settings.start and (inherits or not system.has_true_labels):
            words += self.start_caveats()
        return "; ".join(dict.fromkeys(filter(None, words)))

    def start_caveats(self) -> list[str]:
        """Return what the run was given to start from, and what taught it."""
        settings = self.settings
        name = settings.bootstrap_name
        start = f"{settings.start}{f' ({name})' if name else ''}"
        if settings.start_embedder is None:
            return [f"starts from {start}, whose training is not known"]
        given = GivenArtifacts(self.root, Path(settings.start_embedder))
        record = given.train_record
        if record is None:
            return [f"starts from a {start}, whose training is not known"]
        facts = read_record(record)
        taught = [words for fact, words in CAVEATS.items() if facts.get(fact)]
        return [f"starts from a {start}", *taught]

    def cohort_values(self, model: Embedder, cohort: Labels) -> dict[str, Any]:
        """Return the embeddings and labels of the cohort.

        It is the training set, or a sample of it.
        """
        embedded = self.embed_cohort(model, cohort)
        values: dict[str, Any] = {
            "cohort_folder": str(embedded.folder),
            "cohort_labels": str(cohort.artifacts.labels),
        }
        if embedded.kind is Kind.EXTRACT_COHORT:
            values["cohort_is_sample"] = True
        system = model.system
        if system.role is not Role.BOOTSTRAP and not system.has_true_labels:
            # Clusters that depend least on the embeddings to be calibrated.
            values["calibration_labels"] = str(self.first_labels().labels)
        return values

    def first_labels(self) -> LabelArtifacts:
        """Return the labels of the bootstrap's clusters."""
        return next(s.artifacts for s in self.steps if s.kind is Kind.LABELS)

    def export(self, model: Embedder, trained: Model, labels: Labels) -> None:
        """Append the export of the run's model, scored as its users score.

        ``trained`` is the training that ``model`` comes from, with
        ``labels``.
        """
        system = System(Role.PUBLISHED, "published model")
        values = {
            **self.scored_values(model, trained),
            "system": system.row,
            "protocol": "full",
            "backends": ["raw", "raw+linear"],
            "whiten": None,
            **self.cohort_values(model, labels),
        }
        scores = self.add(Kind.SCORE, system, ScoreArtifacts, values)
        self.add(
            Kind.EXPORT,
            system,
            ExportArtifacts,
            {
                "embedder_folder": str(model.artifacts.embedder),
                "embeddings_folder": str(self.embed_test(model).folder),
                "scores_folder": str(scores.folder),
                "run_folder": str(self.root),
            },
        )
