"""Syntax colours of the generated samples, as HTML with few and short class names. The page has no other code."""

from __future__ import annotations

import re
from typing import Final

from markupsafe import Markup, escape

from kataven.web.docs.examples import ACCOUNT

_STRING: Final = r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\""
_KEYWORDS: Final = {
    "python": "as|for|from|import|in|with|True|False|None",
    "ts": "await|const|from|import|true|false|null",
    "json": "true|false|null",
    "sh": "curl|export",
}
_COMMENTS: Final = {"python": r"#[^\n]*", "ts": r"(?<!:)//[^\n]*", "sh": r"(?m:^)#[^\n]*", "json": r"(?!)"}
_PATTERNS: Final = {
    language: re.compile(
        rf"(?P<c>{_COMMENTS[language]})|(?P<p>\"(?:\\.|[^\"\\])*\"(?=:))|(?P<s>{_STRING})|(?P<k>\b(?:{keywords})\b|(?<=\s)-[XHd]\b)"
    )
    for language, keywords in _KEYWORDS.items()
}
_ACCOUNT: Final = re.compile(rf"(?<=X-Account-ID: ){ACCOUNT}\b|(?<=account: &#39;){ACCOUNT}\b|(?<=sk_live_){ACCOUNT}\b")


def colored(code: str, language: str) -> Markup:
    """The code as HTML. The account's name is marked, so that the page can fill in the account of a session."""
    pattern = _PATTERNS[language]
    parts: list[Markup] = []
    place = 0
    for found in pattern.finditer(code):
        parts += [escape(code[place : found.start()]), _span(found)]
        place = found.end()
    parts.append(escape(code[place:]))
    html = "".join(parts)
    return Markup(_ACCOUNT.sub(f'<b class="account">{ACCOUNT}</b>', html))  # noqa: S704  escaped above


def _span(found: re.Match[str]) -> Markup:
    return Markup('<span class="{}">{}</span>').format(found.lastgroup, found[0])
