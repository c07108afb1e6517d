"""Files of a run in the results folder: scores, comparisons and curves.

``results/runs/<run>/scores/<NN>-<system>_<list>_<backend>.json`` and, beside
it, ``comparisons/<first>-<second>_<list>_<backend>.json`` and
``curves/<system>.csv``. Files of an earlier run of that name are replaced.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from speechbrain_ext.dataio.manifest import read_manifest
from speechbrain_ext.dataio.trials import TrialList, read_trial_file
from speechbrain_ext.experiment.artifacts import ModelArtifacts, ScoreArtifacts
from speechbrain_ext.experiment.stage_records import read_record
from speechbrain_ext.experiment.steps import (
    Late,
    Role,
    Step,
    System,
    steps_that_left,
)
from speechbrain_ext.utils.files import copy_file
from speechbrain_ext.verification.comparison import Comparison
from speechbrain_ext.verification.results import Result, read_result
from speechbrain_ext.verification.tables import in_order
from speechbrain_ext.verification.trial_speakers import units_of

Scores = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Scored:
    """System of a run, with its scores and results.

    Arguments
    ---------
    system : System
        The system.
    artifacts : ScoreArtifacts
        Its scores and result files.
    trials : mapping of str to str
        Trial lists by name.
    oracle : str, optional
        The file of true speakers.
    results : list of Result
        What it scored, a result a list and back-end.
    """

    system: System
    artifacts: ScoreArtifacts
    trials: Mapping[str, str]
    oracle: str | None
    results: list[Result]

    def has(self, trials: str, backend: str) -> bool:
        """Return whether a list was scored by a back-end."""
        return self.artifacts.scores(trials, backend).exists()

    def result(self, trials: str, backend: str) -> Result:
        """Return the result of a list by a back-end."""
        return next(
            result
            for result in self.results
            if (result.trials.name, result.system.backend) == (trials, backend)
        )

    def trial_list(self, name: str) -> TrialList:
        """Return the trials of a list."""
        return read_trial_file(name, self.trials[name])

    def scores(self, trials: str, backend: str) -> Scores:
        """Return scores [N] and labels [N] of a list by a back-end."""
        found = np.load(self.artifacts.scores(trials, backend))
        return found, self.trial_list(trials).labels


def read_scored(
    steps: Sequence[Step[Any]], late: Mapping[Late, Any]
) -> list[Scored]:
    """Return the scored systems of a run, in its order.

    Arguments
    ---------
    steps : sequence of Step
        The run's steps, all done.
    late : mapping of Late to Any
        The values that were known once the corpus was prepared.
    """
    found = []
    for step in steps_that_left(steps, ScoreArtifacts):
        values = step.values(late)
        seconds = training_seconds(values.get("train_record"))
        results = [
            with_seconds(read_result(path), seconds)
            for path in step.artifacts.results()
        ]
        found.append(
            Scored(
                step.system,
                step.artifacts,
                values["trials"],
                values.get("oracle"),
                in_order(results),
            )
        )
    return found


def training_seconds(record: str | None) -> float | None:
    """Return a training's time; None when it was killed and resumed.

    Arguments
    ---------
    record : str, optional
        The training's ``stage.json``.
    """
    if record is None:
        return None
    found = read_record(record)
    return None if found.get("resumed") else found.get("seconds")


def with_seconds(result: Result, seconds: float | None) -> Result:
    """Return a result that has the time of its training.

    The files of a scores step have no time: the same scores are the same
    bytes, however long the training took.
    """
    system = dataclasses.replace(result.system, seconds=seconds)
    return dataclasses.replace(result, system=system)


class RunFolder:
    """Folder of one run below the results folder.

    Arguments
    ---------
    results_folder : str or os.PathLike
        Where the results of all runs are.
    run : str
        Name of the run.
    """

    def __init__(self, results_folder: str | Path, run: str):
        self.folder = Path(results_folder) / "runs" / run

    def emptied(self, name: str, pattern: str = "*.json") -> Path:
        """Make an empty folder for one kind of file; delete older files."""
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.glob(pattern):
            stale.unlink()
        return folder

    def write_scores(self, scored: Sequence[Scored]) -> None:
        """Copy the result files of a run."""
        folder = self.emptied("scores")
        for number, one in enumerate(scored):
            for path in one.artifacts.results():
                name = re.sub(r"^result", one.system.name, path.name)
                copy_file(path, folder / f"{number:02d}-{name}")

    def write_comparisons(self, comparisons: Sequence[Compared]) -> None:
        """Write the comparisons of a run's systems."""
        folder = self.emptied("comparisons")
        for one in comparisons:
            one.found.write(folder / f"{one.name}.json")

    def write_curves(self, steps: Sequence[Step[Any]]) -> None:
        """Copy the training curves of a run."""
        folder = self.emptied("curves", "*.csv")
        for step in trainings(steps):
            copy = folder / f"{step.system.name}.csv"
            copy_file(step.artifacts.curve, copy)
        for model in steps_that_left(steps, ModelArtifacts):
            if model.artifacts.layer_choice.exists():
                copy = folder / f"{model.system.name}_layers.csv"
                copy_file(model.artifacts.layer_choice, copy)


def trainings(steps: Sequence[Step[Any]]) -> list[Step[ModelArtifacts]]:
    """Return the steps that trained a model.

    Example
    -------
    >>> trainings([])
    []
    """
    models = steps_that_left(steps, ModelArtifacts)
    return [step for step in models if step.artifacts.curve.exists()]


@dataclasses.dataclass(frozen=True)
class Compared:
    """Comparison of two systems on one list by one back-end."""

    first: System
    second: System
    result: Result
    found: Comparison

    @property
    def name(self) -> str:
        """Name of the comparison's file."""
        systems = f"{self.first.name}-{self.second.name}"
        scoring = f"{self.result.trials.name}_{self.result.system.backend}"
        return f"{systems}_{scoring}"

    @property
    def is_with_topline(self) -> bool:
        """Whether the first system used true labels and the second did not."""
        return self.first.has_true_labels and not self.second.has_true_labels


def comparisons_of(scored: Sequence[Scored]) -> list[Compared]:
    """Compare each system with the one before it, on each list.

    The last of those without labels is compared with the last topline.
    """
    return [
        Compared(
            first.system,
            second.system,
            result,
            compared_on(first, second, result),
        )
        for first, second in pairs(scored)
        for result in second.results
        if first.has(result.trials.name, result.system.backend)
    ]


def pairs(scored: Sequence[Scored]) -> list[tuple[Scored, Scored]]:
    """Return the pairs of systems to compare, first and second.

    The model to share is none of them: it has been scored as the last round.
    """
    systems = [s for s in scored if s.system.role is not Role.PUBLISHED]
    ours = [s for s in systems if not s.system.has_true_labels]
    true = [s for s in systems if s.system.has_true_labels]
    found = list(itertools.pairwise(ours))
    if ours and true:
        found.append((true[-1], ours[-1]))
    return found + list(itertools.pairwise(true))


def compared_on(first: Scored, second: Scored, result: Result) -> Comparison:
    """Compare two systems' scores of one list in the same drawings.

    Arguments
    ---------
    first, second : Scored
        Two systems of a run.
    result : Result
        One of the second; the first was scored on its list by its back-end.

    Returns
    -------
    Comparison
    """
    name, backend = result.trials.name, result.system.backend
    trials = second.trial_list(name)
    oracle = None
    if second.oracle is not None:
        oracle = read_manifest(second.oracle, "oracle")
    before = first.result(name, backend)
    return Comparison.of_scores(
        first.scores(name, backend)[0],
        second.scores(name, backend)[0],
        trials.labels,
        units_of(trials, oracle),
        result.p_target,
        seed=result.bootstrap.seed,
        first=f"{before.system.name}, {backend}",
        second=f"{result.system.name}, {backend}",
        trials=name,
        trials_sha256=result.trials.sha256,
    )
