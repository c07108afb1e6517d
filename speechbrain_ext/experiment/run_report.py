"""What a run leaves for its reader: result files, TABLE.md, report.html."""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from speechbrain_ext.clustering.plots import (
    churn_by_round,
    cluster_number,
    cluster_sizes,
    embedding_map,
    project,
)
from speechbrain_ext.clustering.stopping import AUTO
from speechbrain_ext.dataio.embedding_files import read_embeddings, rows_for
from speechbrain_ext.dataio.manifest import read_manifest, select
from speechbrain_ext.dataio.oracle import true_speakers
from speechbrain_ext.dataio.trials import read_trial_file
from speechbrain_ext.experiment.html_report import write_report
from speechbrain_ext.experiment.plan import (
    PUBLISHED,
    Step,
    churns_of,
    is_topline,
    rounds_of,
)
from speechbrain_ext.training.plots import (
    contrastive_diagnostics,
    dino_diagnostics,
    gate_fits,
    gate_shares,
    layer_distances,
    training_curves,
)
from speechbrain_ext.utils.files import read_json
from speechbrain_ext.utils.vectors import unit_rows
from speechbrain_ext.verification.comparison import Comparison, comparison_rows
from speechbrain_ext.verification.plots import (
    bayes_errors,
    det,
    eer_by_round,
    score_histograms,
)
from speechbrain_ext.verification.results import (
    YARDSTICKS,
    Result,
    Yardstick,
    read_result,
    read_yardsticks,
)
from speechbrain_ext.verification.tables import (
    breakdown_tables,
    in_order,
    render_table,
    tables,
    write_table,
)
from speechbrain_ext.verification.trial_speakers import units_of

Section = tuple[str, str, Any]
_CURVE = "train_curve.csv"
_MAPPED_SPEAKERS, _MAPPED = 24, 1000  # of a map: speakers, utterances


def write_run_report(settings: dict[str, Any], steps: Sequence[Step]) -> Path:
    """Collect a finished run; print its table and where its model is.

    Arguments
    ---------
    settings : dict
        The plan YAML, resolved: ``run``, ``results_folder``, ...
    steps : sequence of Step
        The run's steps, all done.

    Returns
    -------
    pathlib.Path
        ``report.html`` in the run's output folder.
    """
    folder = Path(settings["results_folder"])
    scored = [step for step in steps if step.name.endswith("/scores")]
    results = collect_results(settings["run"], scored, folder)
    if results:
        collect_curves(settings["run"], steps, folder)
    cited = folder / YARDSTICKS
    yardsticks = read_yardsticks(cited) if cited.exists() else []
    sections = [
        *churn_sections(settings),
        *cluster_sections(steps),
        *map_sections(steps),
        *curve_sections(steps),
    ]
    shown = tables(results, yardsticks)
    if results:
        write_table(folder)
        shown.update(breakdown_tables(results))
        shown.update(comparison_tables(settings["run"], scored, folder))
        sections = [
            *eer_sections(results, yardsticks),
            *score_sections(scored, results),
            *sections,
        ]
    page = Path(settings["output_folder"]) / "report.html"
    write_report(
        page,
        f"Run {settings['run']}",
        f"Speaker verification learnt from {settings['corpus']} without "
        "labels: a bootstrap, rounds of training on clusters of the last "
        "embeddings and, where they are known, the same system with true "
        "labels. NMI and ARI compare the clusters of a system's own training "
        "embeddings with the true speakers; they are reported and used for "
        "nothing." + stopping_words(settings, results),
        shown,
        [result.system.caveat for result in results],
        sections,
    )
    if results:
        print("\n" + render_table(results, yardsticks))
        print(f"table:  {folder / 'TABLE.md'}")
    print(f"report: {page}")
    return page


def model_folder(settings: dict[str, Any], steps: Sequence[Step]) -> Path:
    """Where a run's model is: the folder to share, else its embedder."""
    for step in steps:
        if step.recipe == "export_model":
            return step.folder / "model"
    return final_model(settings, steps).folder / "embedder"


def final_model(settings: dict[str, Any], steps: Sequence[Step]) -> Step:
    """The training that a run is made for.

    The large-margin tuning if there is one, else the chosen round, else the
    bootstrap.
    """
    chosen = rounds_of(settings).chosen
    wanted = [
        "whitened/model",
        "large_margin/model",
        f"round{chosen}/model",
        "bootstrap/model",
    ]
    by_name = {step.name: step for step in steps}
    return next(by_name[name] for name in wanted if name in by_name)


def stopping_words(settings: dict[str, Any], results: Sequence[Result]) -> str:
    """Why an ``auto`` run stopped, and how its choice compares in EER."""
    if settings["n_rounds"] != AUTO:
        return ""
    rounds = rounds_of(settings)
    words = f"\n\nRounds ended by themselves: {rounds.reason}."
    for name in dict.fromkeys(result.trials.name for result in results):
        eers = {
            result.system.name: result.eer.value
            for result in results
            if result.trials.name == name
            and result.system.name.startswith("round ")
        }
        best = min(eers, key=lambda system: eers[system])
        chosen = f"round {rounds.chosen}"
        words += (
            f" On {name}, looked at afterwards, the chosen {chosen} has an "
            f"EER of {eers[chosen]:.2f} % and the best, {best}, of "
            f"{eers[best]:.2f} %."
        )
    return words


def collect_results(
    run: str, scored: Sequence[Step], folder: Path
) -> list[Result]:
    """Copy the result files of a run, in its order, over its earlier ones."""
    if not scored:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob(f"{run}-[0-9][0-9]-*.json"):
        stale.unlink()
    results = []
    for number, step in enumerate(scored):
        for path in sorted(step.folder.glob("result_*.json")):
            name = re.sub(r"^result", step.system, path.stem)
            copy = folder / f"{run}-{number:02d}-{name}.json"
            shutil.copy(path, copy)
            results.append(read_result(copy))
    return in_order(results)


def collect_curves(run: str, steps: Sequence[Step], folder: Path) -> None:
    """Copy the training curves of a run beside its results."""
    for stale in folder.glob(f"{run}-curve-*.csv"):
        stale.unlink()
    for step in trainings(steps):
        copy = folder / f"{run}-curve-{step.system}.csv"
        shutil.copy(step.folder / _CURVE, copy)


def trainings(steps: Sequence[Step]) -> list[Step]:
    """The steps that trained a model."""
    return [step for step in steps if (step.folder / _CURVE).exists()]


def eer_sections(
    results: Sequence[Result], yardsticks: Sequence[Yardstick]
) -> list[Section]:
    """EER by round, one line a trial list."""
    lists = {(r.trials.corpus, r.trials.name) for r in results}
    cited = [y for y in yardsticks if (y.corpus, y.trials) in lists]
    caption = "Equal error rate of each system with its 95 % interval."
    figure = eer_by_round(results, cited)
    return [("EER by round", caption, figure)]


def score_sections(
    scored: Sequence[Step], results: Sequence[Result]
) -> list[Section]:
    """DET curves of all systems, what calibration loses, and histograms."""
    sections: list[Section] = []
    for name, backend in _scorings(results):
        systems = dict(
            read_scoring(step, name, backend)
            for step in scored
            if scores_path(step, name, backend).exists()
        )
        words = f"trial list {name}, {backend} scores"
        title = f"{name}, {backend}"
        caption = f"{words.capitalize()}. A dot marks the equal error rate."
        sections.append((f"DET, {title}", caption, det(systems)))
        if "+" in backend:
            caption = f"{words.capitalize()}: what a user's threshold costs."
            figure = bayes_errors(systems)
            sections.append((f"Calibration, {title}", caption, figure))
        if (
            backend == results[0].system.backend
        ):  # the others' are beside the scores
            caption = f"{words.capitalize()}."
            figure = score_histograms(systems)
            sections.append((f"Scores, {title}", caption, figure))
    return sections


def _scorings(results: Sequence[Result]) -> list[tuple[str, str]]:
    """Lists and back-ends of some results, each pair once."""
    pairs = [(r.trials.name, r.system.backend) for r in results]
    return list(dict.fromkeys(pairs))


def scores_path(step: Step, name: str, backend: str) -> Path:
    """Where a step has its scores of a trial list."""
    return step.folder / f"scores_{name}_{backend}.npy"


def read_scoring(
    step: Step, name: str, backend: str
) -> tuple[str, tuple[np.ndarray, np.ndarray]]:
    """The system's name, and scores [N] and labels [N] of a trial list."""
    row = read_result(step.folder / f"result_{name}_{backend}.json").system.name
    path = step.values()["trials"][name]
    scores = np.load(scores_path(step, name, backend))
    return row, (scores, read_trial_file(name, path).labels)


def comparison_tables(
    run: str, scored: Sequence[Step], folder: Path
) -> dict[str, list[dict[str, str]]]:
    """Each system against the one before it, on each list; also as files.

    The last of those without labels is compared with the last topline.
    """
    for stale in folder.glob(f"{run}-comparison-*.json"):
        stale.unlink()
    found = []
    for first, second in pairs(scored):
        paths = sorted(second.folder.glob("result_*.json"))
        for result in in_order([read_result(path) for path in paths]):
            name, backend = result.trials.name, result.system.backend
            if scores_path(first, name, backend).exists():
                one = compare(first, second, result)
                both = f"{first.system}-{second.system}"
                stem = f"{run}-comparison-{both}_{name}_{backend}"
                one.write(folder / f"{stem}.json")
                found.append(one)
                if is_topline(first) and not is_topline(second):
                    print(one.ratio_in_words())
    if not found:
        return {}
    heading = f"{run}: each system against the one before, {found[0].interval}"
    return {heading: comparison_rows(found)}


def pairs(scored: Sequence[Step]) -> list[tuple[Step, Step]]:
    """Steps whose scores are compared, first and second.

    The model to share is none of them: it has been scored as the last round.
    """
    systems = [step for step in scored if step.system != PUBLISHED]
    ours = [step for step in systems if not is_topline(step)]
    true = [step for step in systems if is_topline(step)]
    found = list(itertools.pairwise(ours))
    if ours and true:
        found.append((true[-1], ours[-1]))
    return found + list(itertools.pairwise(true))


def compare(first: Step, second: Step, result: Result) -> Comparison:
    """Two steps' scores of one list by one back-end, drawing alike."""
    name, backend = result.trials.name, result.system.backend
    values = second.values()
    trials = read_trial_file(name, values["trials"][name])
    oracle = None
    if values.get("oracle"):
        oracle = read_manifest(values["oracle"], "oracle")
    rows, scores = [], []
    for step in (first, second):
        row, (found, _) = read_scoring(step, name, backend)
        rows.append(f"{row}, {backend}")
        scores.append(found)
    return Comparison.of_scores(
        scores[0],
        scores[1],
        trials.labels,
        units_of(trials, oracle),
        result.p_target,
        seed=result.bootstrap.seed,
        first=rows[0],
        second=rows[1],
        trials=name,
        trials_sha256=result.trials.sha256,
    )


def churn_sections(settings: dict[str, Any]) -> list[Section]:
    """How many utterances changed cluster from round to round."""
    rounds = rounds_of(settings)
    # A longer earlier run may have left more.
    churns = dict(list(churns_of(settings).items())[: rounds.n_rounds])
    if not churns:
        return []
    chosen = f"round{rounds.chosen}"
    caption = (
        "Share of training utterances outside of the clusters that match "
        "those of the round before: no true label is used."
    )
    figure = churn_by_round(churns, chosen)
    return [("Churn", caption, figure)]


def cluster_sections(steps: Sequence[Step]) -> list[Section]:
    """Sizes of the pseudo-speakers of every system."""
    sizes = {
        step.system: read_json(step.folder / "clusters.json")["sizes"]
        for step in steps
        if (step.folder / "clusters.json").exists()
    }
    if not sizes:
        return []
    caption = "Utterances of each pseudo-speaker, largest first."
    sections = [("Cluster sizes", caption, cluster_sizes(sizes))]
    return sections + number_sections(steps)


def map_sections(steps: Sequence[Step]) -> list[Section]:
    """Training embeddings of every system in two dimensions."""
    caption = (
        "Training utterances of some of the larger clusters (or, where they "
        "are known, of some speakers), t-SNE. Near means alike; distances "
        "between groups mean nothing."
    )
    sections: list[Section] = []
    for step in steps:
        embeddings = step.folder.parent / "train_embeddings"
        if not step.name.endswith("/labels") or not embeddings.exists():
            continue
        labels = read_manifest(
            step.folder / "pseudo_labels.csv", "pseudo_labels"
        )
        panels = {"cluster": labels.spk_id}
        oracle = step.values().get("oracle")
        if oracle:
            panels["speaker"] = true_speakers(oracle, labels)
        chosen = mapped_rows(list(panels.values())[-1])
        if len(chosen) < 4:
            continue
        vectors, index = read_embeddings(embeddings)
        ids = select(labels, chosen).ids
        points = project(unit_rows(vectors, rows_for(index, ids, embeddings)))
        panels = {title: names[chosen] for title, names in panels.items()}
        figure = embedding_map(points, panels)
        sections.append((f"Map, {step.system}", caption, figure))
    return sections


def mapped_rows(names: np.ndarray) -> np.ndarray:
    """Rows of some utterances of the names that have most, in row order."""
    _, number, size = np.unique(names, return_inverse=True, return_counts=True)
    largest = np.argsort(-size, kind="stable")[:_MAPPED_SPEAKERS]
    rows = np.flatnonzero(np.isin(number, largest))
    generator = np.random.default_rng(0)
    return np.sort(generator.permutation(rows)[:_MAPPED])


def number_sections(steps: Sequence[Step]) -> list[Section]:
    """By what the number of clusters was chosen, where it was not given."""
    caption = "Criteria that need no labels, by the number of clusters."
    sections: list[Section] = []
    for step in steps:
        path = step.folder / "clusters.json"
        choice = read_json(path).get("choice") if path.exists() else None
        if choice:
            figure = cluster_number(
                choice["numbers"],
                choice["curves"],
                choice["by_criterion"],
                choice["n_clusters"],
            )
            heading = f"Number of clusters, {step.system}"
            sections.append((heading, caption, figure))
    return sections


def curve_sections(steps: Sequence[Step]) -> list[Section]:
    """Training loss of every model, and the health of a bootstrap."""
    models = trainings(steps)
    curves = {step.system: pd.read_csv(step.folder / _CURVE) for step in models}
    caption = "Mean training loss of each epoch, one panel a model."
    sections: list[Section] = [("Training", caption, training_curves(curves))]
    for step in models:
        sections += health_sections(step, curves[step.system])
    return sections + gate_sections(models)


def health_sections(step: Step, curve: pd.DataFrame) -> list[Section]:
    """How a training without labels did, and what it changed of an encoder."""
    if "effective_rank" not in curve:
        return []
    caption = "Figures that need no labels; a collapse would show in them."
    if "uniformity" in curve:
        figure = contrastive_diagnostics(curve)
    else:
        figure = dino_diagnostics(curve, step.receipt()["ln_k"])
    sections: list[Section] = [(f"Health, {step.system}", caption, figure)]
    path = step.folder / "layer_distances.csv"
    if path.exists():
        caption = "Relative distance of each layer from where it began."
        figure = layer_distances(pd.read_csv(path))
        sections.append((f"Layers, {step.system}", caption, figure))
    return sections


def gate_sections(models: Sequence[Step]) -> list[Section]:
    """What the gates of gated trainings saw and did."""
    sections: list[Section] = []
    for step in models:
        path = step.folder / "gate.json"
        if not path.exists():
            continue
        history = read_json(path)
        caption = "Losses in each epoch: two Gaussians, and where they cross."
        figure = gate_fits(history)
        sections.append((f"Gate, {step.system}", caption, figure))
        caption = "Threshold, and shares of labels kept and corrected."
        figure = gate_shares(history)
        sections.append((f"Gate by epoch, {step.system}", caption, figure))
    return sections
