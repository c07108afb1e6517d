"""Style of all plots, and functions that write them.

Plots are made without pyplot's global state; each has a label
(``Figure.get_label``), a sentence that says in words what it shows: the
alternative text of a page.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any, cast

import matplotlib
import matplotlib.ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike, atomic_path
from speechbrain_ext.utils.templates import printable

DPI = 160
# Okabe and Ito's palette without yellow: safe for colour-blind readers.
COLOURS = "#0072B2 #D55E00 #009E73 #CC79A7 #E69F00 #56B4E9 #000000".split()
DASHES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))
MARKERS = "osD^vPX"
# Inches of every plot: shown on a telephone its text can still be read.
WIDTH = 5.6
SMALL, TITLE = 8, 9  # points of text


def blank(height: float) -> Figure:
    """Make an empty figure of the width that all plots have.

    Example
    -------
    >>> blank(3.0).get_size_inches().tolist()
    [5.6, 3.0]
    """
    return Figure(figsize=(WIDTH, height))


def panels(
    n_panels: int,
    n_columns: int = 2,
    height: float = 2.0,
    sharex: bool = False,
) -> tuple[Figure, list[Axes]]:
    """Make a figure with panels in rows; those left over are not drawn.

    Arguments
    ---------
    n_panels : int
        Panels to draw in.
    n_columns : int
        Panels a row.
    height : float
        Inches a row.
    **shared : bool
        ``sharex`` and ``sharey`` of `matplotlib.figure.Figure.subplots`.

    Returns
    -------
    Figure
    list of Axes
        As many as asked for.

    Example
    -------
    >>> len(panels(3)[0].axes), len(panels(3)[1])
    (4, 3)
    """
    n_rows = -(-n_panels // n_columns)
    figure = blank(height * n_rows + 0.3)
    grid = figure.subplots(n_rows, n_columns, squeeze=False, sharex=sharex)
    for axes in grid.flat[n_panels:]:
        axes.set_axis_off()
    return figure, list(grid.flat[:n_panels])


def save_png(figure: Figure, path: PathLike) -> None:
    """Write a plot as PNG, atomically; the same plot gives the same bytes."""
    with atomic_path(path) as part:
        figure.savefig(part, format="png", dpi=DPI, metadata={"Software": None})


def save_figure(figure: Figure, folder: PathLike, stem: str) -> list[str]:
    """Write a plot as PNG and as SVG; return the names of the files.

    Example
    -------
    >>> save_figure(Figure(), getfixture("tmp_path"), "empty")
    ['empty.png', 'empty.svg']
    """
    names = [f"{stem}.png", f"{stem}.svg"]
    save_png(figure, Path(folder) / names[0])
    # Without date and random names, the same plot gives the same bytes.
    with matplotlib.rc_context({"svg.hashsalt": stem}):
        with atomic_path(Path(folder) / names[1]) as part:
            figure.savefig(part, format="svg", metadata={"Date": None})
    return names


def outer_legend(axes: Axes) -> None:
    """Put the legend below the axes, where it covers no data."""
    handles, labels = axes.get_legend_handles_labels()
    wide = max(map(len, labels)) > 34
    figure = cast(Figure, axes.figure)
    if wide:
        # Long names, as of cited systems, need a line each.
        figure.set_figheight(figure.get_figheight() + 0.18 * len(labels))
    figure.legend(
        handles,
        [wrapped(label, 70) for label in labels],
        loc="outside lower center",
        ncols=1 if wide else min(len(labels), 2),
        frameon=False,
        fontsize=SMALL,
    )


def laid_out(figure: Figure) -> Figure:
    """Give a plot its layout and style; names in it are drawn as they are."""
    for text in figure.findobj(Text):
        # A user's name may hold a dollar, or bytes that are no UTF-8.
        text.set_parse_math(False)
        text.set_text(printable(text.get_text()))
    figure.set_layout_engine("constrained", w_pad=0.06, h_pad=0.06)
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=SMALL)
        axes.xaxis.label.set_fontsize(TITLE)
        axes.yaxis.label.set_fontsize(TITLE)
        axes.title.set_fontsize(TITLE)
    return figure


def need(items: Any, what: str) -> None:
    if len(items) == 0:
        raise InputError(f"there is no {what} to draw; give at least one")


def wrapped(text: str, width: int) -> str:
    return textwrap.fill(text, width, break_on_hyphens=False)


def plain_number(value: float, position: int) -> str:
    return f"{value:,g}"


def whole_numbers() -> matplotlib.ticker.MaxNLocator:
    return matplotlib.ticker.MaxNLocator(nbins=6, integer=True, min_n_ticks=1)
