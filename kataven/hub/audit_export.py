"""Exports of audit logs as CSV or JSON lines, streamed with bounded memory.

An export uses a request thread until its client has read it, so the number of exports in progress is limited, in total
and for each account: pages must be served in the meantime.

The last line states that the export is complete and how many events it has. If a database fails in the middle, the last
line states that the export is incomplete: status and headers were sent long before.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from flask import Response

from kataven.identity.errors import VerifierUnavailable
from kataven.tenancy.errors import TenancyError

log = logging.getLogger(__name__)

PART = 500
"""The number of events that are read and sent at once."""
COMPLETE, INCOMPLETE = "export complete", "EXPORT INCOMPLETE: a database became unavailable. Repeat the export."
MAX_RUNNING = 2
"""Exports in progress in a process: a quarter of its threads. Each log has one at most."""
_FORMULA_STARTS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""Spreadsheets evaluate cells that start with these characters, some also after white space or in their full width.
Anyone can choose the name of a key."""

Event = Mapping[str, Any]
"""An event by column. All events of an export have the same columns."""
Lines = Callable[[Sequence[Event]], str]


class TooManyExports(VerifierUnavailable):
    """Too many exports are in progress."""


class RunningExports:
    """The exports in progress in this process, by the name of their log. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._names: dict[str, object] = {}

    def start(self, name: str) -> Callable[[], None]:
        """Returns the function that ends the export, which may be called several times. Raises TooManyExports."""
        export = object()
        with self._lock:
            if name in self._names or len(self._names) >= MAX_RUNNING:
                raise TooManyExports("Another export is in progress. Try again when it has ended.")
            self._names[name] = export

        def end() -> None:
            with self._lock:
                if self._names.get(name) is export:
                    del self._names[name]

        return end


_running = RunningExports()


class ExportFormat(StrEnum):
    CSV = "csv"
    NDJSON = "ndjson"


MIME_TYPES = {
    ExportFormat.CSV: "text/csv; charset=utf-8; header=present",
    ExportFormat.NDJSON: "application/x-ndjson; charset=utf-8",
}


def respond(
    kind: ExportFormat,
    name: str,
    columns: Sequence[str],
    parts: Iterator[Sequence[Event]],
    record: Callable[[], None],
) -> Response:
    """A download with all events. `record` writes its event. `parts` is consumed while the response is sent.

    Raises TooManyExports, and what `record` raises.
    """
    end = _running.start(name)
    try:
        record()
    except BaseException:
        end()
        raise
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    response = Response(_until_ended(lines(kind, columns, parts), end), content_type=MIME_TYPES[kind])
    response.call_on_close(end)  # also if nothing was sent
    response.headers["Content-Disposition"] = f'attachment; filename="{name}-{stamp}.{kind}"'
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def _until_ended(text: Iterator[str], end: Callable[[], None]) -> Iterator[str]:
    try:
        yield from text
    finally:
        end()


def lines(kind: ExportFormat, columns: Sequence[str], parts: Iterator[Sequence[Event]]) -> Iterator[str]:
    """The text of the export, one part at a time."""
    count, end = 0, INCOMPLETE
    if kind is ExportFormat.CSV:
        yield _csv([columns])
    try:
        for events in parts:
            count += len(events)
            yield _of_events(kind, columns, events)
        end = COMPLETE
    except (TenancyError, VerifierUnavailable) as error:
        log.warning("audit export incomplete", extra={"error": type(error).__name__})
    yield _end(kind, end, count)


def _of_events(kind: ExportFormat, columns: Sequence[str], events: Sequence[Event]) -> str:
    if kind is ExportFormat.CSV:
        return _csv([[_cell(event[column]) for column in columns] for event in events])
    return "".join(f"{json.dumps(event, ensure_ascii=False, default=_plain)}\n" for event in events)


def _end(kind: ExportFormat, text: str, count: int) -> str:
    if kind is ExportFormat.CSV:
        return _csv([[f"# {text}", f"{count} events"]])
    return f"{json.dumps({'export': text, 'complete': text == COMPLETE, 'events': count})}\n"


def _csv(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = json.dumps(value, ensure_ascii=False, default=_plain) if isinstance(value, Mapping | list) else _plain(value)
    is_formula = text.startswith(("\t", "\r", "\n")) or text.lstrip().startswith(_FORMULA_STARTS)
    return f"'{text}" if is_formula else text


def _plain(value: Any) -> str:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else str(value)
