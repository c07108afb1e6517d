"""Values that a key must refuse, derived from its declaration alone."""

import inspect
import json
import pydoc
import types
import typing
from pathlib import Path
from typing import Any, Literal

from speechbrain_ext.utils.settings import REQUIRED, Setting, Wired
from speechbrain_ext.utils.yaml_trees import (
    parse_yaml,
    plain,
    read_yaml,
    tag_of,
)

# What each kind accepts, as a user types it.
_WORDS = {"x", "true", "5", "0.5", "[1, x]", "{a: x}", "null"}
_TAKES = {
    str: {"x"},
    bool: {"true"},
    int: {"5"},
    float: {"5", "0.5"},
    list: {"[1, x]"},
    dict: {"{a: x}"},
    type(None): {"null"},
    Any: _WORDS,
    # Its arguments are a test of their own.
    Wired: {"{a: x}"},
}


def parts_of(kind: Any) -> list[Any]:
    """The kinds of a union, or the one kind."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return [part for k in typing.get_args(kind) for part in parts_of(k)]
    return [kind]


def good_value(fact: Setting) -> Any:
    """A value to type where one must be given."""
    kind = parts_of(fact.kind)[0]
    if typing.get_origin(kind) is Literal:
        return str(typing.get_args(kind)[0])
    if kind in (int, float):
        return str(kind((fact.low or fact.above or 0) + 1))
    if typing.get_origin(kind) is list:
        return ["somewhere", "elsewhere"]
    return "somewhere"


def wrong_types(fact: Setting) -> list[str]:
    """Values of types that a key does not take."""
    taken: set[str] = set()
    # Words are never truth.
    words = _WORDS | ({"no", "yes"} if fact.kind is bool else set())
    for kind in parts_of(fact.kind):
        origin, inner = typing.get_origin(kind), typing.get_args(kind)
        if origin is Literal:
            taken |= {str(value) for value in inner}
        elif origin is list:
            taken |= {"[1, x]"} if inner[0] in (str, Any) else set()
        elif origin is dict:
            taken |= {"{a: x}"} if inner[1] in (str, Any) else set()
        else:
            taken |= _TAKES[kind]
    return sorted(words - taken)


def out_of_range(fact: Setting) -> list[str]:
    """Numbers just outside of a key's range, in the form that it takes."""
    step = 0.5 if _number(fact) is float else 1
    numbers = [".nan", ".inf"] if step == 0.5 else [".nan"]
    numbers += [] if fact.low is None else [fact.low - step]
    numbers += [] if fact.high is None else [fact.high + step]
    numbers += [
        value for value in (fact.above, fact.below) if value is not None
    ]
    forms = set()
    for kind in parts_of(fact.kind):
        origin, inner = typing.get_origin(kind), typing.get_args(kind)
        if kind in (int, float):
            forms.add("{}")
        elif origin is list and inner[0] in (int, float):
            forms.add("[{}]")
        elif origin is dict and inner[1] in (int, float):
            forms.add("{{a: {}}}")
    return [form.format(n) for form in sorted(forms) for n in numbers]


def _number(fact: Setting) -> type:
    """Float if the key, or what its list holds, may be a fraction."""
    kinds = parts_of(fact.kind)
    kinds += [typing.get_args(k)[-1] for k in kinds if typing.get_args(k)]
    return float if float in kinds else int


def wrong_arguments(fact: Setting) -> list[str]:
    """Arguments that a key's default object does not take."""
    if not isinstance(fact.default, Wired):
        return []
    ranges = getattr(fact, "arguments", {})
    bad = [
        f"{{{name}: {value}}}"
        for name, inner in ranges.items()
        for value in out_of_range(inner)
    ]
    node = parse_yaml(f"key: {fact.default}")["key"]
    target = pydoc.locate(tag_of(node).partition(":")[2])
    assert target is not None, fact.default
    parameters = inspect.signature(target).parameters
    if all(p.kind is not p.VAR_KEYWORD for p in parameters.values()):
        bad.append("{no_such_argument: 1}")
    function = target.__init__ if inspect.isclass(target) else target
    hints = typing.get_type_hints(function)
    given = plain(node) if isinstance(plain(node), dict) else {}
    for name in parameters:
        if hints.get(name) in (int, float) and not isinstance(
            given.get(name), str
        ):
            bad += [f"{{{name}: {value}}}" for value in ("x", "[1]", "true")]
    return bad


def required(keys: dict[str, Setting]) -> dict[str, Any]:
    """A value for each key that must be given."""
    return {
        key: good_value(fact)
        for key, fact in keys.items()
        if fact.default is REQUIRED
    }


def asked_for(leaf: Path) -> dict[str, str]:
    """A value for each key that a YAML asks for by ``!PLACEHOLDER``."""
    tree = read_yaml(leaf)
    return {k: "somewhere" for k in tree if tag_of(tree[k]) == "!PLACEHOLDER"}


def option(key: str, value: Any) -> str:
    """``--key=value``, maps and lists as YAML."""
    shown = value if isinstance(value, str) else json.dumps(value)
    return f"--{key}={shown}"
