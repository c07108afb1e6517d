"""Files that a corpus is prepared from: audio trees and trial lists.

The prepare recipes and the checks before a run find them alike.
"""

from __future__ import annotations

import hashlib
import logging
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechbrain_ext.dataio.audio_tree import AudioTree, is_inside
from speechbrain_ext.dataio.corpus import find_audio, named_files, prepare
from speechbrain_ext.dataio.settings import PrepareFolder, PrepareVoxCeleb
from speechbrain_ext.dataio.trials import (
    TrialList,
    check_pairs,
    parse_trials,
    read_trial_file,
)
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike, atomic_path

logger = logging.getLogger(__name__)

DOWNLOADS = "downloads"
SECONDS = 60  # longest wait for a list on the network


@dataclass(frozen=True)
class CorpusFiles:
    """Audio of a corpus, and the trial lists that name some of it.

    Arguments
    ---------
    train : AudioTree
        Training files.
    test : AudioTree, optional
        Test files; with lists, those that the lists name.
    trials : list of TrialList
        The lists, whose files are all in ``test``.
    """

    train: AudioTree
    test: AudioTree | None
    trials: list[TrialList]

    def request(self) -> dict[str, Any]:
        """Return counts and hashes of the files, for the stage record."""
        found: dict[str, Any] = {"train_files": self.train.summary()}
        if self.test is not None:
            found["test_files"] = self.test.summary()
            found["trial_lists"] = {t.name: t.summary() for t in self.trials}
        return found


def find_corpus(settings: PrepareVoxCeleb | PrepareFolder) -> CorpusFiles:
    """Find the files of a corpus and check its trial lists.

    Arguments
    ---------
    settings : PrepareVoxCeleb or PrepareFolder
        Of the recipe that prepares it.

    Returns
    -------
    CorpusFiles

    Raises
    ------
    InputError
        A folder is missing or holds no audio, training and test files are not
        apart, or a list cannot be read or names an unknown file.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> (folder / "speech").mkdir()
    >>> (folder / "speech" / "a.wav").touch()
    >>> settings = PrepareFolder(
    ...     data_folder=str(folder / "speech"),
    ...     output_folder=str(folder / "out"),
    ... )
    >>> find_corpus(settings).train.ids
    ['a.wav']
    """
    if isinstance(settings, PrepareVoxCeleb):
        return _voxceleb(settings)
    return _folder(settings)


def _voxceleb(settings: PrepareVoxCeleb) -> CorpusFiles:
    root, output = Path(settings.data_folder), Path(settings.output_folder)
    train = find_audio(output, _below(root, settings.train_wav))
    if not settings.test_wav:
        return CorpusFiles(train, None, [])
    test = find_audio(output, _below(root, settings.test_wav))
    sources = settings.trials or settings.official_trials
    trials = read_lists(sources, root, output / DOWNLOADS)
    test = named_files(test, trials, str(settings.test_wav))
    check_apart(train, test)
    return CorpusFiles(train, test, trials)


def _below(root: Path, value: str | list[str]) -> list[Path]:
    names = value if isinstance(value, list) else [value]
    return [root / name for name in names]


def _folder(settings: PrepareFolder) -> CorpusFiles:
    output = settings.output_folder
    folder, test_folder = settings.data_folder, settings.test_folder
    if test_folder and is_inside(folder, test_folder):
        raise InputError(
            f"test_folder {test_folder} holds data_folder {folder}, whose "
            "files are for training; give a folder beside or below it"
        )
    outside = [test_folder] if test_folder else []
    train = find_audio(output, [folder], exclude=outside)
    if not test_folder:
        return CorpusFiles(train, None, [])
    test = find_audio(output, [test_folder])
    lists = [read_trial_file(*item) for item in settings.trials.items()]
    for some in lists:
        check_pairs(some, allow_repeats=True)
    if lists:
        # Without lists all files below the folder are test files.
        test = named_files(test, lists, test_folder)
    return CorpusFiles(train, test, lists)


def prepare_corpus(
    settings: PrepareVoxCeleb | PrepareFolder, files: CorpusFiles
) -> tuple[list[str], dict[str, Any]]:
    """Measure or convert the files of a corpus and write its manifests.

    Arguments
    ---------
    settings : PrepareVoxCeleb or PrepareFolder
        Of the recipe that prepares it.
    files : CorpusFiles
        From `find_corpus`.

    Returns
    -------
    list of str
        Names of the files that were written.
    dict of str to Any
        Facts for the stage record, ``data_root`` among them.

    Raises
    ------
    InputError
        As of `speechbrain_ext.dataio.corpus.prepare`.
    """
    return prepare(
        settings.output_folder,
        settings.data_folder,
        files.train,
        files.test,
        files.trials,
        settings.min_duration,
        convert_to_wav=settings.convert_to_wav,
        check_samples=settings.check_samples,
        shard_rows=settings.shard_rows,
        num_workers=settings.num_workers,
    )


def read_lists(
    sources: Mapping[str, str], root: PathLike, downloads: PathLike
) -> list[TrialList]:
    """Read and check trial lists, from files or addresses.

    Arguments
    ---------
    sources : mapping of str to str
        Path below ``root``, or URL, of each list by its name.
    root : str or os.PathLike
        Folder of the corpus.
    downloads : str or os.PathLike
        Folder in which `keep_downloads` stored the lists of an earlier run.

    Raises
    ------
    InputError
        A list cannot be had or read, compares a file with itself, or has a
        pair with both labels.
    """
    lists = []
    for name, source in sources.items():
        if source.startswith(("http://", "https://")):
            content = _fetch(name, source, _download(downloads, source))
            lists.append(parse_trials(name, source, content))
        else:
            lists.append(read_trial_file(name, Path(root) / source))
        # Whether repeats are meant is said when they are scored.
        check_pairs(lists[-1], allow_repeats=True)
    return lists


def _download(folder: PathLike, address: str) -> Path:
    name = hashlib.sha256(address.encode()).hexdigest()[:16]
    return Path(folder) / f"{name}.txt"


def _fetch(name: str, address: str, kept: Path) -> bytes:
    """Download a list, unless an earlier run has stored it."""
    if kept.is_file():
        return kept.read_bytes()
    try:
        with urllib.request.urlopen(address, timeout=SECONDS) as answer:
            return answer.read()
    except (urllib.error.URLError, OSError) as error:
        raise InputError(
            f"{address} cannot be fetched ({error}); download it yourself "
            f'and give its path: --trials="{{{name}: /path/to/list.txt}}"'
        ) from None


def keep_downloads(folder: PathLike, trials: list[TrialList]) -> None:
    """Store downloaded lists, so that a later run needs no network."""
    for some in trials:
        if some.source.startswith("http"):
            with atomic_path(_download(folder, some.source)) as part:
                part.write_bytes(some.content)


def check_apart(train: AudioTree, test: AudioTree) -> None:
    """Raise InputError for test files in training; warn of shared speakers."""
    shared = sorted(set(train.ids) & set(test.ids))
    if shared:
        raise InputError(
            f"{shared[0]!r} and {len(shared) - 1:,} more files are both in "
            "train_wav and in test_wav; give trees without common files"
        )
    known = {name.split("/")[0] for name in train.ids}
    heard = known & {name.split("/")[0] for name in test.ids}
    if heard:
        logger.warning(
            f"{len(heard)} test speakers ({min(heard)}, ...) are in the "
            "training files too: scores will look better than they are"
        )
