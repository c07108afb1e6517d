"""Decision of a published model: score threshold and calibration."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from scipy.special import expit

from speechbrain_ext.utils.errors import InputError


class Decision(NamedTuple):
    """Rule that maps a cosine to a probability and a decision.

    ``weight`` and ``offset`` make it a log-likelihood ratio, learnt on what
    ``learnt_on`` says; ``prior`` is that of a target, from 0 to 1.
    """

    weight: float
    offset: float
    prior: float
    learnt_on: str

    @property
    def threshold(self) -> float:
        """Cosine above which "same speaker" is the likelier answer."""
        return (-logit(self.prior) - self.offset) / self.weight

    def probability(self, score: Any) -> Any:
        """Return the probability of one speaker, given a cosine or several."""
        return expit(self.weight * score + self.offset + logit(self.prior))


def logit(probability: float) -> float:
    """Compute the log odds of a probability.

    Example
    -------
    >>> logit(0.5)
    0.0
    """
    return math.log(probability / (1 - probability))


def checked_decision(*values: Any) -> Decision:
    """Make a `Decision` and check each value.

    Arguments
    ---------
    *values : Any
        Its fields, from anybody.

    Returns
    -------
    Decision

    Raises
    ------
    InputError
        A value is no number, the prior is no probability, or a higher score
        would mean less alike.

    Example
    -------
    >>> checked_decision(10.0, -3.0, 0.5, "pairs").threshold
    0.3
    """
    weight, offset, prior, learnt_on = values
    for name, value in zip(("weight", "offset", "prior"), values, strict=False):
        if not _is_number(value):
            raise InputError(f"{name} is {value!r}; it must be a number")
    if not 0 < prior < 1:
        raise InputError(
            f"prior is {prior}; it must be a probability above 0 and below 1; "
            "give that of a target"
        )
    if weight <= 0:
        raise InputError(
            f"calibration gives the score the weight {weight:.3g}; it must be "
            "above 0, or a higher score would mean less alike; the model does "
            "not separate these speakers: train it further, or calibrate on "
            "trials with --calibration_trials of score_trials"
        )
    return Decision(float(weight), float(offset), float(prior), str(learnt_on))


def _is_number(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    try:
        return number and math.isfinite(value)
    # A whole number too large for a float.
    except OverflowError:
        return False
