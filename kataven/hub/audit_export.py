"""Exports of audit logs as CSV or JSON lines, streamed with bounded memory.

The last line states that the export is complete and how many events it has. If a database fails in the middle, the last
line states that the export is incomplete: status and headers were sent long before.
"""

from __future__ import annotations

import csv
import io
import json
import logging
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
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
"""Spreadsheets evaluate cells that start with these characters, and anyone can choose the name of a key."""

Event = Mapping[str, Any]
"""An event by column. All events of an export have the same columns."""
Lines = Callable[[Sequence[Event]], str]


class ExportFormat(StrEnum):
    CSV = "csv"
    NDJSON = "ndjson"


MIME_TYPES = {
    ExportFormat.CSV: "text/csv; charset=utf-8; header=present",
    ExportFormat.NDJSON: "application/x-ndjson; charset=utf-8",
}


def respond(kind: ExportFormat, name: str, columns: Sequence[str], parts: Iterator[Sequence[Event]]) -> Response:
    """A download with all events. `parts` is consumed while the response is sent."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    response = Response(lines(kind, columns, parts), content_type=MIME_TYPES[kind])
    response.headers["Content-Disposition"] = f'attachment; filename="{name}-{stamp}.{kind}"'
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


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
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def _plain(value: Any) -> str:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else str(value)
