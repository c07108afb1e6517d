"""Figures: what they draw, that nothing is cut off, that words go along."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from matplotlib.backends.backend_agg import FigureCanvasAgg
from scipy.special import ndtr

from speechbrain_ext.clustering.plots import (
    churn_by_round,
    cluster_number,
    cluster_sizes,
    embedding_map,
)
from speechbrain_ext.training.plots import (
    contrastive_diagnostics,
    gate_fits,
    gate_shares,
    layer_distances,
    training_curves,
)
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.plotting import save_figure, save_png
from speechbrain_ext.verification.metrics import (
    actual_dcf,
    min_dcf,
    normalised_dcf,
)
from speechbrain_ext.verification.plots import (
    bayes_errors,
    det,
    eer_by_round,
    score_histograms,
)
from speechbrain_ext.verification.records import Estimate
from speechbrain_ext.verification.results import (
    SystemFacts,
    TrialFacts,
    read_yardsticks,
)


def trials(n_trials=2000, distance=1.5, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, n_trials)
    return generator.normal(size=n_trials) + distance * labels, labels


def result(system, eer, trials="dev", backend=""):
    return SimpleNamespace(
        system=SystemFacts(system, backend=backend),
        trials=TrialFacts(trials, "MiniVox", "0", 2, 2),
        eer=Estimate(eer, eer - 1, eer + 1),
    )


def yardstick(system, eer):
    return SimpleNamespace(system=system, eer=eer)


def gate_history(n_epochs):
    """Entries of a gate: no threshold at first, then new and kept ones."""
    generator = np.random.default_rng(0)
    entries = []
    for epoch in range(1, n_epochs + 1):
        counts, edges = np.histogram(generator.normal(size=200), bins=20)
        pair = {"weights": (0.8, 0.2), "means": (-1, 1), "stds": (1, 0.5)}
        entries.append(
            {
                "epoch": epoch,
                "scale": "log loss",
                "counts": counts.tolist(),
                "edges": [edges[0], edges[-1]],
                "mixture": None if epoch == 2 else pair,
                "threshold": None if epoch == 1 else 0.5,
                "is_new": epoch % 3 == 0,
                "kept": 1 - 0.02 * epoch,
                "corrected": 0.01 * epoch,
            }
        )
    return entries


def legend_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def distances(n_epochs, n_layers):
    """As layer_distances.csv: middle layers move most."""
    rows = [
        {"epoch": epoch, "front": 0.0}
        | {
            f"layer_{layer}": epoch * layer * (n_layers + 1 - layer) / 1e3
            for layer in range(1, n_layers + 1)
        }
        for epoch in range(1, n_epochs + 1)
    ]
    return pd.DataFrame(rows)


FIGURES = {
    "eer": lambda: eer_by_round(
        [result("DINO", 21), result("round 2 + large-margin tuning", 18)],
        [yardstick("first supervised ECAPA-TDNN, true labels", 15.8)],
    ),
    "eer of lists": lambda: eer_by_round(
        [result(s, e, t) for s, e in (("a", 3), ("b", 2)) for t in "OEH"]
    ),
    "det": lambda: det({"DINO": trials(), "round 1": trials(distance=2)}),
    "det of few": lambda: det({"DINO": trials(12)}),
    "det of perfect": lambda: det({"DINO": (np.arange(8), np.arange(8) > 3)}),
    "det of chance": lambda: det({"DINO": (np.zeros(8), np.arange(8) % 2)}),
    # The names once ran off both sides of the picture.
    "EER beside long names": lambda: eer_by_round(
        [result("DINO", 22), result("round 1", 18)],
        read_yardsticks("results/yardsticks.json")[:5],
    ),
    "EER of back-ends": lambda: eer_by_round(
        [
            result(s, e, "O", b)
            for s, e in (("DINO", 3), ("round 1", 2))
            for b in ("raw", "as-norm", "as-norm+qmf")
        ]
    ),
    "histogram": lambda: score_histograms({"DINO": trials()}),
    "calibration": lambda: bayes_errors(
        {name: trials(seed=n) for n, name in enumerate("abc")}
    ),
    "calibration of few": lambda: bayes_errors({"DINO": trials(12)}),
    "map": lambda: embedding_map(
        np.random.default_rng(0).normal(size=(200, 2)),
        {"cluster": np.arange(200) % 30, "speaker": np.arange(200) % 3},
    ),
    "clusters": lambda: cluster_sizes({"DINO": [300, 20, 1], "1": [9, 9]}),
    "number of clusters": lambda: cluster_number(
        np.geomspace(500, 25_000, 80).astype(int),
        {name: np.sin(np.arange(80) / 20) for name in "abcd"},
        {"a": 7000, "b": None, "c": 500, "d": 24_000},
        7000,
    ),
    "number of few clusters": lambda: cluster_number(
        [2, 3, 4, 5], {"gap": [1, 2, 3, 2]}, {"gap": 4}, 4
    ),
    "churn": lambda: churn_by_round(
        {f"round{n}": 0.4 / n for n in range(1, 7)}, "round5"
    ),
    "churn of one": lambda: churn_by_round({"round1": 0.0}),
    "training": lambda: training_curves(
        {f"stage {n}": [(1, 8.0), (2, 5.0), (3, 4.0)] for n in range(5)}
    ),
    "gate": lambda: gate_fits(gate_history(5)),
    "gate of many epochs": lambda: gate_fits(gate_history(40)),
    "gate by epoch": lambda: gate_shares(gate_history(5)),
    "gate by epoch, of one": lambda: gate_shares(gate_history(1)),
    "layers": lambda: layer_distances(distances(30, 24)),
    "layers of one epoch": lambda: layer_distances(distances(1, 2)),
    "training of one epoch": lambda: training_curves({"DINO": [(1, 8.0)]}),
}


@pytest.mark.parametrize("name", FIGURES)
def test_no_text_is_cut_off_or_covered(name):
    figure = FIGURES[name]()
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    page = figure.bbox
    boxes = []
    for axes in figure.axes:
        if not axes.axison:
            continue
        labels = [axes.xaxis.label, axes.yaxis.label, axes.title]
        for axis, low, high in (
            (axes.xaxis, *sorted(axes.get_xlim())),
            (axes.yaxis, *sorted(axes.get_ylim())),
        ):
            labels += [
                tick.label1
                for tick in axis.get_major_ticks()
                if low <= tick.get_loc() <= high
            ]
        boxes += [
            text.get_window_extent(renderer)
            for text in labels
            if text.get_text()
        ]
    boxes += [key.get_window_extent(renderer) for key in figure.legends]
    assert len(boxes) > 1
    for number, box in enumerate(boxes):
        assert page.x0 <= box.x0 and box.x1 <= page.x1
        assert page.y0 <= box.y0 and box.y1 <= page.y1
        for other in boxes[:number]:
            assert not box.overlaps(other)


@pytest.mark.parametrize("name", FIGURES)
def test_a_sentence_goes_with_each_figure(name):
    assert len(FIGURES[name]().get_label()) > 20


def test_no_global_figure_is_left_open():
    for figure in FIGURES.values():
        figure()
    assert pyplot.get_fignums() == []


def test_same_figure_same_file(tmp_path):
    for name in ("a.png", "b.png"):
        save_png(FIGURES["clusters"](), tmp_path / name)
    content = (tmp_path / "a.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert content == (tmp_path / "b.png").read_bytes()


def test_eer_has_a_line_a_list_and_the_near_yardsticks():
    figure = eer_by_round(
        [result("DINO", 20), result("DINO", 22, "E"), result("round 1", 18)],
        [yardstick("supervised", 15.8), yardstick("chance", 50)],
    )
    names = legend_of(figure)
    assert "supervised 15.80 (cited)" in names
    assert {"MiniVox, dev", "MiniVox, E"} <= set(names)
    assert not any("chance" in name for name in names)
    ticks = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert ticks == ["DINO", "round 1"]


def test_det_passes_through_its_equal_error_rate():
    scores, labels = trials(20000)
    figure = det({"DINO": (scores, labels)})
    axes = figure.axes[0]
    curve, dot = axes.lines[0].get_xydata(), axes.lines[1].get_xydata()[0]
    assert np.abs(curve - dot).max(axis=1).min() < 0.02
    # Two unit Gaussians 1.5 apart: the EER is the tail above 0.75.
    assert dot[0] == pytest.approx(-0.75, abs=0.05)
    assert legend_of(figure) == [f"DINO, EER {100 * ndtr(dot[0]):.2f} %"]


def test_a_large_det_is_drawn_with_few_points():
    axes = det({"DINO": trials(50000)}).axes[0]
    assert 500 < len(axes.lines[0].get_xydata()) < 1100


def test_histogram_bars_of_a_class_sum_to_all_of_it():
    labels = np.r_[np.ones(50), np.zeros(950)]
    scores = np.random.default_rng(0).normal(size=1000) + labels
    axes = score_histograms({"DINO": (scores, labels)}).axes[0]
    for patch in axes.patches:
        points = patch.get_xy()
        widths = np.diff(points[:, 0])
        area = np.abs(np.sum(widths * points[:-1, 1]))
        width = (scores.max() - scores.min()) / 60
        assert area / width == pytest.approx(100, rel=1e-3)


def test_systems_have_a_panel_each_and_say_which():
    systems = {name: trials(200, seed=n) for n, name in enumerate("abc")}
    figure = score_histograms(systems)
    titles = [axes.get_title() for axes in figure.axes if axes.axison]
    assert titles == ["a", "b", "c"]
    assert len(legend_of(figure)) == 3
    for name in "abc":
        assert f"{name}: " in figure.get_label()


def test_clusters_are_sorted_by_size():
    axes = cluster_sizes({"round 1": [3, 9, 1, 5]}).axes[0]
    assert axes.lines[0].get_ydata().tolist() == [9, 5, 3, 1]


def test_each_criterion_is_marked_where_it_answers():
    figure = cluster_number(
        [2, 4, 8], {"gap": [1, 3, 1], "cosine": [1, 2, 3]}, {"gap": 4}, 4
    )
    panels = figure.axes[:2]
    assert [axes.get_title() for axes in panels] == [
        "gap: 4",
        "cosine: no answer",
    ]
    assert [len(axes.lines) for axes in panels] == [3, 2]


def test_the_chosen_round_is_marked_in_per_cent():
    axes = churn_by_round({"round1": 0.3, "round2": 0.25}, "round2").axes[0]
    assert axes.lines[0].get_ydata().tolist() == [30, 25]
    assert axes.collections[0].get_offsets().tolist() == [[1, 25]]


def test_training_curves_read_the_frame_of_a_stage():
    frame = pd.DataFrame({"epoch": [1, 2], "loss": [6.0, 5.0], "lr": [1, 2]})
    figure = training_curves({"DINO": frame, "round 1": frame}, "lr")
    shown = [axes.lines[0].get_ydata().tolist() for axes in figure.axes]
    assert shown == [[1, 2], [1, 2]]
    with pytest.raises(InputError, match="DINO has no column 'error'"):
        training_curves({"DINO": frame}, "error")


@pytest.mark.parametrize(
    ("function", "empty"),
    [
        (eer_by_round, []),
        (det, {}),
        (cluster_sizes, {}),
        (cluster_sizes, {"round 1": []}),
        (churn_by_round, {}),
        (training_curves, {}),
        (training_curves, {"DINO": []}),
        (layer_distances, pd.DataFrame(columns=["epoch", "front"])),
    ],
)
def test_nothing_to_draw_is_refused(function, empty):
    with pytest.raises(InputError, match="to draw"):
        function(empty)


def test_layers_are_drawn_for_some_epochs_in_percent():
    table = distances(30, 4)
    (axes,) = layer_distances(table).axes
    assert [line.get_label() for line in axes.lines] == [
        f"epoch {n}" for n in (1, 6, 12, 18, 24, 30)
    ]
    last = 100 * table.iloc[-1].drop("epoch").to_numpy(float)
    np.testing.assert_allclose(axes.lines[-1].get_ydata(), last)


def test_the_health_of_a_contrastive_training_has_its_columns():
    curve = pd.DataFrame({"epoch": [1, 2], "loss": [4.0, 2.0]})
    columns = ("alignment", "uniformity", "spread", "effective_rank")
    curve = curve.assign(**dict.fromkeys(columns, 0.5))
    figure = contrastive_diagnostics(curve)
    drawn = [line.get_label() for a in figure.axes for line in a.lines]
    assert sorted(drawn) == sorted(
        ["loss", *(column.replace("_", " ") for column in columns)]
    )


def test_a_picture_is_written_twice_and_repeats(tmp_path):
    for folder in (tmp_path / "a", tmp_path / "b"):
        figure = det({"DINO": trials()})
        assert save_figure(figure, folder, "det") == ["det.png", "det.svg"]
    for name in ("det.png", "det.svg"):
        contents = [(tmp_path / f / name).read_bytes() for f in "ab"]
        assert contents[0] == contents[1]
    assert (tmp_path / "a" / "det.svg").read_text().startswith("<?xml")


def test_each_back_end_is_a_line():
    rows = [result("DINO", 3, "O", b) for b in ("raw", "as-norm")]
    assert legend_of(eer_by_round(rows)) == [
        "MiniVox, O, raw",
        "MiniVox, O, as-norm",
    ]


def test_actual_costs_are_those_of_bayes_threshold():
    llrs, labels = trials(distance=2)
    llrs = 2 * (llrs - 1)
    figure = bayes_errors({"DINO": (llrs, labels)})
    actual, best = (line.get_xydata() for line in figure.axes[0].lines[:2])
    for odds, cost in actual[::10]:
        prior = 1 / (1 + np.exp(-odds))
        assert cost == pytest.approx(actual_dcf(llrs, labels, prior))
    assert (best[:, 1] <= actual[:, 1] + 1e-12).all()
    for odds, cost in best[::10]:
        prior = 1 / (1 + np.exp(-odds))
        least = normalised_dcf(min_dcf(llrs, labels, prior)[0], prior)
        assert cost == pytest.approx(least, rel=1e-5)


def test_a_map_has_a_point_an_utterance_and_a_colour_a_name():
    points = np.arange(12).reshape(6, 2)
    figure = embedding_map(points, {"cluster": list("aabbcc")})
    drawn = figure.axes[0].collections
    assert len(drawn) == 3
    offsets = np.concatenate([group.get_offsets() for group in drawn])
    assert sorted(map(tuple, offsets)) == sorted(map(tuple, points))
    colours = {tuple(group.get_facecolors()[0]) for group in drawn}
    assert len(colours) == 3


@pytest.mark.parametrize(
    "figure", [bayes_errors, lambda x: embedding_map([], x)]
)
def test_pictures_of_nothing_are_refused(figure):
    with pytest.raises(InputError, match="to draw"):
        figure({})


def test_of_many_epochs_of_a_gate_twelve_are_drawn_the_last_among_them():
    figure = gate_fits(gate_history(40))
    titles = [axes.get_title() for axes in figure.axes if axes.axison]
    assert len(titles) == 12
    assert titles[0] == "epoch 1: none"
    assert titles[-1] == "epoch 40: 0.50 (kept)"


def test_a_gates_threshold_is_drawn_where_it_is_and_dotted_if_it_is_old():
    figure = gate_fits(gate_history(3))
    lines = [
        [line for line in axes.lines if set(line.get_xdata()) == {0.5}]
        for axes in figure.axes
    ]
    assert [len(found) for found in lines] == [0, 1, 1]
    assert lines[1][0].get_linestyle() == ":"
    assert lines[2][0].get_linestyle() == "-"


def test_both_gaussians_are_drawn_with_their_areas():
    first = gate_fits(gate_history(1)).axes[0]
    areas = [
        np.trapezoid(line.get_ydata(), line.get_xdata())
        for line in first.lines[:2]
    ]
    assert areas == pytest.approx([0.8, 0.2], abs=0.15)


def test_a_gate_without_epochs_is_refused():
    for figure in (gate_fits, gate_shares):
        with pytest.raises(InputError, match="epoch of a gate"):
            figure([])
