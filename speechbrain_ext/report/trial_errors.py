"""Trials that a system gets most wrong, to listen to."""

from __future__ import annotations

import numpy as np

from speechbrain_ext.dataio.manifest import Manifest
from speechbrain_ext.dataio.trials import TrialList
from speechbrain_ext.report.clips import ClipCutter
from speechbrain_ext.report.page import Clips

N_PAIRS = 3  # of each kind


def hardest(
    trials: TrialList, scores: np.ndarray, n_pairs: int = N_PAIRS
) -> tuple[list[int], list[int]]:
    """Return the trials that are most wrong, no utterance twice.

    Arguments
    ---------
    trials : TrialList
        N trials.
    scores : numpy.ndarray
        Their scores [N].
    n_pairs : int
        Trials of each kind at most.

    Returns
    -------
    list of int
        Non-target trials of highest score.
    list of int
        Target trials of lowest score.

    Example
    -------
    >>> from speechbrain_ext.dataio.trials import parse_trials
    >>> lines = b"0 a b\\n0 a c\\n1 d e\\n0 f g\\n"
    >>> hardest(parse_trials("dev", "", lines), np.array([3, 2, 0, 1]))
    ([0, 3], [2])
    """
    found = []
    for label, order in (
        (0, np.argsort(-scores, kind="stable")),
        (1, np.argsort(scores, kind="stable")),
    ):
        chosen: list[int] = []
        heard: set[str] = set()
        for row in order[trials.labels[order] == label]:
            pair = set(trials.pair(row))
            if len(chosen) == n_pairs:
                break
            if not pair & heard:
                chosen.append(int(row))
                heard |= pair
        found.append(chosen)
    return found[0], found[1]


def error_clips(
    trials: TrialList,
    scores: np.ndarray,
    manifest: Manifest,
    threshold: float,
    cutter: ClipCutter,
) -> Clips | None:
    """Cut the hardest errors of a system.

    Arguments
    ---------
    trials : TrialList
        N trials.
    scores : numpy.ndarray
        Their scores [N].
    manifest : Manifest
        The utterances, with ``$data_root`` known.
    threshold : float
        Score of equal error rates: only trials on its wrong side are errors.
    cutter : ClipCutter
        Cuts and counts the clips.

    Returns
    -------
    Clips or None
        None where nothing is wrong or the audio cannot be read.
    """
    accepts, rejects = hardest(trials, scores)
    accepts = [row for row in accepts if scores[row] > threshold]
    rejects = [row for row in rejects if scores[row] <= threshold]
    groups = []
    for kind, rows in (
        ("False accept, two speakers who sound alike", accepts),
        ("False reject, one speaker who sounds different", rejects),
    ):
        for row in rows:
            pair = manifest.rows_of(list(trials.pair(row)))
            if (pair < 0).any():
                continue
            clips = [cutter.cut(manifest, int(place), "") for place in pair]
            kept = [clip for clip in clips if clip is not None]
            if len(kept) == 2:
                groups.append((f"{kind}: score {scores[row]:.3f}", kept))
    if not groups:
        return None
    caption = (
        "Pairs that the system is most wrong about, cut to their first "
        f"seconds. It accepts scores above {threshold:.3f}, where both error "
        "rates are equal. A noise, another language or a wrong label may "
        "explain them."
    )
    return Clips("Hardest errors", caption, groups)
