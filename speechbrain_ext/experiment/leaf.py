"""Conversion of a recipe's YAML and command line to checked settings.

What a leaf leaves out takes the default of the recipe's settings class. All is
checked here: names, types, ranges, and the arguments of the objects that the
YAML names.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pydoc
import re
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml.comments import CommentedMap
from speechbrain.utils.run_opts import RunOptions

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike
from speechbrain_ext.utils.settings import (
    REQUIRED,
    Setting,
    Settings,
    Wired,
    missing_key,
    unknown_key,
)
from speechbrain_ext.utils.yaml_trees import (
    build_objects,
    check_changes,
    find_yaml,
    merged,
    parse_options,
    parse_yaml,
    plain,
    read_yaml,
    resolved,
    tag_of,
)

# Keys that name another YAML, relative to the YAML that has them.
# The switch trust_yaml names none.
_YAMLS = re.compile(r"(^|(?<!trust)_)(yaml|hparams)$")
_PLACEHOLDER = "!PLACEHOLDER"
_EXAMPLE = "!name:package.Class"


@dataclasses.dataclass(frozen=True)
class Leaf:
    """YAML of a recipe, read, completed with defaults and checked.

    Arguments
    ---------
    path : Path
        The file.
    text : str
        With its base, defaults and overrides, references resolved.
    settings : Settings
        Its typed values.
    record : dict
        The values that decide the result, objects with their classes.
    options : dict
        SpeechBrain run options that the YAML states.
    """

    path: Path
    text: str
    settings: Any
    record: dict[str, Any]
    options: dict[str, Any]

    def objects(self) -> dict[str, Any]:
        """Build the objects that the YAML names by ``!new:`` and ``!name:``."""
        return build_objects(self.text, self.path)


def read_leaf(
    kind: type[Settings],
    path: PathLike,
    overrides: Any = None,
    preset: Mapping[str, Any] | None = None,
) -> Leaf:
    """Read a recipe's YAML with overrides; raise InputError if it is wrong.

    Arguments
    ---------
    kind : type
        The recipe's settings class.
    path : str or os.PathLike
        The YAML file: as given, or in the package's ``hparams``.
    overrides : str or mapping, optional
        Values of its keys to change; text as the command line gives it.
    preset : mapping, optional
        Values that win over both, such as those of ``--debug``.

    Returns
    -------
    Leaf

    Raises
    ------
    InputError
        One line with the key, its value, the rule and a way out.
    """
    path = find_yaml(path)
    tree = _with_yamls_found(read_yaml(path), path)
    if isinstance(overrides, str):
        overrides = parse_options(overrides)
    overrides = _with_yamls_found(overrides or {})
    known = kind.keys()
    options = RunOptions().as_dict()
    _check_names(kind, tree, overrides, options)
    tree = merged(tree, _with_objects(overrides, known))
    tree = merged(tree, preset or {})
    for key in known:
        if tag_of(tree.get(key)) == _PLACEHOLDER:
            raise missing_key(kind.recipe, known[key])
    tree = _completed(kind, tree)
    text = resolved(tree, path)
    final = parse_yaml(text)
    for key in known:
        if isinstance(final.get(key), Mapping) or tag_of(final.get(key)):
            default = kind.default_of(key, final)
            _check_object(known[key], final[key], default)
    values = {
        key: plain(final[key], tags=_is_object(known[key]))
        for key in known
        if key in final
    }
    settings = kind.from_values(values)
    _check_changed_yamls(settings)
    record = settings.record()
    stated = {key: plain(final[key]) for key in final if key in options}
    _check_options(stated, options)
    return Leaf(path, text, settings, record, stated)


def _check_changed_yamls(settings: Settings) -> None:
    """Check each map of changes against the YAML that it changes."""
    for key in settings.keys():
        path = getattr(settings, f"{key}_yaml", None)
        if path is not None:
            check_changes(key, path, getattr(settings, key))


def _with_objects(overrides: Any, known: Mapping[str, Setting]) -> Any:
    """Parse overrides such as ``"!name:a.B"`` as the objects they name."""
    found = CommentedMap(overrides)
    for key, value in found.items():
        tagged = isinstance(value, str) and value.startswith("!")
        if key in known and _is_object(known[key]) and tagged:
            found[key] = parse_options(f"{key}: {value}")[key]
    return found


def _is_object(fact: Setting) -> bool:
    return fact.kind is Wired or Wired in typing.get_args(fact.kind)


def _with_yamls_found(tree: Any, path: Path | None = None) -> Any:
    """Return a tree in which the names of other YAMLs are absolute paths.

    They are looked for beside ``path``, the YAML that names them, or as on the
    command line.
    """
    tree = copy.deepcopy(tree)
    for key, value in tree.items():
        if isinstance(value, dict):
            tree[key] = _with_yamls_found(value, path)
        elif (
            _YAMLS.search(str(key))
            and isinstance(value, str)
            and not tag_of(value)
        ):
            tree[key] = str(find_yaml(value, path))
    return tree


def _check_names(
    kind: type[Settings], tree: Any, overrides: Any, options: Mapping
) -> None:
    """Raise InputError for unknown keys that no ``!ref`` uses either."""
    known = kind.keys()
    text = str(plain(tree, tags=True))
    referred = set(re.findall(r"<([A-Za-z_]\w*)[\w.\[\]]*>", text))
    for key, value in tree.items():
        if key not in known and key not in options and key not in referred:
            raise unknown_key(kind.recipe, key, plain(value), known)
    for key, value in overrides.items():
        if key not in known and key not in options and key not in tree:
            raise unknown_key(kind.recipe, key, plain(value), known)


def _completed(kind: type[Settings], tree: CommentedMap) -> CommentedMap:
    """Return a tree with the default of each key that is not given."""
    known, defaults = kind.keys(), CommentedMap()
    for key in known:
        default = kind.default_of(key, tree)
        if isinstance(default, Wired):
            defaults |= parse_yaml(f"{key}: {default}")
        elif default is not REQUIRED:
            defaults[key] = default
    # A map of values, such as `lr_parts`, is replaced as a whole.
    values = {k for k, fact in known.items() if not _is_object(fact)}
    new = merged(defaults, {k: v for k, v in tree.items() if k not in values})
    new.update({k: v for k, v in tree.items() if k in values})
    return new


def _check_object(fact: Setting, node: Any, default: Any) -> None:
    """Raise InputError if an object or its arguments do not exist."""
    if not _is_object(fact):
        return
    tag = tag_of(node)
    if tag is None or not tag.startswith(("!name:", "!new:", "!apply:")):
        raise InputError(
            f"{fact.name} is {plain(node)}; it must be {fact.rule}; for "
            f"example --{fact.name}='{default or _EXAMPLE}'"
        )
    target = pydoc.locate(tag.partition(":")[2])
    if target is None:
        raise InputError(
            f"{fact.name} is {tag}; it must name a class or function that "
            "can be imported; correct the name, or install its package"
        )
    arguments = plain(node)
    if isinstance(arguments, dict):
        check_arguments(fact.name, target, arguments)
        if tag == str(default).split()[0]:
            _check_ranges(fact, arguments)


def _check_ranges(fact: Setting, arguments: Mapping[str, Any]) -> None:
    """Raise InputError for arguments of the default class out of range."""
    for key, value in arguments.items():
        if key in fact.arguments:
            name = f"{fact.name}.{key}"
            dataclasses.replace(fact.arguments[key], name=name).check(value)


def check_arguments(
    name: str, target: Any, arguments: Mapping[str, Any]
) -> None:
    """Raise InputError for arguments that a class or function lacks.

    Arguments
    ---------
    name : str
        What the object is called in an error.
    target : callable
        The class or function.
    arguments : mapping
        Plain values by argument.

    Raises
    ------
    InputError
        An argument is unknown, or of another type than annotated.

    Example
    -------
    >>> def noise(level: float): ...
    >>> check_arguments("noise", noise, {"level": "loud"})
    Traceback (most recent call last):
    speechbrain_ext.utils.errors.InputError: noise.level is 'loud'; it must ...
    """
    try:
        parameters: dict[str, Any] = {**inspect.signature(target).parameters}
        function = target.__init__ if inspect.isclass(target) else target
        hints = typing.get_type_hints(function)
    except (TypeError, ValueError, NameError):
        return
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        parameters = {**parameters, **dict.fromkeys(arguments)}
    for key, value in arguments.items():
        if key == "!":
            continue
        if key not in parameters:
            error = unknown_key(name, key, value, parameters)
            raise InputError(f"{name}.{error}".replace("--", f"{name}."))
        if _is_simple(hints.get(key)) and not _is_built(value):
            Setting(f"{name}.{key}", hints[key], None, "").check(value)


def _is_simple(kind: Any) -> bool:
    """Return whether `Setting` can check values of a type."""
    origin = typing.get_origin(kind)
    if origin is typing.Literal:
        return True
    if origin in (list, dict, typing.Union, types.UnionType):
        return all(_is_simple(part) for part in typing.get_args(kind))
    return kind in (bool, int, float, str, type(None), list, dict)


def _is_built(value: Any) -> bool:
    """Return whether a value is itself an object of the YAML."""
    return isinstance(value, dict) and "!" in value


def _check_options(stated: dict[str, Any], defaults: Mapping) -> None:
    """Raise InputError for SpeechBrain run options of a wrong type."""
    for key, value in stated.items():
        kind = type(defaults[key])
        if kind in (bool, int, float, str):
            Setting(key, kind, defaults[key], "").check(value)
