"""The usage recorder: what is aggregated, what is logged, bounded memory, and batches that count exactly once."""

from __future__ import annotations

import orjson
import pytest

from kataven.identity.principal import CredentialKind, Principal, Role
from kataven.ratelimit.decision import Decision
from kataven.tenancy.errors import NoTenant, SchemaMismatch
from kataven.usage import pending, recorder
from kataven.usage.observed import Caller, Observed
from kataven.usage.outcomes import CallOutcome, RequestStep, outcome_of
from kataven.usage.pending import NOBODY, Batch
from kataven.usage.policy import UsagePolicy
from kataven.usage.recorder import UsageRecorder
from tests.support.clock import Clock

KEY = "11111111-1111-1111-1111-111111111111"
OTHER_KEY = "22222222-2222-2222-2222-222222222222"


class Databases:
    """Keeps the batches of each account, as the databases do: each number of a writer once."""

    def __init__(self) -> None:
        self.batches: dict[str, list[Batch]] = {}
        self.failing: type[Exception] | None = None
        self.loses_reply = False
        self.trims: list[str] = []

    def write(self, account: str, batch: Batch) -> None:
        if self.failing is not None:
            raise self.failing
        known = self.batches.setdefault(account, [])
        if (batch.writer, batch.sequence) not in {(one.writer, one.sequence) for one in known}:
            known.append(batch)
        if self.loses_reply:
            raise ConnectionError

    def trim(self, account: str) -> bool:
        self.trims.append(account)
        return False

    def rows(self, table: str, account: str = "acme") -> list[dict[str, object]]:
        return [row for batch in self.batches.get(account, []) for row in orjson.loads(getattr(batch, table))]

    def calls(self, account: str = "acme") -> int:
        return sum(int(str(row["calls"])) for row in self.rows("minutes", account))


class Metric:
    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def __call__(self, outcome: str, calls: int) -> None:
        self.counts[outcome] = self.counts.get(outcome, 0) + calls


def key(key_id: str = KEY, account: str = "acme") -> Principal:
    return Principal(CredentialKind.API_KEY, account, key_id, "billing server")


def observed(
    at: float,
    caller: Caller | None = None,
    *,
    path: str = "/v1/agents",
    status: int = 200,
    code: str | None = None,
    address: str = "192.0.2.1",
    agent: str = "curl/8.5.0",
    request_id: str = "0123456789",
    decision: Decision | None = None,
) -> Observed:
    step = RequestStep.RESPONSE if code is None else RequestStep.HANDLER
    who = caller or key()
    return (at, 0.002, who, "GET", path, status, code, step, address, agent, request_id, decision)


@pytest.fixture
def clock() -> Clock:
    return Clock(1_800_000_000.0)


@pytest.fixture
def databases() -> Databases:
    return Databases()


@pytest.fixture
def metric() -> Metric:
    return Metric()


@pytest.fixture
def usage(databases: Databases, metric: Metric, clock: Clock) -> UsageRecorder:
    return UsageRecorder(databases, UsagePolicy(), metric, clock=clock)


def test_calls_are_counted_by_minute_caller_route_and_outcome(
    usage: UsageRecorder, databases: Databases, clock: Clock
) -> None:
    usage.record(observed(clock.now))
    usage.record(observed(clock.now + 1))
    usage.record(observed(clock.now + 2, status=404, code="not_found"))
    usage.record(observed(clock.now + 61, key(OTHER_KEY)))
    usage.flush()
    rows = databases.rows("minutes")
    assert [(row["caller"], row["outcome"], row["code"], row["calls"]) for row in rows] == [
        (KEY, "invalid", "not_found", 1),
        (KEY, "ok", "", 2),
        (OTHER_KEY, "ok", "", 1),
    ]
    assert {row["route"] for row in rows} == {"GET /v1/agents"}
    assert sum(int(str(row["calls"])) for row in databases.rows("hours")) == 4


def test_an_account_is_written_five_seconds_after_its_first_request(
    usage: UsageRecorder, databases: Databases, clock: Clock
) -> None:
    usage.record(observed(clock.now))
    usage.run()
    clock.advance(recorder.WRITE_SECONDS - 1)
    usage.run()
    assert databases.calls() == 0
    clock.advance(1)
    usage.run()
    assert databases.calls() == 1


def test_an_account_with_many_keys_is_written_less_often(
    usage: UsageRecorder, databases: Databases, clock: Clock
) -> None:
    def call_with_each_key() -> None:
        for number in range(recorder.LARGE_BATCH):
            usage.record(observed(clock.now, key(f"{number:08}-1111-1111-1111-111111111111")))
        usage.run()

    call_with_each_key()
    clock.advance(recorder.WRITE_SECONDS)
    usage.run()
    call_with_each_key()
    clock.advance(recorder.WRITE_SECONDS)
    usage.run()
    assert databases.calls() == recorder.LARGE_BATCH
    clock.advance(recorder.LARGE_BATCH_SECONDS - recorder.WRITE_SECONDS)
    usage.run()
    assert databases.calls() == 2 * recorder.LARGE_BATCH


def test_a_batch_that_may_have_been_written_counts_once(
    usage: UsageRecorder, databases: Databases, metric: Metric, clock: Clock
) -> None:
    databases.loses_reply = True
    usage.record(observed(clock.now))
    usage.flush()
    databases.loses_reply = False
    usage.record(observed(clock.now))
    usage.flush()
    assert databases.calls() == 2
    assert metric.counts == {"stored": 2}


def test_usage_is_kept_while_a_database_is_unavailable(
    usage: UsageRecorder, databases: Databases, metric: Metric, clock: Clock
) -> None:
    databases.failing = ConnectionError
    for _ in range(100):
        usage.record(observed(clock.now))
        usage.run()
        clock.advance(60)
    databases.failing = None
    usage.flush()
    assert databases.calls() == 100
    assert metric.counts == {"stored": 100}


def test_another_account_is_written_while_one_is_unavailable(clock: Clock) -> None:
    class OneFails(Databases):
        def write(self, account: str, batch: Batch) -> None:
            if account == "acme":
                raise ConnectionError
            super().write(account, batch)

    databases = OneFails()
    usage = UsageRecorder(databases, UsagePolicy(), clock=clock)
    usage.record(observed(clock.now))
    usage.record(observed(clock.now, key(account="globex")))
    usage.flush()
    assert databases.calls("globex") == 1


def test_too_many_callers_are_counted_without_their_caller(
    usage: UsageRecorder, databases: Databases, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pending, "MAX_ROWS", 10)
    for number in range(50):
        usage.record(observed(clock.now, key(f"{number:08}-1111-1111-1111-111111111111")))
    usage.flush()
    assert databases.calls() == 50
    rows = databases.rows("minutes")
    assert len(rows) == 11
    assert [(row["route"], row["calls"]) for row in rows if row["caller"] == NOBODY] == [("*", 40)]


def test_what_does_not_fit_is_dropped_and_counted(
    databases: Databases, metric: Metric, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pending, "MAX_ROWS", 2)
    monkeypatch.setattr(pending, "MAX_SUMMARY_ROWS", 3)
    usage = UsageRecorder(databases, UsagePolicy(), metric, clock=clock)
    for minute in range(10):
        usage.record(observed(clock.now + 60 * minute))
    usage.flush()
    losses = sum(int(str(row["calls"])) for row in databases.rows("losses"))
    assert (databases.calls(), losses) == (5, 5)
    assert metric.counts == {"stored": 5, "dropped": 5}


def test_a_full_queue_drops_and_counts(databases: Databases, metric: Metric, clock: Clock) -> None:
    usage = UsageRecorder(databases, UsagePolicy(), metric, clock=clock, max_queue=3)
    for _ in range(5):
        usage.record(observed(clock.now))
    usage.flush()
    assert databases.calls() == 3
    assert [row["calls"] for row in databases.rows("losses")] == [2]
    assert metric.counts == {"stored": 3, "dropped": 2}


def test_over_the_bound_of_all_accounts_calls_are_counted_by_outcome_only(
    usage: UsageRecorder, databases: Databases, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "MAX_ROWS", 1)
    usage.record(observed(clock.now))
    usage.run()
    for number in range(5):
        usage.record(observed(clock.now, path=f"/v1/{number}"))
    usage.run()
    usage.flush()
    assert {(row["route"], row["calls"]) for row in databases.rows("minutes")} == {("GET /v1/agents", 1), ("*", 5)}


def test_rows_that_could_not_be_written_count_toward_the_bound_of_all_accounts(
    usage: UsageRecorder, databases: Databases, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "MAX_ROWS", 10)
    databases.failing = ConnectionError
    for number in range(10):
        for route in range(5):
            usage.record(observed(clock.now, key(account=f"account-{number}"), path=f"/v1/{route}"))
        usage.flush()
    databases.failing = None
    usage.flush()
    routes = {number: {row["route"] for row in databases.rows("minutes", f"account-{number}")} for number in range(10)}
    assert len(routes[0]) == 5
    assert [routes[number] for number in range(1, 10)] == [{"*"}] * 9


def test_an_account_that_is_not_migrated_is_not_recorded(
    usage: UsageRecorder, databases: Databases, metric: Metric, clock: Clock
) -> None:
    class Unmigrated(SchemaMismatch):
        def __init__(self) -> None:
            super().__init__("acme", "account_0005", "account_0006")

    databases.failing = Unmigrated
    usage.record(observed(clock.now))
    usage.flush()
    usage.record(observed(clock.now))
    usage.run()
    assert metric.counts == {"unmigrated": 2}
    databases.failing = None
    clock.advance(recorder.UNMIGRATED_SECONDS)
    usage.record(observed(clock.now))
    usage.flush()
    assert databases.calls() == 1


def test_the_usage_of_a_deleted_account_is_dropped(
    usage: UsageRecorder, databases: Databases, metric: Metric, clock: Clock
) -> None:
    class Gone(NoTenant):
        def __init__(self) -> None:
            super().__init__("acme")

    databases.failing = Gone
    usage.record(observed(clock.now))
    usage.flush()
    assert metric.counts == {"dropped": 1}


def test_what_can_not_be_written_at_shutdown_is_dropped_and_counted(
    usage: UsageRecorder, databases: Databases, metric: Metric, clock: Clock
) -> None:
    databases.failing = ConnectionError
    for _ in range(3):
        usage.record(observed(clock.now))
        usage.flush()
    usage.stop()
    assert metric.counts == {"dropped": 3}


def test_refusals_are_logged_and_successes_are_sampled(databases: Databases, clock: Clock) -> None:
    usage = UsageRecorder(databases, UsagePolicy(successes=2), clock=clock)
    for number in range(10):
        usage.record(observed(clock.now, request_id=f"success-{number}"))
    usage.record(observed(clock.now, address="192.0.2.9", request_id="other-address"))
    usage.record(observed(clock.now, status=429, code="rate_limited", request_id="refused-one"))
    usage.flush()
    assert [row["request_id"] for row in databases.rows("log")] == [
        "success-0",
        "success-1",
        "other-address",
        "refused-one",
    ]


def test_refusals_beyond_the_bound_are_counted_and_not_logged(
    usage: UsageRecorder, databases: Databases, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pending, "MAX_REFUSALS_A_MINUTE", 3)
    for _ in range(8):
        usage.record(observed(clock.now, status=429, code="rate_limited"))
    usage.flush()
    assert databases.calls() == 8
    assert len(databases.rows("log")) == 3
    assert [(row["calls"], row["requests"]) for row in databases.rows("losses")] == [(0, 5)]


def test_the_refusals_of_one_key_leave_room_in_the_log_for_those_of_another(
    usage: UsageRecorder, databases: Databases, clock: Clock
) -> None:
    for _ in range(pending.MAX_REFUSALS_A_MINUTE // 2):
        usage.record(observed(clock.now, status=429, code="rate_limited"))
    usage.record(observed(clock.now, key(OTHER_KEY), status=429, code="rate_limited"))
    usage.flush()
    logged = [row["caller"] for row in databases.rows("log")]
    assert (logged.count(KEY), logged.count(OTHER_KEY)) == (pending.MAX_REFUSALS_OF_CALLER, 1)


def test_many_addresses_of_a_key_are_counted_together(usage: UsageRecorder, databases: Databases, clock: Clock) -> None:
    for number in range(pending.MAX_ADDRESSES + 7):
        usage.record(observed(clock.now, address=f"2001:db8::{number:x}"))
    usage.flush()
    rows = databases.rows("addresses")
    assert len(rows) == pending.MAX_ADDRESSES + 1
    assert [row["calls"] for row in rows if row["address"] == ""] == [7]


def test_the_addresses_of_past_hours_are_forgotten(usage: UsageRecorder, clock: Clock) -> None:
    for _ in range(24):
        for caller in (KEY, OTHER_KEY):
            usage.record(observed(clock.now, key(caller)))
        usage.flush()
        clock.advance(3600)
    assert set(usage._accounts["acme"].pending._addresses_of) == {KEY, OTHER_KEY}


def test_users_are_recorded_by_their_id(usage: UsageRecorder, databases: Databases, clock: Clock) -> None:
    alice = Principal(CredentialKind.JWT, "acme", "alice", "Alice\0", Role.OWNER, person=OTHER_KEY)
    usage.record(observed(clock.now, alice))
    usage.flush()
    logged = databases.rows("log")[0]
    assert (logged["caller"], logged["kind"], logged["name"]) == (OTHER_KEY, "user", "Alice")


def test_a_refused_credential_is_recorded_for_its_account(
    usage: UsageRecorder, databases: Databases, clock: Clock
) -> None:
    refused = ("globex", KEY, CredentialKind.API_KEY)
    usage.record(observed(clock.now, refused, status=403, code="revoked_credential"))
    usage.flush()
    assert [(row["caller"], row["code"]) for row in databases.rows("minutes", "globex")] == [
        (KEY, "revoked_credential")
    ]


def test_a_secret_in_the_request_id_or_the_user_agent_is_not_recorded(
    usage: UsageRecorder, databases: Databases, clock: Clock
) -> None:
    secret = "sk_live_acme_" + "A" * 43
    usage.record(observed(clock.now, agent=secret, request_id=secret))
    usage.flush()
    assert "AAAA" not in repr(databases.batches)


def test_old_rows_are_removed_and_an_unused_account_is_forgotten(
    usage: UsageRecorder, databases: Databases, clock: Clock
) -> None:
    usage.record(observed(clock.now))
    usage.flush()
    clock.advance(recorder.TRIM_SECONDS)
    usage.run()
    assert databases.trims == ["acme"]
    clock.advance(recorder.FORGET_SECONDS + 1)
    usage.run()
    clock.advance(recorder.IDLE_TRIM_SECONDS)
    usage.run()
    assert databases.trims == ["acme"]


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(200, "ok"), (304, "ok"), (404, "invalid"), (401, "refused"), (403, "refused"), (429, "limited"), (503, "failed")],
)
def test_outcomes(status: int, outcome: str) -> None:
    assert outcome_of(status) == CallOutcome(outcome)
