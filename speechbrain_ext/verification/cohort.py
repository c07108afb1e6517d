"""Cohorts of other speakers for score normalisation, without true labels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from speechbrain_ext.dataio.embedding_files import read_embeddings, rows_for
from speechbrain_ext.dataio.manifest import Manifest, read_manifest, select
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike
from speechbrain_ext.utils.vectors import unit_rows
from speechbrain_ext.verification.cosine import speaker_means

KINDS = ("means", "utterances")


class Cohort(NamedTuple):
    """Cohort vectors [C, D] of length 1, float32, and their kind."""

    vectors: NDArray
    kind: str


def read_cohort(
    folder: PathLike,
    labels: PathLike | None,
    kind: str = "means",
    n_cohort: int | None = None,
    whitening: tuple[NDArray, NDArray] | None = None,
    seed: int = 0,
    sampled: bool = False,
) -> Cohort:
    """Read a cohort from the embeddings of training utterances.

    Arguments
    ---------
    folder : str or os.PathLike
        Their embeddings, written by extract_embeddings.
    labels : str or os.PathLike, optional
        ``pseudo_labels.csv``; needed for means.
    kind : str
        ``means``, one of each pseudo-speaker, or ``utterances``.
    n_cohort : int, optional
        Number of them, drawn at random; all when None or when there are
        fewer.
    whitening : tuple of numpy.ndarray, optional
        Of each embedding: mean [D] and matrix [D, D].
    seed : int
        Seed of the draw.
    sampled : bool
        As of `embedded_labels`.

    Returns
    -------
    Cohort
        In the order of the labels or of the rows.

    Raises
    ------
    InputError
        A file is missing, ``kind`` or ``n_cohort`` makes no sense, or means
        have no labels.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> np.save(folder / "embeddings.npy", np.float32([[3, 4], [0, 2]]))
    >>> _ = (folder / "embeddings.csv").write_text("ID,row\\na,0\\nb,1\\n")
    >>> read_cohort(folder, None, "utterances").vectors
    array([[0.6, 0.8],
           [0. , 1. ]], dtype=float32)
    """
    if kind not in KINDS:
        raise InputError(
            f"cohort is {kind!r}; it must be one of {list(KINDS)}; correct "
            "--cohort"
        )
    if n_cohort is not None and n_cohort < 2:
        raise InputError(
            f"n_cohort is {n_cohort}; it must be 2 or more, or null for all; "
            "correct --n_cohort"
        )
    embeddings, index = read_embeddings(folder)
    if kind == "utterances":
        # Each row is there once (`read_embeddings`).
        rows = _drawn(len(index), n_cohort, seed)
        return Cohort(unit_rows(embeddings, rows, whitening), kind)
    if labels is None:
        raise InputError(
            "a cohort of means needs the utterances' pseudo-speakers; give "
            "--cohort_labels, or --cohort=utterances"
        )
    table = embedded_labels(labels, folder, sampled)
    rows = rows_for(index, table.ids, folder)
    speakers = table.speakers()[1]
    means = speaker_means(embeddings, rows, speakers, whitening)
    return Cohort(unit_rows(means, _drawn(len(means), n_cohort, seed)), kind)


def embedded_labels(
    labels: PathLike, folder: PathLike, sampled: bool
) -> Manifest:
    """Read the labels of utterances that have embeddings.

    Arguments
    ---------
    labels : str or os.PathLike
        ``pseudo_labels.csv``.
    folder : str or os.PathLike
        Embeddings of its utterances.
    sampled : bool
        Whether the embeddings are of a sample of them: labels of the others
        are left out. False: all labels.

    Returns
    -------
    Manifest

    Raises
    ------
    InputError
        None of the labels has an embedding.
    """
    manifest = read_manifest(labels, "pseudo_labels")
    if not sampled:
        return manifest
    embedded = read_embeddings(folder)[1].rows_of(manifest.ids) >= 0
    if not embedded.any():
        raise InputError(
            f"no utterance of {labels} is in {folder}; a sample must be of "
            "labelled utterances; give the embeddings that were drawn of them"
        )
    return select(manifest, embedded)


def _drawn(n_rows: int, n_wanted: int | None, seed: int) -> NDArray:
    """Draw ``n_wanted`` of the rows, in order; all if None or too few exist."""
    if n_wanted is None or n_wanted >= n_rows:
        return np.arange(n_rows)
    return np.sort(np.random.default_rng(seed).choice(n_rows, n_wanted, False))
