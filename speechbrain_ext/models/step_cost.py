"""Cost of an embedder on this machine: seconds and memory, measured.

A few passes over random samples with random weights, for estimates of how long
a training will take.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import torch

from speechbrain_ext.dataio.manifest import SAMPLE_RATE
from speechbrain_ext.models.embedder import WaveEmbedder, build_embedder
from speechbrain_ext.models.encoder_source import cached_config, read_config
from speechbrain_ext.utils.files import PathLike
from speechbrain_ext.utils.yaml_trees import plain, read_yaml

_WARM_UP = 0.5  # seconds of audio of the first pass


class Cost(NamedTuple):
    """Cost of an embedder, by second of audio where it grows with it."""

    train_seconds: float  # forward and backward, per second of audio
    embed_seconds: float  # forward alone, per second of audio
    train_bytes: float  # kept for the backward pass, per second of audio
    n_weights: int
    n_trained: int
    embedding_size: int


def random_like(path: PathLike, changes: dict[str, Any]) -> WaveEmbedder | None:
    """Build an embedder with random weights; None if its sizes are unknown.

    Arguments
    ---------
    path : str or os.PathLike
        Its YAML.
    changes : dict
        Values to change in it. A pre-trained encoder is replaced by a random
        one of the same config, if that is on this machine.

    Returns
    -------
    WaveEmbedder or None

    Example
    -------
    >>> small = {"width": 16, "width_last": 48, "embedding_size": 8}
    >>> random_like("embedders/ecapa.yaml", small).embedding_size
    8
    >>> unknown = {"encoder_source": "no/such-model"}
    >>> random_like("embedders/encoder_mhfa.yaml", unknown) is None
    True
    """
    source = {**plain(read_yaml(path)), **changes}.get("encoder_source")
    if source:
        config = _plain_config(source)
        if config is None:
            return None
        changes = {**changes, "encoder_source": None, "encoder_config": config}
    return build_embedder(path, changes)


def _plain_config(source: str) -> dict[str, Any] | None:
    """Return the config of a source as ``encoder_config`` takes it."""
    if source.endswith(".pt"):
        from speechbrain_ext.models.wavlm_checkpoint import read_official

        return read_official(source)[0]
    path = cached_config(source)
    if path is None:
        return None
    from speechbrain_ext.models.pretrained import ARCHITECTURE

    known = read_config(path)
    if known is None:
        return None
    return {k: known[k] for k in ("model_type", *ARCHITECTURE) if k in known}


class Weights(NamedTuple):
    """Numbers of an embedder that its files and its memory depend on."""

    n_weights: int
    embedding_size: int | None


def count_weights(path: PathLike, changes: dict[str, Any]) -> Weights | None:
    """Count the weights of an embedder.

    Arguments
    ---------
    path, changes
        As of `random_like`.

    Returns
    -------
    Weights or None
        The size of an embedding as the YAML states it, else as measured.

    Example
    -------
    >>> small = {"width": 16, "width_last": 48, "embedding_size": 8}
    >>> count_weights("embedders/ecapa.yaml", small).embedding_size
    8
    """
    embedder = random_like(path, changes)
    if embedder is None:
        return None
    size = {**plain(read_yaml(path)), **changes}.get("embedding_size")
    size = embedder.embedding_size if size is None else size
    return Weights(sum(p.numel() for p in embedder.parameters()), size)


def measure_cost(
    embedder: WaveEmbedder,
    crop: float,
    batch_size: int,
    device: str | torch.device = "cpu",
    budget: float = 3.0,
) -> Cost:
    """Measure passes of an embedder over random samples.

    A short pass is timed first; then as much of a batch as the budget allows,
    on a slow machine with shorter crops.

    Arguments
    ---------
    embedder : WaveEmbedder
        Moved to ``device``.
    crop : float
        Length of an utterance in seconds.
    batch_size : int
        Most utterances in a pass.
    device : str or torch.device
        Where to compute.
    budget : float
        Seconds that the timed passes may take, about.

    Returns
    -------
    Cost

    Example
    -------
    >>> small = {"width": 16, "width_last": 48, "embedding_size": 8}
    >>> embedder = build_embedder("embedders/ecapa.yaml", small)
    >>> cost = measure_cost(embedder, crop=0.5, batch_size=2, budget=0.1)
    >>> cost.embedding_size, cost.train_seconds > 0
    (8, True)
    """
    device = torch.device(device)
    embedder = embedder.to(device).train()
    # Two utterances, for BatchNorm needs as many.
    first = min(crop, _WARM_UP)
    spent = sum(_passes(embedder, 2, first, device)[:2])
    room = 2 * first * budget / spent
    length = min(crop, max(first, room / 2))
    size = int(min(max(batch_size, 2), max(room / length, 2)))
    train, embed, kept = _passes(embedder, size, length, device)
    seconds = size * length
    weights = list(embedder.parameters())
    trained = [p for p in weights if p.requires_grad]
    return Cost(
        train / seconds,
        embed / seconds,
        kept / seconds,
        sum(p.numel() for p in weights),
        sum(p.numel() for p in trained),
        embedder.embedding_size,
    )


def _passes(
    embedder: WaveEmbedder, size: int, crop: float, device: torch.device
) -> tuple[float, float, float]:
    """Return seconds with and without backward, and bytes kept for it."""
    n_frames = round(crop * SAMPLE_RATE)
    wavs = 0.1 * torch.randn(size, n_frames, device=device)
    kept: dict[tuple[int, int], int] = {}

    def count(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr(), storage.nbytes()] = storage.nbytes()
        return tensor

    owned = {p.untyped_storage().data_ptr() for p in embedder.parameters()}
    start = _now(device)
    with torch.autograd.graph.saved_tensors_hooks(count, lambda t: t):
        loss = embedder(wavs).square().mean()
    middle = _now(device)
    loss.backward()
    end = _now(device)
    embedder.zero_grad(set_to_none=True)
    found = sum(n for (place, _), n in kept.items() if place not in owned)
    return end - start, middle - start, float(found)


def _now(device: torch.device) -> float:
    """Return the time, once all work on the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
