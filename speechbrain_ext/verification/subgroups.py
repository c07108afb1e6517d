"""Groups of trials, by session, duration or metadata of speakers.

A group's error rates need both classes. Where all trials of a group are
targets, as those of one session are, they are set against all the non-target
trials of the list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from speechbrain_ext.dataio.trials import TrialList
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike
from speechbrain_ext.verification.bootstrap import Units, interval, replicates
from speechbrain_ext.verification.metrics import (
    equal_error_rate,
    min_dcf,
    normalised_dcf,
)
from speechbrain_ext.verification.records import (
    Estimate,
    check_count,
    check_number,
)
from speechbrain_ext.verification.trial_speakers import sessions_of

SESSION, DURATION = "session", "duration"
_KEYS = ("ID", "spk_id")
_LEAST = 10  # trials that each class needs before a rate is given


class Group(NamedTuple):
    """Trials of a list that share a property.

    ``by`` is the property (``gender``), ``value`` what they share
    (``f - f``), ``chosen`` a mask over the trials [N].
    """

    by: str
    value: str
    chosen: NDArray


@dataclass(frozen=True)
class GroupRates:
    """Counts and error rates of a group of trials.

    Arguments
    ---------
    by, value : str
        The property that its trials share, as in `Group`.
    n_target, n_nontarget : int
        Trials of each class.
    eer : Estimate or None
        Equal error rate in %; None when a class has too few trials to tell.
    min_dcf : float or None
        Minimum detection cost, normalised; None likewise.
    """

    by: str
    value: str
    n_target: int
    n_nontarget: int
    eer: Estimate | None = None
    min_dcf: float | None = None

    def __post_init__(self) -> None:
        check_count("n_target", self.n_target)
        check_count("n_nontarget", self.n_nontarget)
        if self.eer is not None:
            check_number("eer", self.eer.value, 0, 100)
        if self.min_dcf is not None:
            check_number("min_dcf", self.min_dcf, 0, 1 + 1e-6)


def read_metadata(path: PathLike) -> pd.DataFrame:
    """Read a CSV with one row per utterance (``ID``) or speaker (``spk_id``).

    Arguments
    ---------
    path : str or os.PathLike
        Has one of these columns, and others to break results down by; a
        column ``session`` says which recording an utterance is of.

    Returns
    -------
    pandas.DataFrame
        Of text, indexed by the key, whose name the index has.

    Raises
    ------
    InputError
        There is no such file, no such column, or a key is there twice.

    Example
    -------
    >>> path = getfixture("tmp_path") / "meta.csv"
    >>> _ = path.write_text("spk_id,gender\\ns1,f\\ns2,m\\n")
    >>> read_metadata(path).gender["s2"]
    'm'
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such metadata; give a CSV with a column ID or spk_id"
        ) from None
    except (ValueError, pd.errors.EmptyDataError) as error:
        raise InputError(
            f"{path} is not a CSV ({error}); correct the file"
        ) from None
    key = next((name for name in _KEYS if name in table.columns), None)
    if key is None or len(table.columns) < 2:
        raise InputError(
            f"{path} has columns {list(table.columns)}; it needs ID or spk_id "
            "and at least one more; add them"
        )
    again = table[key].duplicated()
    if again.any():
        row = int(np.flatnonzero(again)[0])
        raise InputError(
            f"{path} row {row + 2}: {key} {table[key][row]!r} is there twice; "
            "keep one of the rows"
        )
    return table.set_index(key)


def groups_of(
    trials: TrialList,
    speakers: tuple[NDArray, NDArray] | None = None,
    durations: tuple[NDArray, NDArray] | None = None,
    edges: Sequence[float] = (),
    metadata: pd.DataFrame | None = None,
) -> list[Group]:
    """Group the trials of a list by each known property.

    Arguments
    ---------
    trials : TrialList
        The list of N trials.
    speakers : tuple of numpy.ndarray, optional
        From `trial_speakers.speakers_of`: keys of metadata by ``spk_id``.
    durations : tuple of numpy.ndarray, optional
        Seconds of both sides [N].
    edges : sequence of float
        Seconds between the groups by the shorter side's duration.
    metadata : pandas.DataFrame, optional
        From `read_metadata`.

    Returns
    -------
    list of Group
        One for each value that occurs, where there are several.

    Raises
    ------
    InputError
        The metadata lack one of the list's utterances or speakers, or the
        edges do not rise.

    Example
    -------
    >>> from speechbrain_ext.dataio.trials import parse_trials
    >>> text = b"1 s/a/1 s/a/2\\n1 s/a/1 s/b/1\\n0 s/a/1 t/c/1\\n"
    >>> [group.value for group in groups_of(parse_trials("x", "x", text))]
    ['different session', 'same session']
    """
    _check_edges(edges)
    values: dict[str, NDArray] = {}
    sessions = sessions_of(trials)
    if metadata is not None:
        for name, sides in _facts(trials, speakers, metadata).items():
            if name == SESSION:
                sessions = sides
            else:
                values[name] = _pairs(*sides)
    if sessions is not None:
        same = sessions[0] == sessions[1]
        values[SESSION] = np.where(same, "same session", "different session")
    kinds = {by: np.unique(of_trials) for by, of_trials in values.items()}
    if durations is not None and len(edges):
        number = np.searchsorted(edges, np.minimum(*durations), side="right")
        names = _duration_names(edges)
        values[DURATION] = np.array(names)[number]
        kinds[DURATION] = np.array([names[n] for n in np.unique(number)])
    return [
        Group(by, str(kind), _with_both(values[by] == kind, trials.labels))
        for by in values
        for kind in kinds[by]
        if len(kinds[by]) > 1  # a single group equals the list
    ]


def measured(
    groups: Sequence[Group],
    scores: NDArray,
    labels: NDArray,
    units: Units,
    p_target: float = 0.01,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> list[GroupRates]:
    """Measure the error rates of each group.

    Arguments
    ---------
    groups : sequence of Group
        From `groups_of`.
    scores, labels : numpy.ndarray
        Of the whole list [N].
    units : Units
        What the intervals draw.
    p_target : float
        Prior of minDCF, normalised.
    n_bootstrap, seed : int
        As in `bootstrap.replicates`.

    Returns
    -------
    list of GroupRates

    Example
    -------
    >>> from speechbrain_ext.verification.bootstrap import single_trials
    >>> group = Group("gender", "f - f", np.arange(4) < 3)
    >>> measured([group], np.ones(4), np.arange(4) % 2, single_trials(4))
    [GroupRates(by='gender', value='f - f', n_target=1, n_nontarget=2,
                eer=None, min_dcf=None)]
    """
    found = []
    for group in groups:
        score, label = scores[group.chosen], labels[group.chosen]
        n_target = int(np.count_nonzero(label))
        n_nontarget = len(label) - n_target
        rates: dict[str, Any] = {}
        if min(n_target, n_nontarget) >= _LEAST:
            own = units.of(group.chosen)
            drawn = replicates(score, label, own, (), n_bootstrap, seed)
            eer, _ = equal_error_rate(score, label)
            low, high = interval(drawn.eer, eer, own.count)
            cost, _ = min_dcf(score, label, p_target)
            rates["eer"] = Estimate.around(100 * eer, (100 * low, 100 * high))
            rates["min_dcf"] = normalised_dcf(cost, p_target)
        found.append(
            GroupRates(group.by, group.value, n_target, n_nontarget, **rates)
        )
    return found


def _with_both(chosen: NDArray, labels: NDArray) -> NDArray:
    """Add all non-target trials to a group without any."""
    nontarget = labels == 0
    return chosen if (chosen & nontarget).any() else chosen | nontarget


def _facts(
    trials: TrialList,
    speakers: tuple[NDArray, NDArray] | None,
    metadata: pd.DataFrame,
) -> dict[str, tuple[NDArray, NDArray]]:
    """Look up the values [N] of both sides of each trial, by column."""
    sides = (trials.enrol, trials.test)
    if metadata.index.name == "spk_id":
        if speakers is None:
            raise InputError(
                f"the metadata are by spk_id and the speakers of "
                f"{trials.source} are not known; give --oracle"
            )
        sides = speakers
    rows = [metadata.index.get_indexer(pd.Index(side)) for side in sides]
    for side, found in zip(sides, rows, strict=True):
        unknown = np.flatnonzero(found < 0)
        if len(unknown):
            raise InputError(
                f"{trials.source} line {trials.lines[unknown[0]]}: "
                f"{metadata.index.name} {side[unknown[0]]!r} is not in the "
                f"metadata ({len(unknown):,} such line(s)); add the missing "
                "rows"
            )
    columns = {name: metadata[name].to_numpy() for name in metadata.columns}
    return {name: (v[rows[0]], v[rows[1]]) for name, v in columns.items()}


def _pairs(enrol: NDArray, test: NDArray) -> NDArray:
    """Join the values of both sides, unordered, as ``f - m`` [N]."""
    enrol, test = enrol.astype(str), test.astype(str)
    first = np.where(enrol < test, enrol, test)
    last = np.where(enrol < test, test, enrol)
    return first.astype(object) + " - " + last.astype(object)


def _check_edges(edges: Sequence[float]) -> None:
    numbers = all(isinstance(edge, (int, float)) for edge in edges)
    if not numbers or list(edges) != sorted(set(edges)):
        raise InputError(
            f"duration_edges is {edges}; give rising numbers of seconds, as "
            "[4, 8]"
        )


def _duration_names(edges: Sequence[float]) -> list[str]:
    """Name the groups of duration, from the shortest to the longest."""
    bounds = [f"{edge:g}" for edge in edges]
    between = [
        f"{low} to {high} s"
        for low, high in zip(bounds[:-1], bounds[1:], strict=True)
    ]
    return [f"below {bounds[0]} s", *between, f"{bounds[-1]} s or more"]
