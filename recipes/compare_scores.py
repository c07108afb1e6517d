"""Compare two systems on one trial list by a paired bootstrap.

Both have scored the list by score_trials; speakers are drawn anew, the same
for both, so that what makes a list hard cancels. To run it:

> python recipes/compare_scores.py hparams/compare_scores.yaml \\
      --first=exp/round1/scores --second=exp/round2/scores \\
      --trials=CORPUS/trials/dev.txt --output_folder=exp/comparison

It writes comparison.json: second minus first, 95 % intervals and p-values.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from speechbrain_ext.commands.command_line import run
from speechbrain_ext.dataio.manifest import read_manifest
from speechbrain_ext.dataio.trials import TrialList, check_scores
from speechbrain_ext.experiment.recipe_run import RecipeRun
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike
from speechbrain_ext.verification.bootstrap import LONE, lone_units
from speechbrain_ext.verification.comparison import Comparison
from speechbrain_ext.verification.cosine import read_trials
from speechbrain_ext.verification.results import Result, read_result
from speechbrain_ext.verification.settings import CompareScores
from speechbrain_ext.verification.trial_speakers import units_of

logger = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    """Read the scores of both systems, compare them, write the comparison."""
    recipe = RecipeRun(__file__, CompareScores, argv)
    settings = recipe.settings
    name = settings.name or Path(settings.trials).stem
    sides = [
        (Path(settings.first), f"{name}_{settings.first_backend}"),
        (Path(settings.second), f"{name}_{settings.second_backend}"),
    ]
    if recipe.is_done(input_files(settings, sides)):
        return
    trials = read_trials(settings.trials, name, settings.allow_repeats)
    oracle = None
    if settings.oracle is not None:
        oracle = read_manifest(settings.oracle, "oracle")
    (scores, first), (others, second) = (
        read_side(folder, stem, trials) for folder, stem in sides
    )
    units = units_of(trials, oracle)
    found = Comparison.of_scores(
        scores,
        others,
        trials.labels,
        units,
        settings.p_target,
        settings.n_bootstrap,
        settings.seed,
        first=f"{first.system.name}, {first.system.backend}",
        second=f"{second.system.name}, {second.system.backend}",
        trials=trials.name,
        trials_sha256=trials.summary()["sha256"],
    )
    logger.info(found.in_words())
    lone = lone_units(units, trials.labels)
    if lone:
        logger.warning(f"{name}: {lone}; {LONE}")
    found.write(recipe.folder / "comparison.json")
    recipe.finish(["comparison.json"])


def input_files(
    settings: CompareScores, sides: list[tuple[Path, str]]
) -> dict[str, PathLike]:
    """List the files read, by their names in the stage record."""
    files: dict[str, PathLike] = {"trials": settings.trials}
    for side, (folder, stem) in zip(("first", "second"), sides, strict=True):
        files[f"{side} scores"] = folder / f"scores_{stem}.npy"
        files[f"{side} result"] = folder / f"result_{stem}.json"
    if settings.oracle is not None:
        files["oracle"] = settings.oracle
    return files


def read_side(
    folder: Path, stem: str, trials: TrialList
) -> tuple[np.ndarray, Result]:
    """Read scores [N] and result of one system on this very list."""
    path = folder / f"scores_{stem}.npy"
    scores = np.load(path)
    check_scores(trials, scores, str(path))
    result = read_result(folder / f"result_{stem}.json")
    if result.trials.sha256 != trials.summary()["sha256"]:
        raise InputError(
            f"{path} has scores of another list than {trials.source}; score "
            "this list with both systems"
        )
    return scores, result


if __name__ == "__main__":
    run(main)
