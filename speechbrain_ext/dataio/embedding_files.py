"""Embedding files: ``embeddings.npy`` [N, D] and the IDs of its rows.

The names are extract_embeddings'; `speechbrain_ext.inference.embed` takes any.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from speechbrain_ext.dataio.manifest import Manifest, read_manifest
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike

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
    """Open one .npy file of embeddings and the .csv beside it."""
    path = Path(path)
    table = path.with_suffix(".csv")
    index = read_manifest(table, "embeddings")
    try:
        vectors = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"{path} cannot be read ({error}); extract the embeddings again"
        ) from None
    if vectors.dtype.kind not in "fiu":
        raise InputError(
            f"{path} has values of type {vectors.dtype}; embeddings are "
            "numbers, float32 as a rule; extract the embeddings again"
        )
    named = np.sort(index.row)
    if vectors.ndim != 2 or not np.array_equal(named, np.arange(len(vectors))):
        raise InputError(
            f"{path} has shape {list(vectors.shape)} and {table.name} names "
            f"{len(named)} rows, {named[0]} to {named[-1]}; they are not of "
            "one extraction, extract the embeddings again"
        )
    return vectors, index


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
    lacking = np.flatnonzero(position < 0)
    if len(lacking):
        raise InputError(
            f"{where} lacks {len(lacking)} of {len(position)} utterances, the "
            f"first is {str(ids[lacking[0]])!r}; run extract_embeddings on the "
            "manifest that names them"
        )
    return index.row[position]
