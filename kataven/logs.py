"""One JSON object a line on standard error, for every room alike: they log through the standard library, structlog
writes.

Only named fields are written, never a request's headers, query or body, so that there is no place for a secret to be.
Whatever still looks like a key or a JWT in a text or a traceback is cut out before it is written. Lines that are
written while a request runs carry its `request_id` and `trace_id`.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import TextIO

import orjson
import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.types import EventDict, WrappedLogger

from kataven.identity.token import TOKEN_PATTERN

_SECRET = re.compile(rf"{TOKEN_PATTERN}|eyJ[\w-]+\.[\w-]+\.[\w-]*|(?<=://)[^/@\s:]+:[^/@\s]+(?=@)")
_NAMES = {"timestamp": "at", "event": "message", "exception": "traceback"}
REDACTED = "[redacted]"


def redact(text: str) -> str:
    """`text` without anything that has the shape of a key, a JWT or a URL's password."""
    return _SECRET.sub(REDACTED, text)


def formatter() -> logging.Formatter:
    """A record as JSON: time, level, logger, message, what the request is, and whatever `extra` named."""
    return ProcessorFormatter(
        foreign_pre_chain=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.TimeStamper(),
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(),
        ],
        processors=[ProcessorFormatter.remove_processors_meta, structlog.processors.format_exc_info, _one_line],
    )


def _one_line(_: WrappedLogger, __: str, event: EventDict) -> str:
    line = {_NAMES.get(name, name): value for name, value in event.items() if value is not None}
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
    handler.setFormatter(formatter())
    root.addHandler(handler)
    root.setLevel(level)
    root.propagate = False
