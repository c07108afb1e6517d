"""Settings of the recipes that score trials and compare systems."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Literal

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.settings import Settings, setting
from speechbrain_ext.verification.backend import Backend, parse_backends

_NORM = "score normalisation"
_CALIBRATION = "calibration"
_RESULT = "what the result files say of the system"


@dataclasses.dataclass(kw_only=True)
class ScoreTrials(Settings):
    """Settings of scoring: trial lists, back-ends, error rates and plots."""

    recipe = "score_trials"

    embeddings_folder: str = setting(
        doc="embeddings of the test utterances, from extract_embeddings",
        path=True,
    )
    trials: str | list[str] | dict[str, str] = setting(
        doc="trial lists: a path, a list of paths, or {name: path}", path=True
    )
    allow_repeats: bool = setting(
        False, "true counts a repeated pair each time instead of refusing it"
    )
    protocol: Literal["full", "crops"] = setting(
        "full",
        "full compares whole utterances; crops averages in the mean cosine "
        "of all pairs of crops, as in the paper",
    )
    whiten: float | None = setting(
        None,
        "power of partial whitening, learnt on the embeddings in "
        "cohort_folder: 0 subtracts their mean, 1 whitens fully; null: none",
        low=0,
        high=1,
    )
    backends: str | list[str] = setting(
        "raw",
        "how scores are processed, each with a result of its own: raw, "
        "z-norm, t-norm, s-norm or as-norm, alone or followed by +linear "
        "(calibrated) or +qmf (calibrated with quality measures)",
    )

    cohort_folder: str | None = setting(
        None, "embeddings of the training utterances", path=True, group=_NORM
    )
    cohort_labels: str | None = setting(
        None, "pseudo_labels.csv of them", path=True, group=_NORM
    )
    cohort: Literal["means", "utterances"] = setting(
        "means", "one mean a pseudo-speaker, or utterances", group=_NORM
    )
    n_cohort: int | None = setting(
        None, "size of a cohort drawn from them; null: all", low=2, group=_NORM
    )
    top_k: int = setting(
        300,
        "highest cohort scores of an utterance that as-norm and qmf use",
        low=2,
        group=_NORM,
    )

    calibration_labels: str | None = setting(
        None,
        "pseudo_labels.csv whose pairs calibration learns from; null: "
        "cohort_labels",
        path=True,
        group=_CALIBRATION,
    )
    n_calibration: int = setting(
        20000, "pairs of each class", low=1, group=_CALIBRATION
    )
    recordings_in_ids: bool = setting(
        False,
        "true when IDs are speaker/recording/utterance, as VoxCeleb's: no "
        "pair is then of one recording",
        group=_CALIBRATION,
    )
    calibration_trials: str | None = setting(
        None,
        "trial list that calibration learns from in place of pairs",
        path=True,
        group=_CALIBRATION,
    )
    calibration_folder: str | None = setting(
        None, "embeddings of its utterances", path=True, group=_CALIBRATION
    )
    calibration_annotation: str | None = setting(
        None, "their manifest, for qmf", path=True, group=_CALIBRATION
    )

    annotation: str | None = setting(
        None,
        "manifest of the test utterances, for qmf and groups by duration",
        path=True,
    )
    duration_edges: list[float] = setting(
        [4.0, 8.0],
        "seconds between groups by the shorter side's duration, rising",
        above=0,
    )
    oracle: str | None = setting(
        None,
        "true speakers to bootstrap over; null: as the IDs tell",
        path=True,
    )
    metadata: str | None = setting(
        None,
        "CSV with ID or spk_id and columns to break results down by",
        path=True,
    )
    p_target: float = setting(
        0.01,
        "prior of a target trial, for minDCF and calibration",
        above=0,
        below=1,
    )
    n_bootstrap: int = setting(
        1000, "bootstrap samples of the 95 % intervals", low=1
    )

    run: str | None = setting(
        "", "name of the run: its rows share a table", group=_RESULT
    )
    system: str = setting(
        "embedder", "row label: DINO, round 1, true labels, ...", group=_RESULT
    )
    corpus: str | None = setting(
        "", "corpus of the test utterances", group=_RESULT
    )
    caveat: str | None = setting(
        "", "what a reader must know, such as toy data", group=_RESULT
    )
    train_device: str | None = setting(
        "", "where it was trained, such as 2 CPU cores", group=_RESULT
    )
    train_record: str | None = setting(
        None,
        "stage.json of the training: its utterances and seconds",
        path=True,
        decides=False,
        group=_RESULT,
    )
    clusters: str | None = setting(
        None,
        "clusters.json to report with it: NMI, ARI and number",
        path=True,
        group=_RESULT,
    )

    def check_together(self) -> None:
        """Raise InputError for values that contradict each other."""
        self.lists()
        if sorted(set(self.duration_edges)) != self.duration_edges:
            raise InputError(
                f"duration_edges is {self.duration_edges}; each must be above "
                "the one before; for example --duration_edges=[4, 8]"
            )
        if self.needs_cohort_folder:
            self._need("cohort_folder", "embeddings of training utterances")
        own = self.learns_from_pairs and self.calibration_labels is None
        if own or (self._cohort and self.cohort == "means"):
            self._need("cohort_labels", "their pseudo_labels.csv")
        qmf = any(b.calibration == "qmf" for b in self.parsed_backends())
        if qmf:
            self._need("annotation", "the manifest of the test utterances")
        if self.learns_from_list:
            self._need("calibration_folder", "embeddings of those trials")
            if qmf:
                self._need("calibration_annotation", "their manifest")

    def lists(self) -> dict[str, str]:
        """Return the paths of the trial lists by name (default: the stem).

        Raises
        ------
        InputError
            There is none, two share a name, or a name cannot be part of a
            file name.
        """
        trials = self.trials
        if isinstance(trials, str):
            trials = [trials]
        if isinstance(trials, list):
            stems = [Path(path).stem for path in trials]
            if len(set(stems)) < len(stems):
                raise InputError(
                    f"trials is {trials}; two must not share a file name; "
                    'name them: --trials="{O: a/list.txt, E: b/list.txt}"'
                )
            trials = dict(zip(stems, trials, strict=True))
        if not trials:
            raise InputError(
                f"trials is {self.trials}; there must be at least one list; "
                "give --trials=PATH"
            )
        for name in trials:
            if not re.fullmatch(r"[\w.-]+", name):
                raise InputError(
                    f"trials has the name {name!r}; it becomes part of file "
                    "names; use letters, digits and _ . - only"
                )
        return trials

    def parsed_backends(self) -> list[Backend]:
        """Parse the back-ends."""
        return parse_backends(self.backends)

    @property
    def learns_from_list(self) -> bool:
        """Whether calibration learns from a given trial list."""
        return self._calibrated and self.calibration_trials is not None

    @property
    def learns_from_pairs(self) -> bool:
        """Whether calibration learns from pairs of pseudo-speakers."""
        return self._calibrated and self.calibration_trials is None

    @property
    def needs_cohort_folder(self) -> bool:
        """Whether embeddings of training utterances are read."""
        whitened = self.whiten is not None
        return whitened or self.learns_from_pairs or self._cohort

    @property
    def _calibrated(self) -> bool:
        return any(b.calibration for b in self.parsed_backends())

    @property
    def _cohort(self) -> bool:
        return any(b.needs_cohort for b in self.parsed_backends())

    def _need(self, key: str, what: str) -> None:
        """Raise InputError if a setting that others need is null."""
        if getattr(self, key) is None:
            whiten = "null" if self.whiten is None else f"{self.whiten:g}"
            raise InputError(
                f"{key} is null; backends {self.backends} with whiten "
                f"{whiten} need it; give --{key}, {what}"
            )


@dataclasses.dataclass(kw_only=True)
class CompareScores(Settings):
    """Settings of a paired comparison of two systems on one trial list."""

    recipe = "compare_scores"

    first: str = setting(doc="a folder that score_trials wrote", path=True)
    second: str = setting(
        doc="another, or the same with another back-end", path=True
    )
    first_backend: str = setting("raw", "back-end of the first system")
    second_backend: str = setting("raw", "back-end of the second system")
    trials: str = setting(doc="the trial list that both scored", path=True)
    name: str | None = setting(
        None, "its name in the folders; null: the file's stem"
    )
    allow_repeats: bool = setting(False, "as it was scored")
    oracle: str | None = setting(
        None,
        "true speakers to bootstrap over; null: as the IDs tell",
        path=True,
    )
    p_target: float = setting(
        0.01, "prior of a target trial, for minDCF", above=0, below=1
    )
    n_bootstrap: int = setting(1000, "bootstrap samples", low=1)

    def check_together(self) -> None:
        """Raise InputError if score_trials does not know the back-end."""
        parse_backends(self.first_backend, "first_backend")
        parse_backends(self.second_backend, "second_backend")
