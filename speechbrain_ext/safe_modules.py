"""Embedders as data: classes by name from a list, and nothing else.

A HyperPyYAML file is a program: whoever wrote it may run any function. What
is read here is plain data in which only the classes of `KNOWN` can be named,
with plain values for their arguments, none of them a source to fetch.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from speechbrain.lobes.features import Fbank
from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
from speechbrain.processing.features import InputNormalization

from speechbrain_ext.files import InputError
from speechbrain_ext.pooling import (
    MHFA,
    ContextAwareMHFA,
    WeightedSumECAPA,
    WeightedSumTDNN,
)
from speechbrain_ext.ssl_models import ARCHITECTURE
from speechbrain_ext.wavlm import RawWaveform, WavLMSpeaker
from speechbrain_ext.yamls import parse_yaml, plain

# What an embedder has, by SpeechBrain's names.
MODULES = ("compute_features", "mean_var_norm", "embedding_model")
# Classes that data may name; a program may add its own before it loads.
KNOWN: dict[str, Callable[..., Any]] = {
    f"{kind.__module__}.{kind.__qualname__}": kind
    for kind in (
        Fbank,
        InputNormalization,
        ECAPA_TDNN,
        RawWaveform,
        WavLMSpeaker,
        MHFA,
        ContextAwareMHFA,
        WeightedSumECAPA,
        WeightedSumTDNN,
    )
}
_ENCODER_FIELDS = {*ARCHITECTURE, "model_type", "do_normalize"}
# Absolute on Unix or Windows, of a home folder, or an address.
_ELSEWHERE = re.compile(r"[/~\\]|[A-Za-z]:[/\\]|\w+://")


def describe_modules(yaml_text: str) -> dict[str, Any]:
    """The modules of a resolved embedder YAML, as plain data.

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
        A class is not in `KNOWN`, or a value is a path or an address.

    Example
    -------
    >>> text = '''
    ... modules:
    ...     compute_features: !new:speechbrain_ext.wavlm.RawWaveform
    ...     mean_var_norm: !new:speechbrain_ext.wavlm.RawWaveform
    ...     embedding_model: !new:speechbrain.lobes.features.Fbank
    ...         n_mels: 4
    ... '''
    >>> describe_modules(text)["embedding_model"]
    {'n_mels': 4, '!': '!new:speechbrain.lobes.features.Fbank'}
    """
    tree = parse_yaml(yaml_text)
    _refuse_elsewhere(plain(tree), "hyperparams.yaml")
    described = plain(tree["modules"], tags=True)
    found = {name: _as_mapping(described[name]) for name in MODULES}
    for node in found.values():
        check_node(node)
    return found


def build_modules(described: Any) -> dict[str, torch.nn.Module]:
    """Modules of what `describe_modules` gave, with their first weights.

    Arguments
    ---------
    described : dict
        From anybody, for instance a downloaded ``config.json``.

    Returns
    -------
    dict of str to torch.nn.Module
        One for each of `MODULES`.

    Raises
    ------
    InputError
        A module is missing, a class is not in `KNOWN`, an argument is not
        one of it or would fetch something.

    Example
    -------
    >>> raw = {"!": "!new:speechbrain_ext.wavlm.RawWaveform"}
    >>> sorted(build_modules(dict.fromkeys(MODULES, raw)))
    ['compute_features', 'embedding_model', 'mean_var_norm']
    >>> build_modules(dict.fromkeys(MODULES, {"!": "!apply:os.system"}))
    Traceback (most recent call last):
    speechbrain_ext.files.InputError: the model names '!apply:os.system', ...
    """
    if not isinstance(described, Mapping) or set(described) != set(MODULES):
        raise InputError(
            f"the model does not describe {list(MODULES)}; it was not written "
            "by export_model, or by another version: export it again"
        )
    for node in described.values():
        check_node(node)
    try:
        return {name: _build(described[name]) for name in MODULES}
    except InputError:
        raise
    # Of many kinds, according to what is wrong with an argument.
    except Exception as error:
        raise InputError(
            f"the described model cannot be built ({error}); export it again"
        ) from error


def check_node(node: Any) -> None:
    """Refuse data that names anything but `KNOWN` classes and plain values.

    Raises
    ------
    InputError
        With the name or value.

    Example
    -------
    >>> check_node({"!": "!new:speechbrain.lobes.features.Fbank", "n_mels": 4})
    """
    if isinstance(node, str) and node.startswith("!"):
        node = {"!": node}
    if isinstance(node, (list, tuple)):
        for value in node:
            check_node(value)
    if not isinstance(node, Mapping):
        return
    if "!" in node:
        how, _, name = str(node["!"]).partition(":")
        if how not in ("!new", "!name") or name not in KNOWN:
            raise InputError(
                f"the model names {node['!']!r}, which is not among the known "
                f"classes ({', '.join(sorted(KNOWN))}); if you trust it, load "
                "it with SpeechBrain's from_hparams"
            )
    _check_encoder(node)
    for key, value in node.items():
        if key != "!":
            check_node(value)


def _check_encoder(node: Mapping) -> None:
    """An encoder is made from plain fields, never fetched."""
    if node.get("encoder_source"):
        raise InputError(
            f"the model takes its encoder from {node['encoder_source']!r}; a "
            "published one has encoder_config and its weights instead: save "
            "it with a train recipe"
        )
    fields = node.get("encoder_config") or {}
    unknown = set(fields) - _ENCODER_FIELDS
    if unknown:
        raise InputError(
            f"the model's encoder_config has {sorted(unknown)}, which are no "
            "fields of an architecture; remove them"
        )


def _as_mapping(node: Any) -> dict[str, Any]:
    """A tag without arguments as a mapping that has only the tag."""
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
        return functools.partial(KNOWN[name], **arguments)
    return KNOWN[name](**arguments)


def _refuse_elsewhere(node: Any, where: str) -> None:
    """Refuse strings that are paths of one machine, or addresses."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            _refuse_elsewhere(value, f"{where}: {key}")
    elif isinstance(node, list):
        for value in node:
            _refuse_elsewhere(value, where)
    elif isinstance(node, str) and _ELSEWHERE.match(node):
        raise InputError(
            f"{where} is {node!r}, a path or address that others do not have; "
            "a published embedder names nothing outside of its folder"
        )
