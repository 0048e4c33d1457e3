"""One JSON object a line on standard error, through the standard library's logging, for every room alike.

Only named fields are written, never a request's headers, query or body, so that there is no place for a secret to be.
Whatever still looks like a key or a JWT in a text or a traceback is cut out before it is written.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import Any, TextIO

import orjson

from kataven.identity.token import TOKEN_PATTERN

_SECRET = re.compile(rf"{TOKEN_PATTERN}|eyJ[\w-]+\.[\w-]+\.[\w-]*|(?<=://)[^/@\s:]+:[^/@\s]+(?=@)")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
REDACTED = "[redacted]"


def redact(text: str) -> str:
    """`text` without anything that has the shape of a key, a JWT or a URL's password."""
    return _SECRET.sub(REDACTED, text)


class JsonLines(logging.Formatter):
    """A record as JSON: time, level, logger, message, and whatever `extra` named."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update(
            {name: value for name, value in vars(record).items() if name not in _STANDARD and value is not None}
        )
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return redact(orjson.dumps(line, default=str).decode())


class StandardError(logging.StreamHandler[TextIO]):
    """Writes to what `sys.stderr` is at that moment, which may be replaced while a process runs."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]  # the base class has an attribute
        return sys.stderr


def install(level: int = logging.INFO) -> None:
    """Send every room's records to standard error. Idempotent: a second surface in the process changes nothing."""
    root = logging.getLogger("kataven")
    if root.handlers:
        return
    handler = StandardError()
    handler.setFormatter(JsonLines())
    root.addHandler(handler)
    root.setLevel(level)
    root.propagate = False
