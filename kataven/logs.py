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
import threading
from types import TracebackType
from typing import Any, TextIO

import orjson
import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.types import EventDict, WrappedLogger

_SECRET = re.compile(
    r"(?:sk|pk)_live_[\w-]{8,}"  # a key: whole, cut, or with a character too many
    r"|(?<![0-9a-z])(?:rt|ut)_[0-9a-z]{16,}\w*"  # what the widget's visitors hold, whole or cut
    r"|eyJ[\w-]{8,}(?:\.[\w-]*){0,2}"  # a JWT, whole or cut
    r"|(?<=://)[^/@\s:]+:[^/@\s]+(?=@)",
    re.IGNORECASE,  # gunicorn writes the names of headers in capitals, and a key may stand where a name should
)
_MARKS = ("_live_", "rt_", "ut_", "eyj", "://")
"""One of them is in whatever `_SECRET` finds. Looking for them first costs a tenth, and most lines have none."""
_NAMES = {"timestamp": "at", "event": "message", "exception": "traceback"}
_FIRST = ("timestamp", "level", "logger", "event")
"""A line is read from the left: when, how bad, where, what."""
REDACTED = "[redacted]"

_log = logging.getLogger(__name__)


def redact(text: str) -> str:
    """`text` without anything that has the shape of a key, a visitor's token, a JWT or a URL's password, nor of a part
    of one."""
    lowered = text.lower()
    if not any(mark in lowered for mark in _MARKS):
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


def take_over() -> None:
    """Have everything that this process writes by way of Python be such lines: the libraries' records, warnings, and
    exceptions that end a thread or the process. For processes that are services of ours; idempotent.

    What C libraries write to standard error by themselves is out of reach.
    """
    install()
    root = logging.getLogger()
    if not any(isinstance(handler, StandardError) for handler in root.handlers):
        handler = StandardError()
        handler.setFormatter(formatter())
        root.addHandler(handler)
    logging.captureWarnings(True)
    sys.excepthook = _end_of_process
    threading.excepthook = _end_of_thread
    sys.unraisablehook = _unraisable


def _end_of_process(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    _log.critical("the process ends by an exception", exc_info=(kind, error, trace))


def _end_of_thread(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_value is None or issubclass(ended.exc_type, SystemExit):
        return
    name = ended.thread.name if ended.thread is not None else None
    exc_info = (ended.exc_type, ended.exc_value, ended.exc_traceback)
    _log.critical("a thread ends by an exception", exc_info=exc_info, extra={"thread_name": name})


def _unraisable(ignored: Any) -> None:
    exc_info = (ignored.exc_type, ignored.exc_value, ignored.exc_traceback)
    _log.error(ignored.err_msg or "an exception is ignored", exc_info=exc_info, extra={"where": repr(ignored.object)})
