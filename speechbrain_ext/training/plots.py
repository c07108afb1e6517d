"""Plots of trainings: curves, diagnostics, layers, the gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter
from numpy.typing import NDArray

from speechbrain_ext.losses.two_gaussians import Mixture
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.plotting import (
    COLOURS,
    DASHES,
    SMALL,
    blank,
    laid_out,
    need,
    outer_legend,
    panels,
    plain_number,
    whole_numbers,
    wrapped,
)

_GATES_A_ROW = 3
_MOST_PANELS = 12
# Statistic to the lowest and highest values [E] of normal trainings.
Bands = Mapping[str, tuple[NDArray, NDArray]]


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
    figure, grid = panels(len(curves), min(len(curves), 2))
    words = []
    for axes, (name, curve) in zip(grid, curves.items(), strict=True):
        epochs, values = _series(name, curve, column)
        axes.plot(epochs, values, color=COLOURS[0], marker=".")
        axes.set_title(wrapped(name, 32))
        axes.set_xlabel("epoch")
        axes.set_ylabel(
            "loss (nats), low is good" if column == "loss" else column
        )
        axes.set_xlim(epochs.min() - 0.5, epochs.max() + 0.5)
        axes.xaxis.set_major_locator(whole_numbers())
        axes.grid(color="0.9")
        words.append(
            f"{name}: {values[0]:.4g} to {values[-1]:.4g} in "
            f"{len(values)} epochs."
        )
    figure.set_label(f"Training {column} by epoch. " + " ".join(words))
    return laid_out(figure)


def dino_diagnostics(
    curve: pd.DataFrame, ln_k: float, bands: Bands | None = None
) -> Figure:
    """Plot DINO's diagnostics by epoch, each scale in a panel of its own.

    Arguments
    ---------
    curve : pandas.DataFrame
        ``train_curve.csv`` of train_dino, of E epochs.
    ln_k : float
        ln K, where a uniform collapse would be.
    bands : mapping of str to (array [E], array [E]), optional
        Statistic to the lowest and highest values of normal trainings.

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
    figure = _panels_by_epoch(
        curve,
        {
            "nats; a collapse: at ln K": ["loss", "entropy"],
            "nats; information high": ["kl", "information"],
            "dimensions in use, high": ["effective_rank"],
            "in use (log scale), high": ["prototypes"],
            "spread, high is good": ["spread"],
            "norm of the centre": ["center_norm"],
        },
        bands or {},
    )
    prototypes = figure.axes[3].yaxis
    figure.axes[3].set_yscale("log")
    prototypes.set_major_formatter(FuncFormatter(plain_number))
    prototypes.set_minor_formatter(NullFormatter())
    axes = figure.axes[0]
    axes.axhline(ln_k, color="0.5", linestyle=":", label="ln K")
    axes.legend(frameon=False, fontsize=SMALL)
    last = curve.iloc[-1]
    figure.set_label(
        f"DINO after epoch {last.epoch:.0f}: loss {last.loss:.3g} and entropy "
        f"{last.entropy:.3g} nats, ln K {ln_k:.3g}; rank "
        f"{last.effective_rank:.3g}."
    )
    return laid_out(figure)


def contrastive_diagnostics(
    curve: pd.DataFrame, bands: Bands | None = None
) -> Figure:
    """Plot the diagnostics of a contrastive training by epoch.

    Arguments
    ---------
    curve : pandas.DataFrame
        ``train_curve.csv`` of train_contrastive, of E epochs:
        `hypersphere.ContrastiveDiagnostics` by epoch.
    bands : mapping of str to (array [E], array [E]), optional
        Statistic to the lowest and highest values of normal trainings.

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
    figure = _panels_by_epoch(
        curve,
        {
            "nats, low is good": ["loss"],
            "dimensions in use, high": ["effective_rank"],
            "low: views agree": ["alignment"],
            "low: spread evenly": ["uniformity"],
            "spread, high is good": ["spread"],
        },
        bands or {},
    )
    last = curve.iloc[-1]
    figure.set_label(
        f"After epoch {last.epoch:.0f}: loss {last.loss:.3g} nats, alignment "
        f"{last.alignment:.3g}, uniformity {last.uniformity:.3g}, rank "
        f"{last.effective_rank:.3g}."
    )
    return laid_out(figure)


def _panels_by_epoch(
    curve: pd.DataFrame, shown: Mapping[str, Sequence[str]], bands: Bands
) -> Figure:
    """Plot columns by epoch, a panel for each unit, on bands if known."""
    figure, grid = panels(len(shown), height=1.8)
    for axes, (unit, columns) in zip(grid, shown.items(), strict=True):
        for name, colour in zip(columns, COLOURS, strict=False):
            if name in bands:
                low, high = bands[name]
                axes.fill_between(
                    curve.epoch, low, high, color=colour, alpha=0.13, lw=0
                )
            label = name.replace("_", " ")
            axes.plot(curve.epoch, curve[name], ".-", color=colour, label=label)
        axes.set_ylabel(unit)
        axes.grid(color="0.9")
        axes.xaxis.set_major_locator(whole_numbers())
        axes.legend(frameon=False, fontsize=SMALL)
    for axes in grid[-2:]:
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
    figure, (errors, agreement) = panels(2, height=2.6)
    for key, shade, label in (
        ("eer", "black", "augmented"),
        ("eer_clean", "0.6", "clean"),
    ):
        errors.plot(table.layer, table[key], ".-", color=shade, label=label)
    errors.plot(best.layer, best.eer, "o", mfc="none", color="black")
    errors.set_ylabel("EER of crop pairs (%), low")
    agreement.plot(table.layer, table.agreement, ".-", color="black")
    agreement.set_ylabel("agreement (AMI), high")
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
    figure = blank(3.4)
    axes = figure.subplots()
    for number, row in enumerate(shown):
        values = 100 * table[layers].iloc[row].to_numpy(float)
        shade = str(0.8 * (1 - (number + 1) / len(shown)))
        epoch = f"epoch {table.epoch.iloc[row]:.0f}"
        axes.plot(range(len(layers)), values, ".-", color=shade, label=epoch)
    names = [name.removeprefix("layer_") for name in layers]
    step = -(-len(layers) // 13)  # more names would overlap
    axes.set_xticks(range(0, len(layers), step), names[::step])
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
    figure, grid = panels(n_shown, min(n_shown, _GATES_A_ROW), 1.6)
    ends = [entry["edges"] for entry in history]
    for axes, place in zip(grid, shown, strict=True):
        _gate_panel(axes, history[place])
        axes.set_xlim(min(e[0] for e in ends), max(e[1] for e in ends))
    for axes in grid[-_GATES_A_ROW:]:
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
    axes.set_title(f"epoch {entry['epoch']}: {_threshold_in_words(entry)}")
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
    figure, (left, right) = panels(2, height=2.6, sharex=True)
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
        axes.legend(frameon=False, fontsize=SMALL)
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
