"""Writes logs as JSON lines to standard error. Packages log with the standard library; structlog formats the lines.

Lines contain only named fields, never a request's headers, query or body. Strings in messages and tracebacks that look
like a key or a JWT are redacted before the line is written. During a request, lines contain its `request_id` and
`trace_id`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import sys
import threading
import time
from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, TextIO

import orjson

if TYPE_CHECKING:
    from structlog.types import EventDict, WrappedLogger

_SECRET = re.compile(
    r"(?:sk|pk)_live_[\w-]{8,}"  # a key: complete, truncated, or with extra characters
    r"|(?<![0-9a-z])(?:rt|ut)_[0-9a-z]{16,}\w*"  # a token of the widget's visitors, complete or truncated
    r"|eyJ[\w-]{8,}(?:\.[\w-]*){0,2}"  # a JWT, complete or truncated
    r"|(?<=://)[^/@\s:]+:[^/@\s]+(?=@)",
    re.IGNORECASE,  # gunicorn writes header names in capitals, and a malformed request can have a key as a header name
)
_MARKS = ("_live_", "rt_", "ut_", "eyj", "://")
"""Every match of `_SECRET` contains one of these. This check takes a tenth of the time, and most lines have none."""
_NAMES = {"timestamp": "at", "event": "message", "exception": "traceback"}
_FIRST = ("timestamp", "level", "logger", "event")
"""The first fields of a line: time, level, logger, message."""
REDACTED = "[redacted]"

_log = logging.getLogger(__name__)


def redact(text: str) -> str:
    """`text` with everything redacted that looks like a key, a visitor's token, a JWT, a URL's password, or a part of
    one."""
    lowered = text.lower()
    for mark in _MARKS:  # a generator would take three times as long
        if mark in lowered:
            return _SECRET.sub(REDACTED, text)
    return text


_ids: ContextVar[Mapping[str, str]] = ContextVar("kataven_log_ids", default=MappingProxyType({}))


def set_ids(**ids: str) -> None:
    """The ids in every line that this thread writes from now on, such as `request_id`. Without arguments: none."""
    _ids.set(ids)


def ids() -> Mapping[str, str]:
    """The ids that are set."""
    return _ids.get()


class AccessLog:
    """Writes the access log: the same format as all lines, written directly to standard error, in a tenth of the time.

    The level is always `info`. Each line is written in one call, so that the lines of threads don't mix. A line that
    can't be written (full disk, closed pipe) is dropped, because this must not fail the request.
    """

    def __init__(self, logger: str) -> None:
        self._logger = logger

    def info(self, message: str, **fields: Any) -> None:
        """Write a line. Fields without a value are omitted."""
        line: dict[str, Any] = {"at": time.time(), "level": "info", "logger": self._logger, "message": message}
        line.update({name: value for name, value in fields.items() if value is not None})
        line.update(_ids.get())
        written = _json(line)
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(f"{written}\n")


def formatter() -> logging.Formatter:
    """Formats a record as JSON: time, level, logger, message, the request's ids, and the fields in `extra`."""
    import structlog
    from structlog.stdlib import ProcessorFormatter

    return ProcessorFormatter(
        foreign_pre_chain=[
            _add_ids,
            structlog.processors.TimeStamper(),
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(),
        ],
        processors=[ProcessorFormatter.remove_processors_meta, structlog.processors.format_exc_info, _one_line],
    )


def _one_line(_: WrappedLogger, __: str, event: EventDict) -> str:
    first = {_NAMES.get(name, name): event.pop(name, None) for name in _FIRST}
    return _json({**first, **{_NAMES.get(name, name): value for name, value in event.items() if value is not None}})


def _add_ids(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    for name, value in _ids.get().items():
        event.setdefault(name, value)
    return event


def _json(line: Mapping[str, Any]) -> str:
    """`line` as JSON, redacted."""
    try:
        written = orjson.dumps(line, default=str).decode()
    except TypeError:  # a lone surrogate, or an integer of more than 64 bits: must not fail the request
        written = json.dumps(line, default=str)
    return redact(written)


class StandardError(logging.StreamHandler[TextIO]):
    """Writes to the current `sys.stderr`, which can be replaced while the process runs.

    The first record creates the formatter. Most commands log nothing, and would load structlog and rich for it.
    """

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]  # the base class has an attribute
        return sys.stderr

    def format(self, record: logging.LogRecord) -> str:
        if self.formatter is None:
            self.formatter = formatter()
        return self.formatter.format(record)


def install(level: int = logging.INFO) -> None:
    """Send the records of all packages to standard error. Idempotent, because a process can have two apps."""
    root = logging.getLogger("kataven")
    if root.handlers:
        return
    root.addHandler(StandardError())
    root.setLevel(level)
    root.propagate = False


def capture_all_output() -> None:
    """Write all of the process's Python output as JSON lines: records of libraries, warnings, and exceptions that end a
    thread or the process. For processes that run as services; idempotent.

    Output that C libraries write directly to standard error is not included.
    """
    install()
    root = logging.getLogger()
    if not any(isinstance(handler, StandardError) for handler in root.handlers):
        root.addHandler(StandardError())
    logging.captureWarnings(True)
    sys.excepthook = _end_of_process
    threading.excepthook = _end_of_thread
    sys.unraisablehook = _unraisable


def _end_of_process(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    _log.critical("the process ended with an exception", exc_info=(kind, error, trace))


def _end_of_thread(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_value is None or issubclass(ended.exc_type, SystemExit):
        return
    name = ended.thread.name if ended.thread is not None else None
    exc_info = (ended.exc_type, ended.exc_value, ended.exc_traceback)
    _log.critical("a thread ended with an exception", exc_info=exc_info, extra={"thread_name": name})


def _unraisable(ignored: Any) -> None:
    exc_info = (ignored.exc_type, ignored.exc_value, ignored.exc_traceback)
    _log.error(ignored.err_msg or "an exception was ignored", exc_info=exc_info, extra={"where": repr(ignored.object)})
