"""Renders the Markdown of descriptions with markdown-it-py.

Descriptions can come from the blueprints of other packages, so HTML in them is shown as text, images are disabled, and
only http and https links and links of this site become links.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markupsafe import Markup

from kataven.web.problems import PROBLEM_TYPES


def markdown(text: str, links: Mapping[str, str]) -> Markup:
    """The blocks of a description. `links`: the targets of words in code, such as a schema's name."""
    return Markup(_renderer().render(text, {"links": links}))  # noqa: S704  the renderer escapes HTML


def inline(text: str, links: Mapping[str, str]) -> Markup:
    """A description of one paragraph, without the paragraph."""
    return Markup(_renderer().renderInline(text, {"links": links}))  # noqa: S704  the renderer escapes HTML


@cache
def _renderer() -> MarkdownIt:
    renderer = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    renderer.validateLink = _is_allowed  # type: ignore[method-assign]  # the library's own, documented way
    renderer.add_render_rule("code_inline", _code)
    return renderer


def _is_allowed(url: str) -> bool:
    return url.startswith(("https://", "http://", "/", "#")) and not url.startswith("//")


def _code(self: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    """Code in a sentence. The name of a problem code or of a schema is a link to its description."""
    text = tokens[index].content
    target = f"/docs/errors#{text}" if text in PROBLEM_TYPES else env["links"].get(text)
    code = Markup("<code>{}</code>").format(text)
    return str(code if target is None else Markup('<a href="{}">{}</a>').format(target, code))
