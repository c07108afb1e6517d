"""Check that the source of a pre-trained encoder is there and complete.

Nothing is loaded, so that a run of days can be checked in seconds before it
begins.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike, check_links

CONFIG = "config.json"
# Files of weights that transformers reads, the first that exists; an index
# names several.
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
SECONDS = 10.0  # longest wait for an answer of the hub


def check_source(source: PathLike, seconds: float = SECONDS) -> None:
    """Raise InputError if an encoder cannot be loaded from its source.

    Arguments
    ---------
    source : str or os.PathLike
        As of `speechbrain_ext.models.pretrained.load_model`: a folder, an
        official ``.pt`` file, or a hub id. An id is looked for in the cache,
        then, unless ``HF_HUB_OFFLINE`` is set, on the hub.
    seconds : float
        Longest wait for each of the hub's answers.

    Raises
    ------
    InputError
        A file is missing or empty or a link that leaves the folder, or the
        hub has no such model or cannot be reached.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> _ = (folder / "config.json").write_text("{}")
    >>> check_source(folder)
    Traceback (most recent call last):
    speechbrain_ext.utils.errors.InputError: encoder_source is ...
    """
    path = Path(source)
    if path.suffix == ".pt":
        reason = "" if _has_bytes(path) else "there is no such file"
    elif path.is_dir():
        check_links(path, [each.name for each in path.iterdir()])
        reason = _lacks(path)
    elif path.is_absolute() or str(source).startswith("."):
        reason = "there is no such folder"
    else:
        reason = _not_on_hub(str(source), seconds)
    if reason:
        raise InputError(
            f"encoder_source is {source}; {reason}; give a complete folder in "
            "transformers' format, an official .pt file, or the id of a model "
            "that the hub or its cache has"
        )


def _has_bytes(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _lacks(folder: Path) -> str:
    """Return which file a folder lacks, empty if it is complete."""
    if not _has_bytes(folder / CONFIG):
        return f"the folder lacks {CONFIG}"
    if read_config(folder / CONFIG) is None:
        return f"the folder's {CONFIG} is not JSON"
    there = [name for name in WEIGHTS if _has_bytes(folder / name)]
    if not there:
        return f"the folder has no weights ({' or '.join(WEIGHTS[::2])})"
    if there[0].endswith(".index.json"):
        shards = shards_of(folder / there[0])
        check_links(folder, shards)
        for name in shards:
            if not _has_bytes(folder / name):
                return f"the folder lacks {name}, which {there[0]} names"
    return ""


def read_config(path: PathLike) -> dict[str, Any] | None:
    """Return the fields of a config; None if the file is not one.

    Example
    -------
    >>> path = getfixture("tmp_path") / "config.json"
    >>> _ = path.write_text('{"model_type": "wavlm"')
    >>> read_config(path) is None
    True
    """
    try:
        found = json.loads(Path(path).read_text("utf-8"))
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def shards_of(index: PathLike) -> list[str]:
    """Return the names of the files of weights that an index lists.

    Example
    -------
    >>> index = getfixture("tmp_path") / "model.safetensors.index.json"
    >>> _ = index.write_text('{"weight_map": {"a": "1.bin", "b": "1.bin"}}')
    >>> shards_of(index)
    ['1.bin']
    """
    try:
        named = json.loads(Path(index).read_text("utf-8"))["weight_map"]
        return sorted(set(named.values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(
            f"{index} is not an index of weights; it must have a weight_map; "
            "get the file again"
        ) from None


def cached_config(source: PathLike) -> Path | None:
    """Return the path of an encoder's config, if it is on this machine.

    Example
    -------
    >>> cached_config("no/such-model") is None
    True
    """
    if Path(source).is_dir():
        path = Path(source) / CONFIG
        return path if path.is_file() else None
    return _cached(str(source), CONFIG)


def _cached(name: str, file: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        path = try_to_load_from_cache(name, file)
    except HFValidationError:
        return None
    return Path(path) if isinstance(path, str) else None


def is_offline() -> bool:
    """Return whether the environment forbids to ask the hub."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return any(
        os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE")
        for name in names
    )


def _not_on_hub(name: str, seconds: float) -> str:
    """Return why a model is neither in the cache nor on the hub."""
    if _cached(name, CONFIG) is not None:
        for file in WEIGHTS:
            path = _cached(name, file)
            if path is None or not file.endswith(".index.json"):
                found = path is not None
            else:
                found = all(_cached(name, part) for part in shards_of(path))
            if found:
                return ""
    if is_offline():
        return "its files are not all in the cache, and the hub is offline"
    reason = _asked(name, CONFIG, seconds)
    if reason:
        return reason
    answers = (_asked(name, file, seconds) for file in WEIGHTS)
    if all(answers):
        return "the hub has no weights of it"
    return ""


def _asked(name: str, file: str, seconds: float) -> str:
    """Return why the hub does not give a file, empty if it does."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    try:
        meta: Any = get_hf_file_metadata(
            hf_hub_url(name, file), timeout=seconds
        )
    # Errors of the client, of its HTTP library and of the system.
    except Exception as error:
        lines = str(error).splitlines() or [type(error).__name__]
        return f"the hub does not give its {file} ({lines[0]})"
    return "" if meta.size else f"the hub's {file} is empty"
