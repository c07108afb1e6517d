"""Embedding files: ``embeddings.npy`` [N, D] and the IDs of its rows.

The names are extract_embeddings'; `speechbrain_ext.inference.embed` takes any.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from speechbrain_ext.dataio.columns import TextColumn
from speechbrain_ext.dataio.manifest import Manifest, read_manifest
from speechbrain_ext.dataio.shards import open_rows
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike
from speechbrain_ext.utils.vectors import (
    check_vectors,
    row_blocks,
    taken,
    unit_rows,
)

# Exists beside embeddings.npy if crops were embedded: [N, n_crops, D].
CROPS = "crop_embeddings.npy"


def read_embeddings(folder: PathLike) -> tuple[np.ndarray, Manifest]:
    """Open embeddings and their index, and check that they match.

    Arguments
    ---------
    folder : str or os.PathLike
        Written by extract_embeddings.

    Returns
    -------
    numpy.ndarray
        Embeddings [N, D], float32, on disk.
    Manifest
        Kind ``"embeddings"``: ``ID`` and ``row``.

    Raises
    ------
    InputError
        A file is missing or broken, or they are not of one extraction.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> np.save(folder / "embeddings.npy", np.eye(2, dtype=np.float32))
    >>> _ = (folder / "embeddings.csv").write_text("ID,row\\na,1\\nb,0\\n")
    >>> vectors, index = read_embeddings(folder)
    >>> vectors[index.row]
    array([[0., 1.],
           [1., 0.]], dtype=float32)
    """
    return read_array(Path(folder) / "embeddings.npy")


def read_array(path: PathLike) -> tuple[np.ndarray, Manifest]:
    """Open embeddings, a .npy file or folder, and the .csv beside it."""
    path = Path(path)
    table = path.with_suffix(".csv")
    index = read_manifest(table, "embeddings")
    try:
        vectors = open_rows(path)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"{path} cannot be read ({error}); extract the embeddings again"
        ) from None
    if vectors.dtype.kind not in "fiu":
        raise InputError(
            f"{path} has values of type {vectors.dtype}; embeddings are "
            "numbers, float32 as a rule; extract the embeddings again"
        )
    named = np.asarray(index.row)
    if not _counts(named):
        named = np.sort(named)
    fits = vectors.ndim == 2 and len(named) == len(vectors)
    if not fits or not _counts(named):
        raise InputError(
            f"{path} has shape {list(vectors.shape)} and {table.name} names "
            f"{len(named)} rows, {named[0]} to {named[-1]}; they are not of "
            "one extraction, extract the embeddings again"
        )
    return vectors, index


def _counts(rows: np.ndarray) -> bool:
    """Return whether rows are 0, 1 and so on."""
    return all(
        (rows[part] == part.start + np.arange(len(rows[part]))).all()
        for part in row_blocks(len(rows))
    )


def rows_for(index: Manifest, ids: Any, where: PathLike) -> np.ndarray:
    """Find the rows [M] of utterances; raise InputError if one is missing.

    Arguments
    ---------
    index : Manifest
        From `read_embeddings`.
    ids : array of str
        Utterances [M].
    where : str or os.PathLike
        The embeddings' folder, for the message.

    Raises
    ------
    InputError
        An utterance has no embedding.
    """
    position = index.rows_of(ids)
    if len(position) and position.min() < 0:
        lacking = np.flatnonzero(position < 0)
        raise InputError(
            f"{where} lacks {len(lacking)} of {len(position)} utterances, the "
            f"first is {str(ids[lacking[0]])!r}; run extract_embeddings on the "
            "manifest that names them"
        )
    return taken(index.row, position)


class Opened(NamedTuple):
    """Embeddings [M, D] of a folder, and the rows [N] of some utterances."""

    vectors: Any
    rows: np.ndarray


def open_for(folder: PathLike, ids: Any) -> Opened:
    """Open the embeddings of utterances.

    Arguments
    ---------
    folder : str or os.PathLike
        Written by extract_embeddings.
    ids : array of str
        Utterances [N].

    Raises
    ------
    InputError
        As of `read_embeddings` and `rows_for`.
    """
    vectors, index = read_embeddings(folder)
    return Opened(vectors, rows_for(index, ids, folder))


def check_usable(opened: Sequence[Opened], ids: TextColumn) -> None:
    """Raise InputError for embeddings that cannot be clustered.

    They are read in blocks.

    Arguments
    ---------
    opened : sequence of Opened
        From `open_for`.
    ids : TextColumn
        Their utterances [N], for the message.

    Raises
    ------
    InputError
        One is zero or not finite, or all of them are equal.

    Example
    -------
    >>> rows = np.arange(2)
    >>> ids = TextColumn.of(["a", "b"])
    >>> check_usable([Opened(np.eye(2), rows)], ids)
    >>> check_usable([Opened(np.ones((2, 2)), rows)], ids)
    Traceback (most recent call last):
    speechbrain_ext.utils.errors.InputError: all 2 vectors are equal; the ...
    """
    for vectors, rows in opened:
        first = unit_rows(vectors, rows[:1])
        is_equal = True
        for part in row_blocks(len(rows), vectors.shape[1]):
            unit = unit_rows(vectors, rows[part], ids=ids.take(part))
            is_equal = is_equal and bool((unit == first).all())
        if is_equal:
            check_vectors(unit)
