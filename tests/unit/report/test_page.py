"""The page: whole, escaped, readable without network, script or eyes."""

import base64
from html.parser import HTMLParser

import jinja2
import pytest
from matplotlib.figure import Figure

from speechbrain_ext.clustering.plots import cluster_sizes
from speechbrain_ext.experiment.html_report import (
    Section,
    render,
    write_report,
)

HOSTILE = "<script>alert('x')</script> & \"quoted\""


class Page(HTMLParser):
    """Collects tags, attributes and text; knows unclosed tags."""

    VOID = ("meta", "img", "br")

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def named(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "report.html"
    rows = [
        {"system": "DINO", "EER %": "20.00"},
        {"system": HOSTILE, "EER %": "18.00"},
    ]
    plain = Figure(figsize=(2, 1))
    write_report(
        path,
        title=f"Run {HOSTILE}",
        introduction=f"First.\n\nSecond {HOSTILE}.",
        tables={f"toy, dev {HOSTILE}": rows, "empty": []},
        caveats=["toy data", "", HOSTILE, "toy data"],
        sections=[
            Section("Clusters", "By size.", cluster_sizes({HOSTILE: [3, 1]})),
            Section(f"Plain {HOSTILE}", "No label.", plain),
        ],
    )
    return path.read_text(encoding="utf-8")


def test_tags_are_balanced(page):
    assert Page(page).open == []
    assert page.startswith("<!DOCTYPE html>")


def test_text_is_escaped_everywhere(page):
    parsed = Page(page)
    assert parsed.named("script") == []
    assert "".join(parsed.words).count("<script>alert('x')") == 7
    assert HOSTILE in parsed.named("img")[0]["alt"]
    assert HOSTILE in parsed.named("img")[1]["alt"]


def test_it_needs_nothing_but_itself(page):
    for _, attributes in Page(page).tags:
        assert "href" not in attributes
        source = attributes.get("src", "data:image/png;")
        assert source.startswith("data:image/png;")
        assert not any(name.startswith("on") for name in attributes)
    assert "http" not in page.split("data:image")[0]
    assert "url(" not in page and "@import" not in page


def test_pictures_are_inside_and_described(page):
    pictures = Page(page).named("img")
    assert len(pictures) == 2
    for picture in pictures:
        content = base64.b64decode(picture["src"].split(",")[1])
        assert content.startswith(b"\x89PNG")
        assert picture["alt"]


def test_tables_have_captions_and_heads(page):
    parsed = Page(page)
    assert len(parsed.named("table")) == len(parsed.named("caption")) == 1
    scopes = [attributes["scope"] for attributes in parsed.named("th")]
    assert scopes == ["col", "col", "row", "row"]


def test_a_caveat_is_said_once(page):
    words = [word for word in Page(page).words if word == "toy data"]
    assert len(words) == 1


def test_same_input_same_file(tmp_path):
    for name in ("a.html", "b.html"):
        figure = cluster_sizes({"round 1": [3, 1]})
        write_report(
            tmp_path / name, "T", "I.", {}, sections=[Section("A", "B", figure)]
        )
    a, b = ((tmp_path / n).read_bytes() for n in ("a.html", "b.html"))
    assert a == b


FACTS = {"paragraphs": [], "caveats": [], "tables": {}, "sections": []}


def test_a_value_that_is_not_given_is_an_error():
    with pytest.raises(jinja2.UndefinedError, match="title"):
        render("report.html", **FACTS)


def test_what_goes_into_html_is_escaped():
    page = render("report.html", title="<b> & 'c'", **FACTS)
    assert "<b>" not in page and "&lt;b&gt; &amp;" in page
