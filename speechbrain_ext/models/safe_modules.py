"""Embedders described by data: only known classes can be built.

A HyperPyYAML file is a program: whoever wrote it may run any function. What
is read here is plain data in which only the classes of `KNOWN` can be named,
and those that installed packages offer (`speechbrain_ext.utils.plug_ins`), with
plain values for their arguments, none of them a source to fetch. It is built
on the meta device first, where tensors have shapes and no memory: what asks for
more than its weights is refused before it costs anything.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from ruamel.yaml.error import YAMLError
from speechbrain.lobes.features import Fbank
from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
from speechbrain.lobes.models.ResNet import ResNet
from speechbrain.lobes.models.Xvector import Xvector
from speechbrain.processing.features import InputNormalization
from torch.overrides import TorchFunctionMode

from speechbrain_ext.models.embedder import WaveEmbedder
from speechbrain_ext.models.joined_embedder import JoinedEmbedder
from speechbrain_ext.models.layer_means import LayerMeans
from speechbrain_ext.models.pooling import (
    MHFA,
    ContextAwareMHFA,
    WeightedSumECAPA,
    WeightedSumTDNN,
)
from speechbrain_ext.models.pretrained import ARCHITECTURE
from speechbrain_ext.models.speech_encoder import RawWaveform, SpeakerEncoder
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike
from speechbrain_ext.utils.plug_ins import EMBEDDERS, load_plug_in, plug_ins
from speechbrain_ext.utils.yaml_trees import parse_yaml, plain, resolve

# Modules of an embedder, by SpeechBrain's names.
MODULES = ("compute_features", "mean_var_norm", "embedding_model")
# Classes that data may name; a program may add its own before it loads, and an
# installed package by entry points, if they can be built on the meta device.
KNOWN: dict[str, Callable[..., Any]] = {
    f"{kind.__module__}.{kind.__qualname__}": kind
    for kind in (Fbank, InputNormalization, ECAPA_TDNN, ResNet, Xvector)
}
# Ours are named by their room, so that a file may move within it.
KNOWN |= {
    f"speechbrain_ext.models.{kind.__qualname__}": kind
    for kind in (
        RawWaveform,
        SpeakerEncoder,
        MHFA,
        ContextAwareMHFA,
        WeightedSumECAPA,
        WeightedSumTDNN,
        LayerMeans,
        JoinedEmbedder,
        WaveEmbedder,
    )
}
_IF_TRUSTED = (
    "if you trust who wrote it, give a recipe --trust_yaml=True, or load it "
    "with SpeechBrain's from_hparams"
)
_OF_A_PLUG_IN = (
    "install the package that brings it as an entry point of " + EMBEDDERS
)
# What names a class in an argument: modules of a model, and its pooling.
_PLACES = {
    "parts": "!new",
    "features": "!new",
    "norm": "!new",
    "model": "!new",
    "pooling": "!name",
}
_ENCODER_FIELDS = {*ARCHITECTURE, "model_type", "do_normalize"}
# Numbers in a table that no weights file holds, such as a filter bank: 40 MB.
_TABLE = 10_000_000
# Values in a hyperparams.yaml; w2v-BERT 2.0's has some 100.
_NODES = 10_000
# Calls of torch that build a model; with WavLM Large 3300, w2v-BERT 2.0 5300.
_CALLS = 50_000
# Absolute on Unix or Windows, of a home folder, or an address.
_ELSEWHERE = re.compile(r"[/~\\]|[A-Za-z]:[/\\]|\w+://")


def describe_modules(yaml_text: str) -> dict[str, Any]:
    """Describe the modules of a resolved embedder YAML as plain data.

    Arguments
    ---------
    yaml_text : str
        An embedder folder's ``hyperparams.yaml``; it is parsed, not run.

    Returns
    -------
    dict
        Arguments of each of `MODULES`; its class is under the key ``"!"``.

    Raises
    ------
    InputError
        A class is neither in `KNOWN` nor of a plug-in, or a value is a path
        or an address.

    Example
    -------
    >>> text = '''
    ... modules:
    ...     compute_features: !new:speechbrain_ext.models.RawWaveform
    ...     mean_var_norm: !new:speechbrain_ext.models.RawWaveform
    ...     embedding_model: !new:speechbrain.lobes.features.Fbank
    ...         n_mels: 4
    ... '''
    >>> describe_modules(text)["embedding_model"]
    {'n_mels': 4, '!': '!new:speechbrain.lobes.features.Fbank'}
    """
    try:
        tree = _parsed(yaml_text)
        _refuse_elsewhere(plain(tree), "hyperparams.yaml")
        described = plain(tree["modules"], tags=True)
        found = {name: _as_mapping(described[name]) for name in MODULES}
        for node in found.values():
            check_node(node, "!new")
    except InputError:
        raise
    # Not YAML, or another tree than an embedder's.
    except (YAMLError, LookupError, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise _not_an_embedder(f"{type(error).__name__} {reason}") from None
    except RecursionError:
        raise _not_an_embedder("it is nested too deeply") from None
    return found


def _parsed(yaml_text: str) -> Any:
    """Parse an embedder's YAML, which has some hundred values."""
    try:
        return parse_yaml(yaml_text, _NODES)
    except InputError as error:
        raise _not_an_embedder(str(error).partition(";")[0]) from None


def unknown_classes(yaml_text: str) -> list[str]:
    """Return the classes that only who trusts an embedder YAML may load.

    They are neither `KNOWN` nor of a plug-in.

    Arguments
    ---------
    yaml_text : str
        As of `describe_modules`; what is no embedder's names none.

    Example
    -------
    >>> unknown_classes("modules: {embedding_model: !new:mine.Model {n: 1}}")
    ['mine.Model']
    """
    described = plain(parse_yaml(yaml_text).get("modules", {}), tags=True)
    tags = {str(node.get("!", "")) for node, _ in _mappings(described, "")}
    return sorted(
        {t.partition(":")[2] for t in tags if ":" in t and _not_known(t)}
    )


def _not_an_embedder(reason: str) -> InputError:
    return InputError(
        f"hyperparams.yaml does not describe {list(MODULES)} ({reason}); it "
        "was not written by a train recipe; get the folder again"
    )


def build_modules(
    described: Any, weights: Mapping[str, torch.Tensor]
) -> dict[str, torch.nn.Module]:
    """Build modules from the output of `describe_modules`, with weights.

    Arguments
    ---------
    described : dict
        From anybody, for instance a downloaded ``config.json``.
    weights : mapping of str to torch.Tensor
        State of the ``embedding_model``, all of it and nothing else.

    Returns
    -------
    dict of str to torch.nn.Module
        One for each of `MODULES`.

    Raises
    ------
    InputError
        A module is missing, a class is not known or out of place, an
        argument is not one of it or would fetch something, the weights are
        of another model.

    Example
    -------
    >>> raw = {"!": "!new:speechbrain_ext.models.RawWaveform"}
    >>> sorted(build_modules(dict.fromkeys(MODULES, raw), {}))
    ['compute_features', 'embedding_model', 'mean_var_norm']
    >>> build_modules(dict.fromkeys(MODULES, {"!": "!apply:os.system"}), {})
    Traceback (most recent call last):
    speechbrain_ext.utils.errors.InputError: the model names ...
    """
    if not isinstance(described, Mapping) or set(described) != set(MODULES):
        raise InputError(
            f"the model does not describe {list(MODULES)}; it was not written "
            "by export_model, or by another version: export it again"
        )
    try:
        for name in MODULES:
            check_node(_as_mapping(described[name]), "!new")
        with torch.device("meta"), _Bounded(weights):
            sketch = {name: _build(described[name]) for name in MODULES}
        _load(sketch, weights, assign=True)
        modules = {name: _build(described[name]) for name in MODULES}
    except InputError:
        raise
    # Many kinds of errors, depending on what is wrong with an argument.
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"the described model cannot be built ({reason}); export it again"
        ) from error
    _load(modules, weights)
    return modules


class _Bounded(TorchFunctionMode):
    """Limit on the torch calls and tensor sizes that building may use."""

    def __init__(self, weights: Mapping[str, torch.Tensor]):
        super().__init__()
        held = sum(tensor.numel() for tensor in weights.values())
        self.largest = max(held, _TABLE)
        self.n_calls = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        self.n_calls += 1
        size = made.numel() if isinstance(made, torch.Tensor) else 0
        if size > self.largest or self.n_calls > _CALLS:
            raise InputError(
                f"the described model is larger than its weights: it makes a "
                f"tensor of {size} numbers (at most {self.largest}) in call "
                f"{self.n_calls} of torch (at most {_CALLS}); get the folder "
                "again from where it was published"
            )
        return made


def _load(
    modules: dict[str, torch.nn.Module],
    weights: Mapping[str, torch.Tensor],
    assign: bool = False,
) -> None:
    try:
        modules["embedding_model"].load_state_dict(weights, assign=assign)
    except RuntimeError as error:
        raise InputError(
            f"the file of weights does not hold the weights of the described "
            f"model ({error}); get the folder again from where it was published"
        ) from None


def check_node(node: Any, place: str = "") -> None:
    """Raise InputError for data that are not known classes and values.

    Arguments
    ---------
    node : Any
        A module or an argument.
    place : str
        What names a class there: ``"!new"`` for a module, ``"!name"`` for a
        pooling; nothing does elsewhere.

    Raises
    ------
    InputError
        With the name or value.

    Example
    -------
    >>> node = {"!": "!new:speechbrain.lobes.features.Fbank", "n_mels": 4}
    >>> check_node(node, "!new")
    """
    for mapping, where in _mappings(node, place):
        if "!" in mapping or where == "!new":
            _check_class(mapping.get("!"), where)
        _check_encoder(mapping)


def _mappings(node: Any, place: str) -> Iterator[tuple[Mapping, str]]:
    """Yield each mapping of a node, and what names a class at its place."""
    if isinstance(node, str) and node.startswith("!"):
        node = {"!": node}
    if isinstance(node, (list, tuple)):
        for value in node:
            yield from _mappings(value, place)
    if not isinstance(node, Mapping):
        return
    yield node, place
    for key, value in node.items():
        if key != "!":
            yield from _mappings(value, _PLACES.get(key, ""))


def _check_class(tag: Any, place: str) -> None:
    """Raise InputError for a class that is unknown or misplaced."""
    reason = _not_known(tag)
    if reason:
        raise InputError(
            f"the model names {tag!r}, {reason}; {_OF_A_PLUG_IN}, or, "
            f"{_IF_TRUSTED}"
        )
    if str(tag).partition(":")[0] != place:
        raise InputError(
            f"the model has {tag!r} out of place: each module is a !new: and "
            "its pooling a !name:, other arguments are plain values; "
            f"{_IF_TRUSTED}"
        )


def _not_known(tag: Any) -> str:
    """Return why a tag names no known class; empty if it does."""
    how, _, name = str(tag).partition(":")
    if how in ("!new", "!name") and (name in KNOWN or name in plug_ins()):
        return ""
    return (
        f"which is not among the known classes ({', '.join(sorted(KNOWN))}), "
        "nor of a plug-in"
    )


def _class_of(name: str) -> Callable[..., Any]:
    """Return a class by the name that `_not_known` has found."""
    return KNOWN.get(name) or load_plug_in(plug_ins()[name], torch.nn.Module)


def packages_of(described: Mapping[str, Any]) -> list[str]:
    """Return the installed packages that bring classes of a described model.

    Arguments
    ---------
    described : mapping
        From `describe_modules`.

    Returns
    -------
    list of str
        Name and version of each; SpeechBrain and this package are none.

    Example
    -------
    >>> packages_of(dict.fromkeys(MODULES, {"!": "!new:torch.nn.Flatten"}))
    []
    """
    offered = plug_ins()
    found = set()
    for node in described.values():
        for mapping, _ in _mappings(node, "!new"):
            name = str(mapping.get("!")).partition(":")[2]
            point = None if name in KNOWN else offered.get(name)
            if point is not None and point.dist is not None:
                found.add(f"{point.dist.name} {point.dist.version}")
    return sorted(found)


def check_trainable(path: PathLike, changes: Mapping[str, Any]) -> None:
    """Raise InputError if an embedder could be trained and never exported.

    Arguments
    ---------
    path : str or os.PathLike
        An embedder YAML.
    changes : mapping
        Values to change in it.

    Raises
    ------
    InputError
        It names a class that is neither known nor of a plug-in, or gives one
        as an argument.

    Example
    -------
    >>> check_trainable("embedders/ecapa.yaml", {})
    """
    tree = parse_yaml(resolve(path, dict(changes)))
    described = plain(tree.get("modules"), tags=True)
    if not isinstance(described, Mapping) or not described.keys() >= {*MODULES}:
        raise InputError(
            f"embedder_yaml is {path}; an embedder has {list(MODULES)} under "
            "modules; begin it with base: embedders/bases/embedder.yaml"
        )
    for name in MODULES:
        for mapping, place in _mappings(_as_mapping(described[name]), "!new"):
            tag = mapping.get("!")
            if tag is None and place != "!new":
                continue
            reason = _not_known(tag)
            if not reason and str(tag).partition(":")[0] != place:
                reason = "out of place: other arguments are plain values"
            if reason:
                raise InputError(
                    f"embedder_yaml is {path}; its {name} has {tag!r}, "
                    f"{reason}, so that what is trained could not be exported; "
                    f"{_OF_A_PLUG_IN}, or give --trust_yaml=True to train it "
                    "for yourself"
                )


def _check_encoder(node: Mapping) -> None:
    """Raise InputError if an encoder would be downloaded."""
    if node.get("encoder_source"):
        raise InputError(
            f"the model takes its encoder from {node['encoder_source']!r}; a "
            "published one has encoder_config and its weights instead: save "
            "it with a train recipe"
        )
    fields = node.get("encoder_config") or {}
    if not isinstance(fields, Mapping):
        raise InputError(
            f"the model's encoder_config is {fields!r}; it must be a mapping "
            "of an architecture's fields: export it again"
        )
    unknown = set(fields) - _ENCODER_FIELDS
    if unknown:
        raise InputError(
            f"the model's encoder_config has {sorted(unknown)}, which are no "
            "fields of an architecture; remove them"
        )


def _as_mapping(node: Any) -> dict[str, Any]:
    """Turn a tag without arguments into a mapping that has only the tag."""
    return node if isinstance(node, dict) else {"!": str(node)}


def _build(node: Any) -> Any:
    if isinstance(node, str) and node.startswith("!"):
        node = {"!": node}
    if isinstance(node, (list, tuple)):
        return [_build(value) for value in node]
    if not isinstance(node, Mapping):
        return node
    arguments = {key: _build(v) for key, v in node.items() if key != "!"}
    if "!" not in node:
        return arguments
    how, _, name = node["!"].partition(":")
    if how == "!name":
        return functools.partial(_class_of(name), **arguments)
    return _class_of(name)(**arguments)


def _refuse_elsewhere(node: Any, where: str) -> None:
    """Raise InputError if a string is a local path or an address."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            _refuse_elsewhere(value, f"{where}: {key}")
    elif isinstance(node, list):
        for value in node:
            _refuse_elsewhere(value, where)
    elif isinstance(node, str) and _ELSEWHERE.match(node):
        raise InputError(
            f"{where} is {node!r}, a path or address that others do not have; "
            "a published embedder uses only files in its folder; give "
            "encoder_config in place of a source, or remove the value"
        )
