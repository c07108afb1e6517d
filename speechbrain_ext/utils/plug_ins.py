"""Classes that installed packages offer by entry points.

A package that its user installed is code that its user trusts: pip ran it
already, or could have. What it names in an entry point may therefore be built
where data name it; no other class of it may, nor of any other package.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

from speechbrain_ext.utils.errors import InputError

EMBEDDERS = "speechbrain_ext.embedders"  # group of modules of embedders


def plug_ins(group: str = EMBEDDERS) -> dict[str, EntryPoint]:
    """Find the classes that installed packages offer; none is imported.

    Arguments
    ---------
    group : str
        Group of entry points, whose values are ``package.module:Class``.

    Returns
    -------
    dict of str to importlib.metadata.EntryPoint
        By the class's dotted name, ``package.module.Class``.

    Example
    -------
    >>> plug_ins("speechbrain_ext.of_nobody")
    {}
    """
    found = entry_points(group=group)
    return {point.value.replace(":", ".", 1): point for point in found}


def load_plug_in(point: EntryPoint, kind: type) -> Any:
    """Import the class of an entry point.

    Arguments
    ---------
    point : importlib.metadata.EntryPoint
        From `plug_ins`.
    kind : type
        What it must be a subclass of.

    Raises
    ------
    InputError
        It cannot be imported, or is something else.

    Example
    -------
    >>> point = EntryPoint("mine", "builtins:len", EMBEDDERS)
    >>> load_plug_in(point, dict)
    Traceback (most recent call last):
    speechbrain_ext.utils.errors.InputError: the entry point mine is ...
    """
    try:
        found = point.load()
    # Any error of a module that is imported.
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        raise _broken(point, f"{type(error).__name__}: {reason}") from error
    if not (isinstance(found, type) and issubclass(found, kind)):
        raise _broken(point, f"it is no {kind.__module__}.{kind.__qualname__}")
    return found


def _broken(point: EntryPoint, reason: str) -> InputError:
    owner = "" if point.dist is None else f" of {point.dist.name}"
    return InputError(
        f"the entry point {point.name}{owner} is {point.value!r}, which cannot "
        f"be used ({reason}); it must name a class as package.module:Class; "
        "correct that package and install it again"
    )
