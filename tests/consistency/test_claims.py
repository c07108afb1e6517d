"""Sentences that compare two systems name the record they rest on.

Scanned are the paragraphs, list items and table rows of the README, of
``docs/``, of the fixed words of ``results/TABLE.md`` and of the model card's
template. One with a word of comparison must name an existing file under
``results/``, by ``<!-- record: results/... -->`` or a link, or say that it
compares no systems: ``<!-- no claim -->`` (``{# no claim #}`` in a template).
One that states a p-value must name paired comparisons, and they must have it.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from house import PACKAGE, ROOT

CARD = PACKAGE / "experiment" / "templates" / "model_card.md"
TABLE = ROOT / "results" / "TABLE.md"
TEXTS = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    TABLE,
    CARD,
]
COMPARES = re.compile(
    r"\b(than|better|worse|best|worst|beats?|beaten|pays?|outperforms?|"
    r"improves?|lowers|raises|halves|doubles|gains?|wins?|faster|slower|"
    r"twice|times (?:as|the)|\d+(?:\.\d+)? times|p = 0\.\d+|"
    r"a (?:half|third|quarter|fifth|sixth|tenth|twentieth) "
    r"(?:better|worse|more|less|of the time))\b",
    re.I,
)
NO_CLAIM = re.compile(r"<!-- no claim -->|\{# no claim #\}")
RECORD = re.compile(r"<!-- record: (\S+) -->|\]\((results/[^)#\s]+\.json)\)")
P_VALUE = re.compile(r"\bp = (0\.\d+)")


def blocks(text: str) -> list[str]:
    """Paragraphs, list items and table rows, without code and headings."""
    text = re.sub(r"^---\n.*?^---\n", "", text, flags=re.M | re.S)
    text = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    text = re.sub(r"^#.*$", "", text, flags=re.M)
    # A list item or a table row begins a block of its own.
    text = re.sub(r"^(?=(?:[-*]|\d+\.) |\|)", "\n", text, flags=re.M)
    return [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()]


def words_of(block: str) -> str:
    """What a reader sees of it, without code and the targets of links."""
    block = re.sub(r"<!--.*?-->|\{[#%].*?[#%]\}", "", block, flags=re.S)
    block = re.sub(r"`[^`]*`", "", block)
    return re.sub(r"\]\([^)]*\)", "]", block)


def problem(block: str, root: Path = ROOT) -> str | None:
    """What is wrong with a block; None if it claims no more than it may."""
    found = ["".join(pair) for pair in RECORD.findall(block)]
    for name in found:
        if not name.startswith("results/") or not (root / name).is_file():
            return f"names {name}, which is no file under results/"
    words = words_of(block)
    p_values = P_VALUE.findall(words)
    if p_values:
        return _unproven(p_values, [root / name for name in found])
    compares = COMPARES.search(words)
    if compares and not found and not NO_CLAIM.search(block):
        return f"compares ({compares[0]!r}) and names no record"
    return None


def _unproven(p_values: list[str], records: list[Path]) -> str | None:
    """What p-values the comparisons that are named do not have."""
    known = [
        value
        for path in records
        for value in _p_values(json.loads(path.read_text("utf-8")))
    ]
    if not known:
        return "has a p-value and names no paired comparison"
    for shown in p_values:
        n_digits = len(shown) - 2
        if all(f"{value:.{n_digits}f}" != shown for value in known):
            return f"says p = {shown}, which none of its comparisons has"
    return None


def _p_values(record: Any) -> Iterator[float]:
    """The p-values of a comparison, or of the paired tests of a benchmark."""
    if isinstance(record, list):
        for each in record:
            yield from _p_values(each)
    elif isinstance(record, dict):
        for key, value in record.items():
            if key == "p_value":
                yield value
            yield from _p_values(value)


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_what_is_compared_names_its_record(path):
    text = path.read_text("utf-8")
    if path == TABLE:  # its rows are the records themselves
        text = re.sub(r"^\|.*$", "", text, flags=re.M)
    problems = {
        block: wrong for block in blocks(text) if (wrong := problem(block))
    }
    told = "\n\n".join(f"{wrong}:\n{b}" for b, wrong in problems.items())
    assert not problems, f"{path.relative_to(ROOT)}\n{told}"


def test_the_results_compare_and_prove():
    """The scan sees something: it is no test of an empty text."""
    found = blocks((ROOT / "docs" / "results.md").read_text("utf-8"))
    assert sum(bool(P_VALUE.search(words_of(b))) for b in found) >= 3
    assert sum(bool(COMPARES.search(words_of(b))) for b in found) >= 5


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    pair = {
        "kind": "comparison",
        "eer_difference": {"p_value": 0.0149},
        "min_dcf_difference": {"p_value": 0.5},
    }
    (folder / "pair.json").write_text(json.dumps(pair))
    (folder / "other.json").write_text(json.dumps({"kind": "benchmark"}))
    tested = {"against none": {"dev": {"p_value": 0.031}}}
    (folder / "tested.json").write_text(json.dumps({"rows": [{}, tested]}))
    (tmp_path / "outside.json").write_text("{}")
    return tmp_path


PAIR = "<!-- record: results/pair.json -->"


@pytest.mark.parametrize(
    ("block", "wrong"),
    [
        ("The gate pays.", "names no record"),
        ("A is better than B.", "names no record"),
        ("It lowers the EER.", "names no record"),
        ("Ours is 3 times faster.", "names no record"),
        ("It is `better` in code.", None),
        (f"A is better than B. {PAIR}", None),
        ("A is better ([it](results/other.json)).", None),
        ("A is better. <!-- record: results/gone.json -->", "no file"),
        ("A is. <!-- record: outside.json -->", "no file under results/"),
        ("A is. <!-- record: results -->", "no file under results/"),
        ("Rather too many than few. <!-- no claim -->", None),
        ("Some may do worse. {# no claim #}", None),
        ("A and B, p = 0.015.", "names no paired comparison"),
        ("A, p = 0.015. <!-- no claim -->", "names no paired comparison"),
        ("A, p = 0.015 ([it](results/other.json)).", "no paired comparison"),
        ("A, p = 0.031 ([it](results/tested.json)).", None),
        ("A, p = 0.03 ([it](results/tested.json)).", None),
        ("A, p = 0.02 ([it](results/tested.json)).", "none of its"),
        (f"A and B, p = 0.015. {PAIR}", None),
        (f"A and B, p = 0.01 and p = 0.50. {PAIR}", None),
        (f"A and B, p = 0.014. {PAIR}", "none of its comparisons"),
    ],
)
def test_a_claim_without_its_record_is_found(block, wrong, root):
    found = problem(block, root)
    assert (found is None) == (wrong is None), found
    assert wrong is None or wrong in found


def test_blocks_are_items_rows_and_paragraphs():
    text = (
        "# Better\n\nOne\nand on.\n- two\n  more\n- three\n\n"
        "| a | b |\n|---|---|\n| c | d |\n\n```bash\nbetter\n```\n1. four\n"
    )
    assert blocks(text) == [
        "One\nand on.",
        "- two\n  more",
        "- three",
        "| a | b |",
        "|---|---|",
        "| c | d |",
        "1. four",
    ]
