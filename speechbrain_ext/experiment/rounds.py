"""Number of rounds of a run: fixed by its plan, or decided by churn."""

from __future__ import annotations

from pathlib import Path

from speechbrain_ext.clustering.stopping import Rounds, decide
from speechbrain_ext.experiment.artifacts import LabelArtifacts
from speechbrain_ext.experiment.settings import RunRounds
from speechbrain_ext.experiment.steps import Kind, Role, System


def round_system(number: int) -> System:
    """Return the system of a round.

    Example
    -------
    >>> round_system(2).name, round_system(2).row
    ('round2', 'round 2')
    """
    return System(Role.ROUND, f"round {number}", number)


def rounds_of(settings: RunRounds) -> Rounds:
    """Return the rounds of a plan; with ``auto``, as the records decide.

    What is planned depends on the records alone, so that a run taken up
    again gives the same plan.

    Arguments
    ---------
    settings : RunRounds
        The plan.

    Returns
    -------
    Rounds

    Example
    -------
    >>> plan = {"run": "a", "output_folder": "none", "stages": {}}
    >>> rounds_of(RunRounds(**plan, n_rounds=2)).chosen
    2
    """
    n_rounds = settings.n_rounds
    if not isinstance(n_rounds, str):
        return Rounds(n_rounds, True, n_rounds, f"n_rounds is {n_rounds}")
    churns = list(churns_of(settings).values())
    for n_done in range(len(churns) + 1):
        found = decide(
            churns[:n_done],
            settings.max_rounds,
            settings.churn_tolerance,
            settings.churn_floor,
        )
        # A longer earlier run may have left more rounds than are wanted now.
        if found.stopped:
            break
    return found


def churns_of(settings: RunRounds) -> dict[str, float]:
    """Return the churn of each round that was clustered, in order.

    Arguments
    ---------
    settings : RunRounds
        The plan.

    Returns
    -------
    dict of str to float
        By name of the round's system: ``round1``, ``round2``, ...
    """
    found: dict[str, float] = {}
    root = Path(settings.output_folder)
    while True:
        name = round_system(len(found) + 1).name
        labels = LabelArtifacts(root / name / Kind.LABELS.folder_name)
        if not labels.is_done or "churn" not in labels.facts():
            return found
        found[name] = labels.facts()["churn"]
