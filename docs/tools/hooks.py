"""Hooks of mkdocs: what the site of docs/ has beside the files there.

The README is its first page, and other texts of the repository are pages too.
A link from docs/ to a file outside leads to a copy of it. A table of keys
stands where a page says ``<!-- keys: RECIPE -->``, and the public names of the
rooms are pages of the API reference.
"""

from __future__ import annotations

import ast
import html
import os
import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
DOCS = "docs/"
# Texts of the repository that are pages, by their place in it.
PAGES = {
    "README.md": "index.md",
    "SECURITY.md": "security.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "results/TABLE.md": "table.md",
}
ROOMS = (
    "inference",
    "losses",
    "models",
    "clustering",
    "verification",
    "augment",
    "training",
)
_KEYS = re.compile(r"^<!-- keys: (\w+) -->$", re.M)
_LINK = re.compile(r"(\]\(|\bsrc=\")([^)\s\"]+)")
_COMMENT = re.compile(r"<!--(?! keys:).*?-->\n?", re.S)


def on_files(files: Files, config: Any) -> Files:
    """Add pages and copies of files that are outside of docs/."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text("utf-8")
        files.append(File.generated(config, page, content=text))
    for room in ROOMS:
        page = f"reference/{room}.md"
        files.append(File.generated(config, page, content=reference(room)))
    for name in sorted({name for page in texts() for name in outside(page)}):
        copy = File.generated(
            config, f"files/{name}", abs_src_path=str(ROOT / name)
        )
        files.append(copy)
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill in tables of keys, and mend links that leave docs/."""
    there = {page_uri: source for source, page_uri in PAGES.items()}
    uri = page.file.src_uri
    source = there.get(uri, DOCS + uri)
    markdown = _COMMENT.sub("", markdown)
    markdown = _KEYS.sub(lambda found: key_tables(found[1]), markdown)
    return _LINK.sub(
        lambda found: found[1] + mended(found[2], source, uri), markdown
    )


def texts() -> list[str]:
    """Return the Markdown files of the site, by their place in the clone."""
    pages = sorted((ROOT / DOCS).rglob("*.md"))
    return [*PAGES, *(path.relative_to(ROOT).as_posix() for path in pages)]


def target_of(link: str, source: str) -> str | None:
    """Return the file of the clone that a link names; None for others."""
    path = link.partition("#")[0]
    if not path or re.match(r"[a-z]+:", path):
        return None
    found = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    return found if (ROOT / found).is_file() else None


def outside(source: str) -> Iterator[str]:
    """Yield the files that a page links to and that are no part of docs/."""
    for _, link in _LINK.findall((ROOT / source).read_text("utf-8")):
        found = target_of(link, source)
        if found and found not in PAGES and not found.startswith(DOCS):
            yield found


def mended(link: str, source: str, uri: str) -> str:
    """Return a link of a page as it is on the site."""
    found = target_of(link, source)
    if found is None:
        return link
    _, mark, anchor = link.partition("#")
    place = PAGES.get(found, f"files/{found}")
    if found.startswith(DOCS):
        place = found.removeprefix(DOCS)
    return posixpath.relpath(place, posixpath.dirname(uri) or ".") + (
        mark + anchor
    )


def key_tables(recipe: str) -> str:
    """Return the tables of a recipe's keys, one for each group, to unfold."""
    from speechbrain_ext.experiment.recipe_settings import settings_of
    from speechbrain_ext.utils.settings import REQUIRED, shown

    groups: dict[str, list[str]] = {}
    for key in settings_of(recipe).keys().values():
        default = "must be given" if key.default is REQUIRED else None
        default = default or f"<code>{_cell(shown(key.default))}</code>"
        cells = (f"<code>{key.name}</code>", default, _cell(key.rule))
        row = "".join(f"<td>{c}</td>" for c in (*cells, _cell(key.doc)))
        groups.setdefault(key.group or "keys", []).append(f"<tr>{row}</tr>")
    head = "<tr><th>key</th><th>default</th><th>value</th><th>meaning</th></tr>"
    return "\n".join(
        f"<details><summary>{html.escape(group)} ({len(rows)})</summary>"
        f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"
        "</details>\n"
        for group, rows in groups.items()
    )


def _cell(text: str) -> str:
    return html.escape(" ".join(str(text).split()))


def reference(room: str) -> str:
    """Return the page of a room's public names, which mkdocstrings fills."""
    path = ROOT / "speechbrain_ext" / room / "__init__.py"
    tree = ast.parse(path.read_text("utf-8"))
    doc = (ast.get_docstring(tree) or "").partition("\n\n")[0]
    lines = [f"# speechbrain_ext.{room}", doc]
    for module, names in _exports(tree).items():
        full = module if "." in module else f"speechbrain_ext.{room}.{module}"
        lines += [f"::: {full}.{name}" for name in names.split()]
    return "\n\n".join(lines) + "\n"


def _exports(tree: ast.Module) -> dict[str, str]:
    """Return the public names of a room by module, as lazy_exports has them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
            "lazy_exports"
        ):
            return ast.literal_eval(node.args[1])
    return {}


# What mkdocs itself prints on its own future is no warning about this site.
os.environ.setdefault("NO_MKDOCS_2_WARNING", "1")
