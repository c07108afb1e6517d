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
    "extract",
    "labels",
    "train",
    "large_margin",
    "true_labels",
    "whiten",
    "score",
    "export",
)


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

    run: str = setting(doc="name of the run: its rows share a table")
    dry_run: bool = setting(
        False, "true prints the plan and stops", decides=False
    )
    from_stage: str | None = setting(
        None, "a step to do again, with all that follow", decides=False
    )
    launcher: list[str] = setting(
        [],
        "words that start a training, e.g. [torchrun, --standalone]",
        decides=False,
    )

    data_folder: str | None = setting(
        None, "the corpus; null: prepare makes it", path=True, group="corpus"
    )
    augment_folder: str | None = setting(
        None,
        "holds noise, music, speech and rir; null: no augmentation",
        path=True,
        group="corpus",
    )
    results_folder: str = setting(
        "results", "where result files and tables go", decides=False
    )
    corpus: str = setting("", "name of the test corpus in tables")
    caveat: str = setting("", "what readers must know, e.g. toy data")
    train_device: str = setting("", "where models are trained, for tables")

    bootstrap_name: str = setting(
        "DINO", "row label of the bootstrap", group="rounds"
    )
    n_rounds: int | Literal["auto"] = setting(
        2,
        "auto: until churn, the share of utterances that change cluster, "
        "hardly falls",
        low=0,
        group="rounds",
    )
    max_rounds: int = setting(6, "the most, when auto", low=1, group="rounds")
    churn_tolerance: float = setting(
        0.1,
        "auto stops when churn falls by no more than this share",
        low=0,
        below=1,
        group="rounds",
    )
    churn_floor: float = setting(
        0.02,
        "auto stops when no more than this share of utterances moves",
        low=0,
        below=1,
        group="rounds",
    )
    ablations: dict[str, dict] = setting(
        {},
        "by name, values that round 1 is trained with once more",
        group="rounds",
    )
    round_init: Literal["bootstrap"] | None = setting(
        None,
        "weights that each round starts from; null: the encoder's own",
        group="rounds",
    )
    large_margin: bool = setting(
        True, "tune the last round's model with a larger margin"
    )
    topline: bool = setting(
        True, "train on true labels too: the supervised upper bound"
    )
    export: bool = setting(True, "make the folder that is shared")

    scored: bool = setting(
        True,
        "false: no trial lists, so no scores, no topline and no export",
        group="scores",
    )
    protocol: Literal["full", "crops"] = setting(
        "full",
        "what is compared: whole utterances, or also crops of each",
        group="scores",
    )
    backends: str | list[str] = setting(
        ["raw", "as-norm"],
        "a row each: see score_trials",
        group="scores",
    )
    whiten_scores: float | None = setting(
        None,
        "whitening of the scores and of the final model",
        low=0,
        high=1,
        group="scores",
    )

    n_clusters: int | Literal["auto"] = setting(
        "auto", "pseudo-speakers; auto: judged from the tree", low=2
    )
    embedder: dict = setting(
        {}, "values to change of the bootstrap's embedder", group="models"
    )
    round_embedder: dict | None = setting(
        None,
        "values to change of the rounds' embedder; null: those of embedder",
        group="models",
    )
    stages: dict[str, dict] = setting(
        {},
        "of each stage: recipe, hparams (its YAML) and set (values to change)",
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
