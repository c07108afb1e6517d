"""Networks of a training: those that learn, and the one that is kept."""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

import torch

from speechbrain_ext.models.embedder import Embedder, build_embedder
from speechbrain_ext.training.settings import TrainingSettings

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
