"""Scoring system of score_trials: whitening, cohort and calibrations."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from speechbrain_ext.dataio.embedding_files import read_embeddings
from speechbrain_ext.dataio.manifest import Manifest, read_manifest
from speechbrain_ext.utils.files import PathLike
from speechbrain_ext.utils.whitening import Whitening, whitening
from speechbrain_ext.verification.backend import RAW, Backend
from speechbrain_ext.verification.calibration import Calibration
from speechbrain_ext.verification.calibration_trials import label_trials
from speechbrain_ext.verification.cohort import (
    Cohort,
    embedded_labels,
    read_cohort,
)
from speechbrain_ext.verification.cosine import read_trials
from speechbrain_ext.verification.protocols import (
    as_cohort,
    durations_of,
    read_voices,
)
from speechbrain_ext.verification.scorer import Scorer
from speechbrain_ext.verification.settings import ScoreTrials

logger = logging.getLogger(__name__)


class System:
    """Scoring system: everything that turns embeddings into scores.

    Arguments
    ---------
    settings : ScoreTrials
        Settings of score_trials, checked.
    """

    def __init__(self, settings: ScoreTrials):
        self.settings = settings
        self.backends = settings.parsed_backends()
        self.whitening: Whitening | None = None
        self.cohort: Cohort | None = None
        if settings.whiten is not None:
            vectors, _ = read_embeddings(str(settings.cohort_folder))
            self.whitening = whitening(vectors, settings.whiten)
        if any(backend.needs_cohort for backend in self.backends):
            self.cohort = read_cohort(
                str(settings.cohort_folder),
                settings.cohort_labels,
                settings.cohort,
                settings.n_cohort,
                self.whitening,
                settings.seed,
                settings.cohort_is_sample,
            )
        self.learnt_on = ""
        self.calibrations: dict[Backend, Calibration] = {}
        if settings.learns_from_list:
            self._learn_from_list()
        elif settings.learns_from_pairs:
            self._learn_from_pairs()

    def scorer(
        self, folder: PathLike, ids: np.ndarray, manifest: Manifest | None
    ) -> Scorer:
        """Make a scorer of some utterances of an embeddings folder."""
        protocol = self.settings.protocol
        voices = read_voices(folder, ids, protocol, self.whitening)
        cohort = None
        if self.cohort is not None:
            cohort = as_cohort(self.cohort.vectors, voices.n_crops)
        durations = None
        if manifest is not None:
            durations = durations_of(manifest, ids)
        return Scorer(voices, cohort, self.settings.top_k, durations)

    def _learn_from_pairs(self) -> None:
        """Learn calibrations from pairs of pseudo-speakers."""
        settings = self.settings
        path = settings.calibration_labels or settings.cohort_labels
        manifest = embedded_labels(
            str(path), str(settings.cohort_folder), settings.cohort_is_sample
        )
        pairs, self.learnt_on = label_trials(
            manifest,
            settings.n_calibration,
            settings.recordings_in_ids,
            settings.seed,
        )
        rows, position = np.unique(
            np.append(pairs.enrol, pairs.test), return_inverse=True
        )
        scorer = self.scorer(
            str(settings.cohort_folder), manifest.ids[rows], manifest
        )
        self._fit(scorer, *np.split(position, 2), pairs.labels)

    def _learn_from_list(self) -> None:
        """Learn calibrations from a given trial list."""
        settings = self.settings
        trials = read_trials(str(settings.calibration_trials))
        self.learnt_on = f"{len(trials):,} trials of {trials.name}"
        manifest = read_optional(settings.calibration_annotation, "utterances")
        scorer = self.scorer(
            str(settings.calibration_folder), trials.names, manifest
        )
        sides = trials.of_sides(scorer.voices.rows_of(trials.names))
        self._fit(scorer, *sides, trials.labels)

    def _fit(self, scorer: Scorer, *pairs: Any) -> None:
        """Learn the calibration of each calibrated back-end, and log it."""
        enrol, test, labels = pairs
        p_target = self.settings.p_target
        for backend in self.backends:
            if backend.calibration is not None:
                found = scorer.fit(backend, enrol, test, labels, p_target)
                self.calibrations[backend] = found
                logger.debug(f"{backend.name}: {found.in_words()}")

    def score(
        self, scorer: Scorer, backend: Backend, *sides: np.ndarray
    ) -> np.ndarray:
        """Score trials [M], given as rows of the scorer's utterances."""
        return scorer.apply(backend, self.calibrations.get(backend), *sides)

    def calibrations_as_data(self) -> dict[str, dict[str, Any]]:
        """Return the calibrations by back-end name, as plain values."""
        return {
            backend.name: {
                "names": list(found.names),
                "weights": found.weights.tolist(),
                "offset": found.offset,
                "learnt": self.learnt_on,
            }
            for backend, found in self.calibrations.items()
        }

    def describe(self, backend: Backend, n_crops: int) -> dict[str, Any]:
        """Describe the scoring, for `SystemFacts`."""
        norm, learnt, protocol = "none", "none", str(self.settings.protocol)
        if backend.norm != RAW and self.cohort is not None:
            norm = f"{backend.norm}, {len(self.cohort.vectors)} "
            if backend.norm == "as-norm":
                norm = f"as-norm, top {self.settings.top_k} of "
                norm += f"{len(self.cohort.vectors)} "
            norm += self.cohort.kind
        if backend in self.calibrations:
            learnt = f"{backend.calibration}, on {self.learnt_on}: "
            learnt += self.calibrations[backend].in_words()
        if n_crops:
            protocol += f": {n_crops} x {n_crops}, and whole"
        if self.whitening is not None:
            protocol += f", whitened {self.settings.whiten:g}"
        return {
            "backend": backend.name,
            "score_norm": norm,
            "calibration": learnt,
            "protocol": protocol,
        }


def read_optional(path: str | None, kind: str) -> Manifest | None:
    """Read a manifest, or return None if there is no path.

    Example
    -------
    >>> read_optional(None, "oracle") is None
    True
    """
    return None if path is None else read_manifest(path, kind)
