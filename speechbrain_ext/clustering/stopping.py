"""Label-free rule that stops the rounds.

Every round clusters the embeddings of the model that was trained on the
clusters of the round before. `label_churn` tells how many utterances moved.
While that falls, labels are becoming stable; when it no longer does, further
rounds only move the same doubtful utterances about.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

AUTO = "auto"


class Rounds(NamedTuple):
    """Rounds that a run has, and whether it has stopped.

    ``n_rounds`` to plan so far; ``chosen``, whose model the run is for (0:
    the bootstrap), and ``reason`` once it has ``stopped``.
    """

    n_rounds: int
    stopped: bool
    chosen: int
    reason: str


def decide(
    churns: Sequence[float], max_rounds: int, tolerance: float, floor: float
) -> Rounds:
    """Decide from the churn so far whether to run another round.

    The rule: stop after a round whose churn is ``floor`` or less, or did not
    fall by more than ``tolerance`` of the churn before, or after
    ``max_rounds``. The last round is chosen, unless its labels moved more
    than those of the round before, by ``tolerance`` too: that one is then
    chosen. (A smaller rise is chance: of 2,740 utterances, 26 % of which
    move, the standard error is 3 % of that.)

    Arguments
    ---------
    churns : sequence of float
        Of each round that has been clustered, the first against the
        bootstrap's labels.
    max_rounds : int
        The most.
    tolerance : float
        Relative fall that is worth a round, relative rise that is not chance.
    floor : float
        Churn below which labels count as stable.

    Returns
    -------
    Rounds

    Example
    -------
    >>> decide([0.30], 5, 0.1, 0.02).n_rounds
    2
    >>> decide([0.30, 0.20, 0.19], 5, 0.1, 0.02)
    Rounds(n_rounds=3, stopped=True, chosen=3, reason='churn 0.1900 after ...')
    """
    n_done = len(churns)
    last = churns[-1] if churns else 1.0
    before = churns[-2] if n_done > 1 else None
    words = f"churn {last:.4f}"
    if before is not None:
        words += f" after {before:.4f}"
    if n_done and last <= floor:
        return Rounds(n_done, True, n_done, f"{words} is stable ({floor:g})")
    if before is not None and last > (1 + tolerance) * before:
        reason = f"{words} rises, so round {n_done - 1} is taken"
        return Rounds(n_done, True, n_done - 1, reason)
    if before is not None and last >= (1 - tolerance) * before:
        reason = f"{words} does not fall by more than {tolerance:g} of it"
        return Rounds(n_done, True, n_done, reason)
    if n_done >= max_rounds:
        return Rounds(n_done, True, n_done, f"{words}, max_rounds are done")
    return Rounds(n_done + 1, False, n_done, f"{words} may still fall")
