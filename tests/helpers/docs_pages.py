"""Code blocks of README and docs, in the order of the site's navigation."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

import yaml

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<why>[^>]*?) -->\n)?"
    r"^```(?P<language>\w*)\n(?P<text>.*?)^```",
    re.M | re.S,
)
FILE = re.compile(r"# file: (\S+)\n")
# Files that a page has users write: they become files of the test's folder.
LANGUAGES = {"bash", "python", "yaml", "toml", "text", "bibtex"}


class Block(NamedTuple):
    """A block, the page it is on, and why it is not run, if it is not."""

    page: str
    language: str
    text: str
    why: str | None

    @property
    def file(self):
        """Name of the file that the block is; None for others."""
        found = FILE.match(self.text)
        return found and found[1]


def pages():
    """Paths of the pages in the order of the navigation, README first."""
    tree = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"]
    names = [name for name in _leaves(tree) if (ROOT / "docs" / name).is_file()]
    return [ROOT / "README.md", *(ROOT / "docs" / name for name in names)]


def _leaves(tree):
    if isinstance(tree, str):
        yield tree
    for branch in tree if isinstance(tree, list) else ():
        for value in branch.values():
            yield from _leaves(value)


def blocks_of(text, page=""):
    """Blocks of a Markdown text."""
    return [
        Block(page, found["language"], found["text"], found["why"])
        for found in BLOCK.finditer(text)
    ]


def blocks():
    """All blocks, each text once: a command is run where it stands first."""
    found = {}
    for path in pages():
        page = path.relative_to(ROOT).as_posix()
        for block in blocks_of(path.read_text("utf-8"), page):
            found.setdefault((block.language, block.text), block)
    return list(found.values())


def lines_of(block):
    """Command lines of a bash block, without comments and empty ones."""
    text = block.text.replace("\\\n", " ")
    return [line for line in text.splitlines() if shlex.split(line, True)]
