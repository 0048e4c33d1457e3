"""The search of the site: writes an index of all sections, which `static/search.js` ranks.

Sphinx's own search ignores numbers, so it can't find "429", and ranks decision records above guides.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

RANKS = (("how-to/", 30), ("changes", -30), ("decisions/", -1_000))
"""What is added to the score of pages by the start of their names. Decision records are always last."""
EXCERPT_LENGTH = 160
_WORD = re.compile(r"[^\W_]+")


def sections_of(doctree: nodes.document) -> Iterator[tuple[str, str, str]]:
    """The heading, the anchor and the text of each section, without the sections within it."""
    for section in doctree.findall(nodes.section):
        title = section.next_node(nodes.title)
        own = [child for child in section.children if not isinstance(child, nodes.section | nodes.title)]
        anchor = section["ids"][0] if section["ids"] else ""
        yield title.astext() if title is not None else "", anchor, " ".join(child.astext() for child in own)


def index(app: Sphinx) -> list[list[Any]]:
    """Rows of page, title, heading, anchor, excerpt, words and rank."""
    rows: list[list[Any]] = []
    for page in sorted(app.env.found_docs):
        rank = next((value for start, value in RANKS if page.startswith(start)), 0)
        title = app.env.titles[page].astext()
        for heading, anchor, text in sections_of(app.env.get_doctree(page)):
            line = " ".join(text.split())
            words = sorted({word.lower() for word in _WORD.findall(f"{heading} {line}")})
            place = ["", ""] if heading == title else [heading, anchor]
            rows.append([page, title, *place, _excerpt(line), " ".join(words), rank])
    return rows


def _excerpt(line: str) -> str:
    """The start of a text, without a cut word."""
    return line if len(line) <= EXCERPT_LENGTH else f"{line[:EXCERPT_LENGTH].rpartition(' ')[0]} …"


def _write(app: Sphinx, error: Exception | None) -> None:
    if error is None and app.builder.format == "html":
        content = json.dumps(index(app), ensure_ascii=False, separators=(",", ":"))
        target = Path(app.outdir) / "_static" / "search-data.js"
        target.write_text(f"globalThis.SEARCH_DATA = {content};\n", encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Write the index when the site is built."""
    app.connect("build-finished", _write)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
