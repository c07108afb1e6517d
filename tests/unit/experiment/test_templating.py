"""Templates: nothing is left out, and HTML is escaped."""

import jinja2
import pytest

from speechbrain_ext.experiment.templating import render

FACTS = {"paragraphs": [], "caveats": [], "tables": {}, "sections": []}


def test_a_value_that_is_not_given_is_an_error():
    with pytest.raises(jinja2.UndefinedError, match="title"):
        render("report.html", **FACTS)


def test_what_goes_into_html_is_escaped():
    page = render("report.html", title="<b> & 'c'", **FACTS)
    assert "<b>" not in page and "&lt;b&gt; &amp;" in page
