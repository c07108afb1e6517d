"""Templates: what is missing is an error, what goes into HTML is escaped."""

import jinja2
import pytest

from speechbrain_ext.utils.templates import printable, render

ROOM = "speechbrain_ext.report"


def test_a_value_that_is_not_given_is_an_error():
    with pytest.raises(jinja2.UndefinedError, match="address"):
        render(ROOM, "link.html", text="a")


def test_what_goes_into_html_is_escaped():
    page = render(ROOM, "link.html", address='a"b', text="<b> & 'c'")
    assert "<b>" not in page and "&lt;b&gt; &amp;" in page
    assert 'href="a&#34;b"' in page


def test_names_that_are_not_utf8_can_be_written():
    """A file name with such a byte once ended the report."""
    page = render(ROOM, "link.html", address="a", text="caf\udce9\ud800")
    assert "caf??" in page
    assert page.encode("utf-8")
    assert printable("plain") == "plain"
