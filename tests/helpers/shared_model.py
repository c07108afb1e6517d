"""A small model in the folder that is shared."""

import torch

from speechbrain_ext.inference.decision import Decision
from speechbrain_ext.inference.hub_folder import write_hub_folder
from speechbrain_ext.models.embedder import (
    build_embedder,
    save_embedder,
)

SMALL = {
    "width": 16,
    "width_last": 24,
    "attention_channels": 8,
    "embedding_size": 8,
}
DECISION = Decision(8.0, -4.0, 0.5, "pairs")


def write_shared_model(folder):
    """Train a small model for a step and export it; return its folder."""
    torch.manual_seed(0)
    embedder = build_embedder("hparams/embedders/ecapa.yaml", SMALL)
    embedder.train()(0.1 * torch.randn(8, 8000))
    save_embedder(folder / "embedder", embedder.eval())
    write_hub_folder(folder / "model", folder / "embedder", DECISION, seed=0)
    return folder / "model"
