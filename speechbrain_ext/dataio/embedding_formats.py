"""Read and write embeddings in the formats of other tools.

``npy``
    ``x.npy`` [N, D] and ``x.csv``; in our folders x is ``embeddings``.
``pt``
    A dict of utterance to tensor [D] or [1, D], saved by torch, as the
    released code of Miara et al. (Interspeech 2024) keeps them.
``kaldi``
    ``embeddings.ark`` (binary vectors) and ``embeddings.scp``, as Kaldi,
    kaldiio and wespeaker read and write them; what else is read is in
    `speechbrain_ext.dataio.kaldi_archives`.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from speechbrain_ext.dataio.audio_tree import READABLE, UNREADABLE
from speechbrain_ext.dataio.embedding_files import read_array
from speechbrain_ext.dataio.kaldi_archives import (
    archives_of,
    read_ark,
    read_scp,
)
from speechbrain_ext.dataio.label_formats import check_format
from speechbrain_ext.dataio.manifest import write_manifest
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import SHARDS, PathLike, atomic_path
from speechbrain_ext.utils.saved_tensors import read_saved
from speechbrain_ext.utils.vectors import row_blocks

_STEM = "embeddings"
_FILES = {"npy": f"{_STEM}.npy", "pt": f"{_STEM}.pt", "kaldi": f"{_STEM}.ark"}
_BINARY = b"\0B"
_SUFFIXES = {".npy": "npy", ".pt": "pt", ".ark": "kaldi", ".scp": "kaldi"}


def read_vectors(
    path: PathLike, vector_format: str
) -> tuple[np.ndarray, np.ndarray]:
    """Read utterances and their embeddings in one of the `FORMATS`.

    Arguments
    ---------
    path : str or os.PathLike
        The file, or the folder that this module or extract_embeddings wrote.
    vector_format : str
        A key of `FORMATS`, or ``"auto"``: the one that the name tells.

    Returns
    -------
    tuple of numpy.ndarray
        IDs [N] and embeddings [N, D], float32.

    Raises
    ------
    InputError
        The format is unknown, the file breaks it, lengths differ, an
        utterance is there twice, or an embedding is not finite.
    """
    vector_format = format_of(path, vector_format)
    path = file_of(path, vector_format)
    if vector_format == "npy":
        vectors, index = read_array(path)
        return _finite(path, index.ID, np.asarray(vectors[index.row]))
    if not path.is_file():
        raise InputError(f"{path}: no such file; correct the path")
    kaldi = read_scp if path.suffix == ".scp" else read_ark
    ids, rows = (_read_pt if vector_format == "pt" else kaldi)(path)
    _refuse_doubled(path, ids)
    sizes = {row.size for row in rows}
    if len(sizes) != 1:
        raise InputError(
            f"{path} has embeddings of sizes {sorted(sizes)}; there must be "
            "some, all of one size above 0; write the file again"
        )
    with np.errstate(over="ignore"):
        # A double beyond float32 becomes infinite, and is refused.
        stacked = np.stack([row.reshape(-1) for row in rows])
        vectors = stacked.astype(np.float32)
    return _finite(path, np.array(ids, dtype=object), vectors)


def _finite(
    path: Path, ids: np.ndarray, vectors: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return utterances and vectors; raise InputError for NaN or infinity."""
    bad = np.zeros(len(vectors), dtype=bool)
    for rows in row_blocks(len(vectors), max(vectors[:1].size, 1)):
        bad[rows] = ~np.isfinite(vectors[rows]).all(axis=1)
    if bad.any():
        raise InputError(
            f"{path}: the embedding of {str(ids[int(bad.argmax())])!r} holds "
            f"NaN or infinity ({int(bad.sum())} of {len(bad)} do); extract it "
            "again, or leave it out"
        )
    return ids, vectors


def format_of(path: PathLike, vector_format: str = "auto") -> str:
    """Return the format of embeddings; ``"auto"`` judges by the name.

    Arguments
    ---------
    path : str or os.PathLike
        A file, or a folder that holds one by the name that this module gives.
    vector_format : str
        A key of `FORMATS`, returned as it is, or ``"auto"``.

    Returns
    -------
    str
        A key of `FORMATS`.

    Raises
    ------
    InputError
        The format is unknown, or the name tells none.

    Example
    -------
    >>> format_of("exp/xvector.scp")
    'kaldi'
    """
    if vector_format != "auto":
        check_format(vector_format, FORMATS)
        return vector_format
    path = Path(path)
    if _has_others(path):
        for name, file in _FILES.items():
            if (path / file).exists():
                return name
    elif path.name.endswith(".ark.gz"):
        return "kaldi"
    elif path.suffix in _SUFFIXES:
        return _SUFFIXES[path.suffix]
    raise InputError(
        f"{path}: no embeddings are known by that name; there must be a .npy, "
        f".pt, .ark, .ark.gz or .scp file, or a folder with one of "
        f"{', '.join(_FILES.values())}; correct the path"
    )


def select_utterances(
    ids: np.ndarray, vectors: np.ndarray, wanted: np.ndarray, where: str
) -> np.ndarray:
    """Return the embeddings [M, D] of utterances, in their order.

    Names may differ in the ending of an audio file: embeddings of decoded
    ``00001.wav`` are those of ``00001.m4a``, if no two names then agree.

    Arguments
    ---------
    ids : numpy.ndarray
        Utterances that were read [N].
    vectors : numpy.ndarray
        Their embeddings [N, D].
    wanted : numpy.ndarray
        Utterances [M].
    where : str
        What was read and what asks for them, for the message.

    Returns
    -------
    numpy.ndarray

    Raises
    ------
    InputError
        An utterance has no embedding.

    Example
    -------
    >>> ids = np.array(["a", "b"], dtype=object)
    >>> select_utterances(ids, np.eye(2), np.array(["b"]), "x.pt")
    array([[0., 1.]])
    >>> select_utterances(ids, np.eye(2), np.array(["a.wav"]), "x.pt")
    array([[1., 0.]])
    >>> select_utterances(ids, np.eye(2), np.array(["c"]), "x.pt")
    Traceback (most recent call last):
    speechbrain_ext.utils.errors.InputError: x.pt: 1 of 1 utterances have ...
    """
    rows = pd.Index(ids).get_indexer(pd.Index(wanted))
    if (rows < 0).any():
        rows = _rows_by_stems(ids, wanted, rows)
    lacking = np.flatnonzero(rows < 0)
    if len(lacking):
        raise InputError(
            f"{where}: {len(lacking)} of {len(rows)} utterances have no "
            f"embedding, the first is {str(wanted[lacking[0]])!r}; embeddings "
            "must have the manifest's IDs, and the first of theirs is "
            f"{str(ids[0])!r}; rename them, or extract those that are missing"
        )
    return vectors[rows]


def _rows_by_stems(
    ids: np.ndarray, wanted: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """Return rows [M] found without endings, if that confuses no names."""
    there, asked = (pd.Index(_stems(names)) for names in (ids, wanted))
    if not (there.is_unique and asked.is_unique):
        return rows
    return there.get_indexer(asked)


def _stems(names: np.ndarray) -> list[str]:
    """Return names [N] without the ending of an audio file."""
    parts = (os.path.splitext(str(name)) for name in names)
    endings = (*READABLE, *UNREADABLE)
    return [
        stem if ending.lower() in endings else stem + ending
        for stem, ending in parts
    ]


def file_of(path: PathLike, vector_format: str) -> Path:
    """Find the file to read: the path itself, or the one in that folder.

    Example
    -------
    >>> file_of(getfixture("tmp_path"), "kaldi").name
    'embeddings.ark'
    """
    check_format(vector_format, FORMATS)
    path = Path(path)
    return path / _FILES[vector_format] if _has_others(path) else path


def _has_others(path: Path) -> bool:
    """Return whether a path is a folder of files, not the parts of one."""
    return path.is_dir() and not (path / SHARDS).exists()


def files_of(path: PathLike, vector_format: str) -> dict[str, PathLike]:
    """List the files to read, by content.

    Example
    -------
    >>> str(files_of("x.npy", "npy")["names"])
    'x.csv'
    """
    vector_format = format_of(path, vector_format)
    path = file_of(path, vector_format)
    files: dict[str, PathLike] = {"embeddings": path}
    if vector_format == "npy":
        files["names"] = path.with_suffix(".csv")
    if path.suffix == ".scp" and path.is_file():
        arks = enumerate(archives_of(path), start=1)
        files |= {f"ark {n}": ark for n, ark in arks}
    return files


def write_vectors(
    folder: PathLike, ids: np.ndarray, vectors: np.ndarray, vector_format: str
) -> list[str]:
    """Write embeddings [N, D] of utterances [N] in one of the `FORMATS`.

    Returns
    -------
    list of str
        The names written.

    Raises
    ------
    InputError
        The format is unknown, or has no place for an ID with a space.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> x = np.eye(2, dtype=np.float32)
    >>> write_vectors(folder, np.array(["a", "b"], object), x, "kaldi")
    ['embeddings.ark', 'embeddings.scp']
    >>> read_vectors(folder, "kaldi")[1]
    array([[1., 0.],
           [0., 1.]], dtype=float32)
    """
    check_format(vector_format, FORMATS)
    return FORMATS[vector_format](Path(folder), ids, vectors)


def _write_npy(folder: Path, ids: np.ndarray, vectors: np.ndarray) -> list[str]:
    with atomic_path(folder / f"{_STEM}.npy") as part:
        np.save(part, vectors)
    table = pd.DataFrame({"ID": ids, "row": np.arange(len(ids))})
    write_manifest(folder / f"{_STEM}.csv", table, "embeddings")
    return [f"{_STEM}.npy", f"{_STEM}.csv"]


def _write_pt(folder: Path, ids: np.ndarray, vectors: np.ndarray) -> list[str]:
    # Rows of one tensor: torch saves their memory once.
    rows = torch.from_numpy(np.ascontiguousarray(vectors))
    named = dict(zip(map(str, ids), rows, strict=True))
    # Given a path, torch would write its (temporary) name into the file.
    with atomic_path(folder / f"{_STEM}.pt") as part, open(part, "wb") as file:
        torch.save(named, file)
    return [f"{_STEM}.pt"]


def _write_kaldi(
    folder: Path, ids: np.ndarray, vectors: np.ndarray
) -> list[str]:
    if pd.Series(ids, dtype=object).str.contains(r"\s").any():
        raise InputError(
            "an utterance's ID has a space; a space ends the ID in Kaldi's "
            "format; write pt or npy"
        )
    ark, scp = f"{_STEM}.ark", f"{_STEM}.scp"
    lines = []
    with atomic_path(folder / ark) as part, open(part, "wb") as stream:
        for name, vector in zip(ids, vectors, strict=True):
            stream.write(f"{name} ".encode())
            lines.append(f"{name} {folder / ark}:{stream.tell()}\n")
            stream.write(_BINARY + b"FV \x04" + struct.pack("<i", vector.size))
            stream.write(vector.astype("<f4").tobytes())
    with atomic_path(folder / scp) as part:
        part.write_text("".join(lines), encoding="utf-8")
    return [ark, scp]


def _read_pt(path: Path) -> tuple[list[str], list[np.ndarray]]:
    found, reason = read_saved(path)
    if reason:
        raise InputError(
            f"{path} is not a dict of tensors saved by torch ({reason}); save "
            "it as one"
        )
    tensors = isinstance(found, dict) and all(
        isinstance(value, torch.Tensor) for value in found.values()
    )
    if not tensors:
        raise InputError(
            f"{path} is not a dict of utterance to tensor; save one with "
            "torch.save"
        )
    for key, value in found.items():
        one = value.ndim == 1 or (value.ndim == 2 and len(value) == 1)
        if not one or not value.is_floating_point():
            raise InputError(
                f"{path}: {key!r} has shape {list(value.shape)} and type "
                f"{value.dtype}; save one embedding [D] of floats an utterance"
            )
    rows = [value.detach().float().numpy() for value in found.values()]
    return [str(key) for key in found], rows


def _refuse_doubled(path: Path, ids: list[str]) -> None:
    twice = pd.Series(ids, dtype=object).duplicated()
    if twice.any():
        raise InputError(
            f"{path}: utterance {ids[int(twice.argmax())]!r} is there twice "
            f"({int(twice.sum())} such); keep one of them"
        )


FORMATS: dict[str, Callable[[Path, np.ndarray, np.ndarray], list[str]]] = {
    "npy": _write_npy,
    "pt": _write_pt,
    "kaldi": _write_kaldi,
}
