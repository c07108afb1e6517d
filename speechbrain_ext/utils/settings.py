"""Typed settings: one class for each recipe defines all its keys.

A settings class is a dataclass whose fields are made by `setting`: type,
default, range, documentation, whether a value is the path of an input, and
whether it decides the result. Checking, defaults, help, stage records and the
table of keys in the documentation are all read from it.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike

REQUIRED: Any = dataclasses.MISSING


class Wired(str):
    """Object that a YAML builds: ``!name:`` or ``!new:`` and its arguments.

    As a default it is the YAML text, for instance
    ``"!name:torch.optim.AdamW {weight_decay: 0.01}"``.
    """


@dataclasses.dataclass(frozen=True)
class Setting:
    """Name, type, default, range and description of one key.

    Arguments
    ---------
    name : str
        The key.
    kind : Any
        Its type, as annotated.
    default : Any
        What a leaf leaves out is; `REQUIRED` when it must be given.
    doc : str
        What it is, with its unit.
    low, high : float, optional
        Smallest and largest value.
    above, below : float, optional
        Values that are just too small, or too large.
    path : bool
        Whether the value names files that are read. Records have the bytes of
        such files instead, so that a data set may move.
    decides : bool
        Whether another value gives another result.
    group : str
        Heading in the help.
    arguments : mapping of str to Setting
        Of an object of the YAML: what is known of its class's arguments, where
        the class is the default's; see `argument`.
    """

    name: str
    kind: Any
    default: Any
    doc: str
    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None
    path: bool = False
    decides: bool = True
    group: str = ""
    arguments: Mapping[str, Setting] = dataclasses.field(default_factory=dict)

    @property
    def rule(self) -> str:
        """Rule that a value must fulfil, in words."""
        return " or ".join(self._rules(self.kind))

    @property
    def in_record(self) -> bool:
        """Whether a stage record compares the value."""
        return self.decides and not self.path

    def _rules(self, kind: Any) -> list[str]:
        if isinstance(kind, types.UnionType) or _origin(kind) is typing.Union:
            parts = [self._rules(k) for k in typing.get_args(kind)]
            return [rule for part in parts for rule in part]
        if kind is type(None):
            return ["null"]
        if _origin(kind) is Literal:
            return [str(value) for value in typing.get_args(kind)]
        if kind in (int, float):
            what = "a whole number" if kind is int else "a number"
            return [f"{what}{self._range()}"]
        if _origin(kind) in (list, dict):
            inner = " or ".join(self._rules(typing.get_args(kind)[-1]))
            many = "a list [...]" if _origin(kind) is list else "a map {...}"
            return [f"{many}, each value {inner}"]
        return [_WORDS[kind]]

    def _range(self) -> str:
        if self.low is not None and self.high is not None:
            return f" from {_number(self.low)} to {_number(self.high)}"
        words = {
            " of {} or more": self.low,
            " of {} or less": self.high,
            " above {}": self.above,
            " below {}": self.below,
        }
        found = [
            text.format(_number(bound))
            for text, bound in words.items()
            if bound is not None
        ]
        return " and".join(found)

    def check(self, value: Any) -> Any:
        """Return the value converted to its type; raise InputError if unfit.

        Raises
        ------
        InputError
            It is of another type or out of range: one line with the key, the
            value, the rule and a way out.
        """
        try:
            return self._as(self.kind, value)
        except _Unfit:
            if _origin(self.kind) is dict and isinstance(value, dict):
                for key, inside in value.items():
                    self._inside(key).check(inside)
            raise InputError(
                f"{self.name} is {_brief(value)}; it must be {self.rule}; "
                f"{self.way_out}"
            ) from None

    def _inside(self, key: Any) -> Setting:
        """Setting of the values of a map."""
        kind = typing.get_args(self.kind)[1]
        return dataclasses.replace(
            self, name=f"{self.name}.{key}", kind=kind, default=REQUIRED
        )

    @property
    def way_out(self) -> str:
        """Advice on what to type instead."""
        key, *inner = self.name.split(".")
        if self.default in (REQUIRED, None) or isinstance(self.default, Wired):
            return f"correct --{key}"
        example = shown(self.default)
        for part in reversed(inner):
            example = f"{{{part}: {example}}}"
        example = f'"{example}"' if inner else example
        return f"correct --{key}, for example --{key}={example}"

    def _as(self, kind: Any, value: Any) -> Any:
        if isinstance(kind, types.UnionType) or _origin(kind) is typing.Union:
            return self._as_one_of(typing.get_args(kind), value)
        if _origin(kind) is Literal:
            # `1 == True`: the type must fit as well.
            for choice in typing.get_args(kind):
                if type(choice) is type(value) and choice == value:
                    return value
            raise _Unfit
        if _origin(kind) is list:
            (inner,) = typing.get_args(kind)
            return [self._as(inner, v) for v in _of_type(value, list)]
        if _origin(kind) is dict:
            inner = typing.get_args(kind)[1]
            items = _of_type(value, dict).items()
            return {str(k): self._as(inner, v) for k, v in items}
        if kind is float or kind is int:
            return self._as_number(kind, value)
        if kind is Any:
            return value
        return _of_type(value, kind)

    def _as_one_of(self, kinds: tuple, value: Any) -> Any:
        for kind in kinds:
            try:
                return self._as(kind, value)
            except _Unfit:
                continue
        raise _Unfit

    def _as_number(self, kind: type, value: Any) -> int | float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise _Unfit
        if kind is int and value != int(value if math.isfinite(value) else 0):
            raise _Unfit
        if kind is int and not isinstance(value, int):
            raise _Unfit
        inside = (
            math.isfinite(value)
            and (self.low is None or value >= self.low)
            and (self.high is None or value <= self.high)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )
        if not inside:
            raise _Unfit
        return kind(value)


class _Unfit(Exception):
    """Error for a value of a wrong type or out of range."""


_WORDS: dict[Any, str] = {
    bool: "true or false",
    str: "text",
    dict: "a map {...}",
    list: "a list [...]",
    Wired: "an object of the YAML (!name: or !new:) or a map of its arguments",
    Any: "anything",
}


def _origin(kind: Any) -> Any:
    return typing.get_origin(kind)


def _of_type(value: Any, kind: type) -> Any:
    if kind is Wired:
        kind = dict
    if not isinstance(value, kind):
        raise _Unfit
    return value


def shown(value: Any) -> str:
    """Return a value as one would type it in YAML."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value) if isinstance(value, (str, list, dict)) else str(value)


def _brief(value: Any) -> str:
    """A value as typed, cut where a message would no longer be a line."""
    text = shown(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _number(value: float) -> str:
    """Format a bound with no needless digits."""
    return str(int(value)) if value == int(value) else str(value)


def setting(
    default: Any = REQUIRED,
    doc: str = "",
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
    path: bool = False,
    decides: bool = True,
    group: str = "",
    arguments: Mapping[str, Setting] | None = None,
) -> Any:
    """Define a key of a settings class; for the arguments see `Setting`."""
    facts = {
        "doc": doc,
        "low": low,
        "high": high,
        "above": above,
        "below": below,
        "path": path,
        "decides": decides,
        "group": group,
        "arguments": arguments or {},
    }
    if isinstance(default, (list, dict)):
        copied = functools.partial(type(default), default)
        return dataclasses.field(
            default_factory=copied, metadata={**facts, "default": default}
        )
    return dataclasses.field(
        default=default, metadata={**facts, "default": default}
    )


def argument(
    kind: Any,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> Setting:
    """Define type and range of an argument of an object of the YAML.

    Example
    -------
    >>> fact = argument(float, low=0, high=1)
    >>> fact.rule
    'a number from 0 to 1'
    """
    return Setting("", kind, None, "", low, high, above, below)


@dataclasses.dataclass(kw_only=True)
class Settings:
    """Base of all settings classes, with the keys that every recipe has.

    Example
    -------
    >>> @dataclasses.dataclass(kw_only=True)
    ... class Count(Settings):
    ...     '''Count words.'''
    ...     recipe = "count"
    ...     n_words: int = setting(3, "how many", low=1)
    >>> Count.from_values({"output_folder": "exp", "n_words": 5}).n_words
    5
    >>> Count.from_values({"output_folder": "exp", "n_words": 0})
    Traceback (most recent call last):
    speechbrain_ext.utils.errors.InputError: n_words is 0; it must be a ...
    """

    recipe: ClassVar[str] = ""
    # SpeechBrain's run options that the recipe rejects, with the reason.
    refused_options: ClassVar[Mapping[str, str]] = {}
    # Those that decide what the recipe writes.
    deciding_options: ClassVar[Sequence[str]] = ()
    # What the same command does after a failure.
    again: ClassVar[str] = "does this stage again"

    seed: int = setting(1986, "seed of all random draws", low=0, high=2**32 - 1)
    output_folder: str = setting(
        doc="folder that the recipe writes to", decides=False
    )
    overwrite: bool = setting(
        False,
        "true moves an existing output_folder aside and starts anew",
        decides=False,
    )

    def check_together(self) -> None:
        """Raise InputError for values that contradict each other."""

    def inputs(self) -> Mapping[str, PathLike]:
        """Return the files that decide the result, by name."""
        return {}

    @classmethod
    def keys(cls) -> dict[str, Setting]:
        """Return the `Setting` of each key, in the order of the class."""
        # A class is hashable, though its instances are not.
        return _keys(cls)  # type: ignore[arg-type]

    @classmethod
    def default_of(cls, key: str, given: Mapping[str, Any]) -> Any:
        """Return the default of a key, `REQUIRED` if it has none.

        A class may let it depend on the values that are given.
        """
        del given
        return cls.keys()[key].default

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Any:
        """Make settings from the values of a resolved YAML, each checked.

        Arguments
        ---------
        values : mapping
            By key; what is left out takes its default.

        Returns
        -------
        Settings
            Of this class.

        Raises
        ------
        InputError
            A key is unknown or missing, a value is of another type or out of
            range, or values do not go together.
        """
        known = cls.keys()
        for key, value in values.items():
            if key not in known:
                raise unknown_key(cls.recipe, key, value, known)
        for key, fact in known.items():
            if fact.default is REQUIRED and key not in values:
                raise missing_key(cls.recipe, fact)
        checked = {key: known[key].check(v) for key, v in values.items()}
        made = cls(**checked)
        made.check_together()
        return made

    def record(self) -> dict[str, Any]:
        """Return the values that decide the result, without paths of inputs."""
        return {
            key: getattr(self, key)
            for key, fact in self.keys().items()
            if fact.in_record
        }


@functools.cache
def _keys(cls: type) -> dict[str, Setting]:
    hints = typing.get_type_hints(cls)
    return {
        field.name: Setting(field.name, hints[field.name], **field.metadata)
        for field in dataclasses.fields(cls)
    }


def unknown_key(
    owner: str, key: str, value: Any, known: Mapping[str, Any] | Iterator[str]
) -> InputError:
    """Return the error for an unknown key, with the most similar known key.

    Example
    -------
    >>> print(unknown_key("train_dino", "lrr", 2, {"lr": 0}))
    lrr is 2; train_dino has no such key; did you mean --lr?
    """
    names = list(known)
    near = difflib.get_close_matches(key, names, 1)
    way = f"did you mean --{near[0]}?" if near else f"it has {sorted(names)}"
    return InputError(
        f"{key} is {_brief(value)}; {owner} has no such key; {way}"
    )


def missing_key(owner: str, fact: Setting) -> InputError:
    """Return the error for a missing key that has no default."""
    return InputError(
        f"{fact.name} is not given; {owner} needs it ({fact.doc}); give "
        f"--{fact.name}=..."
    )
