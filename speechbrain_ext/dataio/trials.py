"""Trial lists: lines ``label enrol test``, or Kaldi's ``enrol test target``.

The first is VoxCeleb's, with label 1 or 0; Kaldi's ends with ``target`` or
``nontarget``.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike, atomic_path

logger = logging.getLogger(__name__)

_KALDI = {"target": "1", "nontarget": "0"}  # Kaldi's words for the labels


@dataclass(frozen=True)
class TrialList:
    """Checked trial list.

    Arguments
    ---------
    name : str
        Short name: results are filed under it.
    source : str
        Where it came from, for messages.
    content : bytes
        The file as it is.
    labels : numpy.ndarray
        1 for target, 0 for non-target [N].
    enrol, test : numpy.ndarray
        Utterance IDs [N].
    lines : numpy.ndarray
        Line of the file each trial is on [N].
    """

    name: str
    source: str
    content: bytes
    labels: np.ndarray
    enrol: np.ndarray
    test: np.ndarray
    lines: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def summary(self) -> dict[str, Any]:
        """Return counts and a hash that identifies the list."""
        digest = hashlib.sha256(self.content).hexdigest()
        return {"count": len(self), "sha256": digest}

    def ids(self) -> np.ndarray:
        """Return the IDs in the list, sorted and unique."""
        return np.unique(np.concatenate([self.enrol, self.test]))

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
    return parse_trials(name, str(path), Path(path).read_bytes())


def parse_trials(name: str, source: str, content: bytes) -> TrialList:
    """Parse a trial list and check every line.

    Arguments
    ---------
    name : str
        Its short name.
    source : str
        Its path or address, for messages.
    content : bytes
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
    >>> trials.labels, trials.ids()
    (array([1, 0]), array(['a', 'b', 'c'], dtype=object))
    >>> parse_trials("k", "k", b"a b target\\na c nontarget\\n").labels
    array([1, 0])
    """
    names = ["label", "enrol", "test", "more"]
    try:
        table = pd.read_csv(
            io.BytesIO(content),
            sep="\t" if _has_tabs(content) else r"\s+",
            names=names,
            header=None,
            dtype=object,
            keep_default_na=False,
            na_values=[""],
            skip_blank_lines=False,
            quoting=3,
            encoding="utf-8",
        )
    except (ValueError, pd.errors.EmptyDataError) as error:
        raise InputError(
            f"{source} is not a trial list ({str(error).strip()}); each line "
            "is 'label enrol test', or 'enrol test target' as Kaldi has it; "
            "names with spaces need tabs between these"
        ) from None
    table.insert(0, "line", np.arange(1, len(table) + 1))
    table = table.dropna(how="all", subset=names)
    is_ours = table["label"].isin(["0", "1"]).all()
    if not is_ours and table["test"].isin(_KALDI).all():
        columns = {"label": "enrol", "enrol": "test", "test": "label"}
        table = table.rename(columns=columns)
        table["label"] = table["label"].map(_KALDI)
    _check_lines(source, table)
    return TrialList(
        name,
        source,
        content,
        labels=table["label"].to_numpy().astype("int64"),
        enrol=table["enrol"].to_numpy(dtype=object),
        test=table["test"].to_numpy(dtype=object),
        lines=table["line"].to_numpy(),
    )


def _has_tabs(content: bytes) -> bool:
    """Return whether every non-empty line has exactly two tabs."""
    lines = [line for line in content.splitlines() if line.strip()]
    return bool(lines) and all(line.count(b"\t") == 2 for line in lines)


def _check_lines(source: str, table: pd.DataFrame) -> None:
    bad = table["test"].isna() | table["more"].notna()
    bad |= ~table["label"].isin(["0", "1"])
    if bad.any():
        row = table[bad].iloc[0]
        text = " ".join(row[["label", "enrol", "test", "more"]].dropna())
        raise InputError(
            f"{source} line {row['line']}: {text!r} is not a trial "
            f"({int(bad.sum())} such line(s)); each line is 'label enrol "
            "test', label 1 for the same speaker and 0 for different ones, or "
            "each is 'enrol test target' or 'enrol test nontarget'; names with "
            "spaces need tabs between the columns"
        )
    if table["label"].nunique() < 2:
        raise InputError(
            f"{source} has {len(table)} trial(s), not both targets (label 1) "
            "and non-targets (label 0); an EER needs both"
        )


def warn_of_reversed(trials: TrialList) -> int:
    """Warn of pairs that a list has in both orders; return their number.

    A cosine gives both the same score, so such a trial counts twice.

    Example
    -------
    >>> warn_of_reversed(parse_trials("dev", "dev.txt", b"1 a b\\n0 a c\\n"))
    0
    """
    names = np.concatenate([trials.enrol, trials.test])
    sides = np.split(pd.factorize(names)[0].astype(np.int64), 2)
    either = np.minimum(*sides), np.maximum(*sides)
    again = _repeats(*either) & ~_repeats(*sides)
    if again.any():
        row = int(again.argmax())
        logger.warning(
            f"{trials.source}: {int(again.sum()):,} of {len(trials):,} trials "
            f"are earlier ones the other way round, the first is "
            f"{trials.enrol[row]} {trials.test[row]} in line "
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
    names = np.concatenate([trials.enrol, trials.test])
    # Numbers in place of names: half a million trials take a second.
    sides = np.split(pd.factorize(names)[0].astype(np.int64), 2)
    itself = sides[0] == sides[1]
    again = _repeats(*sides)
    either = np.minimum(*sides), np.maximum(*sides)
    contradicts = _repeats(*either) & ~_repeats(*either, trials.labels)
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
        f"{trials.enrol[row]} {trials.test[row]} {rule} "
        f"({int(bad.sum())} such line(s)); {way}"
    )


def _repeats(*columns: np.ndarray) -> np.ndarray:
    """Return which rows equal an earlier one [N]."""
    return pd.DataFrame(dict(enumerate(columns))).duplicated().to_numpy()


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
    index = pd.Index(np.asarray(list(known), dtype=object))
    enrol = index.get_indexer(trials.enrol) < 0
    bad = enrol | (index.get_indexer(trials.test) < 0)
    if not bad.any():
        return
    row = int(np.flatnonzero(bad)[0])
    name = (trials.enrol if enrol[row] else trials.test)[row]
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
            f"{trials.enrol[row]} {trials.test[row]} is {scores[row]} "
            f"({len(bad)} such trial(s) in {where}); extract the embeddings "
            "again and look at these files"
        )
