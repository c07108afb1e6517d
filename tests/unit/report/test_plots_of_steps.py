"""Plots of a run's report."""

import numpy as np
import pandas as pd
import pytest
from run_steps import (
    BOOTSTRAP,
    ROUND1,
    ROUND2,
    modelled,
    scored_of,
    step,
    with_scores,
)

from speechbrain_ext.dataio.manifest import write_manifest
from speechbrain_ext.experiment.steps import Kind
from speechbrain_ext.report.page import Plot, Text
from speechbrain_ext.report.plots_of_steps import (
    backend_plots,
    curve_sections,
    layer_sections,
    map_sections,
    mapped_rows,
    number_sections,
)
from speechbrain_ext.utils.files import write_json, write_text


def test_the_health_of_a_bootstrap_is_shown(tmp_path):
    columns = "epoch,loss,kl,entropy,information,prototypes,center_norm,"
    columns += "spread,effective_rank"
    first = modelled(tmp_path, BOOTSTRAP, columns, "1,5,2,3,1,9,2,1,7")
    write_json(first.folder / "stage.json", {"ln_k": 7.6})
    sections = curve_sections([first, modelled(tmp_path, ROUND1)])
    plots = [s for s in sections if isinstance(s, Plot)]
    assert [plot.heading for plot in plots] == ["Training", "Health, bootstrap"]
    assert "ln K 7.6; rank 7." in plots[1].words
    # Its statistics are far below those of normal trainings.
    (verdict,) = [s for s in sections if isinstance(s, Text)]
    assert "Not healthy" in verdict.paragraphs[0]
    assert "effective rank may fall" in plots[1].caption


def test_a_model_that_was_not_trained_has_no_curve(tmp_path):
    steps = [modelled(tmp_path, ROUND1), step(tmp_path, ROUND2, Kind.TRAIN)]
    ((heading, _, figure),) = curve_sections(steps)
    assert heading == "Training" and len(figure.axes) == 1


def test_a_contrastive_bootstrap_shows_its_own_figures(tmp_path):
    columns = "epoch,loss,alignment,uniformity,spread,effective_rank,lr"
    first = modelled(tmp_path, BOOTSTRAP, columns, "1,5,2,-3,1,7,0.1")
    distances = "epoch,front,layer_1\n1,0,0.02\n"
    write_text(first.folder / "layer_distances.csv", distances)
    sections = [s for s in curve_sections([first]) if isinstance(s, Plot)]
    assert [plot.heading for plot in sections] == [
        "Training",
        "Health, bootstrap",
        "Layers, bootstrap",
    ]
    assert "uniformity -3" in sections[1].words
    assert "2.00 % in layer_1" in sections[2].words


def test_the_choice_of_an_encoders_layer_is_shown(tmp_path):
    first = modelled(tmp_path, BOOTSTRAP)
    table = "layer,eer,eer_clean,agreement\n0,21,9,0.1\n1,19,11,0.2\n"
    write_text(first.folder / "layers.csv", table)
    found = layer_sections([first, modelled(tmp_path, ROUND1)])
    assert [heading for heading, _, _ in found] == [
        "Choice of the layer, bootstrap"
    ]
    assert "Layer 1 has the lowest" in found[0][2].get_label()


def test_the_gate_of_a_gated_training_is_shown(tmp_path):
    first, second = (modelled(tmp_path, system) for system in (ROUND1, ROUND2))
    entry = {"epoch": 1, "scale": "log loss", "counts": [1, 2]}
    entry |= {"edges": [0.0, 2.0], "mixture": None, "threshold": 1.5}
    write_json(
        second.folder / "gate.json", [{**entry, "is_new": True, "kept": 0.75}]
    )
    sections = curve_sections([first, second])
    assert [heading for heading, _, _ in sections] == [
        "Training",
        "Gate, round2",
        "Gate by epoch, round2",
    ]
    assert "Thresholds by epoch: 1 1.50" in sections[1][2].get_label()
    assert "kept 75.0 % to 75.0 %" in sections[2][2].get_label()


def test_the_curves_of_a_number_that_was_chosen_are_shown(tmp_path):
    choice = {
        "numbers": [2, 3, 4],
        "curves": {"gap": [1, 2, 1]},
        "by_criterion": {"gap": 3},
        "n_clusters": 3,
    }
    steps = []
    for system, found in ((BOOTSTRAP, None), (ROUND1, choice)):
        made = step(tmp_path, system, Kind.LABELS)
        write_json(made.artifacts.clusters, {"choice": found})
        steps.append(made)
    sections = number_sections(steps)
    assert [heading for heading, _, _ in sections] == [
        "Number of clusters, round1"
    ]


def test_each_back_end_has_its_pictures(tmp_path):
    step = with_scores(tmp_path, BOOTSTRAP, 1)
    (scored,) = scored_of([step])
    for backend, extra in (("raw", []), ("as-norm+qmf", ["Calibration"])):
        systems = {"DINO": scored.scores("dev", backend)}
        plots = backend_plots(systems, backend, f"on dev, {backend} scores")
        assert [plot.heading for plot in plots] == [
            "Misses against false alarms (DET)",
            *extra,
            "Scores",
        ]
        assert f"on dev, {backend} scores" in plots[0].caption


def labelled(folder, n_rows=60):
    """Embeddings, their clusters, and the true speakers."""
    embedded = step(folder, ROUND1, Kind.EXTRACT_TRAIN)
    made = step(folder, ROUND1, Kind.LABELS)
    ids = [f"u{n}" for n in range(n_rows)]
    x = np.random.default_rng(0).normal(size=(n_rows, 5)).astype(np.float32)
    embeddings = embedded.folder
    embeddings.mkdir(parents=True)
    np.save(embeddings / "embeddings.npy", x)
    rows = pd.DataFrame({"ID": ids, "row": np.arange(n_rows)})
    rows.to_csv(embeddings / "embeddings.csv", index=False)
    table = pd.DataFrame({"ID": ids, "duration": 1.0, "wav": "x"})
    table = table.assign(start=0, stop=16000)
    table["spk_id"] = [f"p{n % 7}" for n in range(n_rows)]
    write_manifest(made.artifacts.labels, table, "pseudo_labels")
    oracle = pd.DataFrame({"ID": ids, "spk_id": [i[-1] for i in ids]})
    oracle.to_csv(folder / "oracle.csv", index=False)
    return embedded, made


@pytest.mark.parametrize("known", [True, False])
def test_a_map_shows_clusters_and_speakers_where_known(tmp_path, known):
    embedded, made = labelled(tmp_path)
    if known:
        made.options["oracle"] = str(tmp_path / "oracle.csv")
    ((heading, _, figure),) = map_sections([embedded, made], {})
    assert heading == "Map, round1"
    words = "Map of 60 utterances. By cluster: 7."
    assert figure.get_label() == words + (" By speaker: 10." if known else "")


def test_a_map_is_of_the_names_that_have_most():
    sizes = np.arange(1, 61)
    names = np.repeat(sizes, sizes)
    rows = mapped_rows(names)
    assert set(names[rows]) == set(range(37, 61))
    assert len(rows) == 1000 and (np.diff(rows) > 0).all()


def test_a_run_that_trained_nothing_has_no_curves():
    """It may export the embedder that it was given, after no round."""
    assert curve_sections([]) == []
