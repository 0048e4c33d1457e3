"""The document in which the page of the widget shows the real `widget.js`, with the values of its form.

It is sandboxed: its origin is opaque, so neither a logo nor an error in the widget has access to the Hub. It is one
document without further requests. Its Content-Security-Policy allows exactly its two scripts and its style sheet.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path

from kataven.widget import embed

_SCRIPT = Path(__file__).parent / "widget-preview.js"
_STYLE = """
:root { color-scheme: light; }
body { margin: 0; background: #fff; color: #545c6b; font: .875rem/1.5 system-ui, sans-serif; }
main { padding: 1rem; }
h1 { font-size: 1rem; margin: 0; color: #15181e; }
p { margin: 0; }
"""
# Modules: `widget.js` reads its address from `document.currentScript`, which is null in a module.
_DOCUMENT = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Preview of the widget</title>
<style>{style}</style>
<script type="module">{ours}</script>
<script type="module">{widget}</script>
</head>
<body><main aria-label="A web page"><h1>Your web page</h1><p>The widget is at the corner of the page.</p></main></body>
</html>
"""


@cache
def preview() -> tuple[str, str]:
    """The document and its Content-Security-Policy."""
    ours, widget = (_inline(text) for text in (_SCRIPT.read_text("utf-8"), embed.script().body.decode()))
    policy = (
        f"sandbox allow-scripts; default-src 'none'; script-src {_hash(ours)} {_hash(widget)}; "
        f"style-src {_hash(_STYLE)}; img-src https: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    )
    return _DOCUMENT.format(style=_STYLE, ours=ours, widget=widget), policy


def _inline(script: str) -> str:
    """The script with the end tags in its comments escaped."""
    return script.replace("</script", "<\\/script")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
