"""A training's leaf, read as its recipe reads it."""

from speechbrain_ext.experiment.leaf import Leaf, read_leaf
from speechbrain_ext.training.settings import (
    TrainContrastive,
    TrainDino,
    TrainSpeaker,
)

KINDS = {k.recipe: k for k in (TrainDino, TrainContrastive, TrainSpeaker)}
NEEDED = dict.fromkeys(
    ("output_folder", "train_annotation", "data_folder"), "x"
)


def read(stem: str, **changes) -> Leaf:
    """The leaf of a name such as ``train_dino_ecapa``, with changes."""
    kind = KINDS["_".join(stem.split("_")[:2])]
    return read_leaf(kind, f"{stem}.yaml", {**NEEDED, **changes})
