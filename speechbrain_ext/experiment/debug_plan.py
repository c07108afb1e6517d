"""Small version of a plan for ``--debug``: all its steps, in little time.

The steps, their order and what they hand on are the plan's own; the corpus is
one of synthetic voices, and models, epochs and clusters are few, as
``hparams/plans/debug.yaml`` says.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from speechbrain_ext.experiment.artifacts import CorpusArtifacts
from speechbrain_ext.experiment.leaf import read_leaf
from speechbrain_ext.experiment.plan import embedder_of
from speechbrain_ext.experiment.recipe_settings import settings_of
from speechbrain_ext.experiment.settings import (
    STARTS,
    RunRounds,
    StageSettings,
)
from speechbrain_ext.experiment.steps import Role
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.shipped import PLANS
from speechbrain_ext.utils.yaml_trees import (
    find_yaml,
    merged,
    plain,
    read_yaml,
)

SMALL = PLANS / "debug.yaml"


def debug_values() -> dict[str, Any]:
    """Return the values of a plan's own keys that ``--debug`` changes."""
    # What a run starts from is of its own corpus. Where --debug has another, a
    # small bootstrap is trained in its place.
    return {**dict.fromkeys(STARTS), **plain(read_yaml(SMALL))["plan"]}


def debug_plan(settings: RunRounds) -> RunRounds:
    """Return the plan with a synthetic corpus and tiny models.

    Arguments
    ---------
    settings : RunRounds
        A plan, with `debug_values`.

    Returns
    -------
    RunRounds
        Another; ``run`` and ``output_folder`` end with ``_debug``, results
        stay in that folder.

    Raises
    ------
    InputError
        An embedder of the plan has no small form.
    """
    small = plain(read_yaml(SMALL))
    root = f"{settings.output_folder}_debug"
    stages = {
        kind: _small_stage(
            settings.stage(kind), embedder_of(settings, kind), small
        )
        for kind in settings.stages
    }
    stages["prepare"] = {
        **small["prepare"],
        "hparams": str(find_yaml(small["prepare"]["hparams"])),
    }
    return dataclasses.replace(
        settings,
        run=f"{settings.run}_debug",
        output_folder=root,
        augment_folder=str(
            CorpusArtifacts(Path(root) / Role.CORPUS.value).sounds
        ),
        musan=None,
        rirs=None,
        results_folder=f"{root}/results",
        stages=stages,
    )


def _small_stage(
    stage: StageSettings, embedder: dict[str, Any], small: dict[str, Any]
) -> dict[str, Any]:
    """Return a stage with its values replaced by small ones."""
    values = dict(merged(stage.set, small["recipes"].get(stage.recipe, {})))
    replaced = small["if_set"].get(stage.recipe, {})
    kind = settings_of(stage.recipe)
    if replaced or "embedder_yaml" in kind.keys():
        stated = _ALL_GIVEN | stage.set
        # It wants the plan's own embedder, which is not read here.
        stated.pop("state_copies", None)
        given = read_leaf(kind, stage.hparams, stated).settings
        for key, value in replaced.items():
            if getattr(given, key):
                values[key] = value
        if "embedder_yaml" in kind.keys():
            found = _small_embedder(given.embedder_yaml, small["embedders"])
            embedder = stage.set.get("embedder", embedder)
            values["embedder"] = {**embedder, **found}
    return {**dataclasses.asdict(stage), "set": values}


# Keys that a training's YAML requires and the plan gives later.
_ALL_GIVEN = dict.fromkeys(
    ("output_folder", "train_annotation", "data_folder"), "given later"
)


def _small_embedder(path: str, small: dict[str, Any]) -> dict[str, Any]:
    """Return the small values of an embedder's YAML."""
    name = Path(path).name
    if name not in small:
        raise InputError(
            f"embedder_yaml is {path!r}; --debug knows small forms of "
            f"{sorted(small)} only; add one of {name} to {SMALL.name}"
        )
    return small[name]
