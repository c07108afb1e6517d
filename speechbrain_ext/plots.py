"""Figures of a run: EER by round, DET, histograms, clusters, training.

Each function returns a ``Figure`` of its own, without pyplot's global state,
and labels it (``Figure.get_label``) with a sentence that says in words what
it shows: the alternative text of a page.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import matplotlib
import matplotlib.ticker
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from speechbrain_ext.cllr import cllr, min_cllr
from speechbrain_ext.files import InputError, PathLike, atomic_path
from speechbrain_ext.metrics import (
    equal_error_rate,
    error_rates,
    hull_vertices,
    thin,
)
from speechbrain_ext.mixture import Mixture

DPI = 160
# Okabe and Ito's palette less its yellow: told apart by colour-blind eyes.
_COLOURS = "#0072B2 #D55E00 #009E73 #CC79A7 #E69F00 #56B4E9 #000000".split()
_DASHES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))
_MARKERS = "osD^vPX"
_DET_TICKS = (
    0.0001, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 0.9
)  # fmt: skip
_DET_POINTS = 1000
_BINS = 60
_CURVES_A_ROW = 3
_MOST_PANELS = 12


def save_png(figure: Figure, path: PathLike) -> None:
    """Write a figure as PNG, atomically; same figure, same bytes."""
    with atomic_path(path) as part:
        figure.savefig(part, format="png", dpi=DPI, metadata={"Software": None})


def save_figure(figure: Figure, folder: PathLike, stem: str) -> list[str]:
    """Write a figure as PNG and as SVG; the names, for the receipt.

    Example
    -------
    >>> figure = score_histogram([0.1, 0.3, 0.2, 0.9], [0, 0, 1, 1])
    >>> save_figure(figure, getfixture("tmp_path"), "histogram")
    ['histogram.png', 'histogram.svg']
    """
    names = [f"{stem}.png", f"{stem}.svg"]
    save_png(figure, Path(folder) / names[0])
    # Neither the date nor a random name: same figure, same bytes.
    with matplotlib.rc_context({"svg.hashsalt": stem}):
        with atomic_path(Path(folder) / names[1]) as part:
            figure.savefig(part, format="svg", metadata={"Date": None})
    return names


def eer_by_round(
    results: Sequence[Any], yardsticks: Sequence[Any] = ()
) -> Figure:
    """EER of each system, in order, with intervals.

    Arguments
    ---------
    results : sequence of speechbrain_ext.results.Result
        One a system, trial list and back-end; each list and back-end is a
        line.
    yardsticks : sequence of speechbrain_ext.results.Yardstick
        Horizontal lines; one that is over 1.5 times the highest result is
        left out, for it would flatten the rest.

    Returns
    -------
    Figure

    Raises
    ------
    InputError
        There is no result.

    Example
    -------
    >>> from types import SimpleNamespace
    >>> result = SimpleNamespace(
    ...     system="DINO", corpus="toy", trials="dev", backend="raw",
    ...     eer_percent=20.0, eer_low=19.0, eer_high=21.5,
    ... )
    >>> eer_by_round([result]).get_label()
    'Equal error rate in percent. toy, dev, raw: DINO 20.00.'
    """
    _need(results, "result")
    systems = list(dict.fromkeys(result.system for result in results))
    lists: dict[str, list[Any]] = {}
    for result in results:
        parts = (result.corpus, result.trials, result.backend)
        lists.setdefault(", ".join(filter(None, parts)), []).append(result)
    figure = Figure(figsize=(max(6.4, 1.1 * len(systems) + 3), 4.2))
    axes = figure.subplots()
    for number, (name, members) in enumerate(lists.items()):
        _errorbars(axes, number, name, members, systems, len(lists))
    top = max(result.eer_high for result in results)
    cited = [y for y in yardsticks if y.eer_percent <= 1.5 * top]
    for number, yardstick in enumerate(cited):
        axes.axhline(
            yardstick.eer_percent,
            color="0.45",
            linewidth=1.1,
            linestyle=_DASHES[1:][number % 4],
            label=f"{yardstick.system} {yardstick.eer_percent:.2f} (cited)",
            zorder=1,
        )
    names = [_wrapped(system, 14) for system in systems]
    axes.set_xticks(range(len(systems)), names)
    axes.set_xlim(-0.5, len(systems) - 0.5)
    axes.set_ylim(0, 1.1 * max([top, *(y.eer_percent for y in cited)]))
    axes.set_ylabel("EER (%), with 95 % interval")
    _outer_legend(axes)
    figure.set_label("Equal error rate in percent. " + _in_words(lists))
    return _laid_out(figure)


def _errorbars(
    axes: Axes,
    number: int,
    name: str,
    members: list[Any],
    systems: list[str],
    n_lists: int,
) -> None:
    # Side by side, so that the intervals of two lists do not cover.
    offset = 0.12 * (number - (n_lists - 1) / 2)
    x = np.array([systems.index(result.system) for result in members]) + offset
    eer = np.array([result.eer_percent for result in members])
    low = np.array([result.eer_low for result in members])
    high = np.array([result.eer_high for result in members])
    axes.errorbar(
        x,
        eer,
        # The EER of a short list can lie outside its own percentiles.
        yerr=[np.maximum(eer - low, 0), np.maximum(high - eer, 0)],
        color=_COLOURS[number % len(_COLOURS)],
        marker=_MARKERS[number % len(_MARKERS)],
        linestyle=_DASHES[number % len(_DASHES)],
        capsize=4,
        label=name,
    )
    if n_lists > 1:
        return  # the figures of several lists would cover each other
    for position, value, end in zip(x, eer, high, strict=True):
        axes.annotate(
            f"{value:.2f}",
            (position, max(end, value)),
            xytext=(0, 4),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )


def _in_words(lists: Mapping[str, list[Any]]) -> str:
    return " ".join(
        f"{name}: "
        + ", ".join(f"{r.system} {r.eer_percent:.2f}" for r in members)
        + "."
        for name, members in lists.items()
    )


def det(systems: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> Figure:
    """Detection error trade-off on probit axes (Martin et al., 1997).

    Arguments
    ---------
    systems : mapping of str to (scores [N], labels [N])
        One curve each; a dot marks its EER.

    Returns
    -------
    Figure

    Raises
    ------
    InputError
        There is no system, or its scores have no error rates.

    Example
    -------
    >>> det({"DINO": ([0.1, 0.3, 0.2, 0.9], [0, 0, 1, 1])}).get_label()
    'Miss rate over false-alarm rate. Equal error rates: DINO 50.00 %.'
    """
    _need(systems, "system")
    figure = Figure(figsize=(6.0, 6.4))
    axes = figure.subplots()
    eers = {name: equal_error_rate(*pair)[0] for name, pair in systems.items()}
    # No probit shows a rate of 0: it lies on the edge, below half a trial.
    largest = max(_larger_class(labels) for _, labels in systems.values())
    high = 0.6 if max(eers.values()) < 0.3 else 0.9
    curves = {name: _det_points(*pair) for name, pair in systems.items()}
    reached = [_least_visible(*curve, high) for curve in curves.values()]
    below = [tick for tick in _DET_TICKS if tick <= min(0.1, *reached)]
    low = max(0.5 / largest, below[-1] if below else _DET_TICKS[0])
    for number, (name, curve) in enumerate(curves.items()):
        p_miss, p_fa = (np.clip(rate, low, 1 - low) for rate in curve)
        colour = _COLOURS[number % len(_COLOURS)]
        axes.plot(
            ndtri(p_fa),
            ndtri(p_miss),
            color=colour,
            linestyle=_DASHES[number % len(_DASHES)],
            label=f"{name}, EER {100 * eers[name]:.2f} %",
        )
        spot = ndtri(np.clip(eers[name], low, high))
        axes.plot(spot, spot, marker="o", color=colour, clip_on=False)
    _probit_axes(axes, low, high)
    _outer_legend(axes)
    words = ", ".join(f"{name} {100 * eer:.2f} %" for name, eer in eers.items())
    figure.set_label(
        f"Miss rate over false-alarm rate. Equal error rates: {words}."
    )
    return _laid_out(figure)


def _larger_class(labels: ArrayLike) -> int:
    n_target = int(np.count_nonzero(labels))
    return max(n_target, len(np.asarray(labels)) - n_target)


def _det_points(
    scores: ArrayLike, labels: ArrayLike
) -> tuple[NDArray, NDArray]:
    p_miss, p_fa, _ = error_rates(scores, labels)
    kept = thin(p_miss, p_fa, _DET_POINTS)
    # The curve starts by accepting everything, which no score does.
    p_miss = np.concatenate([[0], p_miss[kept]])
    return p_miss, np.concatenate([[1], p_fa[kept]])


def _least_visible(p_miss: NDArray, p_fa: NDArray, high: float) -> float:
    """The smallest rate of a curve while the other is not above ``high``."""
    at_left, at_right = p_fa[p_miss <= high], p_miss[p_fa <= high]
    return float(min(at_left.min(), at_right.min()))


def _probit_axes(axes: Axes, low: float, high: float) -> None:
    ticks = [tick for tick in _DET_TICKS if low <= tick <= high]
    names = [f"{100 * tick:g}" for tick in ticks]
    limits = ndtri([low, high])
    axes.set_xticks(ndtri(ticks), names)
    axes.set_yticks(ndtri(ticks), names)
    axes.set_xlim(limits)
    axes.set_ylim(limits)
    axes.axline(
        (limits[0], limits[0]), slope=1, color="0.7", linewidth=0.8, zorder=0
    )
    axes.set_aspect("equal")
    axes.grid(color="0.9")
    axes.set_xlabel("false alarms (% of non-targets)")
    axes.set_ylabel("misses (% of targets)")


def score_histogram(scores: ArrayLike, labels: ArrayLike) -> Figure:
    """Scores of target and non-target trials, and the EER threshold.

    Arguments
    ---------
    scores : array [N]
        One score a trial.
    labels : array [N]
        1 for target, 0 for non-target.

    Returns
    -------
    Figure

    Raises
    ------
    InputError
        As `speechbrain_ext.metrics.error_rates`.

    Example
    -------
    >>> score_histogram([0.1, 0.3, 0.2, 0.9], [0, 0, 1, 1]).get_label()
    'Histogram of 2 target and 2 non-target scores; the equal error rate is
    at score 0.200.'
    """
    _, threshold = equal_error_rate(scores, labels)
    values = np.asarray(scores)
    is_target = np.asarray(labels) == 1
    edges = np.histogram_bin_edges(values, bins=_BINS)
    figure = Figure(figsize=(6.4, 3.6))
    axes = figure.subplots()
    classes = (("non-targets", ~is_target, 1), ("targets", is_target, 0))
    for name, chosen, colour in classes:
        n = int(chosen.sum())
        axes.hist(
            values[chosen],
            edges.tolist(),
            weights=np.full(n, 100 / n),
            histtype="stepfilled",
            color=_COLOURS[colour],
            alpha=0.45,
            edgecolor=_COLOURS[colour],
            linestyle=_DASHES[colour],
            label=f"{n:,} {name}",
        )
    axes.axvline(threshold, color="black", linewidth=1, label="EER threshold")
    axes.set_xlabel("score")
    axes.set_ylabel("trials of the class in a bin (%)")
    _outer_legend(axes)
    n_target = int(is_target.sum())
    figure.set_label(
        f"Histogram of {n_target:,} target and {len(values) - n_target:,} "
        f"non-target scores; the equal error rate is at score {threshold:.3f}."
    )
    return _laid_out(figure)


def bayes_errors(systems: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> Figure:
    """Cost of trusting log-likelihood ratios, by the prior of a target.

    Normalised Bayes error rates (Brummer and de Villiers, "The BOSARIS
    toolkit", 2011): the actual cost of each system and, dashed, that of its
    best threshold at each prior. What lies between is lost by calibration.

    Arguments
    ---------
    systems : mapping of str to (log-likelihood ratios [N], labels [N])
        Two curves each.

    Returns
    -------
    Figure

    Raises
    ------
    InputError
        There is no system, or its scores have no error rates.

    Example
    -------
    >>> llrs = np.array([-2.0, 1.0, -0.5, 3.0])
    >>> bayes_errors({"DINO": (llrs, [0, 0, 1, 1])}).get_label()
    'Normalised cost by prior. DINO: Cllr 0.888, at best 0.500.'
    """
    _need(systems, "system")
    figure = Figure(figsize=(6.4, 4.4))
    axes = figure.subplots()
    words = []
    odds = np.linspace(-7, 3, 101)
    for number, (name, (llrs, labels)) in enumerate(systems.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        actual, best = _costs_by_prior(llrs, labels, odds)
        axes.plot(odds, actual, color=colour, label=f"{name}, actual")
        axes.plot(odds, best, "--", color=colour, label=f"{name}, at best")
        lost = f"Cllr {cllr(llrs, labels):.3f}, at best "
        words.append(f"{name}: {lost}{min_cllr(llrs, labels):.3f}.")
    for prior in (0.01, 0.05):
        axes.axvline(np.log(prior / (1 - prior)), color="0.8", zorder=0)
    axes.axhline(1, color="0.5", linestyle=":", label="says nothing")
    axes.set_xlim(odds[0], odds[-1])
    axes.set_ylim(0, 1.4)
    axes.set_xlabel("prior log-odds of a target (lines: 0.01 and 0.05)")
    axes.set_ylabel("normalised cost")
    axes.grid(color="0.92")
    _outer_legend(axes)
    figure.set_label("Normalised cost by prior. " + " ".join(words))
    return _laid_out(figure)


def _costs_by_prior(
    llrs: ArrayLike, labels: ArrayLike, odds: NDArray
) -> tuple[NDArray, NDArray]:
    """Actual and least cost [P] at some prior log-odds [P], normalised."""
    p_miss, p_fa, thresholds = error_rates(llrs, labels)
    # At a threshold of -odds: what is at most that is rejected.
    at = np.searchsorted(thresholds, -odds, side="right")
    miss, alarm = np.append(0, p_miss)[at], np.append(1, p_fa)[at]
    prior = 1 / (1 + np.exp(-odds))
    constant = np.minimum(prior, 1 - prior)
    # Where costs are linear in both rates a corner of the hull is best.
    ends = hull_vertices(llrs, labels)
    every = np.outer(prior, ends[0]) + np.outer(1 - prior, ends[1])
    actual = prior * miss + (1 - prior) * alarm
    return actual / constant, every.min(axis=1) / constant


def embedding_map(points: ArrayLike, panels: Mapping[str, ArrayLike]) -> Figure:
    """Embeddings in two dimensions, coloured in each panel by other names.

    Arguments
    ---------
    points : array
        Positions of N utterances [N, 2], as `projection.project` gives them.
    panels : mapping of str to array
        Title to a name of each utterance [N]: its cluster, its speaker.

    Returns
    -------
    Figure
        Names beyond the palette share colours, told apart by markers.

    Raises
    ------
    InputError
        There is no panel.

    Example
    -------
    >>> points = [[0, 0], [1, 1], [2, 0]]
    >>> embedding_map(points, {"cluster": ["a", "a", "b"]}).get_label()
    'Map of 3 utterances. By cluster: 2.'
    """
    _need(panels, "panel")
    positions = np.asarray(points, dtype=float)
    figure = Figure(figsize=(5 * len(panels), 5))
    row = figure.subplots(1, len(panels), squeeze=False)[0]
    words = []
    for axes, (title, names) in zip(row, panels.items(), strict=True):
        kinds, number = np.unique(np.asarray(names), return_inverse=True)
        for kind in range(len(kinds)):
            chosen = positions[number == kind]
            axes.scatter(
                chosen[:, 0],
                chosen[:, 1],
                s=14,
                color=_COLOURS[kind % len(_COLOURS)],
                marker=_MARKERS[kind // len(_COLOURS) % len(_MARKERS)],
                linewidths=0,
                alpha=0.8,
            )
        axes.set_title(f"by {title} ({len(kinds)})", fontsize=11)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_aspect("equal", adjustable="datalim")
        words.append(f"By {title}: {len(kinds)}.")
    figure.set_label(f"Map of {len(positions)} utterances. " + " ".join(words))
    return _laid_out(figure)


def cluster_sizes(sizes_by_round: Mapping[str, ArrayLike]) -> Figure:
    """Utterances a pseudo-speaker, from the largest to the smallest.

    Arguments
    ---------
    sizes_by_round : mapping of str to array [K]
        Sizes of the clusters, in any order, one curve each.

    Returns
    -------
    Figure

    Raises
    ------
    InputError
        There is no clustering, or one without a cluster.

    Example
    -------
    >>> cluster_sizes({"round 1": [3, 9, 1]}).get_label()
    'Cluster sizes. round 1: 3 clusters of 1 to 9 utterances, median 3.'
    """
    _need(sizes_by_round, "clustering")
    figure = Figure(figsize=(6.4, 3.8))
    axes = figure.subplots()
    words = []
    for number, (name, values) in enumerate(sizes_by_round.items()):
        sizes = np.sort(np.asarray(values))[::-1]
        _need(sizes, f"cluster in {name}")
        axes.plot(
            np.arange(1, len(sizes) + 1),
            sizes,
            color=_COLOURS[number % len(_COLOURS)],
            linestyle=_DASHES[number % len(_DASHES)],
            drawstyle="steps-mid",
            label=f"{name} ({len(sizes):,} clusters)",
        )
        words.append(
            f"{name}: {len(sizes):,} clusters of {sizes[-1]:,} to "
            f"{sizes[0]:,} utterances, median {np.median(sizes):g}."
        )
    axes.set_yscale("log")
    axes.set_ylim(0.8, 1.3 * max(np.max(v) for v in sizes_by_round.values()))
    axes.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(_plain))
    axes.yaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    axes.xaxis.set_major_locator(_whole_numbers())
    axes.set_xlabel("cluster, by size")
    axes.set_ylabel("utterances (log scale)")
    axes.grid(color="0.9")
    _outer_legend(axes)
    figure.set_label("Cluster sizes. " + " ".join(words))
    return _laid_out(figure)


def cluster_number(
    numbers: ArrayLike,
    curves: Mapping[str, ArrayLike],
    answers: Mapping[str, int | None],
    chosen: int,
) -> Figure:
    """Label-free criteria over the number of clusters, a panel each.

    Arguments
    ---------
    numbers : array [C]
        Candidates.
    curves : mapping of str to array [C]
        A criterion's values.
    answers : mapping of str to int or None
        The number that each criterion finds.
    chosen : int
        The number that was taken.

    Returns
    -------
    Figure

    Raises
    ------
    InputError
        There is no curve.

    Example
    -------
    >>> curve = {"silhouette": [0.1, 0.4, 0.2]}
    >>> cluster_number([2, 4, 8], curve, {"silhouette": 4}, 4).get_label()
    'Criteria for 2 to 8 clusters. 4 were taken. silhouette: 4.'
    """
    _need(curves, "criterion")
    candidates = np.asarray(numbers)
    figure = Figure(figsize=(8, 2.5 * -(-len(curves) // 2)))
    grid = figure.subplots(-(-len(curves) // 2), 2, squeeze=False)
    panels = list(grid.flat)
    words = []
    for axes, (name, values) in zip(panels, curves.items(), strict=False):
        axes.plot(candidates, np.asarray(values), ".-", color=_COLOURS[0])
        axes.axvline(chosen, color="0.3", linewidth=1)
        answer = answers.get(name)
        if answer is not None:
            axes.axvline(answer, color=_COLOURS[1], linestyle="--")
        found = "no answer" if answer is None else f"{answer:,}"
        axes.set_title(f"{name}: {found}", fontsize=10)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 3)))
        axes.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(_plain))
        axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
        axes.grid(color="0.9")
        words.append(f"{name}: {found}.")
    for axes in panels[len(curves) :]:
        axes.set_axis_off()
    figure.supxlabel(f"clusters (line: {chosen:,}, taken)", fontsize=10)
    figure.set_label(
        f"Criteria for {candidates[0]:,} to {candidates[-1]:,} clusters. "
        f"{chosen:,} were taken. {' '.join(words)}"
    )
    return _laid_out(figure)


def churn_by_round(
    churns: Mapping[str, float], chosen: str | None = None
) -> Figure:
    """Share of utterances that changed cluster, round by round.

    Arguments
    ---------
    churns : mapping of str to float
        Round to churn, in order.
    chosen : str, optional
        The round that the run names as its result.

    Returns
    -------
    Figure

    Raises
    ------
    InputError
        There is no round.

    Example
    -------
    >>> churn_by_round({"round1": 0.3, "round2": 0.25}, "round2").get_label()
    'Churn in percent. round1: 30.0. round2: 25.0. Chosen: round2.'
    """
    _need(churns, "round")
    names, values = list(churns), 100 * np.array(list(churns.values()))
    figure = Figure(figsize=(max(4.2, 1.1 * len(names) + 2), 3.2))
    axes = figure.subplots()
    axes.plot(names, values, "o-", color=_COLOURS[0], label="churn")
    if chosen in names:
        at = names.index(chosen)
        spot = ([at], [values[at]])
        axes.scatter(
            *spot, s=110, marker="D", color=_COLOURS[1], label="chosen"
        )
    axes.set_ylim(0, 1.15 * max(values.max(), 1))
    axes.set_ylabel("utterances that moved (%)")
    axes.grid(color="0.9")
    _outer_legend(axes)
    words = " ".join(
        f"{name}: {value:.1f}."
        for name, value in zip(names, values, strict=True)
    )
    named = f" Chosen: {chosen}." if chosen in names else ""
    figure.set_label(f"Churn in percent. {words}{named}")
    return _laid_out(figure)


def _whole_numbers() -> matplotlib.ticker.MaxNLocator:
    return matplotlib.ticker.MaxNLocator(nbins=6, integer=True, min_n_ticks=1)


def _wrapped(text: str, width: int) -> str:
    return textwrap.fill(text, width, break_on_hyphens=False)


def _plain(value: float, position: int) -> str:
    return f"{value:,g}"


def training_curves(
    curves: Mapping[str, pd.DataFrame | Sequence[tuple[float, float]]],
    column: str = "loss",
) -> Figure:
    """One panel a training, since losses of different stages do not compare.

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
    _need(curves, "training curve")
    n_rows = -(-len(curves) // _CURVES_A_ROW)
    n_columns = min(len(curves), _CURVES_A_ROW)
    figure = Figure(figsize=(max(3.1 * n_columns, 4.2), 2.6 * n_rows + 0.3))
    grid = figure.subplots(n_rows, n_columns, squeeze=False)
    panels = list(grid.flat)
    words = []
    for axes, (name, curve) in zip(panels, curves.items(), strict=False):
        epochs, values = _series(name, curve, column)
        axes.plot(epochs, values, color=_COLOURS[0], marker=".")
        axes.set_title(_wrapped(name, 32), fontsize=10)
        axes.set_xlabel("epoch")
        axes.set_ylabel("loss (nats)" if column == "loss" else column)
        axes.set_xlim(epochs.min() - 0.5, epochs.max() + 0.5)
        axes.xaxis.set_major_locator(_whole_numbers())
        axes.grid(color="0.9")
        words.append(
            f"{name}: {values[0]:.4g} to {values[-1]:.4g} in "
            f"{len(values)} epochs."
        )
    for axes in panels[len(curves) :]:
        axes.set_axis_off()
    figure.set_label(f"Training {column} by epoch. " + " ".join(words))
    return _laid_out(figure)


def dino_health(curve: pd.DataFrame, ln_k: float) -> Figure:
    """How DINO did, epoch by epoch: four panels that need no labels.

    Arguments
    ---------
    curve : pandas.DataFrame
        ``train_curve.csv`` of train_dino: `health.Health` by epoch.
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
    >>> dino_health(pd.DataFrame([row]), ln_k=7.6).get_label()
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
    return _laid_out(figure)


def contrastive_health(curve: pd.DataFrame) -> Figure:
    """How a contrastive training did, epoch by epoch, without labels.

    Arguments
    ---------
    curve : pandas.DataFrame
        ``train_curve.csv`` of train_contrastive:
        `hypersphere.ContrastiveHealth` by epoch.

    Returns
    -------
    Figure

    Example
    -------
    >>> row = {"epoch": 1, "loss": 4.0, "alignment": 0.5, "uniformity": -3.0}
    >>> row |= {"spread": 0.9, "effective_rank": 30.0, "lr": 0.001}
    >>> contrastive_health(pd.DataFrame([row])).get_label()
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
    return _laid_out(figure)


def _pairs_by_epoch(
    curve: pd.DataFrame, panels: Sequence[tuple[str, ...]]
) -> Figure:
    """Four panels of columns by epoch; the unit is a panel's last word."""
    figure = Figure(figsize=(8, 5))
    grid = figure.subplots(2, 2, sharex=True).flat
    for axes, (*columns, unit) in zip(grid, panels, strict=True):
        for name, colour in zip(columns, _COLOURS, strict=False):
            label = name.replace("_", " ")
            axes.plot(curve.epoch, curve[name], ".-", color=colour, label=label)
        axes.set_ylabel(unit)
        axes.grid(color="0.9")
        axes.xaxis.set_major_locator(_whole_numbers())
        axes.legend(frameon=False, fontsize=9)
    for axes in figure.axes[2:]:
        axes.set_xlabel("epoch")
    return figure


def layers_moved(table: pd.DataFrame) -> Figure:
    """How far each layer of an encoder has gone, a line an epoch.

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
    >>> layers_moved(pd.DataFrame([row])).get_label()
    'Distance from the first weights after epoch 1: 2.00 % in layer_1 at most.'
    """
    _need(table, "epoch of distances")
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
    _outer_legend(axes)
    most = layers[int(values.argmax())]
    figure.set_label(
        f"Distance from the first weights after {epoch}: {values.max():.2f} % "
        f"in {most} at most."
    )
    return _laid_out(figure)


def gate_fits(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Log losses of training epochs, their two Gaussians, the threshold.

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
    _need(history, "epoch of a gate")
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
    return _laid_out(figure)


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
        for values, colour, dash in zip(pair, _COLOURS, _DASHES, strict=False):
            axes.plot(x, values, color=colour, linestyle=dash)
    if entry["threshold"] is not None:
        # Dotted: of an earlier epoch, since this one gave none.
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
    """Threshold over epochs, and what was kept and corrected.

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
    _need(history, "epoch of a gate")
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
            color=_COLOURS[place],
            linestyle=_DASHES[place],
            label=name,
        )
    left.set_ylabel(table["scale"][0])
    for name, colour in zip(("kept", "corrected"), _COLOURS, strict=False):
        if name in table:
            right.plot(
                table.epoch, 100 * table[name], ".-", color=colour, label=name
            )
    right.set_ylabel("utterances (%)")
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(_whole_numbers())
        axes.grid(color="0.9")
        axes.legend(frameon=False, fontsize=9)
    known = [f"{t:.2f}" for t in thresholds.dropna()] or ["none"]
    kept = [f"{100 * share:.1f} %" for share in table.kept]
    figure.set_label(
        f"Threshold {known[0]} to {known[-1]}; kept {kept[0]} to {kept[-1]} "
        f"in {len(table)} epochs."
    )
    return _laid_out(figure)


def _series(name: str, curve: Any, column: str) -> tuple[NDArray, NDArray]:
    if not isinstance(curve, pd.DataFrame):
        curve = pd.DataFrame(curve, columns=["epoch", column])
    for wanted in ("epoch", column):
        if wanted not in curve.columns:
            raise InputError(
                f"the training curve of {name} has no column {wanted!r}; it "
                f"has {list(curve.columns)}"
            )
    _need(curve, f"epoch in {name}")
    return curve["epoch"].to_numpy(), curve[column].to_numpy()


def _outer_legend(axes: Axes) -> None:
    """A legend below the axes, where it covers no data."""
    handles, labels = axes.get_legend_handles_labels()
    wide = max(map(len, labels)) > 40
    figure = cast(Figure, axes.figure)
    if wide:
        # Long names, as of cited systems, need a line each.
        figure.set_figheight(figure.get_figheight() + 0.2 * len(labels))
    figure.legend(
        handles,
        [_wrapped(label, 80) for label in labels],
        loc="outside lower center",
        ncols=1 if wide else min(len(labels), 2),
        frameon=False,
        fontsize=9,
    )


def _laid_out(figure: Figure) -> Figure:
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1)
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _need(items: Any, what: str) -> None:
    if len(items) == 0:
        raise InputError(f"there is no {what} to draw; give at least one")
