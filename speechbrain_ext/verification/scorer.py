"""Scoring of trials by cosine, score normalisation and calibration."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import ArrayLike, NDArray

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.vectors import inner_products
from speechbrain_ext.verification.backend import RAW, Backend
from speechbrain_ext.verification.calibration import (
    Calibration,
    fit_calibration,
)
from speechbrain_ext.verification.protocols import Voices
from speechbrain_ext.verification.quality_measures import quality_measures
from speechbrain_ext.verification.score_norm import (
    CohortStatistics,
    cohort_statistics,
    normalised,
)


class Scorer:
    """Scorer of trials of one set of utterances, with cached cohort statistics.

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
        """Score trials [M], given as rows of utterances on both sides [M]."""
        raw = inner_products(self.voices.vectors, enrol, test)
        if norm == RAW:
            return raw
        found = self._of_highest if norm == "as-norm" else self._of_all
        return normalised(raw, found, enrol, test, norm)

    def features(
        self, backend: Backend, enrol: NDArray, test: NDArray
    ) -> tuple[list[str], NDArray]:
        """Compute the inputs of a calibration: names [F] and values [M, F]."""
        score = self.scores(backend.norm, enrol, test)[:, None]
        if backend.calibration != "qmf":
            return ["score"], score
        names, quality = quality_measures(self._measures(), enrol, test)
        return ["score", *names], np.concatenate([score, quality], axis=1)

    def _measures(self) -> dict[str, NDArray]:
        if self.durations is None:
            raise InputError(
                "qmf needs durations; give --annotation, the manifest of the "
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
        """Learn a back-end's calibration from trials of these utterances."""
        names, features = self.features(backend, enrol, test)
        return fit_calibration(features, labels, names, p_target)

    def apply(
        self,
        backend: Backend,
        calibration: Calibration | None,
        enrol: NDArray,
        test: NDArray,
    ) -> NDArray:
        """Score trials [M] by a back-end; calibrated ones give ratios."""
        if calibration is None:
            return self.scores(backend.norm, enrol, test)
        return calibration(self.features(backend, enrol, test)[1])
