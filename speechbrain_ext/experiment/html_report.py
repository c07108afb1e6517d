"""A run's page: one HTML file that needs nothing but itself.

Tables, caveats and pictures (PNG inside the file), inline style, no script
and no address: it can be mailed, printed and read without a network.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from matplotlib.figure import Figure

from speechbrain_ext.utils.files import PathLike, write_text

_DPI = 160
_STYLE = """
body { font: 16px/1.5 sans-serif; color: #1a1a1a; background: #fff;
       max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2, h3 { line-height: 1.2; }
h2, h3 { margin: 2.2rem 0 0.6rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.88rem; margin: 1rem 0; }
caption { text-align: left; font-weight: bold; padding-bottom: 0.4rem; }
th, td { border-bottom: 1px solid #ccc; padding: 0.3rem 0.6rem;
         text-align: left; vertical-align: top; }
thead th { border-bottom: 2px solid #555; }
td { font-variant-numeric: tabular-nums; }
.caveats { border-left: 4px solid #b35900; padding: 0.1rem 1rem;
           background: #fff6ec; }
figure { margin: 0; break-inside: avoid; }
img { max-width: 100%; height: auto; }
figcaption { font-size: 0.92rem; color: #444; }
@media print { body { margin: 0; max-width: none; }
               .wide { overflow: visible; }
               table { font-size: 0.7rem; break-inside: avoid; } }
""".strip()


def write_report(
    path: PathLike,
    title: str,
    introduction: str,
    tables: Mapping[str, Sequence[Mapping[str, str]]],
    caveats: Iterable[str] = (),
    sections: Iterable[tuple[str, str, Figure]] = (),
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
    sections : iterable of (heading, caption, Figure)
        Pictures; a figure's label (``Figure.get_label``) is its alternative
        text, the heading where it has none.

    Example
    -------
    >>> path = getfixture("tmp_path") / "report.html"
    >>> rows = [{"system": "DINO <1>", "EER %": "20.00"}]
    >>> write_report(path, "A run", "Toy data.", {"toy, dev": rows})
    >>> "DINO &lt;1&gt;" in path.read_text()
    True
    """
    parts = [f"<h1>{escape(title)}</h1>", _paragraphs(introduction)]
    parts.append(_caveats(caveats))
    parts += [_table(caption, rows) for caption, rows in tables.items()]
    parts += [_section(*section) for section in sections]
    body = "\n".join(part for part in parts if part)
    write_text(
        path,
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{escape(title)}</title>\n<style>\n{_STYLE}\n</style>\n"
        f"</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n",
    )


def _paragraphs(text: str) -> str:
    return "\n".join(
        f"<p>{escape(paragraph.strip())}</p>"
        for paragraph in text.split("\n\n")
        if paragraph.strip()
    )


def _caveats(caveats: Iterable[str]) -> str:
    kept = [caveat for caveat in dict.fromkeys(caveats) if caveat]
    if not kept:
        return ""
    items = "\n".join(f"<li>{escape(caveat)}</li>" for caveat in kept)
    return (
        '<section class="caveats" aria-label="Caveats">\n'
        f"<p><strong>Read with care</strong></p>\n<ul>\n{items}\n</ul>\n"
        "</section>"
    )


def _table(caption: str, rows: Sequence[Mapping[str, str]]) -> str:
    if not rows:
        return ""
    columns = list(rows[0])
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    lines = []
    for row in rows:
        first, *others = (escape(str(row[name])) for name in columns)
        cells = "".join(f"<td>{cell}</td>" for cell in others)
        lines.append(f'<tr><th scope="row">{first}</th>{cells}</tr>')
    body = "\n".join(lines)
    return (
        f'<div class="wide">\n<table>\n<caption>{escape(caption)}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n"
        "</table>\n</div>"
    )


def _section(heading: str, caption: str, figure: Figure) -> str:
    words = str(figure.get_label()) or heading
    return (
        f"<section>\n<h2>{escape(heading)}</h2>\n<figure>\n"
        f'<img alt="{escape(words)}" src="{_data_address(figure)}">\n'
        f"<figcaption>{escape(caption)}</figcaption>\n</figure>\n</section>"
    )


def _data_address(figure: Figure) -> str:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=_DPI, metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(
        stream.getvalue()
    ).decode("ascii")
