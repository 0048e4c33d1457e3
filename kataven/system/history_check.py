"""Compares the histories that the connections of this process found with the recorded ones.

A worker replays the journal if they differ (`operations/journal_replay.py`). A process that does not replay, such as
the auth-service, only has to know that commits may be lost.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from sqlalchemy.exc import DBAPIError

from kataven.background import BackgroundLoop, jittered
from kataven.system import server_histories
from kataven.system.database import SystemDatabase
from kataven.system.errors import SystemDatabaseUnavailable
from kataven.system.fallback_channel import without_journal
from kataven.tenancy.serving.histories import HistoryReport, ServerHistories

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Comparison:
    """`server` is the server whose history changed recently, or None. `settles_in` is None if the journal was not
    replayed yet, and otherwise the seconds until the last replay is due."""

    server: str | None = None
    settles_in: float | None = None


def compare(database: SystemDatabase, histories: ServerHistories, report: HistoryReport) -> Comparison:
    """Compare a report with the record, and mark the change if there is one. Without the tables of `system_0007`, there
    is none. Raises SystemDatabaseUnavailable or DBAPIError."""
    found = Comparison()
    with without_journal(), database.autocommit() as session:
        server = server_histories.server_of(session, report.account)
        if server is not None:
            recorded = server_histories.recorded(session, server, report.history)
            if recorded.history != report.history:
                found = Comparison(server)
            elif not recorded.settled:
                found = Comparison(server, max(0.0, histories.unsettled_seconds - recorded.changed_seconds_ago))
    if found.server is not None:
        histories.mark_unsettled(histories.unsettled_seconds if found.settles_in is None else found.settles_in)
    return found


class HistoryWatch:
    """Compares the reports of a process that does not replay the journal, in a background thread."""

    def __init__(self, database: SystemDatabase, histories: ServerHistories) -> None:
        self._database = database
        self._histories = histories
        self._loop = BackgroundLoop("history-watch", self.handle_reports, jittered(1.0))

    def start(self) -> None:
        self._loop.start()

    def stop(self) -> None:
        self._loop.stop()

    def handle_reports(self) -> None:
        """Compare the reports so far. A report that can't be compared yet is kept for the next call."""
        postponed = []
        while (report := self._histories.next_report()) is not None:
            try:
                compare(self._database, self._histories, report)
            except (SystemDatabaseUnavailable, DBAPIError) as error:
                _log.warning("the history of a database server can't be compared yet: %s", type(error).__name__)
                postponed.append(report)
        for report in postponed:
            self._histories.report_again(report)
