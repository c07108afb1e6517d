"""A plan as ``--debug`` runs it: all of its steps, made small.

The steps, their order and what they hand on are the plan's own; the corpus is
one of synthetic voices and models, epochs and clusters are few, as
``hparams/parts/debug.yaml`` says.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.yaml_trees import plain, read_yaml

SMALL = Path(__file__).parents[2] / "hparams" / "parts" / "debug.yaml"
# A plan's, without which it cannot be resolved; voices are made instead.
_FOLDERS = ("data_folder", "augment_folder")


def debug_words(words: list[str]) -> list[str]:
    """A command line whose plan needs no corpus.

    Arguments
    ---------
    words : list of str
        With ``--debug`` among them, or not: then they are returned as given.

    Example
    -------
    >>> debug_words(["plan.yaml", "--debug", "--data_folder=a"])
    ['plan.yaml', '--debug', '--data_folder=a', '--augment_folder=none']
    """
    if "--debug" not in words:
        return words
    given = {word.partition("=")[0] for word in words}
    missing = [name for name in _FOLDERS if f"--{name}" not in given]
    return [*words, *(f"--{name}=none" for name in missing)]


def debug_plan(settings: dict[str, Any]) -> dict[str, Any]:
    """The plan with a toy corpus and models of seconds.

    Arguments
    ---------
    settings : dict
        A plan YAML, resolved.

    Returns
    -------
    dict
        Another; ``run`` and ``output_folder`` end with ``_debug``, results
        stay in that folder.

    Raises
    ------
    InputError
        An embedder of the plan has no small form.

    Example
    -------
    >>> from speechbrain_ext.utils.yaml_trees import parse_yaml, resolve
    >>> settings = plain(parse_yaml(resolve("hparams/plans/quickstart.yaml")))
    >>> small = debug_plan(settings)
    >>> small["output_folder"], small["stages"]["train"]["set"]["n_epochs"]
    ('exp/quickstart_debug', 3)
    """
    small = plain(read_yaml(SMALL))
    root = f"{settings['output_folder']}_debug"
    stages = {
        kind: {**stage, "set": _small_values(stage, small)}
        for kind, stage in settings["stages"].items()
    }
    return {
        **settings,
        **small["plan"],
        "run": f"{settings['run']}_debug",
        "output_folder": root,
        "augment_folder": f"{root}/corpus/augment",
        "results_folder": f"{root}/results",
        "stages": {**stages, "prepare": small["prepare"]},
    }


def _small_values(
    stage: dict[str, Any], small: dict[str, Any]
) -> dict[str, Any]:
    """What a stage sets, with the small values over it."""
    values = {**stage["set"], **small["recipes"].get(stage["recipe"], {})}
    tree = read_yaml(stage["hparams"])
    if "embedder_yaml" in tree:
        path = values.get("embedder_yaml", tree["embedder_yaml"])
        if path not in small["embedders"]:
            raise InputError(
                f"--debug knows no small form of {path}; it has "
                f"{sorted(small['embedders'])}: add it to {SMALL.name}"
            )
        given = values.get("embedder", {})
        values["embedder"] = {**given, **small["embedders"][path]}
    return values
