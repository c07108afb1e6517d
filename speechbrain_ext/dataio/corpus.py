"""Manifests of audio files: measuring, rejection and conversion.

Used by the prepare recipes. Lengths come from headers alone; with conversion
each file is decoded once into 16 kHz mono PCM16. Files at other rates or with
several channels are not rejected: `audio.read_crop` resamples and mixes them,
which is why ``start`` and ``stop`` count samples at 16 kHz for every file.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from speechbrain_ext.dataio.audio_files import convert, length_of
from speechbrain_ext.dataio.audio_tree import AudioTree
from speechbrain_ext.dataio.manifest import (
    DATA_ROOT,
    SAMPLE_RATE,
    write_manifest,
)
from speechbrain_ext.dataio.trials import TrialList, check_known
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike, atomic_path
from speechbrain_ext.utils.workers import in_parallel

logger = logging.getLogger(__name__)

WAV_FOLDER = "wav16k"


@dataclass(frozen=True)
class Corpus:
    """Usable utterances of a corpus, and rejected files with reasons.

    Arguments
    ---------
    rows : pandas.DataFrame
        A manifest of kind ``utterances``; may be empty.
    rejects : pandas.DataFrame
        Columns ``wav,reason``.
    """

    rows: pd.DataFrame
    rejects: pd.DataFrame


def prepare(
    folder: PathLike,
    data_folder: PathLike,
    train: AudioTree,
    test: AudioTree | None,
    trials: Sequence[TrialList],
    min_duration: float,
    convert_to_wav: bool,
    num_workers: int,
) -> tuple[list[str], dict[str, Any]]:
    """Write the manifests, the rejected files and the trials of a corpus.

    Arguments
    ---------
    folder : str or os.PathLike
        Where they go: ``train.csv``, ``test.csv``, ``rejects.csv`` and
        ``trials/<name>.txt``.
    data_folder : str or os.PathLike
        What ``$data_root`` stands for when nothing is converted; otherwise
        it stands for ``folder``.
    train, test : AudioTree
        The files; ``test`` may be None.
    trials : sequence of TrialList
        Lists that name test files.
    min_duration : float
        Shorter training files are rejected, in seconds.
    convert_to_wav : bool
        Whether to write 16 kHz mono PCM16 copies below ``folder/wav16k``; a
        copy from an earlier attempt is kept.
    num_workers : int
        Threads that read headers, or processes that convert.

    Returns
    -------
    tuple
        Names written, and facts for the stage record, ``data_root`` among them.

    Raises
    ------
    InputError
        No file is usable (``rejects.csv`` then says why), or a trial names
        one that is not.
    """
    folder = Path(folder)
    root = folder if convert_to_wav else Path(data_folder)
    corpora = {}
    for part, tree, shortest in (
        ("train", train, min_duration),
        ("test", test, 0.0),
    ):
        if tree is not None:
            copies = folder / WAV_FOLDER / part if convert_to_wav else None
            corpora[part] = measure(tree, root, shortest, num_workers, copies)
    names = _write(folder, corpora)
    for some in trials:
        known = corpora["test"].rows["ID"]
        check_known(some, known, f"test.csv, see {folder / 'rejects.csv'}")
        names.append(f"trials/{some.name}.txt")
        some.write(folder / names[-1])
    return names, _facts(root, folder, corpora, trials)


def named_files(
    test: AudioTree, trials: Sequence[TrialList], where: PathLike
) -> AudioTree:
    """Select the files of trial lists; all must be below ``test``."""
    for some in trials:
        check_known(some, test.ids, f"the {len(test):,} files below {where}")
    return test.pick(name for some in trials for name in some.ids())


def _facts(
    root: Path,
    folder: Path,
    corpora: dict[str, Corpus],
    trials: Sequence[TrialList],
) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "data_root": str(root.absolute()),
        # Both folders may move later: the record shows which one was meant.
        "data_in_output": root.absolute() == folder.absolute(),
    }
    for part, corpus in corpora.items():
        hours = corpus.rows["duration"].sum() / 3600
        facts[f"n_{part}"] = len(corpus.rows)
        facts[f"hours_{part}"] = round(float(hours), 3)
        facts[f"n_{part}_rejected"] = len(corpus.rejects)
    facts["n_trials"] = {some.name: len(some) for some in trials}
    logger.info("; ".join(f"{key} {value}" for key, value in facts.items()))
    return facts


def measure(
    tree: AudioTree,
    root: PathLike,
    min_duration: float,
    num_workers: int,
    wav_folder: PathLike | None = None,
) -> Corpus:
    """Measure all files, with a reason for each that cannot be used.

    Arguments
    ---------
    tree : AudioTree
        The files.
    root : str or os.PathLike
        What ``$data_root`` stands for.
    min_duration : float
        Shorter files are rejected, in seconds.
    num_workers : int
        Threads that read headers, or processes that convert.
    wav_folder : str or os.PathLike, optional
        Where copies go; the rows then name the copies.

    Returns
    -------
    Corpus
        In the order of the tree.
    """
    if wav_folder is None:
        wavs = tree.paths
        results = in_parallel(
            length_of, wavs, num_workers, "headers", threads=True
        )
    else:
        wavs = _copies(tree, Path(wav_folder))
        jobs = list(zip(tree.paths, wavs, strict=True))
        results = in_parallel(convert, jobs, num_workers, "to wav")
    frames = np.array([n for n, _ in results], dtype="int64")
    reasons = np.array([reason for _, reason in results], dtype=object)
    short = (reasons == "") & (frames < min_duration * SAMPLE_RATE)
    reasons[short] = [
        f"{n / SAMPLE_RATE:.2f} s is shorter than min_duration {min_duration} s"
        for n in frames[short]
    ]
    return _sort_out(tree, wavs, root, frames, reasons)


def _sort_out(
    tree: AudioTree,
    wavs: list[str],
    root: PathLike,
    frames: np.ndarray,
    reasons: np.ndarray,
) -> Corpus:
    good = np.flatnonzero(reasons == "")
    bad = np.flatnonzero(reasons != "")
    rows = {
        "ID": [tree.ids[row] for row in good],
        "duration": frames[good] / SAMPLE_RATE,
        "wav": [_rooted(wavs[row], root) for row in good],
        "start": 0,
        "stop": frames[good],
    }
    rejects = {"wav": [tree.paths[row] for row in bad], "reason": reasons[bad]}
    return Corpus(pd.DataFrame(rows), pd.DataFrame(rejects))


def _copies(tree: AudioTree, folder: Path) -> list[str]:
    """Return unique names of copies [N]; a.flac and a.wav must differ."""
    names = [
        name if name.lower().endswith(".wav") else f"{name}.wav"
        for name in tree.ids
    ]
    twice = pd.Index(names).duplicated()
    if twice.any():
        name = names[int(np.flatnonzero(twice)[0])]
        raise InputError(
            f"two files would be converted to {name}; rename one of them"
        )
    return [str(folder / name) for name in names]


def _rooted(path: str, root: PathLike) -> str:
    relative = os.path.relpath(path, root)
    if relative.startswith(os.pardir):
        # Going up from a link leads to the parent of what it points to.
        relative = os.path.relpath(path, os.path.realpath(root))
    return f"{DATA_ROOT}/{relative}".replace(os.sep, "/")


def _write(folder: Path, corpora: dict[str, Corpus]) -> list[str]:
    rejects = pd.concat([corpus.rejects for corpus in corpora.values()])
    with atomic_path(folder / "rejects.csv") as file:
        # A name that is not UTF-8 is one of the reasons to reject a file.
        rejects.to_csv(file, index=False, errors="backslashreplace")
    names = ["rejects.csv"]
    for part, corpus in corpora.items():
        if corpus.rows.empty:
            wav, reason = corpus.rejects.iloc[0]
            raise InputError(
                f"none of {len(corpus.rejects)} {part} files can be used, "
                f"the first being {wav!r} ({reason}); correct the folder, "
                f"{folder / 'rejects.csv'} has them all"
            )
        names.append(f"{part}.csv")
        write_manifest(folder / f"{part}.csv", corpus.rows, "utterances")
    return names
