"""Settings of the recipes that apply a model."""

from __future__ import annotations

import dataclasses

from speechbrain_ext.utils.settings import Settings, setting


@dataclasses.dataclass(kw_only=True)
class ExtractEmbeddings(Settings):
    """Settings of extraction: embeddings of utterances, optionally of crops."""

    recipe = "extract_embeddings"

    embedder_folder: str = setting(
        doc="holds hyperparams.yaml and embedding_model.ckpt", path=True
    )
    annotation: str = setting(doc="train.csv or test.csv", path=True)
    data_folder: str = setting(
        doc="what $data_root in the manifest stands for", path=True
    )
    n_crops: int = setting(
        0, "crops of each utterance to embed too; 15 as in the paper", low=0
    )
    crop: float = setting(4.0, "their length in seconds", above=0)
    max_batch_seconds: float = setting(
        120.0, "audio in a batch of utterances of one length", above=0
    )
    chunk_size: int = setting(
        5000, "utterances computed between two writes", low=1
    )
    num_workers: int = setting(
        2, "processes that read audio", low=0, decides=False
    )


@dataclasses.dataclass(kw_only=True)
class WhitenEmbedder(Settings):
    """Settings of whitening an embedder by its last layer."""

    recipe = "whiten_embedder"

    embedder_folder: str = setting(
        doc="holds hyperparams.yaml and embedding_model.ckpt", path=True
    )
    embeddings_folder: str = setting(
        doc="its embeddings of its training utterances", path=True
    )
    whiten: float = setting(
        0.5,
        "power of the deviation that each principal component is divided by: "
        "0 centres only, 1 makes all directions alike",
        low=0,
        high=1,
    )
