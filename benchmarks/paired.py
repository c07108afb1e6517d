"""Paired tests of trainings, each repeated with several seeds.

Speakers are drawn anew, alike for all cells and seeds, and the EERs of a
drawing are averaged over the seeds before two systems are compared. Such an
interval tells of other speakers. Of other trainings it tells only what so
many seeds show: each seed's own difference is given beside it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechbrain_ext.dataio.manifest import read_manifest
from speechbrain_ext.experiment.artifacts import CorpusArtifacts, ScoreArtifacts
from speechbrain_ext.verification.bootstrap import (
    difference,
    interval_in_words,
    replicates,
)
from speechbrain_ext.verification.cosine import read_trials
from speechbrain_ext.verification.metrics import equal_error_rate
from speechbrain_ext.verification.trial_speakers import units_of


@dataclasses.dataclass(frozen=True)
class DrawnEer:
    """EER of one cell in percent: of the list, and of its drawings [R]."""

    eer: float
    drawn: NDArray
    n_units: int
    interval: str


def drawn_eers(
    folder: Path, corpus: Path, n_bootstrap: int
) -> dict[str, DrawnEer]:
    """Draw the speakers of each list; return the EERs of a scored cell."""
    found = {}
    files = CorpusArtifacts(corpus)
    oracle = read_manifest(files.oracle, "oracle")
    for name, path in files.trials().items():
        trials = read_trials(path, name)
        scores = np.load(ScoreArtifacts(folder / "scores").scores(name, "raw"))
        units = units_of(trials, oracle)
        drawn = replicates(scores, trials.labels, units, (), n_bootstrap)
        found[name] = DrawnEer(
            100 * equal_error_rate(scores, trials.labels)[0],
            100 * drawn.eer,
            units.count,
            interval_in_words(units, n_bootstrap, trials.labels),
        )
    return found


def averaged(seeds: Sequence[DrawnEer]) -> DrawnEer:
    """Average over seeds, drawing by drawing."""
    return dataclasses.replace(
        seeds[0],
        eer=float(np.mean([seed.eer for seed in seeds])),
        drawn=np.mean([seed.drawn for seed in seeds], axis=0),
    )


def minus(second: DrawnEer, first: DrawnEer) -> dict[str, float]:
    """Return the difference in points, its 95 % interval and p-value."""
    change = difference(
        first.drawn, second.drawn, (first.eer, second.eer), first.n_units
    )
    return {k: round(v, 4) for k, v in dataclasses.asdict(change).items()}


def compare(
    first: Sequence[Mapping[str, DrawnEer]],
    second: Sequence[Mapping[str, DrawnEer]],
) -> dict[str, Any]:
    """Compare two systems, each of a cell a seed, on each trial list."""
    found = {}
    for name in first[0]:
        ours = [cell[name] for cell in first]
        theirs = [cell[name] for cell in second]
        found[name] = {
            **minus(averaged(theirs), averaged(ours)),
            "by_seed": [minus(b, a) for a, b in zip(ours, theirs, strict=True)],
            "interval": f"{ours[0].interval}; EERs averaged over {len(ours)} "
            "seed(s), which are not drawn anew",
        }
    return found
