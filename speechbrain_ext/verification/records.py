"""Estimates with intervals, and checks and restoring of records."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from typing import Any

from speechbrain_ext.utils.errors import InputError


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Number with the ends of its confidence interval.

    Arguments
    ---------
    value : float
        The number.
    low, high : float
        Ends of the interval, which holds the value.

    Raises
    ------
    InputError
        One of them is not finite, or the interval misses the value.

    Example
    -------
    >>> eer = Estimate(15.6, 12.9, 19.1)
    >>> f"{eer:.2f}"
    '15.60 [12.90, 19.10]'
    >>> Estimate(15.6, 16.0, 19.1)
    Traceback (most recent call last):
    speechbrain_ext.utils.errors.InputError: value is 15.6; it must lie ...
    """

    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        for name in ("value", "low", "high"):
            check_number(name, getattr(self, name))
        if not self.low <= self.value <= self.high:
            raise InputError(
                f"value is {self.value}; it must lie within its interval "
                f"[{self.low}, {self.high}]; correct one of them"
            )

    @classmethod
    def around(cls, value: float, ends: tuple[float, float]) -> Estimate:
        """Make an estimate, with its interval widened to contain the value.

        All drawings of a short list may lie on one side of its own value.

        Example
        -------
        >>> Estimate.around(15.6, (16.0, 19.1))
        Estimate(value=15.6, low=15.6, high=19.1)
        """
        return cls(value, min(ends[0], value), max(ends[1], value))

    def __format__(self, form: str) -> str:
        parts = (format(v, form) for v in (self.value, self.low, self.high))
        return "{} [{}, {}]".format(*parts)


def check_number(
    name: str, value: Any, low: float = -math.inf, high: float = math.inf
) -> None:
    """Raise InputError unless a value is a number from ``low`` to ``high``.

    Example
    -------
    >>> check_number("cllr", -0.1, low=0)
    Traceback (most recent call last):
    speechbrain_ext.utils.errors.InputError: cllr is -0.1; it must be a ...
    """
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    # The comparison is false for NaN.
    if not is_number or not low <= value <= high or math.isinf(value):
        ends = [f"of {low:g} or more"] if low > -math.inf else []
        ends += [f"of {high:g} or less"] if high < math.inf else []
        rule = f"a finite number {' and '.join(ends)}".strip()
        raise InputError(f"{name} is {value}; it must be {rule}; correct it")


def check_count(name: str, value: Any) -> None:
    """Raise InputError unless a value is a whole number of 0 or more.

    Example
    -------
    >>> check_count("n_target", 3000)
    """
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < 0:
        raise InputError(
            f"{name} is {value}; it must be a whole number of 0 or more; "
            "correct it"
        )


def from_plain(kind: Any, value: Any) -> Any:
    """Restore a record from plain JSON values.

    Arguments
    ---------
    kind : type
        A dataclass; its fields may be dataclasses, tuples of them, or either
        of these or None.
    value : Any
        Plain values, as `dataclasses.asdict` gives them.

    Returns
    -------
    Any
        Of ``kind``, checked by its own rules.

    Raises
    ------
    TypeError
        A field is missing or unknown.
    InputError
        A value cannot be.

    Example
    -------
    >>> from_plain(Estimate, {"value": 2.0, "low": 1.0, "high": 3.0})
    Estimate(value=2.0, low=1.0, high=3.0)
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        (kind,) = [part for part in arguments if part is not type(None)]
        return from_plain(kind, value)
    if origin is tuple:
        return tuple(from_plain(arguments[0], part) for part in value)
    if not dataclasses.is_dataclass(kind):
        return value
    hints = typing.get_type_hints(kind)
    if not isinstance(value, dict) or not value.keys() <= hints.keys():
        raise TypeError(f"{value!r} is no {getattr(kind, '__name__', kind)}")
    fields = {key: from_plain(hints[key], v) for key, v in value.items()}
    return typing.cast(Any, kind)(**fields)
