"""The script `widget.js` as it is served, and the script tag that embeds it."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass, field
from functools import cache
from html import escape
from importlib.resources import files

SCRIPT_PATH = "/widget.js"


@dataclass(frozen=True, slots=True)
class EmbedScript:
    """One representation of the script. `etag` is a strong validator of these bytes (RFC 9110, section 8.8.3)."""

    body: bytes = field(repr=False)
    etag: str


@cache
def script() -> EmbedScript:
    """The script without compression."""
    return _script(files(__package__).joinpath("static", "widget.js").read_bytes())


@cache
def compressed_script() -> EmbedScript:
    """The script with gzip, which all browsers accept."""
    return _script(gzip.compress(script().body, 9, mtime=0))


def snippet(public_url: str, key: str, agent_id: object = None) -> str:
    """The script tag for a page. `agent_id` is required for keys that are not pinned to an agent."""
    agent = "" if agent_id is None else f' data-agent="{escape(str(agent_id))}"'
    return f'<script src="{escape(public_url)}{SCRIPT_PATH}" data-client-key="{escape(key)}"{agent} async></script>'


def _script(body: bytes) -> EmbedScript:
    return EmbedScript(body, hashlib.sha256(body).hexdigest()[:32])
