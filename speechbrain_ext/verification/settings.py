"""Settings of the recipes that score trials and compare systems."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Literal

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike
from speechbrain_ext.utils.settings import Settings, setting
from speechbrain_ext.verification.backend import Backend, parse_backends

_OPTIONAL_FILES = (
    "cohort_labels calibration_labels calibration_trials "
    "calibration_annotation annotation oracle metadata clusters"
).split()
_NORM = "score normalisation"
_CALIBRATION = "calibration"
_RESULT = "description of the system in the result files"


@dataclasses.dataclass(kw_only=True)
class ScoreTrials(Settings):
    """Settings of scoring: trial lists, back-ends, error rates and plots."""

    recipe = "score_trials"

    embeddings_folder: str = setting(
        doc="folder of the embeddings of the test utterances, from "
        "extract_embeddings",
        path=True,
    )
    trials: str | list[str] | dict[str, str] = setting(
        doc="trial lists: a path, a list of paths, or a map {name: path}",
        path=True,
    )
    allow_repeats: bool = setting(
        False,
        "true counts a pair as often as a trial list repeats it; false "
        "refuses repeated pairs",
    )
    protocol: Literal["full", "crops"] = setting(
        "full",
        "what a score is: full, the cosine of whole utterances; crops, its "
        "average with the mean cosine of all pairs of crops, as in the "
        "paper",
    )
    whiten: float | None = setting(
        None,
        "exponent of partial whitening, learnt on the embeddings in "
        "cohort_folder: 0 only centres, 1 whitens fully; null: no whitening",
        low=0,
        high=1,
    )
    backends: str | list[str] = setting(
        "raw",
        "processing of the scores, with one result for each: raw, z-norm, "
        "t-norm, s-norm or as-norm, alone or followed by +linear "
        "(calibrated) or +qmf (calibrated with quality measures)",
    )

    cohort_folder: str | None = setting(
        None,
        "folder of the embeddings of the training utterances, for cohort, "
        "whitening and calibration",
        path=True,
        group=_NORM,
    )
    cohort_labels: str | None = setting(
        None,
        "pseudo_labels.csv of the utterances in cohort_folder",
        path=True,
        group=_NORM,
    )
    cohort_is_sample: bool = setting(
        False,
        "true: cohort_folder has a sample of the utterances of cohort_labels "
        "and calibration_labels, and labels of others are left out",
        group=_NORM,
    )
    cohort: Literal["means", "utterances"] = setting(
        "means",
        "members of the cohort: the mean of each pseudo-speaker, or single "
        "utterances",
        group=_NORM,
    )
    n_cohort: int | None = setting(
        None,
        "number of cohort members, drawn at random; null: all",
        low=2,
        group=_NORM,
    )
    top_k: int = setting(
        300,
        "number of highest cohort scores per utterance that as-norm and qmf "
        "use",
        low=2,
        group=_NORM,
    )

    calibration_labels: str | None = setting(
        None,
        "pseudo_labels.csv that defines the pairs calibration learns from; "
        "null: cohort_labels",
        path=True,
        group=_CALIBRATION,
    )
    n_calibration: int = setting(
        20000,
        "number of target pairs, and of non-target pairs, that calibration "
        "learns from",
        low=1,
        group=_CALIBRATION,
    )
    recordings_in_ids: bool = setting(
        False,
        "true if IDs are speaker/recording/utterance, as in VoxCeleb; "
        "calibration then pairs no utterances of one recording",
        group=_CALIBRATION,
    )
    calibration_trials: str | None = setting(
        None,
        "trial list that calibration learns from; null: pairs from "
        "calibration_labels",
        path=True,
        group=_CALIBRATION,
    )
    calibration_folder: str | None = setting(
        None,
        "folder of the embeddings of the utterances in calibration_trials",
        path=True,
        group=_CALIBRATION,
    )
    calibration_annotation: str | None = setting(
        None,
        "manifest of the utterances in calibration_trials, for qmf",
        path=True,
        group=_CALIBRATION,
    )

    annotation: str | None = setting(
        None,
        "manifest of the test utterances, for qmf and results by duration",
        path=True,
    )
    duration_edges: list[float] = setting(
        [4.0, 8.0],
        "rising limits, in seconds, of groups of trials by the duration of "
        "the shorter side",
        above=0,
    )
    oracle: str | None = setting(
        None,
        "CSV of the true speakers, for bootstrap over speakers; null: "
        "speakers as the IDs tell",
        path=True,
    )
    metadata: str | None = setting(
        None,
        "CSV with ID or spk_id and columns to break results down by; null: "
        "none",
        path=True,
    )
    p_target: float = setting(
        0.01,
        "prior probability of a target trial, for minDCF and calibration",
        above=0,
        below=1,
    )
    n_bootstrap: int = setting(
        1000, "number of bootstrap samples for the 95 % intervals", low=1
    )

    run: str | None = setting(
        "", "name of the run; results of one run share a table", group=_RESULT
    )
    system: str = setting(
        "embedder",
        "name of the system in result tables, e.g. DINO, round 1 or true "
        "labels",
        group=_RESULT,
    )
    corpus: str | None = setting(
        "", "name of the test corpus in result tables", group=_RESULT
    )
    caveat: str | None = setting(
        "",
        "caveat that readers of the results must know, e.g. toy data",
        group=_RESULT,
    )
    train_device: str | None = setting(
        "", "hardware the model was trained on, e.g. 2 CPU cores", group=_RESULT
    )
    train_record: str | None = setting(
        None,
        "stage.json (stage record) of the training, for its number of "
        "utterances and its seconds; null: not reported",
        path=True,
        decides=False,
        group=_RESULT,
    )
    clusters: str | None = setting(
        None,
        "clusters.json of the clustering to report with the scores: NMI, ARI "
        "and number of clusters; null: not reported",
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

    def inputs(self) -> dict[str, PathLike]:
        """Return the files that decide the result, by name."""
        # It loads pandas, which settings must not.
        from speechbrain_ext.dataio.embedding_files import CROPS

        files: dict[str, PathLike] = {
            f"trials {name}": path for name, path in self.lists().items()
        }
        for key in _OPTIONAL_FILES:
            if getattr(self, key) is not None:
                files[key] = getattr(self, key)
        folders = {"": self.embeddings_folder}
        pairs = self.learns_from_pairs
        if self.needs_cohort_folder:
            folders["cohort "] = str(self.cohort_folder)
        if self.learns_from_list:
            folders["calibration "] = str(self.calibration_folder)
        for name, folder in folders.items():
            files[f"{name}embeddings"] = Path(folder) / "embeddings.npy"
            files[f"{name}index"] = Path(folder) / "embeddings.csv"
            if self.protocol == "crops" and (pairs or name != "cohort "):
                files[f"{name}crops"] = Path(folder) / CROPS
        return files

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

    first: str = setting(
        doc="folder that score_trials wrote for the first system", path=True
    )
    second: str = setting(
        doc="folder that score_trials wrote for the second system; it may be "
        "the first one, with another back-end",
        path=True,
    )
    first_backend: str = setting("raw", "back-end of the first system")
    second_backend: str = setting("raw", "back-end of the second system")
    trials: str = setting(doc="trial list that both systems scored", path=True)
    name: str | None = setting(
        None, "name of the trial list in the two folders; null: the file's stem"
    )
    allow_repeats: bool = setting(
        False,
        "true if the list repeats pairs, and both were scored with "
        "allow_repeats",
    )
    oracle: str | None = setting(
        None,
        "CSV of the true speakers, for bootstrap over speakers; null: "
        "speakers as the IDs tell",
        path=True,
    )
    p_target: float = setting(
        0.01,
        "prior probability of a target trial, for minDCF",
        above=0,
        below=1,
    )
    n_bootstrap: int = setting(1000, "number of bootstrap samples", low=1)

    def check_together(self) -> None:
        """Raise InputError if score_trials does not know the back-end."""
        parse_backends(self.first_backend, "first_backend")
        parse_backends(self.second_backend, "second_backend")
