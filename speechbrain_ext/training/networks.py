"""Networks of a training: those that learn, and the one that is kept."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch.utils.checkpoint import checkpoint

from speechbrain_ext.models.embedder import (
    Embedder,
    WaveEmbedder,
    build_embedder,
)
from speechbrain_ext.models.speech_encoder import SpeakerEncoder
from speechbrain_ext.models.step_cost import (
    Cost,
    Weights,
    count_weights,
    measure_cost,
    random_like,
)
from speechbrain_ext.training.checkpoints import N_KEPT
from speechbrain_ext.training.settings import (
    EmbedPretrained,
    ModelSettings,
    TrainContrastive,
    TrainDino,
    TrainingSettings,
    TrainSpeaker,
)
from speechbrain_ext.utils.errors import InputError

logger = logging.getLogger(__name__)


class Networks(NamedTuple):
    """Modules of a training that have weights or state."""

    modules: dict[str, Any]  # by name; checkpointed
    trained: Any  # the embedder that learns
    head: torch.nn.Module  # what learns with it and is not kept
    kept: Any  # the embedder that the training is for


def new_embedder(settings: TrainingSettings) -> Embedder:
    """Build the embedder to train; warn if its weights are random."""
    embedder = build_embedder(settings.embedder_yaml, settings.embedder)
    if embedder.is_random:
        logger.warning(
            "random encoder: it starts from random weights, not pre-trained"
        )
    return embedder


def recompute_blocks_(embedder: WaveEmbedder) -> None:
    """Let the blocks of an embedder be computed again in the backward pass.

    Only the inputs of blocks are kept for it, and the activations of one block
    at a time (Chen et al., "Training deep nets with sublinear memory cost",
    arXiv 1604.06174). Gradients are those of the plain step: a block is
    computed from the whole batch again, with the same draws of dropout, and
    its running statistics count the batch once.

    Arguments
    ---------
    embedder : WaveEmbedder
        Changed in place; copies made of it before are not. Its model's names
        of weights stay as they are.

    Raises
    ------
    InputError
        Its model has no blocks, or is an encoder, which has a key of its own.

    Example
    -------
    >>> small = {"width": 16, "width_last": 48, "embedding_size": 8}
    >>> embedder = build_embedder("embedders/ecapa.yaml", small)
    >>> recompute_blocks_(embedder)
    >>> embedder(torch.randn(2, 16000)).shape
    torch.Size([2, 8])
    """
    blocks = _blocks(embedder.model)
    if isinstance(embedder.model, SpeakerEncoder):
        raise InputError(
            "recompute_blocks is True; layers of an encoder are computed again "
            "by a key of its own; leave it out, and give "
            "--embedder='{checkpoint_layers: True}'"
        )
    if not blocks:
        raise InputError(
            "recompute_blocks is True; the embedding_model must have blocks of "
            f"several layers, and {type(embedder.model).__name__} has none; "
            "give --recompute_blocks=False"
        )
    for block in blocks:
        # On the object: names, class and copies of its class stay as they are.
        forward = functools.partial(_recomputed, block, block.forward)
        block.forward = forward  # type: ignore[method-assign]


def _blocks(model: torch.nn.Module) -> list[torch.nn.Module]:
    """Return the parts of a model that have several layers with weights."""
    found: list[torch.nn.Module] = []
    for part in model.children():
        if isinstance(part, (torch.nn.ModuleList, torch.nn.Sequential)):
            found += _blocks(part)
        else:
            layers = [m for m in part.modules() if m._parameters]
            found += [part] * (len(layers) > 1)
    return found


def _recomputed(
    block: torch.nn.Module, forward: Any, *args: Any, **options: Any
) -> Any:
    """Call a block so that backward calls it again for its activations."""
    if not torch.is_grad_enabled():
        return forward(*args, **options)
    return checkpoint(
        forward,
        *args,
        use_reentrant=False,
        context_fn=lambda: (contextlib.nullcontext(), _scratch_buffers(block)),
        **options,
    )


@contextlib.contextmanager
def _scratch_buffers(module: torch.nn.Module) -> Iterator[None]:
    """Give a module copies of its buffers, such as running statistics."""
    parts = list(module.modules())
    own = [dict(part._buffers) for part in parts]
    for part, buffers in zip(parts, own, strict=True):
        part._buffers.update(
            {k: None if v is None else v.clone() for k, v in buffers.items()}
        )
    try:
        yield
    finally:
        for part, buffers in zip(parts, own, strict=True):
            part._buffers.update(buffers)


class Views(NamedTuple):
    """Audio that a training makes of an utterance in an epoch, in seconds."""

    trained: float  # with gradients
    embedded: float  # by a momentum encoder, without
    longest: float  # of the crops


def views_of(settings: ModelSettings) -> Views:
    """Return the audio that a training computes of each utterance.

    Arguments
    ---------
    settings : ModelSettings
        Of one of the three trainings, or of an encoder without training.

    Returns
    -------
    Views

    Example
    -------
    >>> files = {"train_annotation": "a", "data_folder": "b"}
    >>> views_of(TrainDino(**files, output_folder="c"))
    Views(trained=16.0, embedded=8.0, longest=4.0)
    """
    if isinstance(settings, TrainDino):
        seen = settings.n_global * settings.global_crop
        local = settings.n_local * settings.local_crop
        longest = max(settings.global_crop, settings.local_crop)
        return Views(seen + local, seen, longest)
    if isinstance(settings, TrainContrastive):
        crop = settings.crop
        if settings.method == "moco":
            return Views(crop, crop, crop)
        return Views(2 * crop, 0.0, crop)
    if isinstance(settings, TrainSpeaker):
        return Views(settings.crop, 0.0, settings.crop)
    if isinstance(settings, EmbedPretrained):
        return Views(0.0, 0.0, settings.choice_crop)
    raise TypeError(f"{type(settings).__name__} has no crops")


def training_cost(
    settings: ModelSettings, device: str, batch_size: int, budget: float
) -> Cost | None:
    """Measure the cost of a training's embedder on this machine.

    Arguments
    ---------
    settings : TrainingSettings
        Of the training.
    device : str
        Where to compute.
    batch_size : int
        Utterances of a batch that one process has.
    budget : float
        Seconds that it may take, about.

    Returns
    -------
    Cost or None
        None if the sizes of its pre-trained encoder are not known here.
    """
    embedder = random_like(settings.embedder_yaml, settings.embedder)
    if embedder is None:
        return None
    crop = views_of(settings).longest
    return measure_cost(embedder, crop, batch_size, device, budget)


class TrainingWeights(NamedTuple):
    """Numbers of weights of a training, states of the optimiser included."""

    n_weights: int  # of the embedder
    embedding_size: int | None
    in_memory: int
    on_disk: int


@functools.cache
def _counted(path: str, changes: str) -> Weights | None:
    return count_weights(path, json.loads(changes))


def training_weights(
    settings: ModelSettings, n_classes: int | None
) -> TrainingWeights | None:
    """Count the numbers that a training holds and writes.

    Arguments
    ---------
    settings : TrainingSettings
        Of the training.
    n_classes : int, optional
        Speakers of its classifier, if they are known.

    Returns
    -------
    TrainingWeights or None
        None if the sizes of its pre-trained encoder are not known here.
    """
    changes = json.dumps(settings.embedder, sort_keys=True)
    found = _counted(settings.embedder_yaml, changes)
    if found is None:
        return None
    if not isinstance(settings, TrainingSettings):
        n_weights = found.n_weights
        return TrainingWeights(
            n_weights, found.embedding_size, n_weights, n_weights
        )
    head = _head_weights(settings, found.embedding_size or 0, n_classes or 0)
    trained = found.n_weights + head
    # Momentum of SGD; two moments of Adam.
    optimiser: Any = settings.opt_class
    n_states = 1 if "SGD" in str(optimiser.get("!")) else 2
    has_teacher = views_of(settings).embedded > 0
    state = (1 + n_states + has_teacher) * trained
    if settings.n_averaged_epochs > 1:
        state += found.n_weights
    # Gradients are never written. Checkpoints are: two are kept, and another is
    # written before the older of them is deleted.
    return TrainingWeights(
        found.n_weights,
        found.embedding_size,
        state + trained,
        (N_KEPT + 1) * state + trained,
    )


def _head_weights(settings: TrainingSettings, size: int, n_classes: int) -> int:
    """Count the weights that learn with an embedder and are not kept."""
    if isinstance(settings, TrainSpeaker):
        loss: Any = settings.loss
        n_centres = loss.get("n_subcentres", 1)
        return n_classes * size * n_centres
    if isinstance(settings, TrainDino):
        head: Any = settings.head
        hidden = head.get("hidden_size", 2048)
        bottleneck = head.get("bottleneck_size", 256)
        prototypes = bottleneck * head.get("n_prototypes", 65536)
        return (size + hidden + bottleneck) * hidden + prototypes
    return 0
