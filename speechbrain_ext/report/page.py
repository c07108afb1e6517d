"""Page of a report: its blocks, and the file that they are written to.

Plots lie inside the page, clips of audio in a folder beside it. The page needs
no network and works without JavaScript, which only sorts its tables.
"""

from __future__ import annotations

import base64
import io
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.figure import Figure
from PIL import Image

from speechbrain_ext.utils.files import PathLike, write_text
from speechbrain_ext.utils.plotting import DPI
from speechbrain_ext.utils.templates import render

_PACKAGE = "speechbrain_ext.report"
_SHADES = 64  # of a plot: a third of the bytes of a full palette


def address_of(path: PathLike) -> str:
    """Return a relative path as an address, whatever its characters.

    Example
    -------
    >>> address_of("round1/a b&<c>.csv"), address_of("caf\\udce9")
    ('round1/a%20b%26%3Cc%3E.csv', 'caf%E9')
    """
    name = str(path).encode("utf-8", "surrogateescape")
    # A colon before the first slash would make the rest a scheme's.
    return urllib.parse.quote(name)


class Link(NamedTuple):
    """File below the page's folder, named by words."""

    words: str
    path: str

    @property
    def address(self) -> str:
        """Address of the file, relative to the page."""
        return address_of(self.path)


Cell = str | Link


class Plot(NamedTuple):
    """Plot with its heading and caption.

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
        """Plot as a ``data:`` address of a PNG with few colours."""
        stream, small = io.BytesIO(), io.BytesIO()
        self.figure.savefig(
            stream, format="png", dpi=DPI, metadata={"Software": None}
        )
        picture = Image.open(stream).convert("RGB").quantize(_SHADES)
        picture.save(small, "PNG", optimize=True)
        content = base64.b64encode(small.getvalue()).decode("ascii")
        return f"data:image/png;base64,{content}"


class Table(NamedTuple):
    """Table; the first row names the columns, its first cell heads a row."""

    heading: str
    rows: Sequence[Mapping[str, Cell]]
    caption: str = ""


class Clip(NamedTuple):
    """Piece of audio below the page's folder, with words on what it is."""

    words: str
    path: str

    @property
    def address(self) -> str:
        """Address of the file, relative to the page."""
        return address_of(self.path)


class Clips(NamedTuple):
    """Audio to listen to, in groups: words on a group to its clips."""

    heading: str
    caption: str
    groups: Sequence[tuple[str, Sequence[Clip]]]


class Text(NamedTuple):
    """Paragraphs."""

    paragraphs: Sequence[str]


class Fold(NamedTuple):
    """Part of the page that is closed until it is clicked."""

    heading: str
    note: str
    blocks: Sequence[Block]


Block = Plot | Table | Clips | Text | Fold


class Number(NamedTuple):
    """Number that answers the question of the run, with its interval."""

    label: str
    value: str
    interval: str
    note: str = ""


class Answer(NamedTuple):
    """Top of the page.

    Arguments
    ---------
    made : str
        What the run made.
    where : str
        What the numbers were measured on.
    numbers : sequence of Number
        The last round first, then what to hold it against.
    findings : sequence of str
        What the numbers say.
    next_steps : sequence of str
        What to do next.
    """

    made: str
    where: str = ""
    numbers: Sequence[Number] = ()
    findings: Sequence[str] = ()
    next_steps: Sequence[str] = ()


class Page(NamedTuple):
    """Content of a page.

    Arguments
    ---------
    title : str
        Heading of the page.
    answer : Answer
        What stands first.
    caveats : sequence of str
        What a reader must know before the numbers.
    shown : sequence of Block
        Shown below the answer, two beside each other where there is room.
    folds : sequence of Fold
        Closed sections.
    """

    title: str
    answer: Answer
    caveats: Sequence[str] = ()
    shown: Sequence[Block] = ()
    folds: Sequence[Fold] = ()


def write_page(path: PathLike, page: Page) -> None:
    """Write a page as one HTML file, atomically.

    Arguments
    ---------
    path : str or os.PathLike
        The file, usually ``report.html``.
    page : Page
        Its content; a caveat that is repeated is said once.

    Example
    -------
    >>> path = getfixture("tmp_path") / "report.html"
    >>> rows = [{"system": "DINO <1>", "EER %": "20.00"}]
    >>> shown = [Table("toy, dev", rows)]
    >>> write_page(path, Page("A run", Answer("Toy data."), shown=shown))
    >>> "DINO &lt;1&gt;" in path.read_text()
    True
    """
    caveats = [words for words in dict.fromkeys(page.caveats) if words]
    text = render(
        _PACKAGE, "report.html", **page._replace(caveats=caveats)._asdict()
    )
    write_text(path, text)
