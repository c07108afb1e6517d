"""Score verification trials: cosine or AS-norm, EER, minDCF, pictures.

Embeddings are compared after L2 normalisation. To run it:

> python recipes/score_trials.py hparams/score_trials.yaml \
      --embeddings_folder=exp/test_embeddings \
      --trials=CORPUS/trials/dev.txt --output_folder=exp/scores

Each trial list leaves scores_<list>.npy (float32, in the order of the list),
result_<list>.json, det_<list>.png and histogram_<list>.png.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np

from speechbrain_ext.embeddings import read_embeddings, rows_for
from speechbrain_ext.files import (
    InputError,
    PathLike,
    atomic_path,
    read_json,
    sha256,
)
from speechbrain_ext.manifest import Manifest, read_manifest
from speechbrain_ext.plots import det, save_png, score_histogram
from speechbrain_ext.results import Result
from speechbrain_ext.scoring import (
    adaptive_s_norm,
    cosine_scores,
    read_trials,
    speaker_means,
)
from speechbrain_ext.stage import Stage, run
from speechbrain_ext.trials import TrialList, check_known

logger = logging.getLogger(__name__)

_RANDOM = "random WavLM"


def main(argv: list[str] | None = None) -> None:
    """Check all inputs, then score list by list."""
    stage = Stage(__file__, argv)
    settings = stage.settings
    paths = trial_paths(settings["trials"])
    trained = training_facts(settings["train_receipt"])
    if stage.is_done(input_files(settings, paths), trained=trained):
        return
    embeddings, index = read_embeddings(settings["embeddings_folder"])
    lists = [
        read_trials(path, name, settings["allow_repeats"])
        for name, path in paths.items()
    ]
    for trials in lists:
        check_known(trials, index.ids, "the embeddings")
    cohort = read_cohort(settings)
    facts = system_facts(settings, cohort, trained)
    outputs: list[str] = []
    figures = {}
    for trials in lists:
        scores = score(settings, embeddings, index, trials, cohort)
        result = Result.of_scores(
            scores,
            trials.labels,
            p_target=settings["p_target"],
            n_bootstrap=settings["n_bootstrap"],
            seed=settings["seed"],
            trials=trials.name,
            trials_sha256=sha256(paths[trials.name]),
            **facts,
        )
        outputs += write_outputs(stage.folder, trials, scores, result)
        figures[trials.name] = [result.eer_percent, result.min_dcf]
        logger.info(describe(result))
    stage.finish(outputs, eer_percent_and_min_dcf=figures)


def trial_paths(trials: Any) -> dict[str, str]:
    """Names of the lists, to be file names, and their paths."""
    if isinstance(trials, str):
        trials = [trials]
    if isinstance(trials, list):
        stems = [Path(str(path)).stem for path in trials]
        if len(set(stems)) < len(stems):
            raise InputError(
                f"trials {trials} share a file name; name them, as in "
                '--trials="{O: a/list.txt, E: b/list.txt}"'
            )
        trials = dict(zip(stems, trials, strict=True))
    if not isinstance(trials, dict) or not trials:
        raise InputError(
            f"trials is {trials!r}; give a path, a list of paths or "
            "{name: path}"
        )
    for name in trials:
        if not re.fullmatch(r"[\w.-]+", name):
            raise InputError(
                f"trial list {name!r} becomes part of a file name; use "
                "letters, digits and _ . - only"
            )
    return {name: str(path) for name, path in trials.items()}


def input_files(
    settings: dict[str, Any], paths: dict[str, str]
) -> dict[str, PathLike]:
    """The files read, by the name they have in the receipt."""
    files: dict[str, PathLike] = {
        f"trials {name}": path for name, path in paths.items()
    }
    folder = Path(settings["embeddings_folder"])
    files["embeddings"] = folder / "embeddings.npy"
    files["index"] = folder / "embeddings.csv"
    if settings["score_norm"] == "as-norm":
        folder, labels = settings["cohort_folder"], settings["cohort_labels"]
        if folder is None or labels is None:
            raise InputError(
                "score_norm is as-norm, which needs --cohort_folder "
                "(embeddings of the training utterances) and --cohort_labels "
                "(their pseudo_labels.csv)"
            )
        files["cohort"] = Path(folder) / "embeddings.npy"
        files["cohort index"] = Path(folder) / "embeddings.csv"
        files["cohort labels"] = labels
    elif settings["score_norm"] != "none":
        raise InputError(
            f"score_norm is {settings['score_norm']!r}; it is none or as-norm"
        )
    if settings["clusters"] is not None:
        files["clusters"] = settings["clusters"]
    return files


def read_cohort(settings: dict[str, Any]) -> np.ndarray | None:
    """One mean [C, D] a pseudo-speaker; None without score normalisation."""
    if settings["score_norm"] == "none":
        return None
    embeddings, index = read_embeddings(settings["cohort_folder"])
    labels = read_manifest(settings["cohort_labels"], "pseudo_labels")
    rows = rows_for(index, labels.ids, settings["cohort_folder"])
    return speaker_means(embeddings, rows, labels.spk_id)


def score(
    settings: dict[str, Any],
    embeddings: np.ndarray,
    index: Manifest,
    trials: TrialList,
    cohort: np.ndarray | None,
) -> np.ndarray:
    """Scores [N] of a list, normalised when there is a cohort."""
    enrol = index.row[index.rows_of(trials.enrol)]
    test = index.row[index.rows_of(trials.test)]
    if cohort is None:
        return cosine_scores(embeddings, enrol, test)
    return adaptive_s_norm(embeddings, cohort, enrol, test, settings["top_k"])


def training_facts(path: str | None) -> dict[str, Any]:
    """What a training's ``stage.json`` says that decides a result's row."""
    if path is None:
        return {}
    receipt = read_json(path)
    keys = ("n_utterances", "random_encoder")
    return {key: receipt[key] for key in keys if key in receipt}


def training_seconds(path: str | None) -> float | None:
    """Time of a training; unknown when it was killed and resumed."""
    if path is None:
        return None
    receipt = read_json(path)
    return None if receipt.get("resumed") else receipt.get("seconds")


def system_facts(
    settings: dict[str, Any],
    cohort: np.ndarray | None,
    trained: dict[str, Any],
) -> dict[str, Any]:
    """What the result says of the system, from its stages' own files."""
    norm = "none"
    if cohort is not None:
        norm = f"as-norm, top {settings['top_k']} of {len(cohort)} means"
    facts = {
        "run": settings["run"],
        "system": settings["system"],
        "corpus": settings["corpus"],
        "score_norm": norm,
        "device": settings["train_device"],
    }
    caveat = settings["caveat"]
    facts["n_train"] = trained.get("n_utterances")
    facts["seconds"] = training_seconds(settings["train_receipt"])
    if trained.get("random_encoder") and _RANDOM not in caveat:
        caveat = f"{caveat}; {_RANDOM}".removeprefix("; ")
    if settings["clusters"] is not None:
        figures = read_json(settings["clusters"])["figures"]
        for key in ("nmi", "ari", "n_clusters"):
            facts[key] = figures.get(key)
    return {**facts, "caveat": caveat}


def write_outputs(
    folder: Path, trials: TrialList, scores: np.ndarray, result: Result
) -> list[str]:
    """Scores, result and pictures of a list; their names."""
    name = trials.name
    with atomic_path(folder / f"scores_{name}.npy") as part:
        np.save(part, scores)
    result.write(folder / f"result_{name}.json")
    curve = det({result.system: (scores, trials.labels)})
    save_png(curve, folder / f"det_{name}.png")
    histogram = score_histogram(scores, trials.labels)
    save_png(histogram, folder / f"histogram_{name}.png")
    kinds = ("scores_{}.npy", "result_{}.json", "det_{}.png")
    return [k.format(name) for k in (*kinds, "histogram_{}.png")]


def describe(result: Result) -> str:
    """One line for the log."""
    return (
        f"{result.system} on {result.trials}: EER {result.eer_percent:.2f} % "
        f"[{result.eer_low:.2f}, {result.eer_high:.2f}], minDCF "
        f"{result.min_dcf:.4f} [{result.min_dcf_low:.4f}, "
        f"{result.min_dcf_high:.4f}] at p_target {result.p_target:g}, "
        f"{result.n_target:,} target and {result.n_nontarget:,} non-target "
        "trials"
    )


if __name__ == "__main__":
    run(main)
