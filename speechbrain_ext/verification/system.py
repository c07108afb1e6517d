"""What score_trials scores with: whitening, cohort, calibrations, files."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from speechbrain_ext.dataio.embedding_files import CROPS, read_embeddings
from speechbrain_ext.dataio.manifest import Manifest, read_manifest
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike
from speechbrain_ext.utils.whitening import Whitening, check_power, whitening
from speechbrain_ext.verification.backend import Backend, Scorer
from speechbrain_ext.verification.calibration import Calibration
from speechbrain_ext.verification.calibration_trials import label_trials
from speechbrain_ext.verification.cohort import Cohort, read_cohort
from speechbrain_ext.verification.cosine import read_trials
from speechbrain_ext.verification.protocols import (
    as_cohort,
    check_protocol,
    durations_of,
    read_voices,
)

logger = logging.getLogger(__name__)

_OPTIONAL_FILES = (
    "cohort_labels calibration_labels calibration_trials "
    "calibration_annotation annotation oracle metadata clusters"
).split()


class System:
    """What turns embeddings into scores: whitening, cohort, calibrations.

    Arguments
    ---------
    settings : dict
        Of the recipe.
    backends : list of Backend
        Those that it must be able to do.
    """

    def __init__(self, settings: dict[str, Any], backends: list[Backend]):
        self.settings = settings
        self.whitening: Whitening | None = None
        self.cohort: Cohort | None = None
        folder = settings["cohort_folder"]
        if settings["whiten"] is not None:
            vectors, _ = read_embeddings(folder)
            self.whitening = whitening(vectors, settings["whiten"])
        if any(backend.needs_cohort for backend in backends):
            self.cohort = read_cohort(
                folder,
                settings["cohort_labels"],
                settings["cohort"],
                settings["n_cohort"],
                self.whitening,
                settings["seed"],
            )
        self.learnt_on = ""
        self.calibrations: dict[Backend, Calibration] = {}
        calibrated = [b for b in backends if b.calibration]
        if calibrated and settings["calibration_trials"]:
            self.learn_from_trials(calibrated)
        elif calibrated:
            self.learn_from_labels(calibrated)

    def scorer(
        self, folder: PathLike, ids: np.ndarray, manifest: Manifest | None
    ) -> Scorer:
        """A scorer of some utterances of an embeddings folder."""
        protocol = self.settings["protocol"]
        voices = read_voices(folder, ids, protocol, self.whitening)
        cohort = None
        if self.cohort is not None:
            cohort = as_cohort(self.cohort.vectors, voices.n_crops)
        durations = None
        if manifest is not None:
            durations = durations_of(manifest, ids)
        return Scorer(voices, cohort, self.settings["top_k"], durations)

    def learn_from_labels(self, backends: list[Backend]) -> None:
        """Calibrations from pairs of pseudo-speakers."""
        settings = self.settings
        path = settings["calibration_labels"] or settings["cohort_labels"]
        manifest = read_manifest(path, "pseudo_labels")
        pairs, self.learnt_on = label_trials(
            manifest,
            settings["n_calibration"],
            settings["recordings_in_ids"],
            settings["seed"],
        )
        rows, position = np.unique(
            np.append(pairs.enrol, pairs.test), return_inverse=True
        )
        scorer = self.scorer(
            settings["cohort_folder"], manifest.ids[rows], manifest
        )
        self.fit(scorer, backends, *np.split(position, 2), pairs.labels)

    def learn_from_trials(self, backends: list[Backend]) -> None:
        """Calibrations from a list that is given."""
        settings = self.settings
        trials = read_trials(settings["calibration_trials"])
        self.learnt_on = f"{len(trials):,} trials of {trials.name}"
        manifest = read_optional(
            settings["calibration_annotation"], "utterances"
        )
        scorer = self.scorer(
            settings["calibration_folder"], trials.ids(), manifest
        )
        sides = (scorer.voices.rows_of(s) for s in (trials.enrol, trials.test))
        self.fit(scorer, backends, *sides, trials.labels)

    def fit(self, scorer: Scorer, backends: list[Backend], *pairs: Any) -> None:
        """Learn each back-end's calibration and say what came out."""
        enrol, test, labels = pairs
        p_target = self.settings["p_target"]
        for backend in backends:
            found = scorer.fit(backend, enrol, test, labels, p_target)
            self.calibrations[backend] = found
            logger.info(f"{backend.name}: {found.in_words()}")

    def score(
        self, scorer: Scorer, backend: Backend, *sides: np.ndarray
    ) -> np.ndarray:
        """Scores [M] of rows of the scorer's voices on either side [M]."""
        return scorer.apply(backend, self.calibrations.get(backend), *sides)

    def calibrations_as_data(self) -> dict[str, dict[str, Any]]:
        """The calibrations by their back-ends' names, to be kept exactly."""
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
        """What a result says of how its scores came about."""
        norm, learnt, protocol = "none", "none", self.settings["protocol"]
        if backend.norm != "raw" and self.cohort is not None:
            norm = f"{backend.norm}, {len(self.cohort.vectors)} "
            if backend.norm == "as-norm":
                norm = f"as-norm, top {self.settings['top_k']} of "
                norm += f"{len(self.cohort.vectors)} "
            norm += self.cohort.kind
        if backend in self.calibrations:
            learnt = f"{backend.calibration}, on {self.learnt_on}: "
            learnt += self.calibrations[backend].in_words()
        if n_crops:
            protocol += f": {n_crops} x {n_crops}, and whole"
        if self.whitening is not None:
            protocol += f", whitened {self.settings['whiten']:g}"
        return {
            "backend": backend.name,
            "score_norm": norm,
            "calibration": learnt,
            "calibrated": backend.calibration is not None,
            "protocol": protocol,
        }


def read_optional(path: str | None, kind: str) -> Manifest | None:
    """A manifest, or None where no path is given.

    Example
    -------
    >>> read_optional(None, "oracle") is None
    True
    """
    return None if path is None else read_manifest(path, kind)


def input_files(
    settings: dict[str, Any], paths: Mapping[str, str], backends: list[Backend]
) -> dict[str, PathLike]:
    """The files that score_trials reads, by their names in its receipt.

    Arguments
    ---------
    settings : dict
        Of the recipe.
    paths : mapping of str to str
        The trial lists.
    backends : list of Backend
        What they are scored by.

    Returns
    -------
    dict of str to path

    Raises
    ------
    InputError
        A setting is null that the others need.
    """
    check_protocol(settings["protocol"])
    files: dict[str, PathLike] = {
        f"trials {name}": path for name, path in paths.items()
    }
    for key in _OPTIONAL_FILES:
        if settings[key] is not None:
            files[key] = settings[key]
    folders = {"": settings["embeddings_folder"]}
    calibrated = any(backend.calibration for backend in backends)
    given = settings["calibration_trials"] is not None
    pairs = calibrated and not given
    cohort = any(backend.needs_cohort for backend in backends)
    if settings["whiten"] is not None:
        check_power(settings["whiten"])
    if settings["whiten"] is not None or pairs or cohort:
        _need(settings, "cohort_folder", "embeddings of training utterances")
        folders["cohort "] = settings["cohort_folder"]
    own = pairs and settings["calibration_labels"] is None
    if own or (cohort and settings["cohort"] == "means"):
        _need(settings, "cohort_labels", "their pseudo_labels.csv")
    if calibrated and given:
        _need(settings, "calibration_folder", "embeddings of those trials")
        folders["calibration "] = settings["calibration_folder"]
    for name, folder in folders.items():
        files[f"{name}embeddings"] = Path(folder) / "embeddings.npy"
        files[f"{name}index"] = Path(folder) / "embeddings.csv"
        if settings["protocol"] == "crops" and (pairs or name != "cohort "):
            files[f"{name}crops"] = Path(folder) / CROPS
    return files


def _need(settings: dict[str, Any], key: str, what: str) -> None:
    """Refuse a setting that is null where the others need it."""
    if settings[key] is None:
        raise InputError(
            f"{key} is null, and backends {settings['backends']} with "
            f"whiten {settings['whiten']} need it; give --{key}, {what}"
        )
