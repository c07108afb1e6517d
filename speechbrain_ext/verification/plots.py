"""Plots of scores: EER by round, DET curves, histograms, calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from speechbrain_ext.utils.plotting import (
    COLOURS,
    DASHES,
    MARKERS,
    SMALL,
    blank,
    laid_out,
    need,
    outer_legend,
    panels,
    wrapped,
)
from speechbrain_ext.verification.cllr import cllr, min_cllr
from speechbrain_ext.verification.metrics import (
    equal_error_rate,
    error_rates,
    hull_vertices,
    thin,
)

_DET_TICKS = (
    0.0001, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 0.9
)  # fmt: skip
_DET_POINTS = 1000
_BINS = 60


def eer_by_round(
    results: Sequence[Any],
    yardsticks: Sequence[Any] = (),
    supervised: Any | None = None,
) -> Figure:
    """Plot the EER of each system, from above, with intervals.

    Arguments
    ---------
    results : sequence of speechbrain_ext.verification.Result
        One a system, trial list and back-end; each list and back-end is a
        line.
    yardsticks : sequence of speechbrain_ext.verification.results.Yardstick
        Vertical lines; one that is over 1.5 times the highest result is
        left out, for it would flatten the rest.
    supervised : speechbrain_ext.verification.Result, optional
        The same system with true labels, a reference line with its interval.

    Returns
    -------
    Figure

    Raises
    ------
    InputError
        There is no result.

    Example
    -------
    >>> from speechbrain_ext.verification.results import Result
    >>> scores, labels = [0.1, 0.3, 0.2, 0.9], [0, 0, 1, 1]
    >>> result = Result.of_scores(
    ...     scores, labels, system="DINO", corpus="toy", trials="dev"
    ... )
    >>> eer_by_round([result]).get_label()
    'Equal error rate in percent. toy, dev: DINO 50.00.'
    """
    need(results, "result")
    systems = list(dict.fromkeys(result.system.name for result in results))
    lists: dict[str, list[Any]] = {}
    for result in results:
        trials = result.trials
        parts = (trials.corpus, trials.name, result.system.backend)
        lists.setdefault(", ".join(filter(None, parts)), []).append(result)
    height = max(0.55, 0.18 * len(lists)) * len(systems)
    figure = blank(height + 1.2 + 0.1 * len(lists))
    axes = figure.subplots()
    for number, (name, members) in enumerate(lists.items()):
        _errorbars(axes, number, name, members, systems, len(lists))
    top = max(result.eer.high for result in results)
    cited = [y for y in yardsticks if y.eer <= 1.5 * top]
    for number, yardstick in enumerate(cited):
        axes.axvline(
            yardstick.eer,
            color="0.45",
            linewidth=1.1,
            linestyle=DASHES[1:][number % 4],
            label=f"{yardstick.system} {yardstick.eer:.2f} (cited)",
            zorder=1,
        )
    ends = [top, *(y.eer for y in cited)]
    if supervised is not None:
        eer = supervised.eer
        label = f"{supervised.system.name} {eer.value:.2f}"
        axes.axvspan(eer.low, eer.high, color="0.93", zorder=0)
        axes.axvline(eer.value, color="black", linestyle="--", label=label)
        ends.append(eer.high)
    names = [wrapped(system, 22) for system in systems]
    axes.set_yticks(range(len(systems)), names)
    axes.set_ylim(len(systems) - 0.4, -0.6)
    axes.set_xlim(0, 1.1 * max(ends))
    axes.set_xlabel("← better    EER (%), with 95 % interval")
    axes.grid(color="0.93", axis="x")
    outer_legend(axes)
    figure.set_label("Equal error rate in percent. " + _in_words(lists))
    return laid_out(figure)


def _errorbars(
    axes: Axes,
    number: int,
    name: str,
    members: list[Any],
    systems: list[str],
    n_lists: int,
) -> None:
    # One below the other, so that the intervals of two lists do not overlap.
    offset = 0.7 * (number - (n_lists - 1) / 2) / n_lists
    y = np.array([systems.index(r.system.name) for r in members]) + offset
    eer = np.array([result.eer.value for result in members])
    low = np.array([result.eer.low for result in members])
    high = np.array([result.eer.high for result in members])
    axes.errorbar(
        eer,
        y,
        xerr=[eer - low, high - eer],
        color=COLOURS[number % len(COLOURS)],
        marker=MARKERS[number % len(MARKERS)],
        linestyle="none",
        capsize=3,
        markersize=4,
        label=name,
    )
    if n_lists > 1:
        return  # the numbers of several lists would overlap
    for position, value in zip(y, eer, strict=True):
        axes.annotate(
            f"{value:.2f}",
            (value, position),
            xytext=(0, 5),
            textcoords="offset points",
            ha="center",
            fontsize=SMALL,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )


def _in_words(lists: Mapping[str, list[Any]]) -> str:
    return " ".join(
        f"{name}: "
        + ", ".join(f"{r.system.name} {r.eer.value:.2f}" for r in members)
        + "."
        for name, members in lists.items()
    )


def det(
    systems: Mapping[str, tuple[ArrayLike, ArrayLike]],
    supervised: str | None = None,
) -> Figure:
    """Plot detection error trade-offs on probit axes (Martin et al., 1997).

    Arguments
    ---------
    systems : mapping of str to (scores [N], labels [N])
        One curve each; a dot marks its EER.
    supervised : str, optional
        Name of the one with true labels: a dashed line in black.

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
    need(systems, "system")
    figure = blank(5.6)
    axes = figure.subplots()
    eers = {name: equal_error_rate(*pair)[0] for name, pair in systems.items()}
    # A probit axis cannot show a rate of 0: it is drawn below half a trial.
    largest = max(_larger_class(labels) for _, labels in systems.values())
    high = 0.6 if max(eers.values()) < 0.3 else 0.9
    curves = {name: _det_points(*pair) for name, pair in systems.items()}
    reached = [_least_visible(*curve, high) for curve in curves.values()]
    below = [tick for tick in _DET_TICKS if tick <= min(0.1, *reached)]
    low = max(0.5 / largest, below[-1] if below else _DET_TICKS[0])
    for number, (name, curve) in enumerate(curves.items()):
        p_miss, p_fa = (np.clip(rate, low, 1 - low) for rate in curve)
        colour, dash = COLOURS[number % len(COLOURS)], DASHES[number % 5]
        if name == supervised:
            colour, dash = "black", "--"
        axes.plot(
            ndtri(p_fa),
            ndtri(p_miss),
            color=colour,
            linestyle=dash,
            label=f"{name}, EER {100 * eers[name]:.2f} %",
        )
        spot = ndtri(np.clip(eers[name], low, high))
        axes.plot(spot, spot, marker="o", color=colour, clip_on=False)
    _probit_axes(axes, low, high)
    outer_legend(axes)
    words = ", ".join(f"{name} {100 * eer:.2f} %" for name, eer in eers.items())
    figure.set_label(
        f"Miss rate over false-alarm rate. Equal error rates: {words}."
    )
    return laid_out(figure)


def _larger_class(labels: ArrayLike) -> int:
    n_target = int(np.count_nonzero(labels))
    return max(n_target, len(np.asarray(labels)) - n_target)


def _det_points(
    scores: ArrayLike, labels: ArrayLike
) -> tuple[NDArray, NDArray]:
    p_miss, p_fa, _ = error_rates(scores, labels)
    kept = thin(p_miss, p_fa, _DET_POINTS)
    # The first point accepts everything: no score is its threshold.
    p_miss = np.concatenate([[0], p_miss[kept]])
    return p_miss, np.concatenate([[1], p_fa[kept]])


def _least_visible(p_miss: NDArray, p_fa: NDArray, high: float) -> float:
    """Find a curve's smallest rate where the other is at most ``high``."""
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
    axes.set_xlabel("← better    false alarms (% of non-targets)")
    axes.set_ylabel("← better    misses (% of targets)")


def score_histograms(
    systems: Mapping[str, tuple[ArrayLike, ArrayLike]],
) -> Figure:
    """Plot histograms of target and non-target scores, and EER thresholds.

    Arguments
    ---------
    systems : mapping of str to (scores [N], labels [N])
        A panel each; labels are 1 for target, 0 for non-target.

    Returns
    -------
    Figure

    Raises
    ------
    InputError
        There is no system, or as `metrics.error_rates`.

    Example
    -------
    >>> scored = {"DINO": ([0.1, 0.3, 0.2, 0.9], [0, 0, 1, 1])}
    >>> score_histograms(scored).get_label()
    'Histograms of scores, with the score of equal error rates. DINO: 2 target
    and 2 non-target scores, 0.200.'
    """
    need(systems, "system")
    alone = len(systems) == 1
    figure, grid = panels(len(systems), 1 if alone else 2, 3.4 if alone else 2)
    words = []
    for axes, (name, trials) in zip(grid, systems.items(), strict=True):
        words.append(f"{name}: {_histogram(axes, *trials)}")
        if not alone:
            axes.set_title(wrapped(name, 30))
    outer_legend(grid[0])
    figure.set_label(
        "Histograms of scores, with the score of equal error rates. "
        + " ".join(words)
    )
    return laid_out(figure)


def _histogram(axes: Axes, scores: ArrayLike, labels: ArrayLike) -> str:
    """Draw the histogram of one system and describe it in words."""
    _, threshold = equal_error_rate(scores, labels)
    values = np.asarray(scores)
    is_target = np.asarray(labels) == 1
    edges = np.histogram_bin_edges(values, bins=_BINS)
    classes = (("non-targets", ~is_target, 1), ("targets", is_target, 0))
    for name, chosen, colour in classes:
        n = int(chosen.sum())
        axes.hist(
            values[chosen],
            edges.tolist(),
            weights=np.full(n, 100 / n),
            histtype="stepfilled",
            color=COLOURS[colour],
            alpha=0.45,
            edgecolor=COLOURS[colour],
            linestyle=DASHES[colour],
            label=f"{n:,} {name}",
        )
    axes.axvline(threshold, color="black", linewidth=1, label="EER threshold")
    axes.set_xlabel("score")
    axes.set_ylabel("trials in a bin (%)")
    n_target = int(is_target.sum())
    return (
        f"{n_target:,} target and {len(values) - n_target:,} non-target "
        f"scores, {threshold:.3f}."
    )


def bayes_errors(systems: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> Figure:
    """Plot the cost of trusting log-likelihood ratios, by prior of a target.

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
    need(systems, "system")
    figure = blank(4.2)
    axes = figure.subplots()
    words = []
    odds = np.linspace(-7, 3, 101)
    for number, (name, (llrs, labels)) in enumerate(systems.items()):
        colour = COLOURS[number % len(COLOURS)]
        actual, best = _costs_by_prior(llrs, labels, odds)
        axes.plot(odds, actual, color=colour, label=f"{name}, actual")
        axes.plot(odds, best, "--", color=colour, label=f"{name}, at best")
        lost = f"Cllr {cllr(llrs, labels):.3f}, at best "
        words.append(f"{name}: {lost}{min_cllr(llrs, labels):.3f}.")
    for prior in (0.01, 0.05):
        axes.axvline(np.log(prior / (1 - prior)), color="0.8", zorder=0)
    axes.axhline(1, color="0.5", linestyle=":", label="no decision at all")
    axes.set_xlim(odds[0], odds[-1])
    axes.set_ylim(0, 1.4)
    axes.set_xlabel("prior log-odds of a target (lines: 0.01 and 0.05)")
    axes.set_ylabel("normalised cost, lower is better")
    axes.grid(color="0.92")
    outer_legend(axes)
    figure.set_label("Normalised cost by prior. " + " ".join(words))
    return laid_out(figure)


def _costs_by_prior(
    llrs: ArrayLike, labels: ArrayLike, odds: NDArray
) -> tuple[NDArray, NDArray]:
    """Return actual and minimum normalised costs [P] at prior log-odds [P]."""
    p_miss, p_fa, thresholds = error_rates(llrs, labels)
    # The threshold is -odds: scores up to it are rejected.
    at = np.searchsorted(thresholds, -odds, side="right")
    miss, alarm = np.append(0, p_miss)[at], np.append(1, p_fa)[at]
    prior = 1 / (1 + np.exp(-odds))
    constant = np.minimum(prior, 1 - prior)
    # Where costs are linear in both rates a corner of the hull is best.
    ends = hull_vertices(llrs, labels)
    every = np.outer(prior, ends[0]) + np.outer(1 - prior, ends[1])
    actual = prior * miss + (1 - prior) * alarm
    return actual / constant, every.min(axis=1) / constant
