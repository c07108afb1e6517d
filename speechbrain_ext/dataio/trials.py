"""Trial lists: lines ``label enrol test``, or Kaldi's ``enrol test target``.

The first is VoxCeleb's, with label 1 or 0; Kaldi's ends with ``target`` or
``nontarget``.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from speechbrain_ext.dataio.columns import BLOCK, TextColumn
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike, atomic_path
from speechbrain_ext.utils.vectors import (
    by_blocks,
    has_repeats,
    large_array,
    row_blocks,
    taken,
    used_rows,
)

logger = logging.getLogger(__name__)

_KALDI = ("nontarget", "target")  # Kaldi's words for the labels 0 and 1


@dataclass(frozen=True)
class TrialList:
    """Checked trial list.

    Arguments
    ---------
    name : str
        Short name: results are filed under it.
    source : str
        Where it came from, for messages.
    content : bytes or memoryview
        The file as it is.
    labels : numpy.ndarray
        1 for target, 0 for non-target [N].
    names : numpy.ndarray
        IDs of the utterances in the list [U], each once, sorted.
    sides : tuple of numpy.ndarray
        Numbers of the two utterances of each trial among these, enrolment
        and test [N]: a list has many trials of few utterances.
    lines : numpy.ndarray
        Line of the file each trial is on [N].
    """

    name: str
    source: str
    content: bytes | memoryview
    labels: np.ndarray
    names: np.ndarray
    sides: tuple[np.ndarray, np.ndarray]
    lines: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def enrol(self) -> np.ndarray:
        """IDs of the enrolment utterances [N]."""
        return self.names[self.sides[0]]

    @property
    def test(self) -> np.ndarray:
        """IDs of the test utterances [N]."""
        return self.names[self.sides[1]]

    def of_sides(self, values: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return the values of both utterances of each trial, [N] each.

        Arguments
        ---------
        values : numpy.ndarray
            One of each of ``names`` [U].

        Example
        -------
        >>> trials = parse_trials("dev", "dev.txt", b"1 a b\\n0 a c\\n")
        >>> trials.of_sides(np.array([5, 6, 7]))
        (array([5, 5]), array([6, 7]))
        """
        values = np.asarray(values)
        return taken(values, self.sides[0]), taken(values, self.sides[1])

    def pair(self, row: int) -> tuple[str, str]:
        """Return the IDs of the two utterances of a trial."""
        enrol, test = (self.names[side[row]] for side in self.sides)
        return enrol, test

    def summary(self) -> dict[str, Any]:
        """Return counts and a hash that identifies the list."""
        digest = hashlib.sha256(self.content).hexdigest()
        return {"count": len(self), "sha256": digest}

    def write(self, path: PathLike) -> None:
        """Write the list byte for byte as it was read."""
        with atomic_path(path) as part:
            part.write_bytes(self.content)


def read_trial_file(name: str, path: PathLike) -> TrialList:
    """Read a trial list from a file and check it.

    Example
    -------
    >>> path = getfixture("tmp_path") / "list.txt"
    >>> _ = path.write_text("1 a b\\n0 a c\\n")
    >>> len(read_trial_file("dev", path))
    2
    """
    if not isinstance(path, (str, Path)) or not Path(path).is_file():
        raise InputError(
            f"trials {name}: {path} is not a file; give the path of a list "
            "of lines 'label enrol test'"
        )
    # A copy, whatever becomes of the file: were it mapped itself and cut short
    # meanwhile, the system would end the process, without a word.
    with open(path, "rb") as stream:
        n_bytes = os.fstat(stream.fileno()).st_size
        content = large_array(n_bytes, np.uint8).data
        n_read = stream.readinto(content)
    return parse_trials(name, str(path), content[:n_read])


class _Reader(io.RawIOBase):
    """File that reads a buffer, without a copy of it as `io.BytesIO` makes."""

    def __init__(self, content: bytes | memoryview):
        self.view, self.place = memoryview(content), 0

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        some = self.view[self.place : self.place + len(target)]
        target[: len(some)] = some
        self.place += len(some)
        return len(some)


def _opened(content: bytes | memoryview) -> io.BufferedReader:
    return io.BufferedReader(_Reader(content))


def parse_trials(
    name: str, source: str, content: bytes | memoryview
) -> TrialList:
    """Parse a trial list and check every line.

    Arguments
    ---------
    name : str
        Its short name.
    source : str
        Its path or address, for messages.
    content : bytes or memoryview
        The text, one trial a line, all VoxCeleb's or all Kaldi's; empty
        lines are passed over. Columns are
        separated by white space; where each line has two tabs, by these, so
        that a name may have spaces.

    Returns
    -------
    TrialList
        In file order.

    Raises
    ------
    InputError
        A line is no trial, or one of the labels is absent.

    Example
    -------
    >>> trials = parse_trials("dev", "dev.txt", b"1 a b\\n0 a c\\n")
    >>> trials.labels, trials.names
    (array([1, 0]), array(['a', 'b', 'c'], dtype=object))
    >>> parse_trials("k", "k", b"a b target\\na c nontarget\\n").labels
    array([1, 0])
    """
    try:
        texts, columns, lines = _read_columns(content)
    except (ValueError, pd.errors.EmptyDataError) as error:
        raise InputError(
            f"{source} is not a trial list ({str(error).strip()}); each line "
            "is 'label enrol test', or 'enrol test target' as Kaldi has it; "
            "names with spaces need tabs between these"
        ) from None
    label, enrol, test, more = columns
    words = [texts == word for word in ("0", "1", *_KALDI)]
    is_ours = _all_are(label, words[0] | words[1])
    if not is_ours and _all_are(test, words[2] | words[3]):
        label, enrol, test, words = test, label, enrol, words[2:]
    labels = taken(words[1].astype(np.int64), label)
    is_label = words[0] | words[1]
    bad = by_blocks(
        lambda own, *sides: (
            ~is_label[own] | (sides[0] < 0) | (sides[1] < 0) | (sides[2] >= 0)
        ),
        *(label, enrol, test, more),
        dtype=bool,
    )
    if bad.any():
        row = int(bad.argmax())
        said = (texts[column[row]] for column in columns if column[row] >= 0)
        raise InputError(
            f"{source} line {lines[row]}: {' '.join(said)!r} is not a trial "
            f"({int(bad.sum())} such line(s)); each line is 'label enrol "
            "test', label 1 for the same speaker and 0 for different ones, or "
            "each is 'enrol test target' or 'enrol test nontarget'; names with "
            "spaces need tabs between the columns"
        )
    if labels.min() == labels.max():
        raise InputError(
            f"{source} has {len(labels)} trial(s), not both targets (label 1) "
            "and non-targets (label 0); an EER needs both"
        )
    names, sides = _used(texts, enrol, test)
    return TrialList(name, source, content, labels, names, sides, lines)


def _read_columns(
    content: bytes | memoryview,
) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Read lines of up to four words.

    Returns the distinct words, an empty one last; the number of the word in
    each of four columns [N], -1 where there is none; and the line of each row.
    """
    names = ["first", "second", "third", "more"]
    known: dict[str, int] = {}
    n_lines, has_tabs = _survey(content)
    columns = [large_array(n_lines, np.int32) for _ in names]
    lines = large_array(n_lines, np.int64)
    count = 0
    with pd.read_csv(
        _opened(content),
        sep="\t" if has_tabs else r"\s+",
        names=names,
        header=None,
        dtype=object,
        keep_default_na=False,
        na_values=[""],
        skip_blank_lines=False,
        quoting=3,
        encoding="utf-8",
        chunksize=BLOCK,
    ) as reader:
        for table in reader:
            if not isinstance(table.index, pd.RangeIndex):
                # pandas takes the first of five words for a name of the row.
                raise ValueError("line 1 has more than 4 words")
            table = table.dropna(how="all")
            rows = slice(count, count + len(table))
            lines[rows] = table.index.to_numpy() + 1
            for column, name in zip(columns, names, strict=True):
                # Words are strings for a block alone: each is kept once.
                local, some = pd.factorize(table[name].to_numpy(object))
                numbers = [known.setdefault(s, len(known)) for s in some]
                column[rows] = np.array([*numbers, -1])[local]
            count += len(table)
    if not count:
        raise ValueError("it has no line with a word")
    texts = np.array([*known, ""], dtype=object)
    return texts, [column[:count] for column in columns], lines[:count]


def _all_are(column: np.ndarray, wanted: np.ndarray) -> bool:
    """Return whether all texts of a column [N] are wanted ones."""
    return all(wanted[column[rows]].all() for rows in row_blocks(len(column)))


def _used(
    texts: np.ndarray, *sides: np.ndarray
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Return the texts that two sides use, sorted, and their new numbers."""
    used = used_rows(len(texts), *sides)
    used = used[np.argsort(texts[used], kind="stable")]
    rank = np.zeros(len(texts), dtype=np.int32)
    rank[used] = np.arange(len(used))
    enrol, test = (taken(rank, side) for side in sides)
    return texts[used], (enrol, test)


def _survey(content: Any) -> tuple[int, bool]:
    """Count the lines; return also whether two tabs are in each that has any.

    A line ends as pandas has it: by a line feed, a carriage return, or both.
    """
    n_lines, tabs = 0, set()
    for line in io.TextIOWrapper(_opened(content), encoding="latin-1"):
        n_lines += 1
        if line.strip(" \t\r\n\v\f"):
            tabs.add(line.count("\t"))
    return n_lines, tabs == {2}


def warn_of_reversed(trials: TrialList) -> int:
    """Warn of pairs that a list has in both orders; return their number.

    A cosine gives both the same score, so such a trial counts twice.

    Example
    -------
    >>> warn_of_reversed(parse_trials("dev", "dev.txt", b"1 a b\\n0 a c\\n"))
    0
    """
    again = _repeats(trials, either=True)
    if again.any():
        again = again & ~_repeats(trials)
    if again.any():
        row = int(again.argmax())
        logger.warning(
            f"{trials.source}: {int(again.sum()):,} of {len(trials):,} trials "
            f"are earlier ones the other way round, the first is "
            f"{' '.join(trials.pair(row))} in line "
            f"{trials.lines[row]}; both orders count, so error rates have "
            "fewer trials behind them than it seems"
        )
    return int(again.sum())


def check_pairs(trials: TrialList, allow_repeats: bool = False) -> None:
    """Raise InputError for pairs that make an error rate wrong.

    The two orders of a pair are two trials, which a list may have on purpose:
    they are not a repeat (`warn_of_reversed` counts them). A cosine cannot
    tell them apart, so they must not contradict each other.

    Arguments
    ---------
    trials : TrialList
        The list.
    allow_repeats : bool
        Count a pair that is there twice twice, instead of refusing it.

    Raises
    ------
    InputError
        An utterance is compared with itself, a pair is there with both
        labels, or it is repeated; with the first such line.

    Example
    -------
    >>> trials = parse_trials("dev", "dev.txt", b"1 a b\\n0 a c\\n1 a b\\n")
    >>> check_pairs(trials)
    Traceback (most recent call last):
    speechbrain_ext.utils.errors.InputError: dev.txt line 3: the pair a b is ...
    """
    itself = by_blocks(np.equal, *trials.sides, dtype=bool)
    # None of these in either order: then there is none in one order.
    contradicts = again = _repeats(trials, either=True)
    if again.any():
        same = _repeats(trials, either=True, labelled=True)
        contradicts, again = again & ~same, _repeats(trials)
    if itself.any():
        bad, rule = itself, "compares an utterance with itself"
        way = "remove it"
    elif contradicts.any():
        bad, rule = contradicts, "is there with the other label too"
        way = "one of the two is wrong, remove it"
    elif again.any() and not allow_repeats:
        bad, rule = again, "is there twice"
        way = (
            "remove the repeats, or count them as they are with "
            "--allow_repeats=True"
        )
    else:
        return
    row = int(np.flatnonzero(bad)[0])
    raise InputError(
        f"{trials.source} line {trials.lines[row]}: the pair "
        f"{' '.join(trials.pair(row))} {rule} "
        f"({int(bad.sum())} such line(s)); {way}"
    )


def _repeats(
    trials: TrialList, either: bool = False, labelled: bool = False
) -> np.ndarray:
    """Return which trials [N] have the pair of an earlier one.

    In either order if asked for; and its label, too, if asked for.
    """
    count = len(trials.names)

    def key(enrol: np.ndarray, test: np.ndarray, label: np.ndarray) -> Any:
        sides = enrol.astype(np.int64), test.astype(np.int64)
        if either:
            sides = np.minimum(*sides), np.maximum(*sides)
        whole = sides[0] * count + sides[1]
        return 2 * whole + label if labelled else whole

    columns = (*trials.sides, trials.labels)
    keys = by_blocks(key, *columns, dtype=np.int64)
    if has_repeats(by_blocks(np.array, keys, dtype=np.int64)):
        return pd.Series(keys).duplicated().to_numpy()
    return by_blocks(np.zeros_like, keys, dtype=bool)


def check_known(trials: TrialList, known: Collection[str], where: str) -> None:
    """Raise InputError if a list names unknown utterances.

    Arguments
    ---------
    trials : TrialList
        The list.
    known : collection of str
        IDs that exist.
    where : str
        What holds them, for the message.

    Raises
    ------
    InputError
        With the first such line and the number of them.

    Example
    -------
    >>> trials = parse_trials("dev", "dev.txt", b"1 a b\\n0 a c\\n")
    >>> check_known(trials, ["a", "b"], "test.csv")
    Traceback (most recent call last):
    speechbrain_ext.utils.errors.InputError: dev.txt line 2: 'c' is not in ...
    """
    if isinstance(known, TextColumn):
        rows = known.find(trials.names)
    else:
        index = pd.Index(np.asarray(list(known), dtype=object))
        rows = index.get_indexer(pd.Index(trials.names))
    if (rows >= 0).all():
        return
    enrol, test = trials.of_sides(rows < 0)
    bad = enrol | test
    row = int(bad.argmax())
    name = trials.pair(row)[0 if enrol[row] else 1]
    raise InputError(
        f"{trials.source} line {trials.lines[row]}: {name!r} is not in "
        f"{where} ({int(bad.sum()):,} of {len(trials):,} trials name such "
        "files); correct the list or the folder"
    )


def check_scores(trials: TrialList, scores: np.ndarray, where: str) -> None:
    """Raise InputError unless scores are finite numbers, one per trial.

    Arguments
    ---------
    trials : TrialList
        The list.
    scores : numpy.ndarray
        One a trial [N].
    where : str
        What holds them, for the message.

    Raises
    ------
    InputError
        Naming the first such trial and its line.

    Example
    -------
    >>> trials = parse_trials("dev", "dev.txt", b"1 a b\\n0 a c\\n")
    >>> check_scores(trials, np.array([0.5, np.nan]), "scores.npy")
    Traceback (most recent call last):
    speechbrain_ext.utils.errors.InputError: dev.txt line 2: the score of a ...
    """
    if scores.shape != trials.labels.shape:
        raise InputError(
            f"{where} has shape {list(scores.shape)} and {trials.source} "
            f"{len(trials):,} trials; they are not of one scoring, score the "
            "list again"
        )
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        row = bad[0]
        raise InputError(
            f"{trials.source} line {trials.lines[row]}: the score of "
            f"{' '.join(trials.pair(row))} is {scores[row]} "
            f"({len(bad)} such trial(s) in {where}); extract the embeddings "
            "again and look at these files"
        )
