"""Published folder: one model that can be loaded in two ways.

Stock SpeechBrain reads ``hyperparams.yaml`` and ``embedding_model.ckpt``, the
embedder folder's own files; `SpeakerVerifier` reads ``config.json`` and
``model.safetensors``, which are data and run nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError

from speechbrain_ext.dataio.audio_files import write_wav
from speechbrain_ext.dataio.manifest import SAMPLE_RATE
from speechbrain_ext.dataio.synthetic_voices import ToyVoice
from speechbrain_ext.inference.decision import Decision, checked_decision
from speechbrain_ext.models.embedder import WaveEmbedder
from speechbrain_ext.models.embedder_folder import (
    checked_size,
    load_embedder,
    read_weights,
)
from speechbrain_ext.models.safe_modules import (
    MODULES,
    build_modules,
    describe_modules,
)
from speechbrain_ext.models.settings import MODEL, RECIPE
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import (
    PathLike,
    atomic_path,
    check_links,
    copy_file,
    read_json,
    write_json,
)
from speechbrain_ext.utils.provenance import describe_file

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
CARD = "README.md"
EXAMPLES = ("example1.wav", "example2.wav")
_FORMAT = 1
_OURS = "speechbrain_ext"
_AGAIN = "get the folder again from where it was published"


def check_embedder(folder: PathLike) -> dict[str, Any]:
    """Describe an embedder folder's modules as data, for the config.

    Raises
    ------
    InputError
        There is no such folder, it names a class that others do not have, or
        a file elsewhere.

    Example
    -------
    >>> check_embedder("nowhere")
    Traceback (most recent call last):
    speechbrain_ext.utils.errors.InputError: nowhere/hyperparams.yaml: no ...
    """
    path = Path(folder) / RECIPE
    if not path.is_file():
        raise InputError(
            f"{path}: no such file; give the folder named embedder that a "
            "train recipe wrote"
        )
    return describe_modules(path.read_text("utf-8"))


def write_hub_folder(
    folder: PathLike,
    embedder_folder: PathLike,
    decision: Decision,
    seed: int,
    for_speechbrain: bool = True,
) -> list[str]:
    """Write all files of a published folder except its card.

    Arguments
    ---------
    folder : str or os.PathLike
        Where it goes.
    embedder_folder : str or os.PathLike
        ``hyperparams.yaml`` and ``embedding_model.ckpt``: copied as they are.
    decision : Decision
        Of this embedder's cosines.
    seed : int
        Seed of the synthetic voice of the examples.
    for_speechbrain : bool
        Write the two files that stock SpeechBrain loads too, which hold the
        weights a second time.

    Returns
    -------
    list of str
        The names written.

    Raises
    ------
    InputError
        The embedder cannot be described as data, or needs what is not in its
        folder.
    """
    folder, source = Path(folder), Path(embedder_folder)
    embedder = load_embedder(source)
    described = check_embedder(source)
    stock = [RECIPE, MODEL] if for_speechbrain else []
    for name in stock:
        copy_file(source / name, folder / name)
    with atomic_path(folder / WEIGHTS) as part:
        # As scored, in half precision too. Cloned: safetensors refuses tensors
        # that share memory.
        saved = read_weights(source)
        state = {k: v.clone() for k, v in saved.items()}
        safetensors.torch.save_file(state, part, {"format": "pt"})
    weights = describe_file(folder / WEIGHTS)
    config = {
        "speechbrain_interface": "SpeakerRecognition",
        _OURS: {
            "format": _FORMAT,
            "modules": described,
            "weights": {key: weights[key] for key in ("bytes", "sha256")},
            "sample_rate": SAMPLE_RATE,
            "embedding_size": embedder.embedding_size,
            "decision": {
                **decision._asdict(),
                "threshold": decision.threshold,
            },
        },
    }
    write_json(folder / CONFIG, config)
    voice = ToyVoice(seed, speaker=0)
    for session, name in enumerate(EXAMPLES):
        write_wav(folder / name, voice.utterance(session, 0, 3.0))
    return [*stock, WEIGHTS, CONFIG, *EXAMPLES]


def read_hub_folder(folder: PathLike) -> tuple[WaveEmbedder, Decision]:
    """Load an embedder from ``config.json`` and ``model.safetensors``.

    No YAML and no pickle is opened, and nothing is fetched.

    Arguments
    ---------
    folder : str or os.PathLike
        Written by `write_hub_folder`, perhaps by somebody else.

    Returns
    -------
    tuple of WaveEmbedder and Decision

    Raises
    ------
    InputError
        A file is missing, damaged or of another export.
    """
    folder = Path(folder)
    check_links(folder, (CONFIG, WEIGHTS))
    config = _read_config(folder / CONFIG)
    check_weights(folder / WEIGHTS, config["weights"])
    try:
        state = safetensors.torch.load_file(folder / WEIGHTS)
    except SafetensorError as error:
        raise InputError(
            f"{folder / WEIGHTS} does not hold the weights of the model in "
            f"{CONFIG} ({error}); {_AGAIN}"
        ) from None
    modules = build_modules(config["modules"], state)
    embedder = WaveEmbedder(*(modules[name] for name in MODULES))
    _check_facts(folder, config, checked_size(embedder, folder))
    stored = config["decision"]
    fields = [stored.get(name) for name in Decision._fields]
    return embedder.eval(), checked_decision(*fields)


def _check_facts(folder: Path, config: dict[str, Any], size: int) -> None:
    """Raise InputError if a config says of its model what is not so."""
    facts = {"sample_rate": SAMPLE_RATE, "embedding_size": size}
    for key, value in facts.items():
        found = config.get(key)
        if isinstance(found, bool) or found != value:
            raise InputError(
                f"{folder / CONFIG} says that {key} is {found!r}, and the "
                f"model has {value}; {_AGAIN}"
            )


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(
            f"{path.parent} holds no {CONFIG}; give a folder written by "
            "export_model, or the id of a model on the hub"
        )
    config = read_json(path, _AGAIN)
    ours = config.get(_OURS) if isinstance(config, dict) else None
    if not isinstance(ours, dict) or ours.get("format") != _FORMAT:
        raise InputError(
            f"{path} has no {_OURS} of format {_FORMAT}: the model was not "
            "written by export_model, or by another version; load it with "
            "SpeechBrain's from_hparams if you trust its hyperparams.yaml"
        )
    for key in ("weights", "modules", "decision"):
        if not isinstance(ours.get(key), dict):
            raise InputError(f"{path} has no {key}; {_AGAIN}")
    return ours


def check_weights(path: PathLike, described: dict[str, Any]) -> None:
    """Raise InputError if weights differ from the exported ones.

    Arguments
    ---------
    path : str or os.PathLike
        ``model.safetensors``.
    described : dict
        ``bytes`` and ``sha256`` of it, as exported.

    Raises
    ------
    InputError
        It is missing, cut short or changed.

    Example
    -------
    >>> path = getfixture("tmp_path") / "model.safetensors"
    >>> _ = path.write_bytes(b"cut")
    >>> check_weights(path, {"bytes": 9})
    Traceback (most recent call last):
    speechbrain_ext.utils.errors.InputError: ...model.safetensors has 3 ...
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; {_AGAIN}")
    if path.stat().st_size != described.get("bytes"):
        raise InputError(
            f"{path} has {path.stat().st_size} bytes, not the "
            f"{described.get('bytes')} of {CONFIG}; it was cut short or "
            f"changed; {_AGAIN}"
        )
    if describe_file(path)["sha256"] != described.get("sha256"):
        raise InputError(
            f"{path} is not the file that {CONFIG} describes (its SHA-256 "
            f"differs): it was changed; {_AGAIN}"
        )
