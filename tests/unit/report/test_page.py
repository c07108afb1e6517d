"""The page: whole, escaped, readable without network, script or eyes."""

import base64
import re
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest
from matplotlib.figure import Figure

from speechbrain_ext.clustering.plots import cluster_sizes
from speechbrain_ext.report.page import (
    Answer,
    Clip,
    Clips,
    Fold,
    Link,
    Number,
    Page,
    Plot,
    Table,
    Text,
    write_page,
)

HOSTILE = "<script>alert('x')</script> & \"quoted\" \udce9"
SHOWN = HOSTILE.replace("\udce9", "?")


class Html(HTMLParser):
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


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page all of whose text is a user's, and hostile."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    rows = [
        {"system": "DINO", HOSTILE: "20.00"},
        {"system": HOSTILE, HOSTILE: Link(HOSTILE, f"round1/{HOSTILE}.csv")},
    ]
    clips = [Clip(HOSTILE, "report_files/clip001.flac")]
    inner = Fold(HOSTILE, HOSTILE, [Text([HOSTILE])])
    write_page(
        path,
        Page(
            f"Run {HOSTILE}",
            Answer(
                HOSTILE,
                HOSTILE,
                [Number(HOSTILE, HOSTILE, HOSTILE, HOSTILE)],
                [HOSTILE],
                [HOSTILE],
            ),
            ["toy data", "", HOSTILE, "toy data"],
            [
                Plot("Sizes", HOSTILE, cluster_sizes({HOSTILE: [3, 1]})),
                Plot(HOSTILE, "No label.", Figure(figsize=(2, 1))),
                Table(HOSTILE, rows, HOSTILE),
                Table("empty", []),
            ],
            [
                Fold(
                    "Step",
                    "",
                    [inner, Clips(HOSTILE, HOSTILE, [(HOSTILE, clips)])],
                )
            ],
        ),
    )
    return path.read_text(encoding="utf-8")


def test_tags_are_balanced(page):
    assert Html(page).open == []
    assert page.startswith("<!DOCTYPE html>")


def test_text_is_escaped_everywhere(page):
    parsed = Html(page)
    assert len(parsed.named("script")) == 1
    assert page.count("<script>") == 1
    assert "".join(parsed.words).count(SHOWN) == 25
    assert SHOWN in parsed.named("img")[0]["alt"]
    assert parsed.named("img")[1]["alt"] == SHOWN


def test_it_needs_nothing_but_itself_and_the_folder_beside_it(page):
    for tag, attributes in Html(page).tags:
        if tag == "audio":
            assert attributes["src"] == "report_files/clip001.flac"
            assert attributes["preload"] == "none"
        else:
            source = attributes.get("src", "data:image/png;")
            assert source.startswith("data:image/png;")
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"https?:|url\(|@import|fetch\(", page)


def test_a_link_is_to_the_file_whatever_its_name(page):
    (link,) = Html(page).named("a")
    found = unquote(link["href"], errors="surrogateescape")
    assert found == f"round1/{HOSTILE}.csv"


def test_pictures_are_inside_and_described(page):
    pictures = Html(page).named("img")
    assert len(pictures) == 2
    for picture in pictures:
        content = base64.b64decode(picture["src"].split(",")[1])
        assert content.startswith(b"\x89PNG")
        assert picture["alt"]


def test_tables_have_heads_and_none_is_empty(page):
    parsed = Html(page)
    assert len(parsed.named("table")) == 1
    scopes = [attributes["scope"] for attributes in parsed.named("th")]
    assert scopes == ["col", "col", "row", "row"]


def test_folds_are_closed_and_work_without_script(page):
    folds = Html(page).named("details")
    assert len(folds) == 2 and not any("open" in fold for fold in folds)


def test_a_caveat_is_said_once(page):
    words = [word for word in Html(page).words if word == "toy data"]
    assert len(words) == 1


def test_same_input_same_file(tmp_path):
    for name in ("a.html", "b.html"):
        plot = Plot("A", "B", cluster_sizes({"round 1": [3, 1]}))
        write_page(tmp_path / name, Page("T", Answer("I."), shown=[plot]))
    a, b = ((tmp_path / n).read_bytes() for n in ("a.html", "b.html"))
    assert a == b
