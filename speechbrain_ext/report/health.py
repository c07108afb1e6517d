"""Rule that tells a collapsed training from a normal one, without labels.

The folder ``reference`` holds the curves of normal and of collapsed trainings,
in ``curves.csv``, a row an epoch. A statistic of a normal training may fall:
DINO's effective rank does, while it learns which directions tell voices apart.
The rule therefore asks whether a statistic is where those of normal trainings
are at the same share of the training, not whether it falls.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from importlib import resources
from typing import NamedTuple

import numpy as np
import pandas as pd

from speechbrain_ext.training.plots import Bands

# Of each method: statistics that vanish in a collapse.
VITAL = {
    "dino": ("information", "prototypes", "effective_rank", "spread"),
    "contrastive": ("effective_rank", "spread"),
}
# Share of the lowest normal value that is still normal. Rank and prototypes
# grow with the embedding and with the number of voices.
MARGINS = {
    "information": 0.5,
    "prototypes": 0.25,
    "effective_rank": 0.25,
    "spread": 0.5,
}
_FACTS = ["training", "method", "normal", "progress"]
_LATE = 0.5  # the rule judges the second half: all begin alike
_WORDS = {
    "information": "mutual information of utterance and prototype",
    "prototypes": "number of prototypes in use",
    "effective_rank": "effective rank",
    "spread": "spread of the embeddings",
}


class Judgement(NamedTuple):
    """Judgement of a training by its curve.

    ``bands``, the values of normal trainings at each epoch by statistic;
    ``failed``, the statistics that are too low; ``verdict`` and ``rule`` in
    words.
    """

    bands: Bands
    failed: list[str]
    verdict: str
    rule: str

    @property
    def is_normal(self) -> bool:
        """Whether no statistic is too low."""
        return not self.failed


def method_of(curve: pd.DataFrame) -> str:
    """Return which method left a training curve: dino or contrastive."""
    return "contrastive" if "uniformity" in curve else "dino"


@functools.cache
def references() -> pd.DataFrame:
    """Read the curves of the stored trainings.

    Returns
    -------
    pandas.DataFrame
        Columns ``training`` (its name), ``method``, ``normal`` (1 or 0),
        ``progress`` (share of the training, above 0 to 1) and statistics.

    Example
    -------
    >>> sorted(references().method.unique())
    ['contrastive', 'dino']
    """
    folder = resources.files(__package__) / "reference"
    with resources.as_file(folder / "curves.csv") as path:
        return pd.read_csv(path)


def bands_of(curve: pd.DataFrame, without: Iterable[str] = ()) -> Bands:
    """Return the range of normal trainings at each epoch of a curve.

    Arguments
    ---------
    curve : pandas.DataFrame
        ``train_curve.csv`` of E epochs of a DINO or contrastive training.
    without : iterable of str
        Stored trainings to leave out.

    Returns
    -------
    mapping of str to (numpy.ndarray [E], numpy.ndarray [E])
        Statistic to its lowest and highest values.

    Example
    -------
    >>> row = {"epoch": 1, "spread": 0.9, "effective_rank": 30.0}
    >>> low, high = bands_of(pd.DataFrame([row]))["spread"]
    >>> bool(low[0] <= high[0])
    True
    """
    stored = references()
    is_like = (stored.method == method_of(curve)) & (stored.normal == 1)
    stored = stored[is_like & ~stored.training.isin(list(without))]
    progress = curve.epoch.to_numpy(float) / curve.epoch.max()
    trainings = [part for _, part in stored.groupby("training")]
    bands = {}
    statistics = stored.columns.difference(_FACTS)
    for name in curve.columns.intersection(statistics):
        known = [part for part in trainings if part[name].notna().any()]
        values = [
            np.interp(progress, part.progress, part[name]) for part in known
        ]
        if values:
            bands[str(name)] = (np.min(values, 0), np.max(values, 0))
    return bands


def judged(curve: pd.DataFrame, without: Iterable[str] = ()) -> Judgement:
    """Judge a training by its curve.

    Arguments
    ---------
    curve : pandas.DataFrame
        ``train_curve.csv`` of E epochs of a DINO or contrastive training.
    without : iterable of str
        Stored trainings to leave out.

    Returns
    -------
    Judgement

    Example
    -------
    >>> rows = {"epoch": [1, 2], "uniformity": [-1.0, 0.0]}
    >>> rows |= {"spread": [0.9, 0.001], "effective_rank": [30.0, 1.0]}
    >>> judged(pd.DataFrame(rows)).failed
    ['effective_rank', 'spread']
    """
    bands = bands_of(curve, without)
    late = curve.epoch.to_numpy() > _LATE * curve.epoch.max()
    vital = [n for n in VITAL[method_of(curve)] if n in bands and n in curve]
    failed, words = [], []
    for name in vital:
        value = float(curve[name].to_numpy()[late].mean())
        least = float(bands[name][0][late].mean())
        # A value that is no number is as bad as one that is too low.
        if not value >= MARGINS[name] * least:
            failed.append(name)
            words.append(
                f"{_WORDS[name]} {value:.3g}, in normal trainings at least "
                f"{least:.3g}"
            )
    if failed:
        verdict = (
            f"Not healthy, perhaps collapsed: {'; '.join(words)}. Lower lr or "
            "raise batch_size, and train again before reading on."
        )
    else:
        verdict = "Healthy: no sign of a collapse."
    names = ", ".join(f"{_WORDS[n]} below {MARGINS[n]:g}" for n in vital)
    rule = (
        "The effective rank may fall, and does in normal trainings. What "
        f"must not happen: in the second half, {names} times the lower edge."
    )
    return Judgement(bands, failed, verdict, rule)
