"""Suggests a documented path for an unknown one: `/v1/agents` for `/agents` and `/v1/agent`.

Unauthenticated callers can request any path, so only short paths are compared, and only with the segments of documented
paths. A suggestion never repeats the caller's input.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

SYNONYMS: Mapping[str, str] = {
    "api-docs": "docs",
    "keys": "api-keys",
    "live": "healthz",
    "ready": "readyz",
    "redoc": "docs",
    "reference": "docs",
    "status": "readyz",
    "swagger": "docs",
    "swagger-ui": "docs",
    "tokens": "api-keys",
    "widgets": "widget",
}
"""Segments that other APIs use, with the segment of this API."""
MAX_PATH_LENGTH = 80
MAX_PARTS = 6

_PARAMETER = re.compile(r"<(?:string:)?(\w+)>")


class Nearby:
    """The documented paths, split into segments."""

    def __init__(self, rules: Iterable[str]) -> None:
        self._paths = [tuple(_PARAMETER.sub(r"{\1}", rule).strip("/").split("/")) for rule in sorted(set(rules))]
        self._segments = sorted({part for path in self._paths for part in path if not part.startswith("{")})
        self._longest = max(map(len, self._segments))

    def of(self, path: str) -> str | None:
        """The documented path whose segments are closest to those of `path`; None if none is close enough."""
        if len(path) > MAX_PATH_LENGTH:
            return None
        parts = [part for part in path.split("/") if part]
        if not parts or len(parts) > MAX_PARTS:
            return None
        near = [self._nearest(part) for part in parts]
        for requested in (near, ["v1", *near], ["api", *near], near[1:], ["v1", *near[1:]]):
            found = next((path for path in self._paths if _fits(path, requested)), None)
            if found is not None:
                return "/" + "/".join(found)
        return None

    def _nearest(self, part: str) -> str:
        word = part.lower().replace("_", "-")
        word = SYNONYMS.get(word, word)
        if word in self._segments or len(word) > self._longest + 2:
            return word
        found = difflib.get_close_matches(word, self._segments, 1, 0.75)
        return found[0] if found else part


def _fits(path: tuple[str, ...], requested: list[str]) -> bool:
    return len(path) == len(requested) and all(
        one == other or one.startswith("{") for one, other in zip(path, requested, strict=True)
    )
