"""YAML files as trees: read with their bases, changed, resolved, built.

HyperPyYAML accepts unknown nested overrides in silence; here each is an
`InputError` that names the key and its nearest neighbour.
"""

from __future__ import annotations

import copy
import difflib
import io
import itertools
from pathlib import Path
from typing import Any

from hyperpyyaml import load_hyperpyyaml, resolve_references
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.scalarfloat import ScalarFloat

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike
from speechbrain_ext.utils.settings import Setting, shown
from speechbrain_ext.utils.shipped import HPARAMS

BASE = "base"  # key of a YAML that changes another one
# Lists and maps in each other; the time of the parser grows with the square.
_DEEPEST = 200
_LARGEST = 100_000  # values, with those that aliases stand for


def find_yaml(name: PathLike, named_in: PathLike | None = None) -> Path:
    """Find the YAML file that a name stands for.

    Arguments
    ---------
    name : str or os.PathLike
        A path.
    named_in : str or os.PathLike, optional
        The YAML that names it: relative paths start there, then in the
        package's ``hparams``, and never in the current directory. None: the
        command line, where they start in the current directory, then in the
        package's ``hparams``.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    InputError
        There is no such file.

    Example
    -------
    >>> find_yaml("embedders/ecapa.yaml").name
    'ecapa.yaml'
    """
    start = Path() if named_in is None else Path(named_in).parent
    inside = Path(name)
    if inside.parts[:1] == ("hparams",):
        inside = Path(*inside.parts[1:])
    for path in (start / name, HPARAMS / inside):
        if path.is_file():
            return path
    said = "" if named_in is None else f", which {named_in} names"
    raise InputError(
        f"{name}{said}: no such YAML file in {start.absolute()} or "
        f"{HPARAMS}; correct the path"
    )


def read_yaml(path: PathLike) -> CommentedMap:
    """Read a YAML file as a tree with its tags; nothing is built.

    A file with the key ``base`` holds changes to the YAML that it names, which
    may have a base of its own. Of a list, each changes the ones before it.

    Raises
    ------
    InputError
        There is no such file, it is not YAML, or bases go in circles.
    """
    return _read_yaml(find_yaml(path), ())


def has_base(path: PathLike) -> bool:
    """Return whether a YAML file holds changes to another one."""
    return BASE in _read_alone(find_yaml(path))


def _read_alone(path: Path) -> CommentedMap:
    try:
        tree = parse_yaml(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} is not YAML ({error}); correct that line"
        ) from None
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    if not isinstance(tree, CommentedMap):
        raise InputError(f"{path} is not a YAML map; give lines `key: value`")
    return tree


def _read_yaml(path: Path, above: tuple[Path, ...]) -> CommentedMap:
    if path.resolve() in above:
        raise InputError(f"{path} is a base of itself; correct its key base")
    tree = _read_alone(path)
    bases = tree.pop(BASE, [])
    below = CommentedMap()
    for base in bases if isinstance(bases, list) else [bases]:
        found = find_yaml(str(base), path)
        below = merged(below, _read_yaml(found, (*above, path.resolve())))
    return merged(below, tree) if below else tree


def merged(tree: Any, changes: Any) -> Any:
    """Return a changed copy of a tree.

    Maps are changed key by key; an empty map clears one without a tag. A map
    with another tag, a list or a scalar takes the place of what was there; a
    map without a tag changes the arguments of a tagged one.

    Example
    -------
    >>> tree = parse_yaml("opt: !name:torch.optim.SGD\\n    lr: 1")
    >>> plain(merged(tree, {"opt": {"momentum": 2}}), tags=True)
    {'opt': {'lr': 1, 'momentum': 2, '!': '!name:torch.optim.SGD'}}
    >>> tree = parse_yaml("opt: !name:torch.optim.SGD\\nlists: !PLACEHOLDER")
    >>> plain(merged(tree, {"opt": {"lr": 2}, "lists": {"O": 1}}), tags=True)
    {'opt': {'lr': 2, '!': '!name:torch.optim.SGD'}, 'lists': {'O': 1}}
    >>> plain(merged({"parts": {"encoder": 1}}, {"parts": {}}))
    {'parts': {}}
    >>> tree = parse_yaml("a: {b: 1}\\nc: !ref <a>")
    >>> plain(merged(tree, {"c": {"d": 2}}), tags=True)
    {'a': {'b': 1}, 'c': {'d': 2}}
    """
    new = copy.deepcopy(tree)
    for key, value in changes.items():
        old = new.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        if value == {} and not tag_of(old):
            # Else nothing could clear a map of a base.
            new[key] = copy.deepcopy(value)
        elif both and tag_of(value) in (None, tag_of(old)):
            new[key] = merged(old, value)
        elif _is_named(old) and isinstance(value, dict) and not tag_of(value):
            # `!name:a.b` without arguments is not a map yet.
            new[key] = CommentedMap(value)
            new[key].yaml_set_ctag(getattr(old, "ctag", old.tag))
        else:
            new[key] = copy.deepcopy(value)
    return new


def _is_named(node: Any) -> bool:
    """Return whether a node names a class or function."""
    return (tag_of(node) or "").startswith(("!name:", "!new:", "!apply:"))


def tag_of(node: Any) -> str | None:
    """Return a node's tag, such as ``!name:torch.optim.SGD``, or None."""
    tag = getattr(getattr(node, "tag", None), "value", None)
    return None if tag is None or tag.startswith("tag:yaml.org") else str(tag)


def parse_yaml(text: str, largest: int = _LARGEST) -> CommentedMap:
    """Parse YAML text as a tree with its tags; nothing is built.

    Arguments
    ---------
    text : str
        YAML.
    largest : int
        The most values that it may have, those that aliases stand for counted.

    Raises
    ------
    InputError
        It has more, or they are nested too deeply.
    """
    deepest = max(itertools.accumulate(map(_step, text)), default=0)
    if deepest > _DEEPEST:
        raise InputError(
            f"YAML is {deepest} lists and maps deep; it must be at most "
            f"{_DEEPEST}; correct its brackets, or get the file again"
        )
    tree = YAML().load(text)
    _check_size(tree, largest)
    return CommentedMap() if tree is None else tree


def _check_size(tree: Any, largest: int) -> None:
    """Raise InputError if a tree has more than so many values."""
    n_found = 0
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        n_found += 1
        if n_found > largest:
            raise InputError(
                f"YAML has more than {largest} values, those that aliases "
                "stand for counted; this is no file of settings; get it again"
            )
        if isinstance(node, dict):
            waiting += node.values()
        elif isinstance(node, (list, tuple)):
            waiting += node


def _step(character: str) -> int:
    """Return what a character adds to the depth of lists and maps."""
    return (character in "[{") - (character in "]}")


def plain(node: Any, tags: bool = False) -> Any:
    """Convert a YAML tree to built-in types.

    Arguments
    ---------
    node : Any
        From `parse_yaml`, or built-in types.
    tags : bool
        Whether to keep the classes that ``!new:`` and ``!name:`` name, under
        the key ``"!"``; without, a tagged node is its content.

    Example
    -------
    >>> tree = parse_yaml("opt: !name:torch.optim.SGD\\n    lr: 1")
    >>> plain(tree), plain(tree, tags=True)
    ({'opt': {'lr': 1}}, {'opt': {'lr': 1, '!': '!name:torch.optim.SGD'}})
    """
    tag = tag_of(node) if tags else None
    if isinstance(node, dict):
        mapping = {str(key): plain(v, tags) for key, v in node.items()}
        return {**mapping, "!": str(tag)} if tag else mapping
    if isinstance(node, (list, tuple)):
        return [plain(value, tags) for value in node]
    if isinstance(node, bool) or node is None:
        return node
    for kind in (int, float):
        if isinstance(node, kind):
            return kind(node)
    text = str(getattr(node, "value", node))
    if tag_of(node) and not text:
        # An object without arguments.
        return {"!": tag} if tag else {}
    return f"{tag} {text}".strip() if tag else text


def dumped(tree: Any) -> str:
    """Write a tree as text that every YAML reader reads alike.

    PyYAML takes ``5e-3`` for text: floats are written with a point. Maps have
    a line for each key.

    Example
    -------
    >>> dumped(parse_yaml("lr: 5e-3"))
    'lr: 0.005\\n'
    """
    stream = io.StringIO()
    writer = YAML()
    writer.width = 4096
    writer.dump(_normalised(copy.deepcopy(tree)), stream)
    return stream.getvalue()


def _normalised(node: Any) -> Any:
    if isinstance(node, dict):
        if isinstance(node, CommentedMap) and node:
            node.fa.set_block_style()
        for key, value in node.items():
            node[key] = _normalised(value)
    elif isinstance(node, list):
        has_maps = any(isinstance(value, dict) for value in node)
        if isinstance(node, CommentedSeq) and has_maps:
            node.fa.set_block_style()
        for place, value in enumerate(node):
            node[place] = _normalised(value)
    elif isinstance(node, ScalarFloat):
        return float(node)
    return node


def resolved(tree: Any, path: PathLike) -> str:
    """Resolve a tree's references and return text; errors name ``path``."""
    try:
        return resolve_references(io.StringIO(dumped(tree))).getvalue()
    except (ValueError, KeyError, SyntaxError, TypeError) as error:
        raise InputError(
            f"{path} cannot be resolved: {error}; correct its references "
            "!ref <key>, and give what is !PLACEHOLDER"
        ) from None


def resolve(path: PathLike, overrides: Any = None) -> str:
    """Apply base and overrides to YAML text and resolve its references."""
    if isinstance(overrides, str):
        overrides = parse_options(overrides)
    return resolved(merged(read_yaml(path), overrides or {}), path)


def build_objects(text: str, path: PathLike) -> dict[str, Any]:
    """Build the objects of a resolved YAML; report errors in one line.

    Arguments
    ---------
    text : str
        As of `resolved`.
    path : str or os.PathLike
        What it is called in an error.
    """
    try:
        return load_hyperpyyaml(io.StringIO(text))
    except (TypeError, ImportError) as error:
        raise InputError(
            f"{path} cannot be built: {error}; compare the key with the "
            "class's documented arguments"
        ) from error


def parse_options(text: str) -> CommentedMap:
    """Parse command-line options, as SpeechBrain passes them, into a tree."""
    try:
        return parse_yaml(text)
    except MarkedYAMLError as error:
        raise InputError(
            f"the options are not YAML ({error.problem}); quote maps, "
            "close their braces and give each option once"
        ) from None


def check_overrides(path: PathLike, tree: dict, overrides: Any) -> None:
    """Raise InputError if overrides name keys that a YAML lacks.

    Raises
    ------
    InputError
        With the dotted key and its nearest neighbour.

    Example
    -------
    >>> check_overrides("a.yaml", {"lr": 1}, {"lrr": 2})
    Traceback (most recent call last):
    speechbrain_ext.utils.errors.InputError: a.yaml has no key 'lrr'; did ...
    """
    _check_nested(path, tree, overrides or {}, "")


def _check_nested(path: PathLike, tree: Any, given: dict, above: str) -> None:
    for key, value in given.items():
        if key not in tree:
            raise _unknown(path, f"{above}{key}", key, tree)
        inner = tree[key]
        # An empty map is open: its reader checks its keys.
        if isinstance(value, dict) and isinstance(inner, dict) and inner:
            _check_nested(path, inner, value, f"{above}{key}.")


def _unknown(path: PathLike, name: str, key: str, known: Any) -> InputError:
    near = difflib.get_close_matches(str(key), [str(k) for k in known], 1)
    way = f"did you mean {near[0]!r}?" if near else f"it has {sorted(known)}"
    return InputError(f"{path} has no key {name!r}; {way}")


def check_changes(key: str, path: PathLike, changes: Any) -> None:
    """Raise InputError for changes that are misspelt or of a wrong type.

    The type is that of the YAML's own value. Counts of 1 or more stay so;
    text may also be null; what an object allows beyond that, its constructor
    says.

    Arguments
    ---------
    key : str
        The setting that holds the changes, for the message.
    path : str or os.PathLike
        The YAML that is changed.
    changes : mapping
        Values by key, nested as in the YAML.

    Raises
    ------
    InputError
        One line with the dotted key, its value, the rule and a way out.

    Example
    -------
    >>> check_changes("embedder", "embedders/ecapa.yaml", {"width": 512})
    >>> check_changes("embedder", "embedders/ecapa.yaml", {"width": "abc"})
    Traceback (most recent call last):
    speechbrain_ext.utils.errors.InputError: embedder.width is 'abc'; it ...
    """
    _check_changes(key, path, read_yaml(path), changes)


def _check_changes(name: str, path: PathLike, tree: Any, changes: Any) -> None:
    for key, value in changes.items():
        dotted = f"{name}.{key}"
        if key not in tree:
            near = difflib.get_close_matches(str(key), list(map(str, tree)), 1)
            way = f"did you mean {near[0]!r}?" if near else f"it has {[*tree]}"
            raise InputError(
                f"{dotted} is {shown(plain(value))}; {path} has no such key; "
                f"{way}"
            )
        own = tree[key]
        if isinstance(own, dict) and own and isinstance(value, dict):
            _check_changes(dotted, path, own, value)
        elif isinstance(own, dict) or not tag_of(own):
            _like(dotted, own).check(plain(value))


def _like(name: str, own: Any) -> Setting:
    """Return the rule for values that may replace a YAML's own."""
    example = None if isinstance(own, dict) else plain(own)
    if isinstance(own, list):
        # A list may have another length, and hold references.
        kinds = {type(plain(item)) for item in own if not tag_of(item)}
        if len(kinds) != 1 or any(tag_of(item) for item in own):
            return Setting(name, list, None, "")
        return Setting(name, list[kinds.pop()], example, "")  # type: ignore
    if own is None:
        return Setting(name, Any, None, "")
    if isinstance(own, str):
        return Setting(name, str | None, example, "")
    if isinstance(own, int) and not isinstance(own, bool):
        return Setting(name, int, example, "", low=min(own, 1))
    kind = dict if isinstance(own, dict) else type(example)
    return Setting(name, kind, example, "")
