"""Settings of the driver `run_rounds`: the plan of a run."""

from __future__ import annotations

import dataclasses
import difflib
import re
from typing import Any, Literal

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.settings import Settings, setting

# Recipes that a plan's ``stages`` name.
STAGES = (
    "prepare",
    "bootstrap",
    "start",
    "extract",
    "labels",
    "train",
    "large_margin",
    "true_labels",
    "whiten",
    "join",
    "score",
    "export",
)

# Keys of what a run is given in place of its bootstrap's training.
STARTS = ("start_embedder", "start_embeddings", "start_test_embeddings")


@dataclasses.dataclass(frozen=True)
class StageSettings:
    """Recipe of a stage, its YAML and the values to change in it."""

    recipe: str
    hparams: str
    set: dict[str, Any]


@dataclasses.dataclass(kw_only=True)
class RunRounds(Settings):
    """Settings of the whole loop, from a corpus to a model and a report."""

    recipe = "run_rounds"
    again = "goes on with the first step that is not done"

    run: str = setting(doc="name of the run; results of one run share a table")
    dry_run: bool = setting(
        False,
        "true prints the state of each step, the hours, memory and disk that "
        "it takes and all that is not fit to run, and stops",
        decides=False,
    )
    from_stage: str | None = setting(
        None,
        "first step to run again, with all steps after it; null: only steps "
        "that are not up to date",
        decides=False,
    )
    launcher: Literal["auto"] | list[str] = setting(
        [],
        "command that starts each training, word by word, e.g. [torchrun, "
        "--standalone]; auto: torchrun on all GPUs of the machine; []: none",
        decides=False,
    )

    data_folder: str | None = setting(
        None,
        "folder of the corpus; null: the stage prepare makes the corpus",
        path=True,
        group="corpus",
    )
    augment_folder: str | None = setting(
        None,
        "folder with noise, music, speech and rir for augmentation; null: "
        "none, or musan and rirs in its place",
        path=True,
        group="corpus",
    )
    musan: str | None = setting(
        None,
        "folder of MUSAN as it unpacks (music, noise, speech), with rirs in "
        "place of augment_folder; null: none",
        path=True,
        group="corpus",
    )
    rirs: str | None = setting(
        None,
        "folder of RIRS_NOISES as it unpacks, of which simulated_rirs is used; "
        "null: none",
        path=True,
        group="corpus",
    )
    results_folder: str = setting(
        "results", "folder for result files and tables", decides=False
    )
    corpus: str = setting("", "name of the test corpus in result tables")
    caveat: str = setting(
        "", "caveat that readers of the results must know, e.g. toy data"
    )
    train_device: str = setting(
        "", "hardware that models are trained on, as shown in result tables"
    )

    start_embedder: str | None = setting(
        None,
        "embedder folder that the first clusters come from, in place of the "
        "bootstrap's training; null: that is trained",
        path=True,
        group="start",
    )
    start_embeddings: str | None = setting(
        None,
        "embeddings of the training utterances to cluster first, in place of "
        "the bootstrap's training: a folder, .npy, .pt, .ark or .scp; null: "
        "none",
        path=True,
        group="start",
    )
    start_test_embeddings: str | None = setting(
        None,
        "embeddings of the test utterances, of the model that made "
        "start_embeddings, for a row of results; null: no such row",
        path=True,
        group="start",
    )

    bootstrap_name: str | None = setting(
        None,
        "name of the bootstrap (the training without labels, or what is given "
        "in its place) in result tables; null: DINO, SimCLR, MoCo or "
        "pre-trained encoder, as its recipe says, or what was given",
        group="rounds",
    )
    n_rounds: int | Literal["auto"] = setting(
        2,
        "number of rounds of clustering and training; auto stops when "
        "churn, the share of utterances that change cluster, hardly falls",
        low=0,
        group="rounds",
    )
    max_rounds: int = setting(
        6, "maximum number of rounds with n_rounds=auto", low=1, group="rounds"
    )
    churn_tolerance: float = setting(
        0.1,
        "relative fall in churn, as a fraction, at or below which "
        "n_rounds=auto stops",
        low=0,
        below=1,
        group="rounds",
    )
    churn_floor: float = setting(
        0.02,
        "churn (share of utterances that change cluster) at or below which "
        "n_rounds=auto stops",
        low=0,
        below=1,
        group="rounds",
    )
    ablations: dict[str, dict] = setting(
        {},
        "map from ablation names to the values changed when round 1 is "
        "trained again",
        group="rounds",
    )
    round_init: Literal["bootstrap"] | None = setting(
        None,
        "initial weights of each round; bootstrap: those of the bootstrap's "
        "embedder; null: the round's embedder as its YAML builds it",
        group="rounds",
    )
    large_margin: bool = setting(
        True, "true fine-tunes the model of the last round with a larger margin"
    )
    topline: bool = setting(
        True, "true also trains on true labels, as the supervised upper bound"
    )
    export: bool = setting(
        True, "true exports the final model to a folder that can be shared"
    )

    scored: bool = setting(
        True,
        "false: there are no trial lists, so no scores, no topline and no "
        "export",
        group="scores",
    )
    protocol: Literal["full", "crops"] = setting(
        "full",
        "what a trial compares: full, whole utterances; crops, also crops "
        "of each utterance",
        group="scores",
    )
    backends: str | list[str] = setting(
        ["raw", "as-norm"],
        "scoring back-ends, each with a table row of its own; see backends "
        "of score_trials",
        group="scores",
    )
    cohort_per_speaker: int | None = setting(
        None,
        "utterances of each pseudo-speaker, drawn by the seed, that are "
        "embedded to normalise, whiten and calibrate by, for a system that is "
        "not clustered (ablations, large margin, topline, export); null, and "
        "with join_final: all",
        low=1,
        group="scores",
    )
    whiten_scores: float | None = setting(
        None,
        "exponent of partial whitening before scoring and in the exported "
        "model; null: no whitening",
        low=0,
        high=1,
        group="scores",
    )

    n_clusters: int | Literal["auto"] = setting(
        "auto",
        "number of clusters (pseudo-speakers); auto estimates it from "
        "Ward's tree",
        low=2,
    )
    embedder: dict = setting(
        {},
        "values to change in the YAML of the bootstrap's embedder",
        group="models",
    )
    join_bootstrap: bool = setting(
        False,
        "true clusters each round's embeddings joined with the bootstrap's: "
        "errors that two models do not share weigh half",
        group="rounds",
    )
    join_final: bool = setting(
        False,
        "true makes one model of the last and the bootstrap's, whose "
        "embeddings are side by side: scored beside the same with true "
        "labels, and exported",
        group="rounds",
    )
    round_embedder: dict | None = setting(
        None,
        "values to change in the YAML of the rounds' embedder; null: those "
        "of the key embedder",
        group="models",
    )
    stages: dict[str, dict] = setting(
        {},
        "map from stages to recipe, hparams (the recipe's YAML) and set "
        "(values to change in it)",
        group="stages",
    )

    def check_together(self) -> None:
        """Raise InputError for a wrong name, and wrong or missing stages."""
        if not re.fullmatch(r"\w[\w .+-]*", self.run):
            raise InputError(
                f"run is {self.run!r}; it becomes the name of a folder; use "
                "letters, digits, blanks and _ . + - only; correct --run"
            )
        for kind, stage in self.stages.items():
            if kind not in STAGES:
                raise _no_such_key("stages", kind, stage, STAGES)
            _check_stage(f"stages.{kind}", stage)
        missing = [kind for kind in STAGES if kind not in self.stages]
        if missing:
            raise InputError(
                f"stages is {sorted(self.stages)}; a plan has each of "
                f"{', '.join(STAGES)}; add stages.{missing[0]}, or give the "
                "plan a base that has it"
            )
        if (
            self.n_rounds == "auto"
            and "previous_labels" in self.stages["labels"]["set"]
        ):
            raise InputError(
                "stages.labels.set.previous_labels is given; n_rounds is auto "
                "and goes by the churn between rounds; leave it out"
            )
        self._check_start()

    def _check_start(self) -> None:
        """Raise InputError for a start that leaves out what the run needs."""
        given = self.start_embeddings
        if given is None and self.start_test_embeddings is not None:
            raise InputError(
                f"start_test_embeddings is {self.start_test_embeddings!r} and "
                "start_embeddings is null; both are of one model; give "
                "--start_embeddings too"
            )
        if given is None:
            return
        start = f"start_embeddings is {given!r}"
        if self.start_embedder is not None:
            raise InputError(
                f"{start} and start_embedder is {self.start_embedder!r}; a run "
                "has one start; leave one of them out"
            )
        if self.join_final:
            raise InputError(
                f"{start} and join_final is true; embeddings are no model "
                "that could be joined; give --join_final=false, or their "
                "model as --start_embedder"
            )
        if self.round_init == "bootstrap":
            raise InputError(
                f"{start} and round_init is 'bootstrap'; embeddings have no "
                "weights for rounds to begin with; give --round_init=null, or "
                "their model as --start_embedder"
            )
        if self.n_rounds == 0:
            raise InputError(
                f"{start} and n_rounds is 0; there would be no model; give "
                "--n_rounds=1 or more"
            )
        test = self.start_test_embeddings
        if test is not None and not (self.scored and self.protocol == "full"):
            raise InputError(
                f"start_test_embeddings is {test!r}, scored is {self.scored} "
                f"and protocol {self.protocol!r}; embeddings are scored of "
                "whole utterances only; give --protocol=full and "
                "--scored=True, or leave --start_test_embeddings out"
            )

    @property
    def start(self) -> str | None:
        """Words for what the run is given to start from; None without it."""
        if self.start_embedder is not None:
            return "given embedder"
        return None if self.start_embeddings is None else "given embeddings"

    def stage(self, kind: str) -> StageSettings:
        """Return the recipe of a stage, its YAML and the values to change."""
        return StageSettings(**self.stages[kind])


def _check_stage(name: str, stage: dict[str, Any]) -> None:
    """Raise InputError if a stage lacks a key or has one of a wrong type."""
    kinds = {field.name: field for field in dataclasses.fields(StageSettings)}
    for key, value in stage.items():
        if key not in kinds:
            raise _no_such_key(name, key, value, tuple(kinds))
        kind, words = (dict, "a map {...}") if key == "set" else (str, "text")
        if not isinstance(value, kind):
            raise InputError(
                f"{name}.{key} is {value!r}; it must be {words}; correct "
                f"{name}.{key} in --stages"
            )
    for key in kinds:
        if key not in stage:
            raise InputError(
                f"{name} is {stage}; it must have recipe, hparams and set "
                f"(values to change); add {name}.{key}"
            )


def _no_such_key(
    above: str, key: str, value: Any, known: tuple[str, ...]
) -> InputError:
    near = difflib.get_close_matches(key, known, 1)
    way = f"did you mean {above}.{near[0]}?" if near else f"it has {known}"
    return InputError(
        f"{above}.{key} is {value!r}; {above} has no such key; {way}"
    )
