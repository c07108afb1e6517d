"""Speakers and recordings of the utterances of a trial list.

Speakers come from an oracle if there is one. Else VoxCeleb's way of naming
utterances, ``speaker/recording/utterance.wav``, is tried, and believed only if
every label of the list agrees with it.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from speechbrain_ext.dataio.manifest import Manifest
from speechbrain_ext.dataio.trials import TrialList
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.verification.bootstrap import Units


def speakers_of(
    trials: TrialList, oracle: Manifest | None = None
) -> tuple[NDArray, NDArray] | None:
    """Find the speaker of each side of each trial.

    Arguments
    ---------
    trials : TrialList
        The list.
    oracle : Manifest, optional
        Kind ``"oracle"``, with all utterances of the list.

    Returns
    -------
    tuple of numpy.ndarray, or None
        Names [N] of enrolment and test speakers; None when there is no
        oracle and the IDs do not tell.

    Raises
    ------
    InputError
        The oracle lacks an utterance or contradicts a label.

    Example
    -------
    >>> from speechbrain_ext.dataio.trials import parse_trials
    >>> text = b"1 s1/r1/1.wav s1/r2/1.wav\\n0 s1/r1/1.wav s2/r3/1.wav\\n"
    >>> speakers_of(parse_trials("dev", "dev.txt", text))[1]
    array(['s1', 's2'], dtype=object)
    """
    if oracle is not None:
        return _told(trials, oracle)
    for depth in (3, 2):
        enrol, test = trials.of_sides(_part(trials.names, depth))
        if np.array_equal(enrol == test, trials.labels == 1):
            return enrol, test
    return None


def _told(trials: TrialList, oracle: Manifest) -> tuple[NDArray, NDArray]:
    rows = oracle.rows_of(trials.names)
    unknown = np.flatnonzero(np.logical_or(*trials.of_sides(rows < 0)))
    if len(unknown):
        row = unknown[0]
        name = next(
            trials.names[side[row]]
            for side in trials.sides
            if rows[side[row]] < 0
        )
        raise InputError(
            f"{trials.source} line {trials.lines[row]}: {name!r} has no "
            "speaker in the oracle; give the oracle of these utterances, or "
            "none"
        )
    enrol, test = trials.of_sides(oracle.spk_id[rows])
    wrong = np.flatnonzero((enrol == test) != (trials.labels == 1))
    if len(wrong):
        row = wrong[0]
        raise InputError(
            f"{trials.source} line {trials.lines[row]}: label "
            f"{trials.labels[row]}, but by the oracle the speakers are "
            f"{enrol[row]} and {test[row]} ({len(wrong)} such line(s)); "
            "correct the one or the other"
        )
    return enrol, test


def _part(ids: NDArray, depth: int) -> NDArray:
    """Remove the last ``depth - 1`` parts of each ID [N]."""
    names = pd.Series(ids, dtype=object).str.rsplit("/", n=depth - 1)
    return names.str[0].to_numpy(dtype=object)


def recordings_of(ids: NDArray) -> NDArray:
    """Return the recording of each utterance, from VoxCeleb's IDs.

    Arguments
    ---------
    ids : numpy.ndarray
        Utterance IDs [N], ``speaker/recording/utterance.wav``.

    Returns
    -------
    numpy.ndarray
        ``speaker/recording`` of each [N].

    Raises
    ------
    InputError
        An ID has fewer parts.

    Example
    -------
    >>> recordings_of(np.array(["s1/r1/1.wav", "s1/r1/2.wav"], dtype=object))
    array(['s1/r1', 's1/r1'], dtype=object)
    """
    short = pd.Series(ids, dtype=object).str.count("/").to_numpy() < 2
    if short.any():
        raise InputError(
            f"recordings_in_ids is True, and {str(ids[short.argmax()])!r} is "
            "not speaker/recording/utterance; leave it False"
        )
    return _part(ids, depth=2)


def sessions_of(trials: TrialList) -> tuple[NDArray, NDArray] | None:
    """Find the recording of each side of each trial, if the IDs contain it.

    Arguments
    ---------
    trials : TrialList
        The list.

    Returns
    -------
    tuple of numpy.ndarray, or None
        Of enrolment and test [N]; None unless the parts of the IDs that
        would name speakers agree with every label.

    Example
    -------
    >>> from speechbrain_ext.dataio.trials import parse_trials
    >>> text = b"1 s1/r1/1.wav s1/r2/1.wav\\n0 s1/r1/1.wav s2/r3/1.wav\\n"
    >>> sessions_of(parse_trials("dev", "dev.txt", text))[1]
    array(['s1/r2', 's2/r3'], dtype=object)
    """
    enrol, test = trials.of_sides(_part(trials.names, depth=3))
    deep = (pd.Series(trials.names).str.count("/") >= 2).all()
    if not deep or not np.array_equal(enrol == test, trials.labels == 1):
        return None
    return trials.of_sides(_part(trials.names, depth=2))


def units_of(trials: TrialList, oracle: Manifest | None = None) -> Units:
    """Return a list's bootstrap units: its speakers, else its utterances.

    Arguments
    ---------
    trials, oracle
        As in `speakers_of`.

    Returns
    -------
    Units
        Named ``speakers`` or ``utterances``.

    Example
    -------
    >>> from speechbrain_ext.dataio.trials import parse_trials
    >>> units_of(parse_trials("dev", "dev.txt", b"1 a b\\n0 a c\\n")).name
    'utterances'
    """
    sides = speakers_of(trials, oracle)
    if sides is None:
        return Units("utterances", *trials.sides)
    both = np.concatenate(sides)
    number, _ = pd.factorize(both, sort=True)
    return Units("speakers", number[: len(trials)], number[len(trials) :])
