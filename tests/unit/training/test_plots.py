"""Plots of trainings: curves, gates, distances of layers."""

import numpy as np
import pandas as pd
import pytest
from plot_cases import (
    distances,
    gate_history,
)

from speechbrain_ext.training.plots import (
    contrastive_diagnostics,
    dino_diagnostics,
    gate_fits,
    gate_shares,
    layer_distances,
    training_curves,
)
from speechbrain_ext.utils.errors import InputError


def test_training_curves_read_the_frame_of_a_stage():
    frame = pd.DataFrame({"epoch": [1, 2], "loss": [6.0, 5.0], "lr": [1, 2]})
    figure = training_curves({"DINO": frame, "round 1": frame}, "lr")
    shown = [axes.lines[0].get_ydata().tolist() for axes in figure.axes]
    assert shown == [[1, 2], [1, 2]]
    with pytest.raises(InputError, match="DINO has no column 'error'"):
        training_curves({"DINO": frame}, "error")


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


def test_statistics_of_different_scales_have_axes_of_their_own():
    """Prototypes, in hundreds, once flattened the rank beside them."""
    columns = "loss entropy kl information prototypes effective_rank spread"
    names = [*columns.split(), "center_norm"]
    curve = pd.DataFrame({"epoch": [1, 2], **dict.fromkeys(names, [2.0, 1.0])})
    band = {"spread": (np.zeros(2), np.ones(2))}
    axes = dino_diagnostics(curve, 7.6, band).axes
    drawn = [[line.get_label() for line in a.lines] for a in axes]
    assert drawn == [
        ["loss", "entropy", "ln K"],
        ["kl", "information"],
        ["effective rank"],
        ["prototypes"],
        ["spread"],
        ["center norm"],
    ]
    assert [len(a.collections) for a in axes] == [0, 0, 0, 0, 1, 0]


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


@pytest.mark.parametrize(
    ("function", "empty"),
    [
        (training_curves, {}),
        (training_curves, {"DINO": []}),
        (layer_distances, pd.DataFrame(columns=["epoch", "front"])),
    ],
)
def test_nothing_to_draw_is_refused(function, empty):
    with pytest.raises(InputError, match="to draw"):
        function(empty)
