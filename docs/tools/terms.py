"""Words of the glossary, linked where a page uses them first.

``python docs/tools/terms.py`` writes the links; a test asks that none is
missing.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
GLOSSARY = "docs/glossary.md"
# What is no sentence of the page: code, comments, tags, headings, links.
_OTHER = re.compile(
    r"^---\n.*?^---\n|^ *```.*?^ *```|<!--.*?-->|``.*?``|`[^`\n]*`|"
    r"^#.*?$|!?\[[^\]]*\]\([^)]*\)|<[^>\n]+>",
    re.M | re.S,
)
_LINK_TEXT = re.compile(r"(?<!!)\[([^\]]*)\]\([^)]*\)")


def terms() -> dict[str, list[str]]:
    """Return the words of each entry of the glossary, by its anchor."""
    found: dict[str, list[str]] = {}
    text = (ROOT / GLOSSARY).read_text("utf-8")
    pattern = r"^### (.+)\n(?:<!-- words: (.+) -->\n)?"
    for title, others in re.findall(pattern, text, re.M):
        words = [title, *filter(None, others.split(", "))]
        found[title.lower().replace(" ", "-")] = words
    return found


def pages() -> list[str]:
    """Return the pages whose words are linked, by their place in the clone."""
    found = sorted((ROOT / "docs").rglob("*.md"))
    names = [path.relative_to(ROOT).as_posix() for path in found]
    return ["README.md", *(name for name in names if name != GLOSSARY)]


def linked(text: str, page: str) -> str:
    """Return a page whose first use of each word is a link.

    A word that a link of the page's own has first is explained by it.
    """
    there = posixpath.relpath(GLOSSARY, posixpath.dirname(page) or ".")
    for anchor, words in terms().items():
        place = _first_use(text, words)
        if place is not None:
            start, end = place
            link = f"[{text[start:end]}]({there}#{anchor})"
            text = text[:start] + link + text[end:]
    return text


def _first_use(text: str, words: list[str]) -> tuple[int, int] | None:
    """Return where a word is used first; None if nowhere, or in a link."""
    ordered = sorted(words, key=len, reverse=True)
    inner = "|".join(re.escape(word) for word in ordered)
    use = re.compile(rf"(?<![\w/.-])(?:{inner})(?![\w/-])", re.I)
    masked = _OTHER.sub(lambda found: " " * len(found[0]), text)
    found = use.search(masked)
    if found is None:
        return None
    for link in _LINK_TEXT.finditer(text):
        if link.start() < found.start() and use.search(link[1]):
            return None
    return found.span()


def main() -> None:
    """Write the links into all pages."""
    for page in pages():
        path = ROOT / page
        text = path.read_text("utf-8")
        if linked(text, page) != text:
            path.write_text(linked(text, page), "utf-8")


if __name__ == "__main__":
    main()
