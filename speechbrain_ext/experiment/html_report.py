"""Documents from templates; the report of a run as one HTML file.

The report has tables, caveats and plots (PNG inside the file), inline style, no
script and no address: it can be mailed, printed and read without a network.
"""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jinja2
from matplotlib.figure import Figure

from speechbrain_ext.utils.files import PathLike, write_text

_DPI = 160


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("speechbrain_ext.experiment"),
        # What goes into HTML is escaped; Markdown is written as it is.
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def render(template: str, **values: Any) -> str:
    """Fill a template with values.

    Arguments
    ---------
    template : str
        Name of its file.
    **values : Any
        What it refers to; all of it must be given.

    Returns
    -------
    str

    Example
    -------
    >>> facts = {"paragraphs": [], "caveats": [], "tables": {}, "sections": []}
    >>> "<h1>A &amp; B</h1>" in render("report.html", title="A & B", **facts)
    True
    """
    return _environment().get_template(template).render(**values)


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
