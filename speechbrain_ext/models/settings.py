"""Settings of the recipes that apply a model."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike
from speechbrain_ext.utils.settings import Settings, setting

# Files of an embedder folder, named as SpeechBrain's own loader expects them.
MODEL = "embedding_model.ckpt"
RECIPE = "hyperparams.yaml"


def embedder_files(folder: PathLike) -> dict[str, Path]:
    """Return the files of an embedder folder, by their names in records.

    Example
    -------
    >>> [path.name for path in embedder_files("exp/embedder").values()]
    ['embedding_model.ckpt', 'hyperparams.yaml']
    """
    folder = Path(folder)
    return {"embedder": folder / MODEL, "embedder_yaml": folder / RECIPE}


def _half_precision() -> Any:
    """Define the key of recipes that write the weights of a model."""
    return setting(
        False,
        "true rounds the weights that are written to 16 bits: half of the "
        "size, to be scored and published so",
    )


def _trust_yaml() -> Any:
    """Return the setting that says whether embedders' YAML is run."""
    return setting(
        False,
        "true runs hyperparams.yaml of an embedder, which may do anything: for "
        "modules of your own; false reads it as data that name known classes",
        decides=False,
    )


@dataclasses.dataclass(kw_only=True)
class ExtractEmbeddings(Settings):
    """Settings of extraction: embeddings of utterances, optionally of crops."""

    recipe = "extract_embeddings"
    again = "goes on after the last complete chunk"

    embedder_folder: str = setting(
        doc="folder of the embedder, with hyperparams.yaml and "
        "embedding_model.ckpt",
        path=True,
    )
    annotation: str = setting(
        doc="manifest of the utterances to embed, train.csv or test.csv",
        path=True,
    )
    data_folder: str = setting(
        doc="folder that $data_root in the manifest stands for", path=True
    )
    trust_yaml: bool = _trust_yaml()
    n_crops: int = setting(
        0,
        "number of crops of each utterance to embed as well; 0: none; 15 in "
        "the paper",
        low=0,
    )
    crop: float = setting(4.0, "length of a crop in seconds", above=0)
    max_per_speaker: int | None = setting(
        None,
        "utterances of each spk_id that are embedded, drawn by the seed; the "
        "annotation is then a pseudo_labels.csv; null: all",
        low=1,
    )
    max_batch_seconds: float = setting(
        120.0,
        "seconds of audio in a batch, whose utterances are all of one length",
        above=0,
    )
    chunk_size: int = setting(
        5000, "number of utterances computed between two writes to disk", low=1
    )
    shard_rows: int | None = setting(
        None,
        "utterances of a part, if the embeddings are to be folders of parts; "
        "null: one file each",
        low=1,
        decides=False,
    )
    num_workers: int = setting(
        2,
        "number of processes that read audio; 0: the main process alone",
        low=0,
        decides=False,
    )

    def inputs(self) -> dict[str, PathLike]:
        """Return the files that decide the result, by name."""
        files = embedder_files(self.embedder_folder)
        return {**files, "annotation": self.annotation}


@dataclasses.dataclass(kw_only=True)
class WhitenEmbedder(Settings):
    """Settings of whitening an embedder by its last layer."""

    recipe = "whiten_embedder"

    embedder_folder: str = setting(
        doc="folder of the embedder, with hyperparams.yaml and "
        "embedding_model.ckpt",
        path=True,
    )
    embeddings_folder: str = setting(
        doc="folder of this embedder's embeddings of its training utterances",
        path=True,
    )
    whiten: float = setting(
        0.5,
        "exponent of whitening: each principal component is divided by this "
        "power of its standard deviation; 0 only centres, 1 whitens fully",
        low=0,
        high=1,
    )
    trust_yaml: bool = _trust_yaml()
    half_precision: bool = _half_precision()

    def inputs(self) -> dict[str, PathLike]:
        """Return the files that decide the result, by name."""
        embeddings = Path(self.embeddings_folder) / "embeddings.npy"
        return {
            **embedder_files(self.embedder_folder),
            "embeddings": embeddings,
        }


@dataclasses.dataclass(kw_only=True)
class JoinEmbedders(Settings):
    """Settings of joining embedders: their embeddings side by side."""

    recipe = "join_embedders"

    embedder_folders: list[str] = setting(
        doc="folders of two or more embedders", path=True
    )
    embeddings_folders: list[str] = setting(
        [],
        "folders of their embeddings of the training utterances, in the same "
        "order; needed to whiten",
        path=True,
    )
    whiten: float | None = setting(
        None,
        "exponent of partial whitening of each one's embeddings; null: they "
        "are joined as they are",
        low=0,
        high=1,
    )
    trust_yaml: bool = _trust_yaml()
    half_precision: bool = _half_precision()

    def check_together(self) -> None:
        """Raise InputError for too few folders, or two kinds that differ."""
        n_models = len(self.embedder_folders)
        if n_models < 2:
            raise InputError(
                f"embedder_folders is {self.embedder_folders}; two or more "
                "are joined; correct --embedder_folders, for example "
                "--embedder_folders=[exp/a/embedder,exp/b/embedder]"
            )
        n_given = len(self.embeddings_folders)
        if self.whiten is not None and n_given != n_models:
            raise InputError(
                f"embeddings_folders has {n_given} folders and "
                f"embedder_folders {n_models}; whitening is learnt on each "
                "one's embeddings; give one for each, or --whiten=null"
            )

    def inputs(self) -> dict[str, PathLike]:
        """Return the files that decide the result, by name."""
        found: dict[str, PathLike] = {}
        for place, folder in enumerate(self.embedder_folders):
            files = embedder_files(folder)
            found |= {f"{key}{place}": path for key, path in files.items()}
        if self.whiten is not None:
            for place, folder in enumerate(self.embeddings_folders):
                path = Path(folder) / "embeddings.npy"
                found[f"embeddings{place}"] = path
        return found
