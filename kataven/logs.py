"""One JSON object a line on standard error, for every room alike: they log through the standard library, structlog
writes.

Only named fields are written, never a request's headers, query or body, so that there is no place for a secret to be.
Whatever still looks like a key or a JWT in a text or a traceback is cut out before it is written. Lines that are
written while a request runs carry its `request_id` and `trace_id`.
"""

from __future__ import annotations

import contextlib
import json
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
_MARKS = ("_live_", "eyJ", "://")
"""One of them is in whatever `_SECRET` finds. Looking for them first costs a tenth, and most lines have none."""
_NAMES = {"timestamp": "at", "event": "message", "exception": "traceback"}
_FIRST = ("timestamp", "level", "logger", "event")
"""A line is read from the left: when, how bad, where, what."""
REDACTED = "[redacted]"


def redact(text: str) -> str:
    """`text` without anything that has the shape of a key, a JWT or a URL's password."""
    if not any(mark in text for mark in _MARKS):
        return text
    return _SECRET.sub(REDACTED, text)


def every_request(logger: str) -> structlog.typing.FilteringBoundLogger:
    """A logger for a line that each request writes: as any other, but straight to standard error, at a third of the
    cost. Its level is always `info`."""
    bound: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
        _Lines(),
        processors=[structlog.contextvars.merge_contextvars, structlog.processors.TimeStamper(), _one_line],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    ).bind(level="info", logger=logger)
    return bound


class _Lines:
    """Where such a line ends: in one call, so that no other thread's line gets into it.

    If it can't be written (a full disk, nobody who reads), that is no reason to refuse the request.
    """

    def info(self, line: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(f"{line}\n")


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
    first = {_NAMES.get(name, name): event.pop(name, None) for name in _FIRST}
    line = {**first, **{_NAMES.get(name, name): value for name, value in event.items() if value is not None}}
    try:
        written = orjson.dumps(line, default=str).decode()
    except TypeError:  # half a character of UTF-16, a number of more than 64 bits: nothing that a request must fail for
        written = json.dumps(line, default=str)
    return redact(written)


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
