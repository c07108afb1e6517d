"""Score verification trials: cosine, normalised, calibrated; EER, pictures.

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

from speechbrain_ext.dataio.embedding_files import read_embeddings
from speechbrain_ext.dataio.trials import (
    TrialList,
    check_known,
    check_scores,
    trial_paths,
)
from speechbrain_ext.experiment.recipe_run import Stage
from speechbrain_ext.utils.command_line import run
from speechbrain_ext.utils.files import atomic_path, read_json
from speechbrain_ext.utils.plotting import save_figure
from speechbrain_ext.verification.backend import parse_backends
from speechbrain_ext.verification.cosine import read_trials
from speechbrain_ext.verification.plots import (
    bayes_errors,
    det,
    score_histograms,
)
from speechbrain_ext.verification.protocols import durations_of
from speechbrain_ext.verification.results import Result
from speechbrain_ext.verification.subgroups import groups_of, read_metadata
from speechbrain_ext.verification.system import (
    System,
    input_files,
    read_optional,
)
from speechbrain_ext.verification.trial_speakers import speakers_of, units_of

logger = logging.getLogger(__name__)

# What of a training a reader of its results must know.
_CAVEATS = {
    "random_encoder": "random WavLM",
    "oracle_positives": "true speakers chose the positives",
}


def main(argv: list[str] | None = None) -> None:
    """Check all inputs, then score list by list."""
    stage = Stage(__file__, argv)
    settings = stage.settings
    paths = trial_paths(settings["trials"])
    backends = parse_backends(settings["backends"])
    trained = training_facts(settings["train_receipt"])
    if stage.is_done(input_files(settings, paths, backends), trained=trained):
        return
    lists = read_lists(settings, paths)
    measures = [measures_of(settings, trials) for trials in lists]
    system = System(settings, backends)
    ids = np.unique(np.concatenate([trials.ids() for trials in lists]))
    manifest = read_optional(settings["annotation"], "utterances")
    scorer = system.scorer(settings["embeddings_folder"], ids, manifest)
    facts = system_facts(settings, trained)
    outputs: list[str] = []
    figures = {}
    for trials, measure in zip(lists, measures, strict=True):
        sides = [scorer.voices.rows_of(s) for s in (trials.enrol, trials.test)]
        scores, results = {}, []
        for backend in backends:
            found = system.score(scorer, backend, *sides)
            check_scores(trials, found, "its scores")
            described = system.describe(backend, scorer.voices.n_crops)
            result = Result.of_scores(found, **measure, **described, **facts)
            logger.info(in_words(result))
            scores[backend.name] = found
            results.append(result)
        outputs += write_outputs(stage.folder, trials, scores, results)
        figures[trials.name] = {
            r.backend: [r.eer_percent, r.min_dcf] for r in results
        }
    stage.finish(
        outputs,
        eer_percent_and_min_dcf=figures,
        calibrations=system.calibrations_as_data(),
    )


def read_lists(
    settings: dict[str, Any], paths: Mapping[str, str]
) -> list[TrialList]:
    """The trial lists, all of whose utterances were embedded."""
    _, index = read_embeddings(settings["embeddings_folder"])
    lists = [
        read_trials(path, name, settings["allow_repeats"])
        for name, path in paths.items()
    ]
    for trials in lists:
        check_known(trials, index.ids, "the embeddings")
    return lists


def measures_of(settings: dict[str, Any], trials: TrialList) -> dict[str, Any]:
    """How a list is measured: its labels, speakers and groups."""
    oracle = read_optional(settings["oracle"], "oracle")
    manifest = read_optional(settings["annotation"], "utterances")
    durations = None
    if manifest is not None:
        enrol = durations_of(manifest, trials.enrol)
        durations = (enrol, durations_of(manifest, trials.test))
    metadata = None
    if settings["metadata"] is not None:
        metadata = read_metadata(settings["metadata"])
    return {
        "labels": trials.labels,
        "units": units_of(trials, oracle),
        "groups": groups_of(
            trials,
            speakers_of(trials, oracle),
            durations,
            settings["duration_edges"],
            metadata,
        ),
        "p_target": settings["p_target"],
        "n_bootstrap": settings["n_bootstrap"],
        "seed": settings["seed"],
        "trials": trials.name,
        "trials_sha256": trials.summary()["sha256"],
    }


def training_facts(path: str | None) -> dict[str, Any]:
    """What a training's ``stage.json`` says that decides a result's row."""
    if path is None:
        return {}
    receipt = read_json(path)
    keys = ("n_utterances", *_CAVEATS)
    return {key: receipt[key] for key in keys if key in receipt}


def training_seconds(path: str | None) -> float | None:
    """Time of a training; unknown when it was killed and resumed."""
    if path is None:
        return None
    receipt = read_json(path)
    return None if receipt.get("resumed") else receipt.get("seconds")


def system_facts(
    settings: dict[str, Any], trained: dict[str, Any]
) -> dict[str, Any]:
    """What the result says of the system, from its stages' own files."""
    facts = {
        "run": settings["run"],
        "system": settings["system"],
        "corpus": settings["corpus"],
        "device": settings["train_device"],
    }
    facts["n_train"] = trained.get("n_utterances")
    facts["seconds"] = training_seconds(settings["train_receipt"])
    # `--caveat=` is None in YAML.
    caveat = settings["caveat"] or ""
    for fact, words in _CAVEATS.items():
        if trained.get(fact) and words not in caveat:
            caveat = f"{caveat}; {words}".removeprefix("; ")
    if settings["clusters"] is not None:
        figures = read_json(settings["clusters"])["statistics"]
        for key in ("nmi", "ari", "n_clusters"):
            facts[key] = figures.get(key)
    return {**facts, "caveat": caveat}


def write_outputs(
    folder: Path,
    trials: TrialList,
    scores: Mapping[str, np.ndarray],
    results: Sequence[Result],
) -> list[str]:
    """Scores, results and pictures of a list; their names."""
    name, names, pictures = trials.name, [], {}
    for result in results:
        stem = f"{name}_{result.backend}"
        with atomic_path(folder / f"scores_{stem}.npy") as part:
            np.save(part, scores[result.backend])
        result.write(folder / f"result_{stem}.json")
        names += [f"scores_{stem}.npy", f"result_{stem}.json"]
        pair = (scores[result.backend], trials.labels)
        pictures[f"histogram_{stem}"] = score_histograms({stem: pair})
    curves = {b: (found, trials.labels) for b, found in scores.items()}
    pictures[f"det_{name}"] = det(curves)
    calibrated = {
        r.backend: curves[r.backend] for r in results if r.cllr is not None
    }
    if calibrated:
        pictures[f"calibration_{name}"] = bayes_errors(calibrated)
    for stem, figure in pictures.items():
        names += save_figure(figure, folder, stem)
    return names


def in_words(result: Result) -> str:
    """One line for the log."""
    return (
        f"{result.system}, {result.backend}, on {result.trials}: EER "
        f"{result.eer_percent:.2f} % [{result.eer_low:.2f}, "
        f"{result.eer_high:.2f}], minDCF {result.min_dcf:.4f} "
        f"[{result.min_dcf_low:.4f}, {result.min_dcf_high:.4f}] at p_target "
        f"{result.p_target:g}, {result.n_target:,} target and "
        f"{result.n_nontarget:,} non-target trials"
    )


if __name__ == "__main__":
    run(main)
