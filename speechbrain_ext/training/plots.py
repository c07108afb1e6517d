"""Plots of trainings: curves, diagnostics, layers, the gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from speechbrain_ext.losses.two_gaussians import Mixture
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.plotting import (
    COLOURS,
    DASHES,
    laid_out,
    need,
    outer_legend,
    whole_numbers,
    wrapped,
)

_CURVES_A_ROW = 3
_MOST_PANELS = 12


def training_curves(
    curves: Mapping[str, pd.DataFrame | Sequence[tuple[float, float]]],
    column: str = "loss",
) -> Figure:
    """Plot one panel for each training; losses of stages do not compare.

    Arguments
    ---------
    curves : mapping of str to pandas.DataFrame or list of (epoch, value)
        A frame has the columns ``epoch`` and ``column``, as
        ``train_curve.csv`` of the training recipes.
    column : str
        What to draw: ``loss``, ``lr``, ...

    Returns
    -------
    Figure

    Raises
    ------
    InputError
        There is no curve, or a frame lacks the column.

    Example
    -------
    >>> training_curves({"DINO": [(1, 6.9), (2, 4.25)]}).get_label()
    'Training loss by epoch. DINO: 6.9 to 4.25 in 2 epochs.'
    """
    need(curves, "training curve")
    n_rows = -(-len(curves) // _CURVES_A_ROW)
    n_columns = min(len(curves), _CURVES_A_ROW)
    figure = Figure(figsize=(max(3.1 * n_columns, 4.2), 2.6 * n_rows + 0.3))
    grid = figure.subplots(n_rows, n_columns, squeeze=False)
    panels = list(grid.flat)
    words = []
    for axes, (name, curve) in zip(panels, curves.items(), strict=False):
        epochs, values = _series(name, curve, column)
        axes.plot(epochs, values, color=COLOURS[0], marker=".")
        axes.set_title(wrapped(name, 32), fontsize=10)
        axes.set_xlabel("epoch")
        axes.set_ylabel("loss (nats)" if column == "loss" else column)
        axes.set_xlim(epochs.min() - 0.5, epochs.max() + 0.5)
        axes.xaxis.set_major_locator(whole_numbers())
        axes.grid(color="0.9")
        words.append(
            f"{name}: {values[0]:.4g} to {values[-1]:.4g} in "
            f"{len(values)} epochs."
        )
    for axes in panels[len(curves) :]:
        axes.set_axis_off()
    figure.set_label(f"Training {column} by epoch. " + " ".join(words))
    return laid_out(figure)


def dino_diagnostics(curve: pd.DataFrame, ln_k: float) -> Figure:
    """Plot DINO's diagnostics by epoch, in four panels.

    Arguments
    ---------
    curve : pandas.DataFrame
        ``train_curve.csv`` of train_dino.
    ln_k : float
        ln K, where a uniform collapse would be.

    Returns
    -------
    Figure

    Example
    -------
    >>> row = {"epoch": 1, "loss": 4.0, "entropy": 3.0, "kl": 1.0}
    >>> row |= {"information": 2.0, "prototypes": 50.0, "center_norm": 1.0}
    >>> row |= {"spread": 0.9, "effective_rank": 30.0}
    >>> dino_diagnostics(pd.DataFrame([row]), ln_k=7.6).get_label()
    'DINO after epoch 1: loss 4 and entropy 3 nats, ln K 7.6; rank 30.'
    """
    figure = _pairs_by_epoch(
        curve,
        (
            ("loss", "entropy", "nats"),
            ("kl", "information", "nats"),
            ("effective_rank", "prototypes", "in use"),
            ("spread", "center_norm", ""),
        ),
    )
    axes = figure.axes[0]
    axes.axhline(ln_k, color="0.5", linestyle=":", label="ln K")
    axes.legend(frameon=False, fontsize=9)
    last = curve.iloc[-1]
    figure.set_label(
        f"DINO after epoch {last.epoch:.0f}: loss {last.loss:.3g} and entropy "
        f"{last.entropy:.3g} nats, ln K {ln_k:.3g}; rank "
        f"{last.effective_rank:.3g}."
    )
    return laid_out(figure)


def contrastive_diagnostics(curve: pd.DataFrame) -> Figure:
    """Plot the diagnostics of a contrastive training by epoch.

    Arguments
    ---------
    curve : pandas.DataFrame
        ``train_curve.csv`` of train_contrastive:
        `hypersphere.ContrastiveDiagnostics` by epoch.

    Returns
    -------
    Figure

    Example
    -------
    >>> row = {"epoch": 1, "loss": 4.0, "alignment": 0.5, "uniformity": -3.0}
    >>> row |= {"spread": 0.9, "effective_rank": 30.0, "lr": 0.001}
    >>> contrastive_diagnostics(pd.DataFrame([row])).get_label()
    'After epoch 1: loss 4 nats, alignment 0.5, uniformity -3, rank 30.'
    """
    figure = _pairs_by_epoch(
        curve,
        (
            ("loss", "nats"),
            ("alignment", "uniformity", ""),
            ("effective_rank", "in use"),
            ("spread", ""),
        ),
    )
    last = curve.iloc[-1]
    figure.set_label(
        f"After epoch {last.epoch:.0f}: loss {last.loss:.3g} nats, alignment "
        f"{last.alignment:.3g}, uniformity {last.uniformity:.3g}, rank "
        f"{last.effective_rank:.3g}."
    )
    return laid_out(figure)


def _pairs_by_epoch(
    curve: pd.DataFrame, panels: Sequence[tuple[str, ...]]
) -> Figure:
    """Plot columns by epoch in four panels; a title's last word is its unit."""
    figure = Figure(figsize=(8, 5))
    grid = figure.subplots(2, 2, sharex=True).flat
    for axes, (*columns, unit) in zip(grid, panels, strict=True):
        for name, colour in zip(columns, COLOURS, strict=False):
            label = name.replace("_", " ")
            axes.plot(curve.epoch, curve[name], ".-", color=colour, label=label)
        axes.set_ylabel(unit)
        axes.grid(color="0.9")
        axes.xaxis.set_major_locator(whole_numbers())
        axes.legend(frameon=False, fontsize=9)
    for axes in figure.axes[2:]:
        axes.set_xlabel("epoch")
    return figure


def layer_choice(table: pd.DataFrame) -> Figure:
    """Plot the label-free criteria of each layer of a pre-trained encoder.

    Arguments
    ---------
    table : pandas.DataFrame
        ``layers.csv`` of embed_pretrained: ``layer``, ``eer``, ``eer_clean``
        and ``agreement``.

    Returns
    -------
    Figure

    Raises
    ------
    InputError
        There is no layer.

    Example
    -------
    >>> row = {"layer": 0, "eer": 21.0, "eer_clean": 9.0, "agreement": 0.05}
    >>> layer_choice(pd.DataFrame([row])).get_label()
    'Layer 0 has the lowest error rate of augmented crop pairs: 21.0 %.'
    """
    need(table, "layer of an encoder")
    best = table.loc[table.eer.idxmin()]
    figure = Figure(figsize=(6.4, 3.2))
    errors, agreement = figure.subplots(1, 2)
    for key, shade, label in (
        ("eer", "black", "augmented"),
        ("eer_clean", "0.6", "clean"),
    ):
        errors.plot(table.layer, table[key], ".-", color=shade, label=label)
    errors.plot(best.layer, best.eer, "o", mfc="none", color="black")
    errors.set_ylabel("EER of crop pairs (%)")
    agreement.plot(table.layer, table.agreement, ".-", color="black")
    agreement.set_ylabel("agreement of clusterings (AMI)")
    for axes in (errors, agreement):
        axes.set_xlabel("layer")
        axes.xaxis.set_major_locator(whole_numbers())
        axes.grid(color="0.9")
    outer_legend(errors)
    figure.set_label(
        f"Layer {best.layer:.0f} has the lowest error rate of augmented crop "
        f"pairs: {best.eer:.1f} %."
    )
    return laid_out(figure)


def layer_distances(table: pd.DataFrame) -> Figure:
    """Plot the distance of each encoder layer, one line for each epoch.

    The figure of Miara et al., Interspeech 2024, on what a loss changes of
    WavLM.

    Arguments
    ---------
    table : pandas.DataFrame
        ``layer_distances.csv``: ``epoch``, ``front``, ``layer_1``, ...; of
        more than six epochs, the first, the last and others evenly between.

    Returns
    -------
    Figure

    Raises
    ------
    InputError
        There is no epoch.

    Example
    -------
    >>> row = {"epoch": 1, "front": 0.0, "layer_1": 0.02, "layer_2": 0.01}
    >>> layer_distances(pd.DataFrame([row])).get_label()
    'Distance from the first weights after epoch 1: 2.00 % in layer_1 at most.'
    """
    need(table, "epoch of distances")
    layers = [str(name) for name in table.columns if name != "epoch"]
    shown = np.linspace(0, len(table) - 1, min(len(table), 6)).astype(int)
    figure = Figure(figsize=(max(4.2, 0.5 * len(layers) + 1.5), 3.4))
    axes = figure.subplots()
    for number, row in enumerate(shown):
        values = 100 * table[layers].iloc[row].to_numpy(float)
        shade = str(0.8 * (1 - (number + 1) / len(shown)))
        epoch = f"epoch {table.epoch.iloc[row]:.0f}"
        axes.plot(range(len(layers)), values, ".-", color=shade, label=epoch)
    names = [name.removeprefix("layer_") for name in layers]
    axes.set_xticks(range(len(layers)), names)
    axes.set_xlabel("transformer layer")
    axes.set_ylabel("distance (% of its norm)")
    axes.grid(color="0.9")
    outer_legend(axes)
    most = layers[int(values.argmax())]
    figure.set_label(
        f"Distance from the first weights after {epoch}: {values.max():.2f} % "
        f"in {most} at most."
    )
    return laid_out(figure)


def gate_fits(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Plot log losses of epochs, their two Gaussians and the threshold.

    Arguments
    ---------
    history : sequence of mapping
        `loss_gate.LossGate.history`, or ``gate.json``: one entry an epoch. Of
        more than twelve, the first, the last and others evenly between.

    Returns
    -------
    Figure

    Raises
    ------
    InputError
        There is no epoch.

    Example
    -------
    >>> entry = {"epoch": 1, "counts": [3, 1], "edges": [-2.0, 2.0],
    ...          "mixture": None, "threshold": None, "is_new": False,
    ...          "scale": "log loss"}
    >>> gate_fits([entry]).get_label()
    'Histograms of log loss. Thresholds by epoch: 1 none.'
    """
    need(history, "epoch of a gate")
    n_shown = min(len(history), _MOST_PANELS)
    shown = np.linspace(0, len(history) - 1, n_shown).round().astype(int)
    n_rows = -(-n_shown // _CURVES_A_ROW)
    figure = Figure(figsize=(9, 2.4 * n_rows + 0.6))
    panels = list(figure.subplots(n_rows, _CURVES_A_ROW, squeeze=False).flat)
    ends = [entry["edges"] for entry in history]
    for axes, place in zip(panels, shown, strict=False):
        _gate_panel(axes, history[place])
        axes.set_xlim(min(e[0] for e in ends), max(e[1] for e in ends))
    for axes in panels[n_shown:]:
        axes.set_axis_off()
    for axes in panels[:n_shown][-_CURVES_A_ROW:]:
        axes.set_xlabel(history[0]["scale"])
    words = ", ".join(
        f"{entry['epoch']} {_threshold_in_words(entry)}" for entry in history
    )
    figure.set_label(
        f"Histograms of {history[0]['scale']}. Thresholds by epoch: {words}."
    )
    return laid_out(figure)


def _gate_panel(axes: Axes, entry: Mapping[str, Any]) -> None:
    low, high = entry["edges"]
    edges = np.linspace(low, high, len(entry["counts"]) + 1)
    axes.hist(
        edges[:-1],
        edges.tolist(),
        weights=entry["counts"],
        density=sum(entry["counts"]) > 0,
        color="0.8",
    )
    if entry["mixture"]:
        x = np.linspace(edges[0], edges[-1], 300)
        pair = Mixture(**entry["mixture"]).densities(x)
        for values, colour, dash in zip(pair, COLOURS, DASHES, strict=False):
            axes.plot(x, values, color=colour, linestyle=dash)
    if entry["threshold"] is not None:
        # Dotted: the threshold of an earlier epoch, since this one gave none.
        dash = "-" if entry["is_new"] else ":"
        axes.axvline(entry["threshold"], color="black", linestyle=dash)
    axes.set_title(
        f"epoch {entry['epoch']}: {_threshold_in_words(entry)}", fontsize=10
    )
    axes.set_yticks([])


def _threshold_in_words(entry: Mapping[str, Any]) -> str:
    if entry["threshold"] is None:
        return "none"
    kept = "" if entry["is_new"] else " (kept)"
    return f"{entry['threshold']:.2f}{kept}"


def gate_shares(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Plot by epoch the threshold and the shares kept and corrected.

    Arguments
    ---------
    history : sequence of mapping
        As `gate_fits`.

    Returns
    -------
    Figure

    Raises
    ------
    InputError
        There is no epoch.

    Example
    -------
    >>> entry = {"epoch": 1, "mixture": None, "threshold": 0.5, "kept": 1.0,
    ...          "scale": "log loss"}
    >>> gate_shares([entry, {**entry, "epoch": 2, "kept": 0.8}]).get_label()
    'Threshold 0.50 to 0.50; kept 100.0 % to 80.0 % in 2 epochs.'
    """
    need(history, "epoch of a gate")
    figure = Figure(figsize=(8, 3.2))
    left, right = figure.subplots(1, 2, sharex=True)
    table = pd.DataFrame(list(history))
    thresholds = table.threshold.astype(float)
    left.plot(table.epoch, thresholds, "k.-", label="threshold")
    for place, name in enumerate(("lower mean", "upper mean")):
        means = [m["means"][place] if m else np.nan for m in table.mixture]
        left.plot(
            table.epoch,
            means,
            color=COLOURS[place],
            linestyle=DASHES[place],
            label=name,
        )
    left.set_ylabel(table["scale"][0])
    for name, colour in zip(("kept", "corrected"), COLOURS, strict=False):
        if name in table:
            right.plot(
                table.epoch, 100 * table[name], ".-", color=colour, label=name
            )
    right.set_ylabel("utterances (%)")
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(whole_numbers())
        axes.grid(color="0.9")
        axes.legend(frameon=False, fontsize=9)
    known = [f"{t:.2f}" for t in thresholds.dropna()] or ["none"]
    kept = [f"{100 * share:.1f} %" for share in table.kept]
    figure.set_label(
        f"Threshold {known[0]} to {known[-1]}; kept {kept[0]} to {kept[-1]} "
        f"in {len(table)} epochs."
    )
    return laid_out(figure)


def _series(name: str, curve: Any, column: str) -> tuple[NDArray, NDArray]:
    if not isinstance(curve, pd.DataFrame):
        curve = pd.DataFrame(curve, columns=["epoch", column])
    for wanted in ("epoch", column):
        if wanted not in curve.columns:
            raise InputError(
                f"the training curve of {name} has no column {wanted!r}; it "
                f"has {list(curve.columns)}; give a curve that has the column"
            )
    need(curve, f"epoch in {name}")
    return curve["epoch"].to_numpy(), curve[column].to_numpy()
