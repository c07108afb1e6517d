"""Plots of scores and results: what is drawn is what was measured."""

import numpy as np
import pytest
from plot_cases import legend_of, result, trials, yardstick
from scipy.special import ndtr

from speechbrain_ext.utils.errors import InputError
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


def test_eer_has_a_line_a_list_and_the_near_yardsticks():
    figure = eer_by_round(
        [result("DINO", 20), result("DINO", 22, "E"), result("round 1", 18)],
        [yardstick("supervised", 15.8), yardstick("chance", 50)],
    )
    names = legend_of(figure)
    assert "supervised 15.80 (cited)" in names
    assert {"MiniVox, dev", "MiniVox, E"} <= set(names)
    assert not any("chance" in name for name in names)
    ticks = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert ticks == ["DINO", "round 1"]


def test_the_supervised_row_is_a_reference_line():
    true = result("topline", 16)
    axes = eer_by_round([result("DINO", 20)], supervised=true).axes[0]
    (line,) = [x for x in axes.lines if x.get_label() == "topline 16.00"]
    assert set(line.get_xdata()) == {16}
    systems = {"DINO": trials(), "topline": trials(distance=2)}
    curves = det(systems, "topline").axes[0].lines
    assert [c.get_color() for c in curves if "topline" in c.get_label()] == [
        "black"
    ]


def test_each_back_end_is_a_line():
    rows = [result("DINO", 3, "O", b) for b in ("raw", "as-norm")]
    assert legend_of(eer_by_round(rows)) == [
        "MiniVox, O, raw",
        "MiniVox, O, as-norm",
    ]


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


@pytest.mark.parametrize(
    ("function", "empty"),
    [
        (eer_by_round, []),
        (det, {}),
        (bayes_errors, {}),
    ],
)
def test_nothing_to_draw_is_refused(function, empty):
    with pytest.raises(InputError, match="to draw"):
        function(empty)
