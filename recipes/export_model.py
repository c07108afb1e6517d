"""Export a model into a folder to publish: weights, card and examples.

The embedder must be the one that was scored: the recipe follows stage records
from the results to its weights. To run it, after extract_embeddings of the test
utterances and score_trials with --backends="[raw, raw+linear]":

> python recipes/export_model.py hparams/export_model.yaml \
      --embedder_folder=exp/round1/embedder \
      --embeddings_folder=exp/round1/test_embeddings \
      --scores_folder=exp/round1/scores --output_folder=exp/export

Below output_folder, ``model`` is what is shared. With --push=OWNER/NAME it is
uploaded (private; --dry_run=True lists what would go). Typed again after an
interruption, or after another round, it sends what is not there yet. The card
may be edited in between: one that is there is kept.
"""

from __future__ import annotations

import logging
from pathlib import Path

from speechbrain_ext.commands.command_line import run
from speechbrain_ext.experiment.lineage import (
    check_made_from,
    check_maker_read,
    check_unchanged,
    read_lineage,
)
from speechbrain_ext.experiment.model_card import (
    Story,
    for_repository,
    lacking,
    model_card,
)
from speechbrain_ext.experiment.recipe_run import RecipeRun
from speechbrain_ext.experiment.stage_records import RECORD, read_record
from speechbrain_ext.inference.decision import Decision, checked_decision
from speechbrain_ext.inference.hub_folder import (
    CARD,
    check_embedder,
    write_hub_folder,
)
from speechbrain_ext.inference.hub_upload import describe_upload, upload
from speechbrain_ext.inference.settings import ExportModel
from speechbrain_ext.models.safe_modules import packages_of
from speechbrain_ext.models.settings import MODEL, RECIPE, embedder_files
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import write_text
from speechbrain_ext.utils.provenance import describe_file
from speechbrain_ext.verification.backend import RAW
from speechbrain_ext.verification.results import Result, read_result

logger = logging.getLogger(__name__)

HUB = "model"  # the folder that is shared, below output_folder
CALIBRATED = f"{RAW}+linear"


def main(argv: list[str] | None = None) -> None:
    """Check that the model was scored, write its folder, upload it if asked."""
    recipe = RecipeRun(__file__, ExportModel, argv)
    settings = recipe.settings
    results = read_results_of(settings)
    check_calibration(settings)
    decision = decision_of(settings)
    # All that can be wrong is found before anything is written: a corrected
    # command is then not another request.
    check_embedder(settings.embedder_folder)
    card = recipe.folder / HUB / CARD
    story = None
    if settings.overwrite or not card.exists():
        story = story_of(settings, results, decision)
    new_card = "" if story is None else model_card(story)
    if not recipe.is_done(settings.inputs()):
        embedder = settings.embedder_folder
        names = write_hub_folder(
            recipe.folder / HUB,
            embedder,
            decision,
            settings.seed,
            settings.for_speechbrain,
        )
        recipe.finish(
            [f"{HUB}/{name}" for name in names],
            threshold=decision.threshold,
            eer_percent={
                r.trials.name: r.eer.value
                for r in results
                if r.system.backend == RAW
            },
        )
    # Not an output in the stage record, because the user may edit it.
    if story is not None and not card.exists():
        write_text(card, new_card)
        warn_of_gaps(settings, story)
    logger.info(f"the folder to share is {recipe.folder / HUB}")
    if settings.push is not None:
        publish(recipe.folder, settings, settings.push)


def read_results_of(settings: ExportModel) -> list[Result]:
    """Read the results of this embedder's cosines; at least one must exist.

    Raises
    ------
    InputError
        There is none, or it is of another embedder or another scoring.
    """
    embeddings = Path(settings.embeddings_folder)
    scores = Path(settings.scores_folder)
    paths = sorted(scores.glob("result_*.json"))
    if not paths or not (scores / RECORD).exists():
        raise InputError(
            f"{scores} has no finished result: a model is published with what "
            "it scored; run extract_embeddings on test utterances and "
            "score_trials, and give the folder of the latter"
        )
    for name, path in embedder_files(settings.embedder_folder).items():
        words = "give the test embeddings of the embedder to be exported"
        check_made_from(embeddings, name, path, words)
    words = "score the embeddings of the embedder to be exported"
    array = embeddings / "embeddings.npy"
    check_made_from(scores, "embeddings", array, words)
    check_unchanged(scores, [path.name for path in paths])
    found = [read_result(path) for path in paths]
    kept = [
        r
        for r in found
        if r.system.backend in (RAW, CALIBRATED) and r.system.protocol == "full"
    ]
    if not any(result.system.backend == RAW for result in kept):
        systems = [result.system for result in found]
        scored = sorted({f"{s.backend}, {s.protocol}" for s in systems})
        raise InputError(
            f"{scores} has results of {scored}, and a published model is used "
            "by the cosine of whole utterances; score it with --backends="
            '"[raw, raw+linear]", --protocol=full and --whiten=null (put '
            "whitening into the model with whiten_embedder first)"
        )
    return kept


def check_calibration(settings: ExportModel) -> None:
    """Raise InputError if vectors of other embedders affected the scores.

    Raises
    ------
    InputError
        Their stage records name another embedder, or are not found.
    """
    files = embedder_files(settings.embedder_folder)
    record = read_record(Path(settings.scores_folder) / RECORD)
    for name in ("cohort", "calibration"):
        given = record["inputs"].get(f"{name} embeddings")
        if given is not None:
            words = (
                f"{settings.scores_folder} was normalised or calibrated "
                "with it; score with embeddings of the embedder to be exported "
                f"as --{name}_folder"
            )
            check_maker_read(given, run_folder(settings), files, words)


def run_folder(settings: ExportModel) -> Path:
    """Return the folder that holds the folders of all stages."""
    given = settings.run_folder
    return Path(given or Path(settings.embedder_folder).parent)


def decision_of(settings: ExportModel) -> Decision:
    """Build the decision rule from the scores' calibration and the prior.

    Raises
    ------
    InputError
        There is none, or it would call all pairs alike.
    """
    record = read_record(Path(settings.scores_folder) / RECORD)
    found = record.get("calibrations", {}).get(CALIBRATED)
    if found is None:
        raise InputError(
            f"{settings.scores_folder} was not calibrated, so there is no "
            "threshold to publish; score with --backends="
            f'"[{RAW}, {CALIBRATED}]", --cohort_folder and --cohort_labels'
        )
    decision = checked_decision(
        *found["weights"], found["offset"], settings.prior, found["learnt"]
    )
    if abs(decision.threshold) > 1:
        raise InputError(
            f"at prior {decision.prior:g} the threshold is a cosine of "
            f"{decision.threshold:.3f}, and cosines lie within -1 and 1: all "
            "pairs would be decided alike; give another --prior, or calibrate "
            "on trials with --calibration_trials of score_trials"
        )
    return decision


def story_of(
    settings: ExportModel, results: list[Result], decision: Decision
) -> Story:
    """Collect the content of the card."""
    embedder = Path(settings.embedder_folder)
    folder = run_folder(settings)
    lineage = read_lineage(describe_file(embedder / MODEL), folder)
    return Story(
        settings.title,
        results,
        decision,
        lineage,
        settings.license,
        settings.datasets,
        "speechbrain_ext" in (embedder / RECIPE).read_text("utf-8"),
        settings.for_speechbrain,
        packages_of(check_embedder(embedder)),
        settings.base_models,
        settings.languages,
    )


def warn_of_gaps(settings: ExportModel, story: Story) -> None:
    """Warn of steps that led to the model and that its card does not name."""
    if unknown := lacking(story.lineage):
        logger.warning(
            f"the card will lack {unknown}: not below {run_folder(settings)}; "
            "for a whole history give the folder above all stages as "
            "--run_folder, and --overwrite=True"
        )


def publish(folder: Path, settings: ExportModel, repository: str) -> None:
    """Upload the card and the outputs of the stage, or only list them."""
    outputs = read_record(folder / RECORD)["outputs"]
    names = [CARD, *(name.removeprefix(f"{HUB}/") for name in outputs)]
    given = (folder / HUB, names, repository, settings.private)
    if settings.dry_run:
        print(describe_upload(*given))
        return
    card = (folder / HUB / CARD).read_text("utf-8")
    card = for_repository(card, repository)
    print(f"uploaded: {upload(*given, {CARD: card.encode()})}")


if __name__ == "__main__":
    run(main)
