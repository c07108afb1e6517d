"""Plots of clusters: sizes, their number, churn, maps of embeddings."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib
import matplotlib.ticker
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from speechbrain_ext.utils.plotting import (
    COLOURS,
    DASHES,
    MARKERS,
    TITLE,
    blank,
    laid_out,
    need,
    outer_legend,
    panels,
    plain_number,
    whole_numbers,
)

_COMPONENTS = 50
_PERPLEXITY = 30.0


def embedding_map(points: ArrayLike, names: Mapping[str, ArrayLike]) -> Figure:
    """Plot embeddings in 2-D; each panel colours them by other names.

    Arguments
    ---------
    points : array
        Positions of N utterances [N, 2], as `projection.project` gives them.
    names : mapping of str to array
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
    need(names, "panel")
    positions = np.asarray(points, dtype=float)
    figure = blank(3.0 if len(names) > 1 else 4.6)
    row = figure.subplots(1, len(names), squeeze=False)[0]
    words = []
    for axes, (title, own) in zip(row, names.items(), strict=True):
        kinds, number = np.unique(np.asarray(own), return_inverse=True)
        for kind in range(len(kinds)):
            chosen = positions[number == kind]
            axes.scatter(
                chosen[:, 0],
                chosen[:, 1],
                s=9,
                color=COLOURS[kind % len(COLOURS)],
                marker=MARKERS[kind // len(COLOURS) % len(MARKERS)],
                linewidths=0,
                alpha=0.8,
            )
        axes.set_title(f"by {title} ({len(kinds)})")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_aspect("equal", adjustable="datalim")
        words.append(f"By {title}: {len(kinds)}.")
    figure.set_label(f"Map of {len(positions)} utterances. " + " ".join(words))
    return laid_out(figure)


def cluster_sizes(sizes_by_round: Mapping[str, ArrayLike]) -> Figure:
    """Plot the size of each pseudo-speaker, largest first.

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
    need(sizes_by_round, "clustering")
    figure = blank(3.6)
    axes = figure.subplots()
    words = []
    for number, (name, values) in enumerate(sizes_by_round.items()):
        sizes = np.sort(np.asarray(values))[::-1]
        need(sizes, f"cluster in {name}")
        axes.plot(
            np.arange(1, len(sizes) + 1),
            sizes,
            color=COLOURS[number % len(COLOURS)],
            linestyle=DASHES[number % len(DASHES)],
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
    axes.yaxis.set_major_formatter(
        matplotlib.ticker.FuncFormatter(plain_number)
    )
    axes.yaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    axes.xaxis.set_major_locator(whole_numbers())
    axes.set_xlabel("cluster, by size")
    axes.set_ylabel("utterances (log scale)")
    axes.grid(color="0.9")
    outer_legend(axes)
    figure.set_label("Cluster sizes. " + " ".join(words))
    return laid_out(figure)


def cluster_number(
    numbers: ArrayLike,
    curves: Mapping[str, ArrayLike],
    answers: Mapping[str, int | None],
    chosen: int,
) -> Figure:
    """Plot label-free criteria by number of clusters, one panel each.

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
    need(curves, "criterion")
    candidates = np.asarray(numbers)
    figure, grid = panels(len(curves))
    words = []
    for axes, (name, values) in zip(grid, curves.items(), strict=True):
        axes.plot(candidates, np.asarray(values), ".-", color=COLOURS[0])
        axes.axvline(chosen, color="0.3", linewidth=1)
        answer = answers.get(name)
        if answer is not None:
            axes.axvline(answer, color=COLOURS[1], linestyle="--")
        found = "no answer" if answer is None else f"{answer:,}"
        axes.set_title(f"{name}: {found}")
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 3)))
        axes.xaxis.set_major_formatter(
            matplotlib.ticker.FuncFormatter(plain_number)
        )
        axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
        axes.grid(color="0.9")
        words.append(f"{name}: {found}.")
    figure.supxlabel(f"clusters (line: {chosen:,}, taken)", fontsize=TITLE)
    figure.set_label(
        f"Criteria for {candidates[0]:,} to {candidates[-1]:,} clusters. "
        f"{chosen:,} were taken. {' '.join(words)}"
    )
    return laid_out(figure)


def churn_by_round(
    churns: Mapping[str, float], chosen: str | None = None
) -> Figure:
    """Plot the share of utterances that changed cluster, by round.

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
    need(churns, "round")
    names, values = list(churns), 100 * np.array(list(churns.values()))
    figure = blank(3.0)
    axes = figure.subplots()
    axes.plot(names, values, "o-", color=COLOURS[0], label="churn")
    if chosen in names:
        at = names.index(chosen)
        spot = ([at], [values[at]])
        axes.scatter(*spot, s=110, marker="D", color=COLOURS[1], label="chosen")
    axes.set_ylim(0, 1.15 * max(values.max(), 1))
    axes.set_ylabel("moved to another cluster (%), low")
    axes.grid(color="0.9")
    outer_legend(axes)
    words = " ".join(
        f"{name}: {value:.1f}."
        for name, value in zip(names, values, strict=True)
    )
    named = f" Chosen: {chosen}." if chosen in names else ""
    figure.set_label(f"Churn in percent. {words}{named}")
    return laid_out(figure)


def project(vectors: NDArray, seed: int = 0) -> NDArray:
    """Project embeddings to two dimensions: t-SNE of principal components.

    van der Maaten and Hinton, "Visualizing data using t-SNE", JMLR 2008.
    Near points are alike; distances between groups and the sizes of groups
    mean nothing. For some thousands of rows at most.

    Arguments
    ---------
    vectors : numpy.ndarray
        One unit vector an utterance [N, D], N at least 4.
    seed : int
        Seed of both steps.

    Returns
    -------
    numpy.ndarray
        [N, 2], float32.

    Example
    -------
    >>> project(np.random.default_rng(0).normal(size=(12, 5))).shape
    (12, 2)
    """
    n_rows, size = vectors.shape
    n_components = min(_COMPONENTS, n_rows, size)
    pca = PCA(n_components, random_state=seed)
    perplexity = min(_PERPLEXITY, (n_rows - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init="pca", random_state=seed)
    return tsne.fit_transform(pca.fit_transform(vectors)).astype(np.float32)
