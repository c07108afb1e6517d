"""Documents from jinja2 template files, with what goes into HTML escaped."""

from __future__ import annotations

import functools
from typing import Any

import jinja2


def printable(value: Any) -> Any:
    """Replace what UTF-8 cannot hold, such as bytes of odd file names.

    Python reads a file name that is not UTF-8 with lone surrogates; no text
    file can hold them.

    Example
    -------
    >>> printable("caf\\udce9.wav"), printable(3)
    ('caf?.wav', 3)
    """
    # Markup, a subclass of str, has been through here.
    if type(value) is not str:
        return value
    return value.encode("utf-8", "replace").decode("utf-8")


@functools.cache
def _environment(package: str) -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader(package),
        # What goes into HTML is escaped; Markdown is written as it is.
        autoescape=jinja2.select_autoescape(["html"]),
        finalize=printable,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def render(package: str, template: str, **values: Any) -> str:
    """Fill a template with values.

    Arguments
    ---------
    package : str
        Package whose folder ``templates`` holds the file.
    template : str
        Name of the file.
    **values : Any
        What it refers to; all of it must be given.

    Returns
    -------
    str

    Raises
    ------
    jinja2.UndefinedError
        A value is missing.

    Example
    -------
    >>> room = "speechbrain_ext.report"
    >>> "A &amp; B" in render(room, "link.html", address="a", text="A & B")
    True
    """
    return _environment(package).get_template(template).render(**values)
