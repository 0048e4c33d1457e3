"""Documentation, pages, messages and docstrings are in plain technical English.

The list holds phrases that made earlier texts hard to read, each with the reason and what to write instead. Public
class names are unique, so that a search for a name finds one thing.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CODE = re.compile(r"```.*?```|^ {4}[^\n]*$|`[^`\n]*`|\]\([^)\n]*\)|https?://\S+", re.DOTALL | re.MULTILINE)
TAGS = re.compile(r"<[^>]*>|\{[%{#].*?[%}#]\}", re.DOTALL)
MIRRORS = {"client", "mcp_server"}
"""Packages whose models repeat the names of the API's."""

PHRASES = {
    r"whoever": "Name the actor: the caller, the operator, the worker.",
    r"(?<!does )nobody(?! else's)": "Name what does not happen: “No worker …”, “The key is not recognized”.",
    r"somebody": "Name the actor: the user, another process, an attacker.",
    r"anew": "Write “again”.",
    r"(?:stands?|stood) (?:in|for)": "Write “is described in” or “means”.",
    r"(?:is|are|was|were) told": "Write “is notified” or “receives”.",
    r"says? so": "Name what is reported, and where.",
    r"so many": "Give the number, or write “N”.",
    r"(?:lets?|letting) go(?: of)?": "Write “release”.",
    r"meanwhile": "Write “while …” or “in the meantime”.",
    r"to be had": "Write “available”.",
    r"at hand": "Write “available”.",
    r"(?:a|an|no|some) [\w ]{1,30} of (?:its|their) own": "Write “its own …” or “a separate …”.",
    r"lapses?d?": "Leases and tokens expire.",
    r"wait(?:s|ed)? out": "Write “waits for the lease to expire”.",
    r"strangers?": "Write “unauthenticated caller” or “unknown client”.",
    r"the house|this room|the rooms?": "Write “the project”, “the package”.",
}

EXAMPLES = [
    "Whoever revokes waits",
    "nobody answers",
    "somebody was faster",
    "it begins anew",
    "what it is for stands in the guide",
    "every worker is told",
    "the page says so",
    "so many seconds",
    "it lets go of the lock",
    "meanwhile the lease ends",
    "no longer to be had",
    "the key at hand",
    "a limit of their own",
    "the lease lapsed",
    "it waits out the lease",
    "a stranger knocks",
    "put this room together",
]
"""A sentence for each phrase, so that a typing error in an expression does not disable its check."""


def modules() -> list[Path]:
    return [module for module in sorted((ROOT / "kataven").rglob("*.py")) if "_pb2" not in module.name]


def _blank(found: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", found.group(0))


def read_texts() -> Iterator[tuple[str, int, str]]:
    """The lines of the documentation, the templates and the strings: file, line number, and the line without code."""
    for page in [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        if "_build" not in page.parts:
            for number, line in enumerate(CODE.sub(_blank, page.read_text()).splitlines(), 1):
                yield str(page.relative_to(ROOT)), number, line
    for template in sorted((ROOT / "kataven").rglob("*.html")):
        for number, line in enumerate(TAGS.sub(_blank, template.read_text()).splitlines(), 1):
            yield str(template.relative_to(ROOT)), number, line
    for module in [ROOT / "app.py", ROOT / "wsgi.py", ROOT / "gunicorn.conf.py", *modules()]:
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
                for offset, line in enumerate(CODE.sub(" ", node.value).splitlines()):
                    yield str(module.relative_to(ROOT)), node.lineno + offset, line


@pytest.fixture(scope="module")
def texts() -> list[tuple[str, int, str]]:
    return list(read_texts())


@pytest.mark.parametrize("phrase", PHRASES)
def test_phrase_does_not_come_back(phrase: str, texts: list[tuple[str, int, str]]) -> None:
    expression = re.compile(rf"\b(?:{phrase})\b", re.IGNORECASE)
    found = [f"{file}:{number}: {line.strip()}" for file, number, line in texts if expression.search(line)]
    assert not found, f"{PHRASES[phrase]}\n" + "\n".join(found)


def test_public_class_names_are_unique() -> None:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for module in modules():
        if MIRRORS.isdisjoint(module.parts):
            for node in ast.parse(module.read_text()).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    found[node.name].append(str(module.relative_to(ROOT)))
    assert {name: places for name, places in found.items() if len(places) > 1} == {}


@pytest.mark.parametrize(("phrase", "sentence"), list(zip(PHRASES, EXAMPLES, strict=True)))
def test_every_expression_matches_its_example(phrase: str, sentence: str) -> None:
    assert re.search(rf"\b(?:{phrase})\b", sentence, re.IGNORECASE)
