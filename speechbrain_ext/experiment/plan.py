"""The plan of a run: which recipe runs when, on what, into which folder.

Bootstrap, then rounds of training on the clusters of the last embeddings,
then large-margin fine-tuning, then the same system with true labels (Miara,
Lepage and Dehak, Interspeech 2024, Fig. 1). With ``n_rounds: auto`` the plan
grows as rounds end: what is planned is a function of the receipts alone, so
that a run taken up again comes to the same plan.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from speechbrain_ext.clustering.stopping import (
    AUTO,
    Rounds,
    check_rounds,
    decide,
)
from speechbrain_ext.experiment.receipts import RECEIPT
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import read_json

Late = Callable[[], Any]
# Stages that are one process, whatever starts the others.
ALONE = ("prepare", "labels", "true_labels", "whiten", "score", "export")
N_CROPS = 15  # of an utterance, under the paper's protocol
PUBLISHED = "published"  # the system that is shared
TOPLINE = "topline"  # how the names of systems with true labels begin
# Of train_speaker: what is for labels that may be wrong.
TRUSTED = {"gate": None, "correct_from_epoch": None, "label_confidence": None}


@dataclasses.dataclass(frozen=True)
class Step:
    """One recipe to run.

    Arguments
    ---------
    name : str
        ``system/kind``, for instance ``round1/model``.
    recipe : str
        Stem of the script in ``recipes/``.
    hparams : str
        Its YAML.
    folder : Path
        Its output folder.
    options : dict
        Overrides of the YAML's keys.
    late : dict of str to callable
        Overrides that are known once earlier steps are done.
    launched : bool
        Whether ``launcher`` (torchrun) starts it.
    """

    name: str
    recipe: str
    hparams: str
    folder: Path
    options: dict[str, Any]
    late: dict[str, Late] = dataclasses.field(default_factory=dict)
    launched: bool = False

    @property
    def system(self) -> str:
        """The part of the name before the slash."""
        return self.name.split("/")[0]

    def values(self) -> dict[str, Any]:
        """All overrides, the late ones asked for now."""
        late = {key: ask() for key, ask in self.late.items()}
        return {**self.options, **late, "output_folder": str(self.folder)}

    def receipt(self) -> dict[str, Any]:
        """What the finished step left on record."""
        return read_json(self.folder / RECEIPT)


class Plan:
    """Builds the steps of a run, one system after another.

    Arguments
    ---------
    settings : dict
        A plan YAML (``hparams/plans/quickstart.yaml``, ...), resolved.
    """

    def __init__(self, settings: dict[str, Any]):
        self.settings = settings
        self.root = Path(settings["output_folder"])
        self.corpus = self.root / "corpus"
        self.steps: list[Step] = []

    def add(
        self,
        name: str,
        kind: str,
        change: dict[str, Any] | None = None,
        **values: Any,
    ) -> Step:
        """Append a step of one of the YAML's ``stages``.

        ``change`` wins over what the YAML sets, which wins over ``values``.
        """
        change = change or {}
        stage = self.settings["stages"][kind]
        late = {key: v for key, v in values.items() if callable(v)}
        fixed = {key: v for key, v in values.items() if not callable(v)}
        for key in (*stage["set"], *change):
            late.pop(key, None)
        step = Step(
            name,
            stage["recipe"],
            stage["hparams"],
            self.root / name,
            {"seed": self.settings["seed"], **fixed, **stage["set"], **change},
            late,
            launched=kind not in ALONE,
        )
        self.steps.append(step)
        return step

    def data_root(self) -> str:
        """What ``$data_root`` stands for: the corpus step's folder or its data.

        From where they are now, not where they were: a data set may move.
        """
        inside = read_json(self.corpus / RECEIPT)["data_in_output"]
        root = self.corpus if inside else Path(self.settings["data_folder"])
        return str(root.absolute())

    def prepare(self) -> None:
        """The corpus: manifests, trials, oracle."""
        proposed = {}
        if self.settings["data_folder"] is not None:
            proposed["data_folder"] = self.settings["data_folder"]
        self.add("corpus", "prepare", **proposed)

    def oracle(self) -> str | None:
        """True speakers, for reported figures alone."""
        path = self.corpus / "oracle.csv"
        return str(path) if path.exists() else None

    def embed(self, system: str, split: str, model: Step) -> Step:
        """Embeddings of ``train.csv`` or ``test.csv``, once a system."""
        name = f"{system}/{split}_embeddings"
        for step in self.steps:
            if step.name == name:
                return step
        values: dict[str, Any] = {}
        # Calibration scores training utterances as the test is scored.
        compared = split == "test" or "+" in str(self.settings["backends"])
        if self.settings["protocol"] == "crops" and compared:
            values["n_crops"] = N_CROPS
        return self.add(
            name,
            "extract",
            embedder_folder=str(model.folder / "embedder"),
            annotation=str(self.corpus / f"{split}.csv"),
            data_folder=self.data_root,
            **values,
        )

    def labels(
        self, system: str, model: Step, previous: Step | None = None
    ) -> Step:
        """Pseudo-speakers from a system's embeddings."""
        embeddings = self.embed(system, "train", model)
        values: dict[str, Any] = {}
        if previous is not None:
            path = previous.folder / "pseudo_labels.csv"
            values["previous_labels"] = str(path)
        return self.add(
            f"{system}/labels",
            "labels",
            embeddings_folder=str(embeddings.folder),
            train_annotation=str(self.corpus / "train.csv"),
            oracle=self.oracle,
            **values,
        )

    def score(
        self,
        row: str,
        model: Step,
        labels: Step | None,
        cohort: Step | None = None,
        system: str | None = None,
        **change: Any,
    ) -> None:
        """Scores of the trial lists, if there are any.

        ``labels`` are the system's own clusters, reported with it; ``cohort``
        are the speakers to normalise and calibrate by, these if None. The
        step is named for ``system``, the model's if None; ``change`` wins
        over the plan's settings.
        """
        if not self.settings["scored"]:
            return
        embeddings = self.embed(model.system, "test", model)
        values: dict[str, Any] = {
            "embeddings_folder": str(embeddings.folder),
            "annotation": str(self.corpus / "test.csv"),
            "oracle": self.oracle,
            "protocol": self.settings["protocol"],
            "backends": self.settings["backends"],
            "whiten": self.settings["whiten_scores"],
            "trials": self.trials,
            "run": self.settings["run"],
            "system": row,
            "corpus": self.settings["corpus"],
            "caveat": self.settings["caveat"],
            "train_device": self.settings["train_device"],
            "train_record": str(model.folder / RECEIPT),
            **change,
        }
        if labels is not None:
            values["clusters"] = str(labels.folder / "clusters.json")
        speakers = cohort or labels
        raw = values["backends"] in ("raw", ["raw"])
        if speakers and not (raw and values["whiten"] is None):
            train = self.embed(model.system, "train", model)
            values["cohort_folder"] = str(train.folder)
            path = speakers.folder / "pseudo_labels.csv"
            values["cohort_labels"] = str(path)
            if model.system != "bootstrap" and not is_topline(model):
                # Clusters that owe least to the embeddings to be calibrated.
                path = self.root / "bootstrap" / "labels" / "pseudo_labels.csv"
                values["calibration_labels"] = str(path)
        self.add(f"{system or model.system}/scores", "score", **values)

    def trials(self) -> dict[str, str]:
        """The trial lists that the prepare step wrote."""
        paths = sorted((self.corpus / "trials").glob("*.txt"))
        return {path.stem: str(path) for path in paths}

    def train(
        self, system: str, kind: str, labels: Step, **values: Any
    ) -> Step:
        """A supervised training on pseudo- or true speakers."""
        return self.add(
            f"{system}/model",
            kind,
            train_annotation=str(labels.folder / "pseudo_labels.csv"),
            data_folder=self.data_root,
            augment_folder=self.settings["augment_folder"],
            **values,
        )

    def build(self) -> list[Step]:
        """All steps that are certain, in the order they run."""
        settings = self.settings
        self.prepare()
        first = self.add(
            "bootstrap/model",
            "bootstrap",
            train_annotation=str(self.corpus / "train.csv"),
            data_folder=self.data_root,
            augment_folder=self.settings["augment_folder"],
        )
        labels = self.labels("bootstrap", first)
        self.score(settings["bootstrap_name"], first, labels)
        start = {"init_from": self.initial(first)}
        for number, (row, change) in enumerate(
            settings["ablations"].items(), start=1
        ):
            model = self.train(
                f"ablation{number}", "train", labels, change=change, **start
            )
            self.score(row, model, None, cohort=labels)
        rounds = rounds_of(settings)
        trained = [(first, labels)]
        for number in range(1, rounds.n_rounds + 1):
            used = labels
            model = self.train(f"round{number}", "train", used, **start)
            labels = self.labels(f"round{number}", model, used)
            self.score(f"round {number}", model, labels)
            trained.append((model, used))
        if not rounds.stopped:
            return self.steps
        final, used = trained[rounds.chosen]
        tuned = settings["large_margin"] and rounds.chosen > 0
        if tuned:
            final = self.large_margin("large_margin", final, used)
            self.score("+ large margin", final, None, cohort=used)
        published = final
        if settings["whiten_scores"] is not None:
            published = self.whiten(final)
        if settings["topline"] and settings["scored"]:
            self.topline(start, tuned)
        if settings["export"] and settings["scored"]:
            self.export(published, final, used)
        return self.steps

    def export(self, model: Step, trained: Step, labels: Step) -> None:
        """The run's model as it is shared, scored as those score who load it.

        ``trained`` is the training that ``model`` comes from, with
        ``labels``.
        """
        self.score(
            "published model",
            model,
            None,
            cohort=labels,
            system=PUBLISHED,
            protocol="full",
            backends=["raw", "raw+linear"],
            whiten=None,
            train_record=str(trained.folder / RECEIPT),
        )
        scores = self.steps[-1]
        embeddings = self.embed(model.system, "test", model)
        self.add(
            f"{PUBLISHED}/export",
            "export",
            embedder_folder=str(model.folder / "embedder"),
            embeddings_folder=str(embeddings.folder),
            scores_folder=str(scores.folder),
            run_folder=str(self.root),
        )

    def whiten(self, model: Step) -> Step:
        """The model of the run, with the whitening it was scored with."""
        train = self.embed(model.system, "train", model)
        return self.add(
            "whitened/model",
            "whiten",
            embedder_folder=str(model.folder / "embedder"),
            embeddings_folder=str(train.folder),
            whiten=self.settings["whiten_scores"],
        )

    def large_margin(
        self, system: str, model: Step, labels: Step, **values: Any
    ) -> Step:
        """A model, tuned on with a larger margin."""
        return self.train(
            system,
            "large_margin",
            labels,
            **values,
            init_from=str(model.folder / "embedder"),
            init_classifier=str(model.folder / "classifier.ckpt"),
        )

    def topline(self, start: dict[str, Any], tuned: bool) -> None:
        """The same training with true speakers, tuned on if the model is."""
        labels = self.add(
            f"{TOPLINE}/labels",
            "true_labels",
            train_annotation=str(self.corpus / "train.csv"),
            oracle=str(self.corpus / "oracle.csv"),
        )
        # True labels are not doubted, whatever the rounds' setting.
        model = self.train(TOPLINE, "train", labels, change=TRUSTED, **start)
        self.score("topline (true labels)", model, None, cohort=labels)
        if tuned:
            model = self.large_margin(
                f"{TOPLINE}_tuned", model, labels, change=TRUSTED
            )
            self.score("topline + large margin", model, None, cohort=labels)

    def initial(self, bootstrap: Step) -> str | None:
        """Weights that every round, and the topline, starts from."""
        choice = self.settings["round_init"]
        if choice is None:
            return None
        if choice == "bootstrap":
            return str(bootstrap.folder / "embedder")
        raise InputError(
            f"round_init is {choice!r}; give null (the encoder's own start, "
            "as the paper) or bootstrap (its embedder, of the same YAML)"
        )


def is_topline(step: Step) -> bool:
    """Whether a step is of a system with true labels.

    Example
    -------
    >>> is_topline(Step("topline/model", "", "", Path(), {}))
    True
    """
    return step.system.startswith(TOPLINE)


def rounds_of(settings: dict[str, Any]) -> Rounds:
    """How many rounds a plan has; with ``auto``, as far as receipts tell.

    Arguments
    ---------
    settings : dict
        A plan YAML, resolved.

    Returns
    -------
    Rounds

    Example
    -------
    >>> settings = {"n_rounds": 2, "output_folder": "none"}
    >>> rounds_of(settings).chosen
    2
    """
    n_rounds = settings["n_rounds"]
    if n_rounds != AUTO:
        return Rounds(n_rounds, True, n_rounds, f"n_rounds is {n_rounds}")
    rule = (
        settings["max_rounds"],
        settings["churn_tolerance"],
        settings["churn_floor"],
    )
    churns = list(churns_of(settings).values())
    for n_done in range(len(churns) + 1):
        found = decide(churns[:n_done], *rule)
        # A longer earlier run may have left more rounds than are wanted now.
        if found.stopped:
            break
    return found


def churns_of(settings: dict[str, Any]) -> dict[str, float]:
    """Churn of each round that has been clustered, in order.

    Arguments
    ---------
    settings : dict
        A plan YAML, resolved.

    Returns
    -------
    dict of str to float
        ``round1``, ``round2``, ...
    """
    found: dict[str, float] = {}
    root = Path(settings["output_folder"])
    name = "round1"
    while (path := root / name / "labels" / RECEIPT).exists():
        receipt = read_json(path)
        if "churn" not in receipt:
            break
        found[name] = receipt["churn"]
        name = f"round{len(found) + 1}"
    return found


def longest_plan(settings: dict[str, Any]) -> list[Step]:
    """All steps that a plan may come to have.

    Example
    -------
    >>> from speechbrain_ext.utils.yaml_trees import plain, read_yaml
    >>> settings = plain(read_yaml("hparams/plans/quickstart.yaml"))
    >>> settings.update(n_rounds="auto", max_rounds=3, output_folder="none")
    >>> len(load_plan(settings)), len(longest_plan(settings))
    (11, 28)
    """
    if settings["n_rounds"] == AUTO:
        settings = {**settings, "n_rounds": settings["max_rounds"]}
    return load_plan(settings)


def load_plan(settings: dict[str, Any]) -> list[Step]:
    """The steps of a plan YAML, with ``n_rounds: auto`` those so far.

    Raises
    ------
    InputError
        ``stages`` lacks one, or a stage lacks recipe, hparams or set.

    Example
    -------
    >>> from speechbrain_ext.utils.yaml_trees import plain, read_yaml
    >>> settings = plain(read_yaml("hparams/plans/quickstart.yaml"))
    >>> steps = load_plan({**settings, "n_rounds": 1})
    >>> [step.name for step in steps][:3]
    ['corpus', 'bootstrap/model', 'bootstrap/train_embeddings']
    """
    wanted = (
        "prepare bootstrap extract labels train large_margin true_labels "
        "whiten score export"
    ).split()
    stages = settings["stages"]
    missing = [kind for kind in wanted if kind not in stages]
    unknown = [kind for kind in stages if kind not in wanted]
    if missing or unknown:
        raise InputError(
            f"stages lacks {missing} and has {unknown}; a plan has exactly "
            f"{wanted}"
        )
    for kind, stage in stages.items():
        if not isinstance(stage, dict) or set(stage) != {
            "recipe",
            "hparams",
            "set",
        }:
            raise InputError(
                f"stages.{kind} is {stage}; it has exactly recipe, hparams "
                "and set (the values to change)"
            )
    for row, change in settings["ablations"].items():
        if not isinstance(change, dict):
            raise InputError(
                f"ablations.{row} is {change!r}; it must be a mapping of "
                "values of the train stage's YAML, e.g. {gate: null}"
            )
    check_rounds(settings)
    fixed = settings["stages"]["labels"]["set"]
    if settings["n_rounds"] == AUTO and "previous_labels" in fixed:
        raise InputError(
            "n_rounds is auto and stages.labels.set has previous_labels: auto "
            "goes by the churn between rounds; remove it there"
        )
    return Plan(settings).build()
