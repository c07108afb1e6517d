"""Plans of runs, read and changed."""

import dataclasses

from speechbrain_ext.experiment.leaf import read_leaf
from speechbrain_ext.experiment.plan import load_plan
from speechbrain_ext.experiment.settings import RunRounds
from speechbrain_ext.utils.files import write_json


def read_plan(name, **changes):
    return read_leaf(RunRounds, f"plans/{name}.yaml", changes).settings


def changed(settings, **values):
    return dataclasses.replace(settings, **values)


def names(settings):
    return [step.name for step in load_plan(settings).steps]


def by_name(settings):
    return {step.name: step for step in load_plan(settings).steps}


def churn(settings, number, value):
    path = f"{settings.output_folder}/round{number}/labels/stage.json"
    write_json(path, {"churn": value})
