"""Recipe YAML: strict about keys, nested ones too, and built on demand.

HyperPyYAML accepts unknown nested overrides and unread keys in silence; here
each is an `InputError` that names the key and its nearest neighbour.
"""

from __future__ import annotations

import ast
import difflib
import functools
import io
import re
from pathlib import Path
from typing import Any

from hyperpyyaml import load_hyperpyyaml, resolve_references
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import MarkedYAMLError
from speechbrain.utils.run_opts import RunOptions

from speechbrain_ext.files import InputError, PathLike

# Every recipe has these, read by `Stage`.
COMMON_KEYS = ("seed", "output_folder", "overwrite")


def read_yaml(path: PathLike) -> CommentedMap:
    """A YAML file as a tree with its tags, nothing built."""
    try:
        return parse_yaml(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such YAML file; see the hparams folder"
        ) from None
    except MarkedYAMLError as error:
        raise InputError(f"{path} is not YAML: {error}") from None


def parse_yaml(text: str) -> CommentedMap:
    """YAML text as a tree with its tags, nothing built."""
    tree = YAML().load(text)
    return CommentedMap() if tree is None else tree


def plain(node: Any, tags: bool = False) -> Any:
    """A YAML tree as built-in types.

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
    tag = getattr(getattr(node, "tag", None), "value", None) if tags else None
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
    return f"{tag} {text}".strip() if tag else text


def resolve(path: PathLike, overrides: Any = None) -> str:
    """YAML text with overrides applied and references resolved."""
    try:
        with open(path, encoding="utf-8") as stream:
            return resolve_references(stream, overrides).getvalue()
    except (ValueError, KeyError) as error:
        raise InputError(f"{path}: {error}") from None


def load_yaml_objects(path: PathLike, overrides: Any = None) -> dict:
    """Build a HyperPyYAML file's objects; a wrong argument is one line."""
    try:
        return load_hyperpyyaml(io.StringIO(resolve(path, overrides)))
    except (TypeError, ImportError) as error:
        raise InputError(
            f"{path} cannot be built: {error}; compare the key with the "
            "class's documented arguments"
        ) from error


def check_overrides(path: PathLike, tree: dict, overrides: Any) -> None:
    """Refuse overrides of keys, nested ones too, that a YAML lacks.

    Raises
    ------
    InputError
        With the dotted key and its nearest neighbour.

    Example
    -------
    >>> check_overrides("a.yaml", {"lr": 1}, "lrr: 2")
    Traceback (most recent call last):
    speechbrain_ext.files.InputError: a.yaml has no key 'lrr'; did you ...
    """
    if isinstance(overrides, str):
        overrides = _parse_options(overrides)
    _check_nested(path, tree, overrides or {}, "")


def _parse_options(text: str) -> CommentedMap:
    try:
        return parse_yaml(text)
    except MarkedYAMLError as error:
        raise InputError(
            f"the options are not YAML ({error.problem}); quote mappings, "
            "close their braces and give each option once"
        ) from None


def _check_nested(path: PathLike, tree: Any, given: dict, above: str) -> None:
    for key, value in given.items():
        if key not in tree:
            raise _unknown(path, f"{above}{key}", key, tree)
        inner = tree[key]
        # Open mappings, whose reader checks what is put there: empty ones,
        # and those of which another YAML or module knows the keys.
        overrides = key in ("set", "embedder", "lr_parts")
        closed = isinstance(inner, dict) and inner and not overrides
        if isinstance(value, dict) and closed:
            _check_nested(path, inner, value, f"{above}{key}.")


def _unknown(path: PathLike, name: str, key: str, known: Any) -> InputError:
    near = difflib.get_close_matches(str(key), [str(k) for k in known], 1)
    way = f"did you mean {near[0]!r}?" if near else f"it has {sorted(known)}"
    return InputError(f"{path} has no key {name!r}; {way}")


def check_keys(script: PathLike, path: PathLike, tree: dict) -> None:
    """Refuse a recipe YAML whose keys are not those the recipe reads.

    The keys a recipe reads are taken from its source (`keys_read`), so that
    a key misspelt in a YAML is found before any work and none can be dead.
    """
    read = keys_read(script) | set(COMMON_KEYS)
    # Brain reads run options from the YAML too, e.g. ckpt_interval_minutes.
    allowed = read | _references(path) | set(RunOptions().keys())
    for key in tree:
        if key not in allowed:
            near = difflib.get_close_matches(key, read - set(tree), 1)
            way = f"did you mean {near[0]!r}?" if near else "remove it"
            raise InputError(
                f"{path}: {Path(script).name} reads no key {key!r}; {way}"
            )
    missing = sorted(read - set(tree))
    if missing:
        raise InputError(
            f"{path} lacks {missing}, which {Path(script).name} reads; "
            "compare it with the YAML of the same stem in hparams/"
        )


def keys_read(script: PathLike) -> set[str]:
    """Keys a recipe reads: ``settings["k"]``, ``hparams["k"]``, ``.hparams.k``.

    The modules of this package that the recipe imports count as well.

    Example
    -------
    >>> script = getfixture("tmp_path") / "r.py"
    >>> _ = script.write_text("settings['a']; self.hparams.b; other['c']")
    >>> sorted(keys_read(script))
    ['a', 'b']
    """
    source = Path(script).read_text("utf-8")
    found = set(_keys_in(source))
    for name in _modules_in(source):
        module = Path(__file__).with_name(f"{name}.py")
        found |= _keys_in(module.read_text("utf-8"))
    return found


# By their source: a plan's steps share recipes, and recipes share modules.
@functools.cache
def _modules_in(source: str) -> frozenset[str]:
    """Modules of this package that a source imports from."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            package, _, name = node.module.partition(".")
            if package == "speechbrain_ext" and name:
                found.add(name)
    return frozenset(found)


@functools.cache
def _keys_in(source: str) -> frozenset[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Subscript):
            if _last_name(node.value) in ("settings", "hparams"):
                if isinstance(node.slice, ast.Constant):
                    found.add(str(node.slice.value))
        elif isinstance(node, ast.Attribute):
            if isinstance(node.value, ast.Attribute):
                if node.value.attr == "hparams":
                    found.add(node.attr)
    return frozenset(found)


def _last_name(node: ast.AST) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else None


def _references(path: PathLike) -> set[str]:
    """Top-level keys that other values of a YAML refer to."""
    text = Path(path).read_text(encoding="utf-8")
    lines = [line.split(" #")[0] for line in text.splitlines()]
    names = re.findall(r"<([A-Za-z_]\w*)[\w.\[\]]*>", "\n".join(lines))
    return set(names)
