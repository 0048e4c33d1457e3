"""Redis's record of revoked keys, which is read while a database failover may have lost the other two records."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest
from sqlalchemy import make_url

from kataven.identity.errors import VerifierUnavailable
from kataven.revocation.revocation import RecentRevocationsUnknown, Revocation
from kataven.revocation.target import RevokedKey
from kataven.system.recent_revocations import RETRY_SECONDS, RecentRevocations
from kataven.tenancy.directory import Tenant
from kataven.tenancy.serving.histories import UNSETTLED_SECONDS, ServerHistories
from tests.support.clock import Clock

KEY = RevokedKey("acme", "key")
TENANT = Tenant("acme", make_url("postgresql+psycopg2://db/acme"))


class Record:
    """Redis's record: `read` counts the lookups and returns or raises the result."""

    def __init__(self, result: Callable[[], bool]) -> None:
        self.reads = 0
        self._result = result

    def is_recently_revoked(self, key: RevokedKey) -> bool:
        assert key == KEY
        self.reads += 1
        return self._result()


def unreachable() -> bool:
    raise RecentRevocationsUnknown


def recent(record: Record, histories: ServerHistories) -> RecentRevocations:
    return RecentRevocations(cast(Revocation, record), histories)


def test_record_is_read_only_while_a_history_changed_recently() -> None:
    clock, record = Clock(), Record(lambda: True)
    histories = ServerHistories(clock=clock)
    revocations = recent(record, histories)
    assert not revocations.covers(KEY)
    assert record.reads == 0
    histories.observe(TENANT, "server/1")
    histories.next_report()
    assert not revocations.covers(KEY), "the history is the recorded one"
    histories.observe(TENANT, "server/2")
    histories.next_report()
    assert revocations.covers(KEY)
    clock.advance(UNSETTLED_SECONDS)
    assert not revocations.covers(KEY)
    assert record.reads == 1


def test_key_is_not_accepted_while_the_record_is_unreachable() -> None:
    histories = ServerHistories()
    histories.observe(TENANT, "server/1")
    assert not recent(Record(unreachable), histories).covers(KEY), "no change is known"
    histories.observe(TENANT, "server/2")
    with pytest.raises(VerifierUnavailable, match="Redis"):
        recent(Record(unreachable), histories).covers(KEY)


def test_process_that_started_after_the_failover_reads_the_record() -> None:
    histories = ServerHistories()
    histories.observe(TENANT, "server/2")
    assert recent(Record(lambda: True), histories).covers(KEY), "before the history is compared with the recorded one"
    histories.next_report()
    assert not recent(Record(lambda: True), histories).covers(KEY)
    histories.mark_unsettled(60)
    assert recent(Record(lambda: True), histories).covers(KEY)


def test_record_that_is_unreachable_is_not_read_again_for_a_second() -> None:
    clock, record = Clock(), Record(unreachable)
    histories = ServerHistories(clock=clock)
    histories.observe(TENANT, "server/1")
    revocations = RecentRevocations(cast(Revocation, record), histories, clock)
    assert [revocations.covers(KEY) for _ in range(3)] == [False] * 3
    assert record.reads == 1
    histories.observe(TENANT, "server/2")
    with pytest.raises(VerifierUnavailable):
        revocations.covers(KEY)
    assert record.reads == 1
    clock.advance(RETRY_SECONDS)
    with pytest.raises(VerifierUnavailable):
        revocations.covers(KEY)
    assert record.reads == 2
