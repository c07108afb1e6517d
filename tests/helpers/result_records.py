"""Result records from flat facts."""

import dataclasses

from speechbrain_ext.verification.results import (
    LabelFacts,
    Result,
    SystemFacts,
)

SYSTEM = {field.name for field in dataclasses.fields(SystemFacts)} - {"name"}
LABELS = {field.name for field in dataclasses.fields(LabelFacts)}


def result_of(scores, labels, system="DINO", **facts):
    """Measure scores; facts of the system and of its labels go where due."""
    about = {key: facts.pop(key) for key in SYSTEM & facts.keys()}
    clusters = {key: facts.pop(key) for key in LABELS & facts.keys()}
    if clusters:
        facts["pseudo_labels"] = LabelFacts(**clusters)
    facts.setdefault("trials", "dev")
    named = SystemFacts(system, **about)
    return Result.of_scores(scores, labels, system=named, **facts)
