"""Test utterances prepared for scoring, under one of two protocols.

``full`` compares whole utterances by cosine. ``crops``, that of Miara, Lepage
and Dehak (Interspeech 2024, as released), is the mean of two scores: the mean
cosine of all pairs of crops of the one and the other utterance, and the
cosine of both as a whole. Since the mean of inner products is the inner
product of the means, either protocol is one inner product of one vector an
utterance.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from speechbrain_ext.dataio.embedding_files import (
    CROPS,
    read_embeddings,
    rows_for,
)
from speechbrain_ext.dataio.manifest import Manifest
from speechbrain_ext.dataio.shards import open_rows
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike
from speechbrain_ext.utils.vectors import unit_rows

PROTOCOLS = ("full", "crops")


class Voices(NamedTuple):
    """Utterances whose scores are inner products of their vectors.

    ``ids`` [U], ``vectors`` [U, D], ``magnitude`` [U] (length of the whole
    utterance's embedding before it is scaled) and ``n_crops`` (0: full).
    """

    ids: NDArray
    vectors: NDArray
    magnitude: NDArray
    n_crops: int

    def rows_of(self, ids: NDArray) -> NDArray:
        """Find the row of each ID [M]; all IDs must exist."""
        return pd.Index(self.ids).get_indexer(pd.Index(ids))


def check_protocol(protocol: str) -> None:
    """Raise InputError if a protocol is not ``full`` or ``crops``.

    Example
    -------
    >>> check_protocol("full")
    """
    if protocol not in PROTOCOLS:
        raise InputError(
            f"protocol is {protocol!r}; it must be one of {list(PROTOCOLS)}; "
            "correct it"
        )


def read_voices(
    folder: PathLike,
    ids: NDArray,
    protocol: str = "full",
    whitening: tuple[NDArray, NDArray] | None = None,
) -> Voices:
    """Read the utterances of an embeddings folder, prepared for scoring.

    Arguments
    ---------
    folder : str or os.PathLike
        Written by extract_embeddings.
    ids : numpy.ndarray
        Utterances [U], each once.
    protocol : str
        ``full`` or ``crops``.
    whitening : tuple of numpy.ndarray, optional
        Of every embedding, of a crop or whole: mean [D] and matrix [D, D].

    Returns
    -------
    Voices
        In the order of ``ids``.

    Raises
    ------
    InputError
        An utterance is not there or has no length, or there are no crops.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> np.save(folder / "embeddings.npy", np.float32([[3, 4], [0, 2]]))
    >>> _ = (folder / "embeddings.csv").write_text("ID,row\\na,0\\nb,1\\n")
    >>> read_voices(folder, np.array(["b", "a"])).magnitude
    array([2., 5.], dtype=float32)
    """
    check_protocol(protocol)
    embeddings, index = read_embeddings(folder)
    rows = rows_for(index, ids, folder)
    vectors = unit_rows(embeddings, rows, whitening)
    magnitude = np.linalg.norm(embeddings[rows], axis=1).astype(np.float32)
    if protocol == "full":
        return Voices(ids, vectors, magnitude, 0)
    crops = _read_crops(folder, len(embeddings))
    n_crops = crops.shape[1]
    means = np.zeros_like(vectors)
    for number in range(n_crops):
        means += unit_rows(crops[:, number], rows, whitening) / n_crops
    both = np.concatenate([means, vectors], axis=1) / np.float32(np.sqrt(2))
    return Voices(ids, both, magnitude, n_crops)


def _read_crops(folder: PathLike, n_rows: int) -> NDArray:
    path = Path(folder) / CROPS
    if not path.exists():
        raise InputError(
            f"protocol is crops and {folder} has no {CROPS}; extract its "
            "embeddings with --n_crops=15 --crop=4.0"
        )
    crops = open_rows(path)
    if crops.ndim != 3 or len(crops) != n_rows:
        raise InputError(
            f"{path} has shape {list(crops.shape)} and embeddings.npy "
            f"{n_rows} rows; extract the embeddings again"
        )
    return crops


def as_cohort(units: NDArray, n_crops: int) -> NDArray:
    """Reshape cohort vectors [C, D] for comparison with `Voices`.

    A cohort has whole utterances alone: under the crops protocol both halves
    of a voice meet the same vector.

    Example
    -------
    >>> as_cohort(np.float32([[1, 0]]), n_crops=15).shape
    (1, 4)
    """
    if not n_crops:
        return units
    return np.concatenate([units, units], axis=1) / np.float32(np.sqrt(2))


def durations_of(manifest: Manifest, ids: NDArray) -> NDArray:
    """Look up the duration in seconds of each utterance [U].

    Raises
    ------
    InputError
        The manifest lacks one.
    """
    rows = manifest.rows_of(ids)
    unknown = np.flatnonzero(rows < 0)
    if len(unknown):
        raise InputError(
            f"{str(ids[unknown[0]])!r} is not in the annotation "
            f"({len(unknown):,} of {len(ids):,} utterances); give the "
            "manifest that the embeddings were made from"
        )
    return manifest.duration[rows]
