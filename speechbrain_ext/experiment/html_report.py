"""Report of a run as one self-contained HTML file.

Tables, caveats and plots (PNG inside the file), inline style, no script and no
address: it can be mailed, printed and read without a network.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from speechbrain_ext.experiment.templating import render
from speechbrain_ext.utils.files import PathLike, write_text

_DPI = 160


class Section(NamedTuple):
    """A plot with its heading and caption.

    The figure's label (``Figure.get_label``) is its alternative text, the
    heading where it has none.
    """

    heading: str
    caption: str
    figure: Figure

    @property
    def words(self) -> str:
        """Text that describes the plot to readers who cannot see it."""
        return str(self.figure.get_label()) or self.heading

    @property
    def address(self) -> str:
        """Plot as a ``data:`` address."""
        stream = io.BytesIO()
        self.figure.savefig(
            stream, format="png", dpi=_DPI, metadata={"Software": None}
        )
        content = base64.b64encode(stream.getvalue()).decode("ascii")
        return f"data:image/png;base64,{content}"


def write_report(
    path: PathLike,
    title: str,
    introduction: str,
    tables: Mapping[str, Sequence[Mapping[str, str]]],
    caveats: Iterable[str] = (),
    sections: Iterable[Section] = (),
) -> None:
    """Write a self-contained HTML page, atomically.

    Arguments
    ---------
    path : str or os.PathLike
        The file, usually ``report.html``.
    title : str
        Heading of the page.
    introduction : str
        Text below it; an empty line begins a new paragraph.
    tables : mapping of str to sequence of mapping of str to str
        Caption to rows; the first row names the columns, its first column
        heads each row (`speechbrain_ext.verification.results.tables`).
    caveats : iterable of str
        What a reader must know before the numbers; repeats are dropped.
    sections : iterable of Section
        Plots.

    Example
    -------
    >>> path = getfixture("tmp_path") / "report.html"
    >>> rows = [{"system": "DINO <1>", "EER %": "20.00"}]
    >>> write_report(path, "A run", "Toy data.", {"toy, dev": rows})
    >>> "DINO &lt;1&gt;" in path.read_text()
    True
    """
    parts = [part.strip() for part in introduction.split("\n\n")]
    text = render(
        "report.html",
        title=title,
        paragraphs=[part for part in parts if part],
        caveats=[caveat for caveat in dict.fromkeys(caveats) if caveat],
        tables=tables,
        sections=list(sections),
    )
    write_text(path, text)
