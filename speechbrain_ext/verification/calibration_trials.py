"""Trials drawn from pseudo-labels to fit a calibration.

Pseudo-speakers stand for speakers. Two utterances of one recording share
their channel, as those of a test trial do not, so they make no trial where
the recordings are known.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from speechbrain_ext.dataio.manifest import Manifest
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.groups import members
from speechbrain_ext.verification.trial_speakers import recordings_of

_ROUNDS = 20  # attempts, after which few new pairs are left to find


class DrawnTrials(NamedTuple):
    """Rows of both sides of trials, and labels (1: target), all [M]."""

    enrol: NDArray
    test: NDArray
    labels: NDArray


def label_trials(
    labels: Manifest, n_trials: int, recordings: bool, seed: int = 0
) -> tuple[DrawnTrials, str]:
    """Draw trials from a manifest, across recordings where possible.

    Arguments
    ---------
    labels : Manifest
        Kind ``"pseudo_labels"``.
    n_trials : int
        Pairs of each class, at most.
    recordings : bool
        Whether the IDs tell the recordings (`recordings_of`).
    seed : int
        Seed of the draws.

    Returns
    -------
    trials : DrawnTrials
        Rows are those of the manifest.
    words : str
        How many pairs there are and of what, for a result.

    Raises
    ------
    InputError
        As in `draw_trials`.
    """
    found = draw_trials(labels.spk_id, n_trials, seed=seed)
    of = "of any recording"
    if recordings:
        recording = recordings_of(labels.ID)
        try:
            found = draw_trials(labels.spk_id, n_trials, recording, seed)
            of = "of different recordings"
        except InputError:
            of += " (no speaker has two)"
    n_target = int(found.labels.sum())
    n_nontarget = len(found.labels) - n_target
    words = f"{n_target:,} + {n_nontarget:,} pairs of pseudo-speakers, {of}"
    return found, words


def draw_trials(
    speakers: NDArray,
    n_trials: int,
    recordings: NDArray | None = None,
    seed: int = 0,
) -> DrawnTrials:
    """Draw up to ``n_trials`` unique target pairs and as many non-target.

    A target pair is an utterance, each being as likely, and another of its
    speaker; a non-target pair is any two of different speakers.

    Arguments
    ---------
    speakers : numpy.ndarray
        Speaker, or pseudo-speaker, of each utterance [N].
    n_trials : int
        Pairs of each class, at most.
    recordings : numpy.ndarray, optional
        Recording of each utterance [N]: no pair is of one recording.
    seed : int
        Seed of the draws.

    Returns
    -------
    DrawnTrials
        Targets first.

    Raises
    ------
    InputError
        There is no pair of one of the classes.

    Example
    -------
    >>> trials = draw_trials(np.array(["a", "a", "b"]), n_trials=5)
    >>> trials.labels.sum(), len(trials.labels)
    (np.int64(1), 3)
    """
    generator = np.random.default_rng(seed)
    _, speaker = np.unique(speakers, return_inverse=True)
    recording = np.arange(len(speaker))
    if recordings is not None:
        _, recording = np.unique(recordings, return_inverse=True)
    pairs = [
        _pairs(generator, speaker, recording, n_trials, same)
        for same in (True, False)
    ]
    for found, kind in zip(pairs, ("one speaker", "two speakers"), strict=True):
        if not len(found):
            raise InputError(
                f"of {len(speaker):,} utterances no two are of {kind} and of "
                "different recordings; give other labels, or trials with "
                "--calibration_trials"
            )
    labels = np.repeat([1, 0], [len(pairs[0]), len(pairs[1])])
    enrol, test = np.concatenate(pairs).T
    return DrawnTrials(enrol, test, labels)


def _pairs(
    generator: np.random.Generator,
    speaker: NDArray,
    recording: NDArray,
    n_wanted: int,
    same: bool,
) -> NDArray:
    """Draw unique pairs of rows [M, 2], the smaller row first."""
    rows, first, size = members(speaker)
    found = np.empty(0, dtype=np.int64)
    for _ in range(_ROUNDS):
        left = generator.integers(0, len(speaker), 2 * n_wanted)
        if same:
            own = speaker[left]
            right = rows[first[own] + generator.integers(0, size[own])]
        else:
            right = generator.integers(0, len(speaker), 2 * n_wanted)
        fits = (speaker[left] == speaker[right]) == same
        fits &= recording[left] != recording[right]
        low, high = np.minimum(left, right)[fits], np.maximum(left, right)[fits]
        found = np.unique(np.append(found, low * len(speaker) + high))
        if len(found) >= n_wanted:
            break
    chosen = generator.permutation(found)[:n_wanted]
    return np.stack(np.divmod(chosen, len(speaker)), axis=1)
