"""README and docs: size, links, words explained, numbers, and the site."""

import importlib.util
import json
import os
import posixpath
import re
import subprocess
import sys

import pytest
from docs_pages import pages
from house import ROOT, recipes

TOOLS = ROOT / "docs" / "tools"
README = (ROOT / "README.md").read_text("utf-8")
TEXTS = {
    path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
}
# Pages that the site makes, which no file is.
GENERATED = "docs/reference/"
LINK = re.compile(r"\]\(([^)\s]+)\)")


def tool(name):
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


terms = tool("terms")


def test_the_readme_is_read_in_minutes():
    assert len(README.encode()) <= 8192


@pytest.mark.parametrize("page", TEXTS)
def test_a_page_is_short(page):
    """Two screens; the glossary, lists and tables may take more."""
    lines = re.sub(r"^```.*?^```", "", TEXTS[page], flags=re.M | re.S)
    limit = 2000 if page.endswith(("glossary.md", "differences.md")) else 1100
    assert len(re.sub(r"\]\([^)]*\)|<!--.*?-->", "", lines).split()) <= limit


def anchors(text):
    """Anchors of a page's headings, as GitHub and the site make them."""
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    plain = [re.sub(r"[^\w\s-]", "", title).strip().lower() for title in titles]
    return {re.sub(r"\s", "-", title) for title in plain}


@pytest.mark.parametrize("page", TEXTS)
def test_links_lead_to_what_there_is(page):
    wrong = []
    for link in LINK.findall(TEXTS[page]):
        path, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        target = page
        if path:
            target = posixpath.join(posixpath.dirname(page), path)
            target = posixpath.normpath(target)
        there = (ROOT / target).exists() or target.startswith(GENERATED)
        if not there or (
            anchor and anchor not in anchors(TEXTS.get(target, ""))
        ):
            wrong.append(link)
    assert not wrong


@pytest.mark.parametrize("page", terms.pages())
def test_words_of_the_glossary_are_linked_where_they_come_first(page):
    wanted = terms.linked(TEXTS[page], page)
    assert wanted == TEXTS[page], "run: python docs/tools/terms.py"


def test_a_first_use_becomes_a_link():
    text = "# EER\n\n`EER` of ![EER](a.png), an EER and the EER.\n"
    assert terms.linked(text, "docs/a.md") == text.replace(
        "an EER", "an [EER](glossary.md#eer)"
    )
    for explained in ("[the EER](b.md), an EER", "no word", "```\nEER\n```"):
        assert terms.linked(explained, "README.md") == explained


def test_glossary_entries_are_in_no_link_to_nowhere():
    assert terms.terms().keys() <= anchors(TEXTS["docs/glossary.md"])


def test_every_page_is_in_the_navigation():
    assert {path.relative_to(ROOT).as_posix() for path in pages()} == set(TEXTS)


def test_every_recipe_has_its_table_of_keys_on_one_page():
    shown = re.findall(r"^<!-- keys: (\w+) -->$", "".join(TEXTS.values()), re.M)
    assert sorted({*shown, "make_oracle_labels"}) == sorted(recipes())


def test_the_readme_has_numbers_of_records():
    """Each interval of its results table is that of a result file."""
    known = set()
    for path in ROOT.glob("results/runs/*/scores/*_dev_all_raw.json"):
        eer = json.loads(path.read_text("utf-8"))["eer"]
        known.add("{value:.2f} [{low:.2f}, {high:.2f}]".format(**eer))
    rows = re.findall(r"^\| .* \| (\d+\.\d+ \[.*\]) \|$", README, re.M)
    assert len(rows) == 5 and set(rows) <= known


def test_the_site_is_built_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    words = ["-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path]
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "WARNING" not in done.stderr
    page = (tmp_path / "steps" / "train_dino.html").read_text("utf-8")
    assert "<code>n_epochs</code>" in page
    page = (tmp_path / "reference" / "losses.html").read_text("utf-8")
    assert "Caron" in page
    assert not (tmp_path / "tools").exists()
