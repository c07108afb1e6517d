"""Plots of a run's report, with headings and captions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from speechbrain_ext.dataio.embedding_files import read_embeddings, rows_for
from speechbrain_ext.dataio.manifest import read_manifest, select
from speechbrain_ext.dataio.oracle import true_speakers
from speechbrain_ext.experiment.artifacts import (
    EmbeddingArtifacts,
    LabelArtifacts,
    ModelArtifacts,
)
from speechbrain_ext.experiment.plan import Plan
from speechbrain_ext.experiment.rounds import churns_of, round_system
from speechbrain_ext.experiment.run_results import Scores, trainings
from speechbrain_ext.experiment.steps import Kind, Late, Step, steps_that_left
from speechbrain_ext.report.health import judged
from speechbrain_ext.report.page import Block, Plot, Text
from speechbrain_ext.training.plots import (
    contrastive_diagnostics,
    dino_diagnostics,
    gate_fits,
    gate_shares,
    layer_choice,
    layer_distances,
    training_curves,
)
from speechbrain_ext.utils.files import read_json
from speechbrain_ext.utils.vectors import unit_rows
from speechbrain_ext.verification.plots import (
    bayes_errors,
    det,
    eer_by_round,
    score_histograms,
)
from speechbrain_ext.verification.results import Result, Yardstick

_MAPPED_SPEAKERS, _MAPPED = 24, 1000  # in a map: speakers, utterances


def eer_plot(
    results: Sequence[Result],
    yardsticks: Sequence[Yardstick],
    where: str,
    supervised: Result | None = None,
) -> Plot:
    """Plot the EER of each system, the supervised one as a reference line."""
    lists = {(r.trials.corpus, r.trials.name) for r in results}
    cited = [y for y in yardsticks if (y.corpus, y.trials) in lists]
    caption = (
        f"Equal error rate of each system {where}. Bars: 95 % intervals. "
        "Systems whose bars overlap may still differ: see the paired tests."
    )
    if supervised is not None:
        caption += " Dashed, with its interval in grey: true labels."
    figure = eer_by_round(results, cited, supervised)
    return Plot("Error rate, step by step", caption, figure)


def det_plot(
    systems: Mapping[str, Scores], where: str, supervised: str | None = None
) -> Plot:
    """Plot the trade-off of misses against false alarms."""
    caption = (
        f"Misses against false alarms at every threshold, {where}. Nearer to "
        "the corner at the lower left is better; a dot marks the EER."
    )
    figure = det(systems, supervised)
    return Plot("Misses against false alarms (DET)", caption, figure)


def backend_plots(
    systems: Mapping[str, Scores],
    backend: str,
    where: str,
    supervised: str | None = None,
) -> list[Block]:
    """Plot all there is on one back-end's scores of one trial list."""
    plots: list[Block] = [det_plot(systems, where, supervised)]
    if "+" in backend:
        caption = (
            "Cost of deciding by the calibrated scores, by the prior of a "
            "target; dashed: at the best threshold. What lies between is lost "
            "by calibration. Above the dotted line it would be better to "
            "decide the same for all trials."
        )
        plots.append(Plot("Calibration", caption, bayes_errors(systems)))
    caption = (
        f"Scores {where}. The less targets and non-targets overlap the better."
    )
    plots.append(Plot("Scores", caption, score_histograms(systems)))
    return plots


def churn_sections(plan: Plan) -> list[Block]:
    """Plot the share of utterances that changed cluster, by round."""
    # A longer earlier run may have left later rounds.
    found = list(churns_of(plan.settings).items())
    churns = dict(found[: plan.rounds.n_rounds])
    if not churns:
        return []
    caption = (
        "Share of training utterances that changed cluster since the round "
        "before. It usually falls from round to round. No true labels are used."
    )
    chosen = round_system(plan.rounds.chosen).name
    return [Plot("Churn", caption, churn_by_round(churns, chosen))]


def cluster_sections(steps: Sequence[Step[Any]]) -> list[Block]:
    """Plot the sizes of the pseudo-speakers of every system."""
    clustered = _clustered(steps)
    if not clustered:
        return []
    sizes = {name: clusters["sizes"] for name, clusters in clustered.items()}
    caption = (
        "Number of utterances per pseudo-speaker, largest first. One cluster "
        "far larger than the rest has swallowed several voices."
    )
    section = Plot("Cluster sizes", caption, cluster_sizes(sizes))
    return [section, *number_sections(steps)]


def _clustered(steps: Sequence[Step[Any]]) -> dict[str, dict[str, Any]]:
    """Read the clustering statistics of each system."""
    return {
        step.system.name: read_json(step.artifacts.clusters)
        for step in steps_that_left(steps, LabelArtifacts)
        if step.artifacts.clusters.exists()
    }


def number_sections(steps: Sequence[Step[Any]]) -> list[Block]:
    """Plot the criteria that chose the number of clusters, if any did."""
    caption = "Label-free criteria by the number of clusters."
    sections: list[Block] = []
    for name, clusters in _clustered(steps).items():
        choice = clusters.get("choice")
        if choice:
            figure = cluster_number(
                choice["numbers"],
                choice["curves"],
                choice["by_criterion"],
                choice["n_clusters"],
            )
            heading = f"Number of clusters, {name}"
            sections.append(Plot(heading, caption, figure))
    return sections


def map_sections(
    steps: Sequence[Step[Any]], late: Mapping[Late, Any]
) -> list[Block]:
    """Plot every system's training embeddings in two dimensions."""
    embeddings = {
        step.system.name: step.artifacts
        for step in steps_that_left(steps, EmbeddingArtifacts)
        if step.kind.folder_name == Kind.EXTRACT_TRAIN.folder_name
    }
    sections: list[Block] = []
    for step in steps_that_left(steps, LabelArtifacts):
        if step.system.name in embeddings:
            oracle = step.values(late).get("oracle")
            embedded = embeddings[step.system.name]
            sections += _map(step, embedded, oracle)
    return sections


def _map(
    step: Step[LabelArtifacts],
    embedded: EmbeddingArtifacts,
    oracle: str | None,
) -> list[Block]:
    """Plot one map, coloured by clusters and, if known, by speakers."""
    caption = (
        "t-SNE of training utterances from some of the larger clusters or, "
        "where true speakers are known, from some speakers. Near points are "
        "similar; distances between groups mean nothing."
    )
    labels = read_manifest(step.artifacts.labels, "pseudo_labels")
    panels = {"cluster": labels.spk_id}
    if oracle:
        panels["speaker"] = true_speakers(oracle, labels)
    chosen = mapped_rows(list(panels.values())[-1])
    if len(chosen) < 4:
        return []
    vectors, index = read_embeddings(embedded.folder)
    ids = select(labels, chosen).ids
    rows = rows_for(index, ids, embedded.folder)
    points = project(unit_rows(vectors, rows))
    shown = {title: names[chosen] for title, names in panels.items()}
    figure = embedding_map(points, shown)
    return [Plot(f"Map, {step.system.name}", caption, figure)]


def mapped_rows(names: np.ndarray) -> np.ndarray:
    """Return rows of the most frequent names, a few each, in row order."""
    _, number, size = np.unique(names, return_inverse=True, return_counts=True)
    largest = np.argsort(-size, kind="stable")[:_MAPPED_SPEAKERS]
    rows = np.flatnonzero(np.isin(number, largest))
    generator = np.random.default_rng(0)
    return np.sort(generator.permutation(rows)[:_MAPPED])


def layer_sections(steps: Sequence[Step[Any]]) -> list[Block]:
    """Plot the criteria that chose a layer of a pre-trained encoder."""
    caption = (
        "Label-free criteria by layer. EER: crops of one utterance against "
        "crops of different ones. The layer with the lowest EER of augmented "
        "crops was taken."
    )
    sections: list[Block] = []
    for step in steps_that_left(steps, ModelArtifacts):
        path = step.artifacts.layer_choice
        if path.exists():
            figure = layer_choice(pd.read_csv(path))
            heading = f"Choice of the layer, {step.system.name}"
            sections.append(Plot(heading, caption, figure))
    return sections


def curve_sections(steps: Sequence[Step[Any]]) -> list[Block]:
    """Plot every model's training loss, and the bootstrap's diagnostics."""
    models = trainings(steps)
    if not models:
        return []
    curves = {
        step.system.name: pd.read_csv(step.artifacts.curve) for step in models
    }
    caption = (
        "Mean training loss by epoch. It should fall; losses of different "
        "steps do not compare."
    )
    sections: list[Block] = [Plot("Training", caption, training_curves(curves))]
    for step in models:
        sections += health_sections(step, curves[step.system.name])
    return sections + gate_sections(models)


def health_sections(
    step: Step[ModelArtifacts], curve: pd.DataFrame
) -> list[Block]:
    """Plot the label-free statistics that show a collapse, and judge them."""
    if "effective_rank" not in curve:
        return []
    name = step.system.name
    found = judged(curve)
    caption = (
        "Statistics that need no labels. Shaded: the range of normal trainings "
        "at the same share of the training. " + found.rule
    )
    if "uniformity" in curve:
        figure = contrastive_diagnostics(curve, found.bands)
    else:
        ln_k = step.artifacts.facts()["ln_k"]
        figure = dino_diagnostics(curve, ln_k, found.bands)
    sections: list[Block] = [
        Text([found.verdict]),
        Plot(f"Health, {name}", caption, figure),
    ]
    if step.artifacts.layer_distances.exists():
        caption = "Relative distance of each layer from its initial weights."
        figure = layer_distances(pd.read_csv(step.artifacts.layer_distances))
        sections.append(Plot(f"Layers, {name}", caption, figure))
    return sections


def gate_sections(models: Sequence[Step[ModelArtifacts]]) -> list[Block]:
    """Plot the losses that the gates saw, and their decisions."""
    sections: list[Block] = []
    for step in models:
        if not step.artifacts.gate.exists():
            continue
        name = step.system.name
        history = read_json(step.artifacts.gate)
        caption = (
            "Losses in each epoch, two fitted Gaussians and the threshold."
        )
        sections.append(Plot(f"Gate, {name}", caption, gate_fits(history)))
        caption = (
            "Loss threshold, and shares of labels kept and corrected, by epoch."
        )
        figure = gate_shares(history)
        sections.append(Plot(f"Gate by epoch, {name}", caption, figure))
    return sections
