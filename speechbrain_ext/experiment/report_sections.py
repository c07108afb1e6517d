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
from speechbrain_ext.experiment.html_report import Section
from speechbrain_ext.experiment.plan import Plan
from speechbrain_ext.experiment.rounds import churns_of, round_system
from speechbrain_ext.experiment.run_results import Scored, trainings
from speechbrain_ext.experiment.steps import Kind, Late, Step, steps_that_left
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


def eer_sections(
    results: Sequence[Result], yardsticks: Sequence[Yardstick]
) -> list[Section]:
    """Plot EER by round, one line for each trial list."""
    lists = {(r.trials.corpus, r.trials.name) for r in results}
    cited = [y for y in yardsticks if (y.corpus, y.trials) in lists]
    caption = "Equal error rate of each system with its 95 % interval."
    figure = eer_by_round(results, cited)
    return [Section("EER by round", caption, figure)]


def score_sections(scored: Sequence[Scored]) -> list[Section]:
    """Plot DET curves, calibration costs and histograms of all systems."""
    sections: list[Section] = []
    scorings = _scorings(scored)
    for name, backend in scorings:
        systems = {
            one.result(name, backend).system.name: one.scores(name, backend)
            for one in scored
            if one.has(name, backend)
        }
        words = f"Trial list {name}, {backend} scores"
        title = f"{name}, {backend}"
        caption = f"{words}. A dot marks the equal error rate (EER)."
        sections.append(Section(f"DET, {title}", caption, det(systems)))
        if "+" in backend:
            caption = f"{words}: actual cost by target prior; dashed: minimum."
            figure = bayes_errors(systems)
            sections.append(Section(f"Calibration, {title}", caption, figure))
        if backend == scorings[0][1]:  # the first one only
            figure = score_histograms(systems)
            sections.append(Section(f"Scores, {title}", f"{words}.", figure))
    return sections


def _scorings(scored: Sequence[Scored]) -> list[tuple[str, str]]:
    """List the pairs of trial list and back-end, each once."""
    pairs = [
        (result.trials.name, result.system.backend)
        for one in scored
        for result in one.results
    ]
    return list(dict.fromkeys(pairs))


def churn_sections(plan: Plan) -> list[Section]:
    """Plot the share of utterances that changed cluster, by round."""
    # A longer earlier run may have left later rounds.
    found = list(churns_of(plan.settings).items())
    churns = dict(found[: plan.rounds.n_rounds])
    if not churns:
        return []
    caption = (
        "Share of training utterances that changed cluster since the round "
        "before. No true labels are used."
    )
    chosen = round_system(plan.rounds.chosen).name
    return [Section("Churn", caption, churn_by_round(churns, chosen))]


def cluster_sections(steps: Sequence[Step[Any]]) -> list[Section]:
    """Plot the sizes of the pseudo-speakers of every system."""
    clustered = _clustered(steps)
    if not clustered:
        return []
    sizes = {name: clusters["sizes"] for name, clusters in clustered.items()}
    caption = "Number of utterances per pseudo-speaker, largest first."
    section = Section("Cluster sizes", caption, cluster_sizes(sizes))
    return [section, *number_sections(steps)]


def _clustered(steps: Sequence[Step[Any]]) -> dict[str, dict[str, Any]]:
    """Read the clustering statistics of each system."""
    return {
        step.system.name: read_json(step.artifacts.clusters)
        for step in steps_that_left(steps, LabelArtifacts)
        if step.artifacts.clusters.exists()
    }


def number_sections(steps: Sequence[Step[Any]]) -> list[Section]:
    """Plot the criteria that chose the number of clusters, if any did."""
    caption = "Label-free criteria by the number of clusters."
    sections: list[Section] = []
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
            sections.append(Section(heading, caption, figure))
    return sections


def map_sections(
    steps: Sequence[Step[Any]], late: Mapping[Late, Any]
) -> list[Section]:
    """Plot every system's training embeddings in two dimensions."""
    embeddings = {
        step.system.name: step.artifacts
        for step in steps_that_left(steps, EmbeddingArtifacts)
        if step.kind.folder_name == Kind.EXTRACT_TRAIN.folder_name
    }
    sections: list[Section] = []
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
) -> list[Section]:
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
    return [Section(f"Map, {step.system.name}", caption, figure)]


def mapped_rows(names: np.ndarray) -> np.ndarray:
    """Return rows of the most frequent names, a few each, in row order."""
    _, number, size = np.unique(names, return_inverse=True, return_counts=True)
    largest = np.argsort(-size, kind="stable")[:_MAPPED_SPEAKERS]
    rows = np.flatnonzero(np.isin(number, largest))
    generator = np.random.default_rng(0)
    return np.sort(generator.permutation(rows)[:_MAPPED])


def layer_sections(steps: Sequence[Step[Any]]) -> list[Section]:
    """Plot the criteria that chose a layer of a pre-trained encoder."""
    caption = (
        "Label-free criteria by layer. EER: crops of one utterance against "
        "crops of different ones. The layer with the lowest EER of augmented "
        "crops was taken."
    )
    sections: list[Section] = []
    for step in steps_that_left(steps, ModelArtifacts):
        path = step.artifacts.layer_choice
        if path.exists():
            figure = layer_choice(pd.read_csv(path))
            heading = f"Choice of the layer, {step.system.name}"
            sections.append(Section(heading, caption, figure))
    return sections


def curve_sections(steps: Sequence[Step[Any]]) -> list[Section]:
    """Plot every model's training loss, and the bootstrap's diagnostics."""
    models = trainings(steps)
    if not models:
        return []
    curves = {
        step.system.name: pd.read_csv(step.artifacts.curve) for step in models
    }
    caption = "Mean training loss by epoch, one panel per model."
    sections = [Section("Training", caption, training_curves(curves))]
    for step in models:
        sections += health_sections(step, curves[step.system.name])
    return sections + gate_sections(models)


def health_sections(
    step: Step[ModelArtifacts], curve: pd.DataFrame
) -> list[Section]:
    """Plot the label-free statistics that show a collapse."""
    if "effective_rank" not in curve:
        return []
    name = step.system.name
    caption = "Label-free statistics by epoch, in which a collapse would show."
    if "uniformity" in curve:
        figure = contrastive_diagnostics(curve)
    else:
        figure = dino_diagnostics(curve, step.artifacts.facts()["ln_k"])
    sections = [Section(f"Health, {name}", caption, figure)]
    if step.artifacts.layer_distances.exists():
        caption = "Relative distance of each layer from its initial weights."
        figure = layer_distances(pd.read_csv(step.artifacts.layer_distances))
        sections.append(Section(f"Layers, {name}", caption, figure))
    return sections


def gate_sections(models: Sequence[Step[ModelArtifacts]]) -> list[Section]:
    """Plot the losses that the gates saw, and their decisions."""
    sections: list[Section] = []
    for step in models:
        if not step.artifacts.gate.exists():
            continue
        name = step.system.name
        history = read_json(step.artifacts.gate)
        caption = (
            "Losses in each epoch, two fitted Gaussians and the threshold."
        )
        sections.append(Section(f"Gate, {name}", caption, gate_fits(history)))
        caption = (
            "Loss threshold, and shares of labels kept and corrected, by epoch."
        )
        figure = gate_shares(history)
        sections.append(Section(f"Gate by epoch, {name}", caption, figure))
    return sections
