"""Documents from jinja2 templates, which are files of the package."""

from __future__ import annotations

import functools
from typing import Any

import jinja2


@functools.cache
def _environment(room: str) -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader(room),
        # What goes into HTML is escaped; Markdown is written as it is.
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def render(room: str, template: str, **values: Any) -> str:
    """Fill a template with values.

    Arguments
    ---------
    room : str
        Package that has a folder ``templates``.
    template : str
        Name of a file in it.
    **values : Any
        What it refers to; all of it must be given.

    Returns
    -------
    str

    Example
    -------
    >>> facts = {"title": "A & B", "n_files": 0, "groups": [], "bad": {}}
    >>> page = render("speechbrain_ext.inference", "groups.html", **facts)
    >>> "<h1>A &amp; B</h1>" in page
    True
    """
    return _environment(room).get_template(template).render(**values)
