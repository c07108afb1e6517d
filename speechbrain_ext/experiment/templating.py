"""Documents made from the template files in ``templates``."""

from __future__ import annotations

import functools
from typing import Any

import jinja2


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
