"""Templates: HTML is escaped, and what is missing is an error."""

import jinja2
import pytest

from speechbrain_ext.utils.templates import render

GROUPS = {"title": "who", "n_files": 1, "groups": [], "bad": {}}


def test_what_goes_into_html_is_escaped():
    bad = {"<script>": "it's & not"}
    page = render(
        "speechbrain_ext.inference", "groups.html", **GROUPS | {"bad": bad}
    )
    assert "<script>" not in page and "&lt;script&gt;" in page


def test_a_missing_value_is_an_error():
    with pytest.raises(jinja2.UndefinedError):
        render("speechbrain_ext.inference", "groups.html", title="who")
