"""Applies the revocation journal to accounts' databases that may have lost commits.

    a server has a new history      ServerHistories reports it when a connection is opened
    one process claims the replay   in the system database
    complete the journal            with Redis's record of the last day, because the failover may have lost entries too
    for each account                disable the journalled keys again, with an event in the account's audit log
    receipt                         for each account with a key that was disabled again
    record the history              so that no other process replays
    settle                          after `UNSETTLED_SECONDS`, all this once more: until the old server was demoted, it
                                    may have accepted commits, which are lost too

Until the replay is complete, workers refuse the journalled keys because they read the journal with the account.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic

from sqlalchemy.exc import DBAPIError

from kataven.account import restore_keys
from kataven.account.audit import Actor
from kataven.background import BackgroundLoop, jittered
from kataven.revocation.receipt import RevocationUnconfirmed
from kataven.revocation.revocation import RecentRevocationsUnknown, Revocation
from kataven.revocation.target import RevocationTarget
from kataven.system import journal, server_histories
from kataven.system.database import SystemDatabase
from kataven.system.errors import SystemDatabaseUnavailable
from kataven.system.history_check import compare
from kataven.system.sessions import AccountSessions
from kataven.tenancy.errors import NoTenant, TenancyError
from kataven.tenancy.serving.histories import HistoryReport, ServerHistories

ACTOR = Actor("system:journal", "Kataven")

_log = logging.getLogger(__name__)

_TEMPORARY = (SystemDatabaseUnavailable, TenancyError, RevocationUnconfirmed, RecentRevocationsUnknown, DBAPIError)
RETRY_SECONDS = 5.0


class JournalReplayer:
    """Handles the reports of one process in a background thread. Start it after the fork."""

    def __init__(
        self,
        database: SystemDatabase,
        sessions: AccountSessions,
        revocation: Revocation,
        histories: ServerHistories,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._database = database
        self._sessions = sessions
        self._revocation = revocation
        self._histories = histories
        self._clock = clock
        self._settle_at: dict[str, float] = {}
        self._loop = BackgroundLoop("journal-replay", self.handle_reports, jittered(1.0))

    def start(self) -> None:
        self._loop.start()

    def stop(self) -> None:
        self._loop.stop()

    def handle_reports(self) -> None:
        """Handle the reports so far. A report that can't be handled yet is kept for the next call."""
        postponed = []
        while (report := self._histories.next_report()) is not None:
            try:
                handled = self._handle(report)
            except _TEMPORARY as error:
                _log.warning("journal: the replay is not complete and will be repeated: %s", type(error).__name__)
                handled = False
            if not handled:
                postponed.append(report)
        for report in postponed:
            self._histories.report_again(report)
        self._settle()

    def _handle(self, report: HistoryReport) -> bool:
        """Returns False if another process is replaying: this process then checks again."""
        found = compare(self._database, self._histories, report)
        if found.server is None:
            return True
        if found.settles_in is not None:
            self._settle_at[found.server] = self._clock() + found.settles_in
            return True
        with self._database.autocommit() as session:
            if not server_histories.claim(session, found.server):
                return False
        if not report.is_change:
            self._histories.count_change()
        self._replay(found.server, report.history)
        self._histories.mark_unsettled(self._histories.unsettled_seconds)
        self._settle_at[found.server] = self._clock() + self._histories.unsettled_seconds
        return True

    def _settle(self) -> None:
        """Replay once more for the servers whose time has come, unless another process does or did."""
        for server in [server for server, due in self._settle_at.items() if due <= self._clock()]:
            try:
                with self._database.autocommit() as session:
                    unsettled = server_histories.is_unsettled(session, server)
                    claimed = unsettled and server_histories.claim(session, server)
                if claimed:
                    self._replay(server, None)
                if claimed or not unsettled:
                    del self._settle_at[server]
                    continue
            except _TEMPORARY as error:
                _log.warning("journal: the last replay is not complete: %s", type(error).__name__)
            self._settle_at[server] = self._clock() + RETRY_SECONDS

    def _replay(self, server: str, history: str | None) -> None:
        """Replay for a claimed server. `history` is None for the last replay after a change."""
        complete = False
        try:
            recent = self._revocation.recently_revoked()
            with self._database.autocommit() as session:
                for key in recent:
                    journal.add(session, key)
                accounts = journal.accounts_on(session, server)
            keys = sum(self.replay_account(account) for account in accounts)
            complete = True
            _log.warning("the journal was applied again on server %s: %d keys were disabled again", server, keys)
        finally:
            with self._database.autocommit() as session:
                server_histories.release(
                    session, server, history if complete else None, settled=complete and history is None
                )
        self._revocation.guard.clear()

    def replay_account(self, account: str) -> int:
        """Disable the journalled keys of an account again. Returns the number of keys.

        Raises SystemDatabaseUnavailable, TenancyError, or RevocationUnconfirmed.
        """
        with self._database.reading() as session:
            entries = journal.of_account(session, account)
        try:
            with self._sessions.writing(account) as tenant:
                keys = restore_keys.apply_journal(tenant, entries, ACTOR)
        except NoTenant:  # being created or deleted
            return 0
        if keys:
            self._revocation.revoke(RevocationTarget(account))
        return keys
