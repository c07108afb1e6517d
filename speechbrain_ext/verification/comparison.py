"""Record of a paired comparison of two systems on one trial list."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from speechbrain_ext.utils.files import PathLike, write_json
from speechbrain_ext.verification.bootstrap import (
    Difference,
    Units,
    difference,
    interval_in_words,
    replicates,
)
from speechbrain_ext.verification.metrics import (
    equal_error_rate,
    min_dcf,
    normalised_dcf,
)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Differences of error rates between two systems on one trial list.

    Arguments
    ---------
    first, second : str
        The systems.
    trials : str
        Name of the list that both scored.
    trials_sha256 : str
        Of the list as read.
    n_target, n_nontarget : int
        Trials of each class.
    eer_percent, min_dcf : tuple of float
        Of the first and the second; minDCF is normalised.
    p_target : float
        Prior of minDCF.
    eer_difference, min_dcf_difference : Difference
        Second minus first: value, ends of the 95 % interval, p-value.
    interval : str
        What the intervals are.
    seed : int
        Seed of the bootstrap.

    Example
    -------
    >>> from speechbrain_ext.verification.bootstrap import single_trials
    >>> labels = [0, 1] * 20
    >>> found = Comparison.of_scores(
    ...     [0.5, 0.4] * 20, [0.1, 0.8] * 20, labels, single_trials(40),
    ...     n_bootstrap=50, first="a", second="b", trials="dev",
    ...     trials_sha256="0",
    ... )
    >>> found.eer_difference.value, found.eer_difference.p_value < 0.05
    (-100.0, True)
    """

    first: str
    second: str
    trials: str
    trials_sha256: str
    n_target: int
    n_nontarget: int
    eer_percent: tuple[float, float]
    min_dcf: tuple[float, float]
    p_target: float
    eer_difference: Difference
    min_dcf_difference: Difference
    interval: str
    seed: int = 0

    @classmethod
    def of_scores(
        cls,
        first_scores: ArrayLike,
        second_scores: ArrayLike,
        labels: ArrayLike,
        units: Units,
        p_target: float = 0.01,
        n_bootstrap: int = 1000,
        seed: int = 0,
        **facts: Any,
    ) -> Comparison:
        """Compare two systems' scores [N] of one list in the same drawings."""
        both = (first_scores, second_scores)
        drawn = [
            replicates(scores, labels, units, (p_target,), n_bootstrap, seed)
            for scores in both
        ]
        eers = [100 * equal_error_rate(scores, labels)[0] for scores in both]
        costs = [
            normalised_dcf(min_dcf(scores, labels, p_target)[0], p_target)
            for scores in both
        ]
        normal = normalised_dcf(1, p_target)
        n_target = int(np.count_nonzero(labels))
        return cls(
            n_target=n_target,
            n_nontarget=len(np.asarray(labels)) - n_target,
            eer_percent=(eers[0], eers[1]),
            min_dcf=(costs[0], costs[1]),
            p_target=p_target,
            eer_difference=difference(
                100 * drawn[0].eer,
                100 * drawn[1].eer,
                (eers[0], eers[1]),
                units.count,
            ),
            min_dcf_difference=difference(
                normal * drawn[0].costs[0],
                normal * drawn[1].costs[0],
                (costs[0], costs[1]),
                units.count,
            ),
            interval=interval_in_words(units, n_bootstrap, labels),
            seed=seed,
            **facts,
        )

    def write(self, path: PathLike) -> None:
        """Write the comparison as JSON, atomically."""
        write_json(path, {"kind": "comparison", **dataclasses.asdict(self)})

    def in_words(self) -> str:
        """Describe the difference of EERs in one sentence."""
        change = self.eer_difference
        verdict = "no difference is shown"
        if change.p_value < 0.05:
            verdict = f"{self.second} is "
            verdict += "better" if change.value < 0 else "worse"
        return (
            f"{self.second} against {self.first} on {self.trials}: EER "
            f"{change.value:+.2f} [{change.low:+.2f}, {change.high:+.2f}] "
            f"points, p = {change.p_value:.3f}: {verdict}"
        )

    def ratio_in_words(self) -> str:
        """Describe the ratio of the second EER to the first in one line."""
        first, second = self.eer_percent
        return (
            f"{self.trials}: EER of {self.second} over that of {self.first}: "
            f"{second:.2f} / {first:.2f} = {_ratio(first, second)}"
        )


def comparison_rows(comparisons: Sequence[Comparison]) -> list[dict[str, str]]:
    """Return rows of text, one for each comparison.

    Example
    -------
    >>> comparison_rows([])
    []
    """
    return [
        {
            "second": found.second,
            "first": found.first,
            "trials": found.trials,
            "EER ratio": _ratio(*found.eer_percent),
            "EER difference": _in_points(found.eer_difference, ".2f"),
            "p (EER)": f"{found.eer_difference.p_value:.3f}",
            "minDCF difference": _in_points(found.min_dcf_difference, ".4f"),
            "p (minDCF)": f"{found.min_dcf_difference.p_value:.3f}",
        }
        for found in comparisons
    ]


def _ratio(first: float, second: float) -> str:
    return f"{second / first:.3f}" if first > 0 else "–"


def _in_points(change: Difference, form: str) -> str:
    low, high = format(change.low, "+" + form), format(change.high, "+" + form)
    return f"{format(change.value, '+' + form)} [{low}, {high}]"
