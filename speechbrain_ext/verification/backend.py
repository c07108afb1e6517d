"""From voices to scores: normalisation, then calibration, by name.

A back-end is named ``raw``, or by a normalisation (``z-norm``, ``t-norm``,
``s-norm``, ``as-norm``), and may end in ``+linear`` (calibrated) or ``+qmf``
(calibrated with quality measures): ``as-norm+qmf``.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.vectors import inner_products
from speechbrain_ext.verification.calibration import (
    Calibration,
    fit_calibration,
)
from speechbrain_ext.verification.protocols import Voices
from speechbrain_ext.verification.quality_measures import quality_measures
from speechbrain_ext.verification.score_norm import (
    SIDES,
    CohortStatistics,
    cohort_statistics,
    normalised,
)

RAW = "raw"
_CALIBRATIONS = ("linear", "qmf")


class Backend(NamedTuple):
    """What is done to a cosine.

    ``norm`` is ``raw`` or a key of `score_norm.SIDES`; ``calibration`` is
    None, ``linear`` or ``qmf``.
    """

    norm: str
    calibration: str | None

    @property
    def name(self) -> str:
        """As it is given: ``as-norm+qmf``."""
        return "+".join(filter(None, self))

    @property
    def needs_cohort(self) -> bool:
        """Whether it compares with other speakers."""
        return self.norm != RAW or self.calibration == "qmf"


def parse_backends(names: str | list[str]) -> list[Backend]:
    """Back-ends by their names.

    Raises
    ------
    InputError
        A name is none, or there twice.

    Example
    -------
    >>> parse_backends(["raw", "as-norm+qmf"])
    [Backend(norm='raw', calibration=None),
     Backend(norm='as-norm', calibration='qmf')]
    """
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not names:
        raise InputError(
            f"backends is {names!r}; give a name as as-norm, or a list of them"
        )
    found = []
    for name in names:
        norm, plus, calibration = str(name).partition("+")
        known = norm in (RAW, *SIDES)
        if not known or (plus and calibration not in _CALIBRATIONS):
            raise InputError(
                f"back-end {name!r}: it is one of {[RAW, *SIDES]}, alone or "
                f"followed by one of {['+' + c for c in _CALIBRATIONS]}"
            )
        found.append(Backend(norm, calibration or None))
    if len(set(found)) < len(found):
        raise InputError(f"backends {names} has one twice; give each once")
    return found


class Scorer:
    """Scores trials of one set of voices; what an utterance needs is kept.

    Arguments
    ---------
    voices : Voices
        The utterances.
    cohort : numpy.ndarray, optional
        Vectors of other speakers [C, D], as `voices.as_cohort` gives them.
    top_k : int
        Highest cohort scores that AS-norm and the quality measures take.
    durations : numpy.ndarray, optional
        Seconds of each utterance [U], for the quality measures.

    Example
    -------
    >>> x = np.float32([[1, 0], [0, 1], [0.6, 0.8]])
    >>> voices = Voices(np.array(["a", "b", "c"]), x, np.ones(3), 0)
    >>> rows = np.array([0, 1]), np.array([2, 2])
    >>> Scorer(voices).scores("raw", *rows)
    array([0.6, 0.8], dtype=float32)
    >>> Scorer(voices, cohort=-x, top_k=2).scores("s-norm", *rows).shape
    (2,)
    """

    def __init__(
        self,
        voices: Voices,
        cohort: NDArray | None = None,
        top_k: int = 300,
        durations: NDArray | None = None,
    ):
        self.voices = voices
        self.cohort = cohort
        self.top_k = top_k
        self.durations = durations

    @functools.cached_property
    def _of_highest(self) -> CohortStatistics:
        return self._statistics(self.top_k)

    @functools.cached_property
    def _of_all(self) -> CohortStatistics:
        return self._statistics(None)

    def _statistics(self, top_k: int | None) -> CohortStatistics:
        if self.cohort is None:
            raise InputError(
                "score normalisation and qmf need a cohort; give "
                "--cohort_folder and --cohort_labels"
            )
        return cohort_statistics(self.voices.vectors, self.cohort, top_k)

    def scores(self, norm: str, enrol: NDArray, test: NDArray) -> NDArray:
        """Scores [M], float32, of rows of the voices on either side [M]."""
        raw = inner_products(self.voices.vectors, enrol, test)
        if norm == RAW:
            return raw
        found = self._of_highest if norm == "as-norm" else self._of_all
        return normalised(raw, found, enrol, test, norm)

    def features(
        self, backend: Backend, enrol: NDArray, test: NDArray
    ) -> tuple[list[str], NDArray]:
        """What a calibration takes: names [F] and values [M, F]."""
        score = self.scores(backend.norm, enrol, test)[:, None]
        if backend.calibration != "qmf":
            return ["score"], score
        names, quality = quality_measures(self._measures(), enrol, test)
        return ["score", *names], np.concatenate([score, quality], axis=1)

    def _measures(self) -> dict[str, NDArray]:
        if self.durations is None:
            raise InputError(
                "qmf takes durations; give --annotation, the manifest of the "
                "utterances"
            )
        return {
            "log duration": np.log(self.durations),
            "log magnitude": np.log(self.voices.magnitude),
            "imposter mean": self._of_highest.mean,
        }

    def fit(
        self,
        backend: Backend,
        enrol: NDArray,
        test: NDArray,
        labels: ArrayLike,
        p_target: float,
    ) -> Calibration:
        """Learn a back-end's calibration from trials of these voices."""
        names, features = self.features(backend, enrol, test)
        return fit_calibration(features, labels, names, p_target)

    def apply(
        self,
        backend: Backend,
        calibration: Calibration | None,
        enrol: NDArray,
        test: NDArray,
    ) -> NDArray:
        """Scores [M] of a back-end: log-likelihood ratios if calibrated."""
        if calibration is None:
            return self.scores(backend.norm, enrol, test)
        return calibration(self.features(backend, enrol, test)[1])
