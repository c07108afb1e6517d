"""Manifests of audio files: measuring, rejection and conversion.

Used by the prepare recipes. Each file is decoded once, to find those that
cannot be used (by ``check_samples: False`` headers are read alone); with
conversion it is written as 16 kHz mono PCM16, and AAC files always are.
Files at other rates or with several channels are not rejected:
`audio.read_crop` resamples and mixes them, which is why ``start`` and ``stop``
count samples at 16 kHz for every file.
"""

from __future__ import annotations

import functools
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from speechbrain_ext.dataio.audio_files import (
    convert,
    ffmpeg_version,
    heard_length,
    length_of,
)
from speechbrain_ext.dataio.audio_tree import (
    AudioTree,
    is_aac,
    list_audio,
    refuse_inside,
)
from speechbrain_ext.dataio.manifest import (
    DATA_ROOT,
    SAMPLE_RATE,
    write_manifest,
)
from speechbrain_ext.dataio.trials import TrialList, check_known
from speechbrain_ext.utils.distributed import from_first_process
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


def find_audio(
    folder: PathLike,
    sources: Sequence[PathLike],
    exclude: Sequence[PathLike] = (),
) -> AudioTree:
    """Find the files of a corpus to prepare; AAC files need ffmpeg.

    Arguments
    ---------
    folder : str or os.PathLike
        Where the prepared corpus goes. What is finished there needs no ffmpeg.
    sources, exclude : sequence of paths
        As of `speechbrain_ext.dataio.audio_tree.list_audio`.

    Returns
    -------
    AudioTree
        Sorted by ID.

    Raises
    ------
    InputError
        ``folder`` is inside a source, a source is missing or holds no audio,
        or it holds AAC and there is no ffmpeg.
    """
    refuse_inside(folder, sources)
    has_copies = (Path(folder) / WAV_FOLDER).is_dir()
    can_decode = shutil.which("ffmpeg") is not None
    return list_audio(sources, exclude, with_aac=has_copies or can_decode)


def prepare(
    folder: PathLike,
    data_folder: PathLike,
    train: AudioTree,
    test: AudioTree | None,
    trials: Sequence[TrialList],
    min_duration: float,
    convert_to_wav: bool,
    num_workers: int,
    check_samples: bool = True,
    shard_rows: int | None = None,
) -> tuple[list[str], dict[str, Any]]:
    """Write the manifests, the rejected files and the trials of a corpus.

    Arguments
    ---------
    folder : str or os.PathLike
        Where they go: ``train.csv``, ``test.csv``, ``rejects.csv`` and
        ``trials/<name>.txt``.
    data_folder : str or os.PathLike
        What ``$data_root`` stands for when no file is converted; otherwise
        it stands for ``folder``. Files outside of it have absolute paths.
    train, test : AudioTree
        The files; ``test`` may be None.
    trials : sequence of TrialList
        Lists that name test files.
    min_duration : float
        Shorter training files are rejected, in seconds.
    convert_to_wav : bool
        Whether to write 16 kHz mono PCM16 copies of all files below
        ``folder/wav16k``, or of AAC files alone; a copy from an earlier
        attempt is kept.
    num_workers : int
        Threads that read, or processes that convert.
    check_samples : bool
        Whether all files are decoded to find those that cannot be used.
    shard_rows : int, optional
        Utterances of a part, if ``train.csv`` is to be a folder of parts.

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
    trees = {"train": train} | ({} if test is None else {"test": test})
    copies = {
        part: copies_of(tree, folder / WAV_FOLDER / part, convert_to_wav)
        for part, tree in trees.items()
    }
    is_converted = any(any(names) for names in copies.values())
    root = folder if is_converted else Path(data_folder)
    shortest = {"train": min_duration, "test": 0.0}
    corpora = {
        part: measure(
            tree,
            root,
            shortest[part],
            num_workers,
            copies[part],
            check_samples,
        )
        for part, tree in trees.items()
    }
    names = from_first_process(_write, folder, corpora, shard_rows)
    for some in trials:
        known = corpora["test"].rows["ID"]
        check_known(some, known, f"test.csv, see {folder / 'rejects.csv'}")
        names.append(f"trials/{some.name}.txt")
        from_first_process(some.write, folder / names[-1])
    facts = _facts(root, folder, corpora, trials)
    if any(is_aac(path) for tree in trees.values() for path in tree.paths):
        facts["ffmpeg"] = ffmpeg_version()
    return names, facts


def named_files(
    test: AudioTree, trials: Sequence[TrialList], where: PathLike
) -> AudioTree:
    """Select the files of trial lists; all must be below ``test``."""
    for some in trials:
        check_known(some, test.ids, f"the {len(test):,} files below {where}")
    return test.pick(name for some in trials for name in some.names)


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
    logger.info(_in_words(facts))
    return facts


def _in_words(facts: Mapping[str, Any]) -> str:
    """Return the facts of a corpus in a line to read."""
    words = [
        f"{facts[f'n_{part}']:,} {name} utterances, "
        f"{facts[f'hours_{part}']:.2f} h ({facts[f'n_{part}_rejected']:,} "
        "files rejected)"
        for part, name in (("train", "training"), ("test", "test"))
        if f"n_{part}" in facts
    ]
    lists = facts["n_trials"].items()
    words += [f"{count:,} trials of the list {name}" for name, count in lists]
    return f"{'; '.join(words)}; data_root is {facts['data_root']}"


def measure(
    tree: AudioTree,
    root: PathLike,
    min_duration: float,
    num_workers: int,
    copies: Sequence[str | None] | None = None,
    check_samples: bool = True,
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
        Threads that read, or processes that convert.
    copies : sequence of str or None, optional
        Copy to write of each file, which its row then names; None: none.
    check_samples : bool
        Whether files are decoded; False reads headers alone.

    Returns
    -------
    Corpus
        In the order of the tree.
    """
    if copies is None or not any(copies):
        wavs = tree.paths
        measured = heard_length if check_samples else length_of
        title = "audio" if check_samples else "headers"
        results = in_parallel(measured, wavs, num_workers, title, threads=True)
    else:
        jobs = list(zip(tree.paths, copies, strict=True))
        wavs = [copy or path for path, copy in jobs]
        work = functools.partial(convert, check_samples=check_samples)
        results = in_parallel(work, jobs, num_workers, "to wav")
    frames = np.array([n for n, _ in results], dtype="int64")
    reasons = np.array([reason for _, reason in results], dtype=object)
    short = (reasons == "") & (frames < min_duration * SAMPLE_RATE)
    reasons[short] = [
        f"too short: {n / SAMPLE_RATE:.2f} s is shorter than min_duration "
        f"{min_duration} s"
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


def copies_of(
    tree: AudioTree, folder: PathLike, convert_to_wav: bool
) -> list[str | None]:
    """Return the copy to write of each file, or None if it stays as it is.

    Arguments
    ---------
    tree : AudioTree
        The files [N].
    folder : str or os.PathLike
        Where the copies go.
    convert_to_wav : bool
        Whether all files are copied, or AAC alone.

    Returns
    -------
    list of str or None
        [N], each name once: ``a.flac`` and ``a.wav`` must differ.

    Raises
    ------
    InputError
        Two files would have the same copy.

    Example
    -------
    >>> tree = AudioTree(["a.m4a", "b.wav"], ["x/a.m4a", "x/b.wav"], [1, 1])
    >>> copies_of(tree, "wav16k", convert_to_wav=False)
    ['wav16k/a.m4a.wav', None]
    """
    names = [
        name if name.lower().endswith(".wav") else f"{name}.wav"
        for name in tree.ids
    ]
    chosen = [convert_to_wav or is_aac(name) for name in tree.ids]
    # AAC alone: no two names with the same extension added are equal.
    twice = pd.Index(names).duplicated()
    if convert_to_wav and twice.any():
        name = names[int(np.flatnonzero(twice)[0])]
        raise InputError(
            f"two files would be converted to {name}; rename one of them"
        )
    return [
        str(Path(folder) / name) if is_chosen else None
        for name, is_chosen in zip(names, chosen, strict=True)
    ]


def _rooted(path: str, root: PathLike) -> str:
    """Return a file below ``$data_root``, or its absolute path elsewhere."""
    relative = os.path.relpath(path, root)
    if relative.split(os.sep)[0] == os.pardir:
        return os.path.abspath(path).replace(os.sep, "/")
    return f"{DATA_ROOT}/{relative}".replace(os.sep, "/")


def _write(
    folder: Path, corpora: dict[str, Corpus], shard_rows: int | None
) -> list[str]:
    rejects = pd.concat([corpus.rejects for corpus in corpora.values()])
    with atomic_path(folder / "rejects.csv") as file:
        # A name that is not UTF-8 is one of the reasons to reject a file.
        rejects.to_csv(file, index=False, errors="backslashreplace")
    names = ["rejects.csv"]
    for part, corpus in corpora.items():
        _warn(part, corpus, folder / "rejects.csv")
        if corpus.rows.empty:
            wav, reason = corpus.rejects.iloc[0]
            raise InputError(
                f"none of {len(corpus.rejects)} {part} files can be used, "
                f"the first being {wav!r} ({reason}); correct the folder, "
                f"{folder / 'rejects.csv'} has them all"
            )
        names.append(f"{part}.csv")
        write_manifest(
            folder / f"{part}.csv",
            corpus.rows,
            "utterances",
            shard_rows if part == "train" else None,
        )
    return names


def _warn(part: str, corpus: Corpus, path: Path) -> None:
    """Log how many files are left out, by the kind of their reasons."""
    n_rejects = len(corpus.rejects)
    if not n_rejects:
        return
    kinds = corpus.rejects["reason"].str.partition(":")[0].value_counts()
    counts = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items())
    logger.warning(
        f"{n_rejects:,} of {n_rejects + len(corpus.rows):,} {part} files are "
        f"left out ({counts}); {path} names each with its reason"
    )
