"""Code blocks of the site: the language of blocks that name none, and tabs for adjacent blocks.

Markdown needs no markup for this: a block that is directly followed by a block in another language of `TABS` becomes a
tab. The pages stay readable in a checkout, and the tabs work without JavaScript.
"""

from __future__ import annotations

import itertools
import json
import re
from html import escape
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

TABS = {"sh": "Shell", "bash": "Shell", "python": "Python", "ts": "TypeScript", "typescript": "TypeScript"}
_COMMANDS = (
    "apt-get|cd|cp|curl|docker|echo|export|flask|git|gunicorn|helm|kataven|kubectl|make|mkdir|npm|npx|openssl|pip|podman|"
    r"psql|python|python3|redis-cli|sudo|systemctl|\.venv/\S+|[A-Z][A-Z0-9_]*=\S+"
)
_SHELL = re.compile(rf"^(?:#[^\n]*\n)*(?:\$ )?(?:{_COMMANDS})(?:\s|$)")
_EXPLAINED = re.compile(r"\S {3,}[^\s#]")
"""Commands with explanations in a second column are a table, and an apostrophe there is no quote."""
_HTTP = re.compile(r"^(?:(?:GET|POST|PATCH|PUT|DELETE|OPTIONS) \S+ HTTP/|HTTP/[\d.]+ \d{3})")
_PYTHON = re.compile(r"^(?:from \w[\w.]* import |import \w|@\w|def \w|class \w|with \w)")


class TabGroup(nodes.General, nodes.Element):
    """Adjacent code blocks in different languages."""


def language_of(code: str) -> str:
    """The language of a block that names none; `text` if it is unknown."""
    text = code.strip()
    if _HTTP.match(text):
        return "http"
    if _SHELL.match(text):
        return "text" if _EXPLAINED.search(text) else "sh"
    if _PYTHON.match(text):
        return "python"
    if text[:1] in {"{", "["}:
        try:
            json.loads(text)
        except ValueError:
            return "text"
        return "json"
    return "text"


def _transform(app: Sphinx, doctree: nodes.document) -> None:
    for block in doctree.findall(nodes.literal_block):
        if block.get("language") in {None, "text", "none", "default"}:
            block["language"] = language_of(block.astext())
    for parent in {id(one.parent): one.parent for one in doctree.findall(nodes.literal_block)}.values():
        _group(parent)


def _group(parent: Any) -> None:
    """Replace each run of adjacent blocks in different languages with a TabGroup."""
    children = list(parent.children)
    grouped: list[Any] = []
    for is_code, run in itertools.groupby(children, _is_tab):
        blocks = list(run)
        labels = [TABS[one["language"]] for one in blocks] if is_code else []
        if len(blocks) > 1 and is_code and len(set(labels)) == len(labels):
            group = TabGroup("", *blocks, labels=labels)
            grouped.append(group)
        else:
            grouped += blocks
    if len(grouped) != len(children):
        parent.children = []
        parent.extend(grouped)


def _is_tab(node: Any) -> bool:
    return isinstance(node, nodes.literal_block) and node.get("language") in TABS


def _open(self: Any, group: TabGroup) -> None:
    number = self.builder.env.new_serialno("tabs")
    name = f"tabs-{number}"
    self.body.append('<div class="tabs"><fieldset><legend>Language</legend>')
    for n, label in enumerate(group["labels"]):
        checked = " checked" if n == 0 else ""
        self.body.append(
            f'<input type="radio" name="{name}" id="{name}-{n}" value="{escape(label)}"{checked}>'
            f'<label for="{name}-{n}">{escape(label)}</label>'
        )
    self.body.append("</fieldset>")


def _close(self: Any, _: TabGroup) -> None:
    self.body.append("</div>")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the transform."""
    app.add_node(TabGroup, html=(_open, _close), text=(lambda *_: None, lambda *_: None))
    app.connect("doctree-read", _transform)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
