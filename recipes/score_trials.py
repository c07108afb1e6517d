"""Score verification trials: cosine, normalised, calibrated; EER and plots.

Each test utterance was embedded once (extract_embeddings); all lists and all
back-ends are scored from that. To run it:

> python recipes/score_trials.py hparams/score_trials.yaml \
      --embeddings_folder=exp/test_embeddings \
      --trials=CORPUS/trials/dev.txt --output_folder=exp/scores
> ... --backends="[raw, as-norm, as-norm+qmf]" --annotation=CORPUS/test.csv \
      --cohort_folder=exp/train_embeddings \
      --cohort_labels=exp/labels/pseudo_labels.csv

Each list and back-end leaves scores_<list>_<back-end>.npy (float32, in the
order of the list), result_<list>_<back-end>.json and a histogram, each list
det_<list> and, where scores are calibrated, calibration_<list>: PNG and SVG.
Cohort and calibration come from pseudo-speakers: no true label enters a score.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from speechbrain_ext.commands.command_line import run
from speechbrain_ext.dataio.embedding_files import read_embeddings
from speechbrain_ext.dataio.manifest import Manifest
from speechbrain_ext.dataio.trials import (
    TrialList,
    check_known,
    check_scores,
)
from speechbrain_ext.experiment.recipe_run import RecipeRun
from speechbrain_ext.experiment.stage_records import read_record
from speechbrain_ext.utils.distributed import from_first_process
from speechbrain_ext.utils.files import atomic_path, read_json_object
from speechbrain_ext.utils.plotting import save_figure
from speechbrain_ext.verification.bootstrap import LONE, lone_units
from speechbrain_ext.verification.cosine import read_trials
from speechbrain_ext.verification.plots import (
    bayes_errors,
    det,
    score_histograms,
)
from speechbrain_ext.verification.protocols import durations_of
from speechbrain_ext.verification.results import (
    CAVEATS,
    GateFacts,
    LabelFacts,
    Result,
    SystemFacts,
)
from speechbrain_ext.verification.settings import ScoreTrials
from speechbrain_ext.verification.subgroups import groups_of, read_metadata
from speechbrain_ext.verification.system import (
    System,
    read_optional,
)
from speechbrain_ext.verification.trial_speakers import speakers_of, units_of

logger = logging.getLogger(__name__)

# Facts of a training's stage record, and what they are called in a result.
GATE = {"kept": "kept", "corrected": "corrected", "gate": "kind"}


def main(argv: list[str] | None = None) -> None:
    """Check all inputs, then score list by list."""
    recipe = RecipeRun(__file__, ScoreTrials, argv)
    settings = recipe.settings
    trained = training_facts(settings.train_record)
    if recipe.is_done(settings.inputs(), trained=trained):
        return
    lists = read_lists(settings)
    oracle = read_optional(settings.oracle, "oracle")
    manifest = read_optional(settings.annotation, "utterances")
    measures = [
        measures_of(settings, trials, oracle, manifest) for trials in lists
    ]
    for measure in measures:
        lone = lone_units(measure["units"], measure["labels"])
        if lone:
            logger.warning(f"{measure['trials']}: {lone}; {LONE}")
    system = System(settings)
    ids = np.unique(np.concatenate([trials.names for trials in lists]))
    scorer = system.scorer(settings.embeddings_folder, ids, manifest)
    facts = system_facts(settings, trained)
    outputs: list[str] = []
    rates = {}
    for trials, measure in zip(lists, measures, strict=True):
        sides = trials.of_sides(scorer.voices.rows_of(trials.names))
        scores, results = {}, []
        for backend in system.backends:
            found = system.score(scorer, backend, *sides)
            check_scores(trials, found, "its scores")
            described = system.describe(backend, scorer.voices.n_crops)
            result = Result.of_scores(
                found,
                **measure,
                system=SystemFacts(**described, **facts),
                calibrated=backend.calibration is not None,
                pseudo_labels=label_facts(settings),
                gate=gate_facts(trained),
            )
            logger.info(in_words(result))
            scores[backend.name] = found
            results.append(result)
        outputs += from_first_process(
            write_outputs, recipe.folder, trials, scores, results
        )
        rates[trials.name] = {
            r.system.backend: [r.eer.value, r.min_dcf.value] for r in results
        }
    recipe.finish(
        outputs,
        eer_percent_and_min_dcf=rates,
        calibrations=system.calibrations_as_data(),
    )


def read_lists(settings: ScoreTrials) -> list[TrialList]:
    """Read the trial lists; all their utterances must have embeddings."""
    _, index = read_embeddings(settings.embeddings_folder)
    lists = [
        read_trials(path, name, settings.allow_repeats)
        for name, path in settings.lists().items()
    ]
    for trials in lists:
        check_known(trials, index.ids, "the embeddings")
    return lists


def measures_of(
    settings: ScoreTrials,
    trials: TrialList,
    oracle: Manifest | None,
    manifest: Manifest | None,
) -> dict[str, Any]:
    """Collect the labels, speakers and groups that a list is measured by."""
    durations = None
    if manifest is not None:
        durations = trials.of_sides(durations_of(manifest, trials.names))
    metadata = None
    if settings.metadata is not None:
        metadata = read_metadata(settings.metadata)
    return {
        "labels": trials.labels,
        "units": units_of(trials, oracle),
        "groups": groups_of(
            trials,
            speakers_of(trials, oracle),
            durations,
            settings.duration_edges,
            metadata,
        ),
        "p_target": settings.p_target,
        "n_bootstrap": settings.n_bootstrap,
        "seed": settings.seed,
        "trials": trials.name,
        "corpus": settings.corpus or "",
        "sha256": trials.summary()["sha256"],
    }


def training_facts(path: str | None) -> dict[str, Any]:
    """Read the facts of a training that a result repeats."""
    if path is None:
        return {}
    record = read_record(path)
    keys = ("n_utterances", *GATE, "never_acted", *CAVEATS)
    found = {key: record.get(key) for key in keys}
    return {key: v for key, v in found.items() if v is not None}


def system_facts(
    settings: ScoreTrials, trained: dict[str, Any]
) -> dict[str, Any]:
    """Collect the facts of the system from the records of its stages."""
    # `--run=` and other empty options are null in YAML.
    facts: dict[str, Any] = {
        "run": settings.run or "",
        "name": settings.system,
        "device": settings.train_device or "",
        "n_train": trained.get("n_utterances"),
        "never_acted": tuple(trained.get("never_acted", ())),
    }
    caveat = settings.caveat or ""
    for fact, words in CAVEATS.items():
        if trained.get(fact) and words not in caveat:
            caveat = f"{caveat}; {words}".removeprefix("; ")
    return {**facts, "caveat": caveat}


def label_facts(settings: ScoreTrials) -> LabelFacts | None:
    """Read the statistics of the pseudo-labels to report."""
    if settings.clusters is None:
        return None
    summary = read_json_object(settings.clusters, {"statistics": dict})
    found = summary["statistics"]
    found = {k: found.get(k) for k in ("nmi", "ari", "n_clusters")}
    weighted = summary.get("parameters", {}).get("weighted")
    return LabelFacts(**found, weighted=weighted)


def gate_facts(trained: dict[str, Any]) -> GateFacts | None:
    """Collect what the loss gate of the training did; None: unknown."""
    found = {field: trained.get(key) for key, field in GATE.items()}
    known = {field: v for field, v in found.items() if v is not None}
    return GateFacts(**known) if known else None


def write_outputs(
    folder: Path,
    trials: TrialList,
    scores: Mapping[str, np.ndarray],
    results: Sequence[Result],
) -> list[str]:
    """Write scores, results and plots of a list; return their names."""
    name, names, plots = trials.name, [], {}
    for result in results:
        backend = result.system.backend
        stem = f"{name}_{backend}"
        with atomic_path(folder / f"scores_{stem}.npy") as part:
            np.save(part, scores[backend])
        result.write(folder / f"result_{stem}.json")
        names += [f"scores_{stem}.npy", f"result_{stem}.json"]
        pair = (scores[backend], trials.labels)
        plots[f"histogram_{stem}"] = score_histograms({stem: pair})
    curves = {b: (found, trials.labels) for b, found in scores.items()}
    plots[f"det_{name}"] = det(curves)
    calibrated = {
        name: curves[name]
        for name in (r.system.backend for r in results if r.cllr is not None)
    }
    if calibrated:
        plots[f"calibration_{name}"] = bayes_errors(calibrated)
    for stem, figure in plots.items():
        names += save_figure(figure, folder, stem)
    return names


def in_words(result: Result) -> str:
    """Describe a result in one line for the log."""
    system, trials = result.system, result.trials
    return (
        f"{system.name}, {system.backend}, on {trials.name}: EER in % "
        f"{result.eer:.2f}, minDCF {result.min_dcf:.4f} at p_target "
        f"{result.p_target:g}, {trials.n_target:,} target and "
        f"{trials.n_nontarget:,} non-target trials"
    )


if __name__ == "__main__":
    run(main)
