"""`kataven doctor` and `kataven status`: what is wrong with an installation, and what to change."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from sqlalchemy import text

from kataven import __version__, settings
from kataven.commands import unsafe_settings
from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.dev.embedded.redis_server import EmbeddedRedis
from kataven.operations import peppers_in_use, revocation_measurement
from kataven.operations.diagnosis import databases, product
from kataven.operations.diagnosis import redis as redis_checks
from kataven.operations.diagnosis.databases import HostConnections
from kataven.operations.diagnosis.findings import CheckResult, ResultState, clock
from kataven.operations.operator import Operator
from kataven.revocation.coordination import Member
from kataven.settings import Settings
from kataven.system.errors import SystemDatabaseUnavailable
from kataven.system.models import RegisteredServer
from tests.support.app_harness import AppHarness, new_account, open_harness
from tests.support.oidc import IssuerWithPen
from tests.support.program import kataven, kataven_json, unconfigured

OK, WARNING, FAILED = ResultState.OK, ResultState.WARNING, ResultState.FAILED
NO_BUDGET = HostConnections(1, 1)


@pytest.fixture(scope="module")
def harness(server_folder: Path, issuer: IssuerWithPen) -> Iterator[AppHarness]:
    """A harness on its own servers: the checks read all accounts, and other tests leave unhealthy ones."""
    folder = server_folder / "doctor"
    folder.mkdir()
    with (
        EmbeddedPostgres(folder / "postgres", fsync=False) as postgres,
        EmbeddedRedis(folder / "redis", persistent=False) as redis_server,
        open_harness(postgres, redis_server, issuer, folder) as harness,
    ):
        yield harness


@pytest.fixture
def operator(harness: AppHarness) -> Operator:
    return Operator("test", harness.services)


def by_check(findings: Iterator[CheckResult]) -> dict[str, CheckResult]:
    found = {finding.check: finding for finding in findings}
    assert all(one.fix for one in found.values() if one.state is not OK), "every problem names its fix"
    return found


def states(findings: Iterator[CheckResult]) -> dict[str, ResultState]:
    return {name: finding.state for name, finding in by_check(findings).items()}


# The command.


def test_healthy_installation_has_no_failed_check(harness: AppHarness) -> None:
    result = kataven(harness, "doctor", "--json")
    found = {row["check"]: row for row in json.loads(result.stdout)}
    assert (result.exit_code, [row for row in found.values() if row["state"] == "failed"]) == (0, [])
    assert found["system schema"]["state"] == "ok"
    assert found["server default: connections"]["state"] == "ok"
    assert found["workers"]["found"].startswith("1 on 1 host,")
    assert found["issuer: keys"]["state"] == "ok"
    assert found["environment"]["fix"].startswith("Set KATAVEN_ENV=production")
    for secret in ("KATAVEN_PEPPERS", "KATAVEN_WIDGET_SIGNING_KEYS"):
        assert harness.environ[secret].partition(":")[2] not in result.output


def test_text_has_one_line_per_check_and_the_fix_below(harness: AppHarness) -> None:
    result = kataven(harness, "doctor")
    assert result.exit_code == 0
    assert "ok       system schema: at system_" in result.stdout
    assert "warning  environment: " in result.stdout
    assert "\n         Set KATAVEN_ENV=production" in result.stdout
    assert " 0 failed" in result.stderr


def test_invalid_settings_are_failed_checks_and_nothing_else_runs() -> None:
    result = unconfigured("doctor", "--json")
    assert result.exit_code == 1
    assert {row["check"]: row["found"] for row in json.loads(result.stdout)} == {
        "setting KATAVEN_DATABASE_URL": "is missing",
        "setting KATAVEN_PEPPERS": "is missing",
    }


def test_unavailable_system_database_is_a_failed_check_and_the_others_still_run(
    harness: AppHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def fail() -> Iterator[None]:
        raise SystemDatabaseUnavailable
        yield

    monkeypatch.setattr(harness.services.directory.database, "reading", fail)
    result = kataven(harness, "doctor", "--json")
    found = {row["check"]: row["state"] for row in json.loads(result.stdout)}
    assert (result.exit_code, found["system database"], found["workers"]) == (1, "failed", "ok")
    assert "issuer: keys" in found


def test_system_database_without_a_table_is_a_failed_check(
    harness: AppHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        with harness.services.directory.database.reading() as session:
            session.execute(text("SELECT * FROM no_such_table"))

    monkeypatch.setattr(product.accounts, "count_by_status", fail)
    result = kataven(harness, "doctor", "--json")
    found = [row for row in json.loads(result.stdout) if row["state"] == "failed"]
    assert result.exit_code == 1
    assert {row["check"] for row in found} == {"system database"}
    assert all("migrations upgrade --system" in row["fix"] for row in found)


# Settings.


def production(harness: AppHarness, **changes: str) -> Settings:
    environ = {
        **harness.environ,
        "KATAVEN_ENV": "production",
        "KATAVEN_OIDC_ISSUER": "https://issuer.example.com",
        "KATAVEN_PUBLIC_URL": "https://api.example.com",
        "KATAVEN_PEPPERS": "p1:" + "bm5u" * 11,
        "KATAVEN_METRICS_TOKEN": "m" * 16,
        "KATAVEN_TRUSTED_PROXIES": "1",
        **changes,
    }
    del environ["KATAVEN_WIDGET_SIGNING_KEYS"]
    return settings.load({name: value for name, value in environ.items() if value})


def test_safe_production_settings_have_no_warning(harness: AppHarness) -> None:
    assert states(unsafe_settings.check_settings(production(harness))) == {"production settings": OK}


@pytest.mark.parametrize(
    ("changes", "checks"),
    [
        ({"KATAVEN_DATABASE_URL": "postgresql://u@db.example.com/s"}, {"KATAVEN_DATABASE_URL"}),
        ({"KATAVEN_DATABASE_URL": "postgresql://u@db.example.com/s?sslmode=require"}, {"KATAVEN_DATABASE_URL"}),
        ({"KATAVEN_DATABASE_URL": "postgresql://u@db.example.com/s?sslmode=verify-full"}, set()),
        ({"KATAVEN_REDIS_URL": "redis://cache.example.com"}, {"KATAVEN_REDIS_URL"}),
        ({"KATAVEN_REDIS_URL": "rediss://:pw@cache.example.com"}, set()),
        ({"KATAVEN_REDIS_URL": "redis+sentinel://:pw@s1.example.com,s2.example.com/main"}, {"KATAVEN_REDIS_URL"}),
        ({"KATAVEN_METRICS_TOKEN": ""}, {"KATAVEN_METRICS_TOKEN"}),
        ({"KATAVEN_TRUSTED_PROXIES": ""}, {"KATAVEN_TRUSTED_PROXIES"}),
        ({"KATAVEN_PEPPERS": "", "KATAVEN_AUTH_SERVICE": "auth.example.com:50051"}, {"KATAVEN_AUTH_SERVICE"}),
        ({"KATAVEN_PEPPERS": "", "KATAVEN_AUTH_SERVICE": "unix:/run/auth.sock"}, set()),
    ],
    ids=str,
)
def test_unsafe_production_setting_is_named(harness: AppHarness, changes: dict[str, str], checks: set[str]) -> None:
    found = by_check(unsafe_settings.check_settings(production(harness, **changes)))
    assert {name for name, one in found.items() if one.state is WARNING} == checks
    assert "pw" not in str(found)


# Databases. A row of PostgreSQL's state is replaced, because the server of the tests has no standbys.


def row(**changes: Any) -> SimpleNamespace:
    healthy = {"standbys": 0, "synchronous": 0, "names": "", "commits": "on", "connections": 5, "most": 100}
    return SimpleNamespace(**{**healthy, "reserved": 3, **changes})


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (row(), OK),
        (row(standbys=1), WARNING),
        (row(commits="off"), WARNING),
        (row(standbys=1, synchronous=1, names="*"), OK),
        (row(standbys=1, synchronous=0, names="*"), FAILED),
        (row(standbys=0, synchronous=0, names="*"), FAILED),
    ],
    ids=str,
)
def test_replication_state(state: Any, expected: ResultState) -> None:
    assert databases._replication("replication", state).state is expected


@pytest.mark.parametrize(
    ("state", "budget", "expected"),
    [
        (row(), HostConnections(80, 1), OK),
        (row(), HostConnections(80, 2), WARNING),
        (row(connections=97), HostConnections(10, 1), FAILED),
    ],
    ids=str,
)
def test_connections_are_compared_with_max_connections(
    state: Any, budget: HostConnections, expected: ResultState
) -> None:
    assert databases._connections("connections", state, budget).state is expected


def test_unreachable_server_is_a_failed_check(harness: AppHarness) -> None:
    url = harness.services.directory.database.url.set(host="127.0.0.1", port=1, query={})
    [found] = databases.check_server("server gone", url, 7, NO_BUDGET)
    assert (found.state, "7 accounts" in found.fix) == (FAILED, True)


def test_servers_that_are_all_draining_are_a_failed_check(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    drained = RegisteredServer(name="default", url=None, draining=True)
    monkeypatch.setattr(databases.servers, "listing", lambda _: [(drained, 2)])
    found = by_check(databases.check_servers(operator, NO_BUDGET))
    assert (found["servers"].state, found["server default"].state) == (FAILED, OK)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [({"account_0000": 1}, FAILED), ({"account_0001": 3}, WARNING), ({databases.schema.ACCOUNT_SCHEMA.head: 3}, OK)],
    ids=str,
)
def test_accounts_at_old_revisions(counts: dict[str, int], expected: ResultState) -> None:
    assert databases._revisions(counts).state is expected


def test_clock_that_differs_is_a_warning() -> None:
    assert [clock("clock", seconds).state for seconds in (0.5, -1.9, 2.5, -60)] == [OK, OK, WARNING, WARNING]


# Redis, real and scripted.


def test_real_redis_is_checked_and_its_eviction_policy_reported(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        try:
            found = by_check(redis_checks.check_redis(redis_url))
            assert {finding.state for finding in found.values()} == {OK}
            client.config_set("maxmemory-policy", "allkeys-lru")
            assert WARNING in states(redis_checks.check_redis(redis_url)).values()
            client.config_set("maxmemory", "100mb")
            assert FAILED in states(redis_checks.check_redis(redis_url)).values()
        finally:
            client.config_set("maxmemory", "0")
            client.config_set("maxmemory-policy", "noeviction")


def test_unreachable_redis_is_a_failed_check() -> None:
    for url in ("redis://127.0.0.1:1", "redis+sentinel://127.0.0.1:1/main", "redis+cluster://127.0.0.1:1"):
        assert set(states(redis_checks.check_redis(url)).values()) == {FAILED}


INFO = {
    "server": "# Server\r\nredis_version:7.0.15\r\n",
    "memory": "used_memory:1000\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n",
}
Reply = Callable[[Any, tuple[str, ...]], Any]


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Replace the replies of all Redis servers. Values are replies by the words of a command."""

    def script(**replies: Any) -> None:
        healthy = {
            "TIME": None,
            "ROLE": ["master", "100", [["127.0.0.1", "6380", "90"]]],
            "CONFIG GET min-replicas-to-write": ["min-replicas-to-write", "1"],
        }
        given = {**healthy, **{name.replace("_", " "): reply for name, reply in replies.items()}}

        def ask(address: Any, _: float, *commands: tuple[str, ...]) -> list[Any]:
            if address.port in replies.get("dead", ()):
                raise redis.ConnectionError
            return [reply(given, command) for command in commands]

        monkeypatch.setattr(redis_checks, "ask", ask)

    return script


def reply(given: dict[str, Any], command: tuple[str, ...]) -> Any:
    if command == ("TIME",):
        import time

        return [str(int(time.time())), "0"]
    if command[0] == "INFO":
        return given.get(command[1], INFO[command[1]])
    return given[" ".join(command)]


MASTER = [*["name", "main", "ip", "10.0.0.1", "port", "6379", "quorum", "2", "num-other-sentinels", "2"]]
SENTINELS = "redis+sentinel://s:1,s:2,s:3/main"


def test_sentinels_below_the_majority_are_a_failed_check(scripted: Callable[..., None]) -> None:
    scripted(SENTINEL_MASTER_main=MASTER)
    assert set(states(redis_checks.check_redis(SENTINELS)).values()) == {OK}
    scripted(SENTINEL_MASTER_main=MASTER, dead=(2,))
    assert states(redis_checks.check_redis(SENTINELS))["redis sentinels"] is WARNING
    scripted(SENTINEL_MASTER_main=MASTER, dead=(2, 3))
    assert states(redis_checks.check_redis(SENTINELS))["redis sentinels"] is FAILED


def test_primary_without_replicas_or_with_a_lag_is_a_warning(scripted: Callable[..., None]) -> None:
    for role in (["master", "100", []], ["master", "9000000", [["h", "1", "5"]]]):
        scripted(SENTINEL_MASTER_main=MASTER, ROLE=role)
        assert states(redis_checks.check_redis(SENTINELS))["redis 10.0.0.1:6379: replicas"] is WARNING
    scripted(SENTINEL_MASTER_main=MASTER, **{"CONFIG GET min-replicas-to-write": ["min-replicas-to-write", "0"]})
    assert states(redis_checks.check_redis(SENTINELS))["redis 10.0.0.1:6379: min-replicas"] is WARNING


def test_replica_or_old_version_in_place_of_the_primary_is_a_failed_check(scripted: Callable[..., None]) -> None:
    scripted(ROLE=["slave", "h", "1", "connected", "5"])
    assert states(redis_checks.check_redis("redis://h:1"))["redis h:1"] is FAILED
    scripted(server="redis_version:5.0.7\r\n")
    assert states(redis_checks.check_redis("redis://h:1"))["redis h:1"] is FAILED


def test_cluster_with_unassigned_slots_is_a_failed_check(scripted: Callable[..., None]) -> None:
    slots = [["0", "16383", ["10.0.0.1", "6379", "id"]]]
    for info, expected in (
        ("cluster_state:ok\r\ncluster_slots_assigned:16384\r\n", OK),
        ("cluster_state:ok\r\ncluster_slots_assigned:16000\r\n", FAILED),
        ("cluster_state:fail\r\ncluster_slots_assigned:16384\r\n", FAILED),
    ):
        scripted(CLUSTER_INFO=info, CLUSTER_SLOTS=slots)
        assert states(redis_checks.check_redis("redis+cluster://c:1,c:2"))["redis cluster"] is expected


# The product.


def member(host: str, confirmed_seconds_ago: float, lease_seconds: float = 1.0) -> Member:
    return Member(f"{host}-1", host, 1, lease_seconds, confirmed_seconds_ago)


def test_workers_that_do_not_renew_are_named() -> None:
    assert states(product.check_workers([member("a", 0.2), member("b", 0.4)])) == {"workers": OK}
    found = by_check(product.check_workers([member("a", 0.2), member("frozen", 30)]))
    assert (found["workers"].state, "frozen" in found["workers"].found) == (WARNING, True)
    assert states(product.check_workers([])) == {"workers": WARNING}
    assert states(product.check_workers(None)) == {"workers": FAILED}
    different = states(product.check_workers([member("a", 0.2), member("b", 0.2, 2.0)]))
    assert different["worker settings"] is WARNING


def test_intent_without_a_receipt_is_a_warning(harness: AppHarness, operator: Operator) -> None:
    assert states(product.check_pending(operator, 35))["revocation intents"] is OK
    database = harness.services.directory.database
    with database.writing() as session:
        columns = "INSERT INTO revocation_intents (account, key_id, begun_at) "
        session.execute(text(columns + "VALUES ('nowhere', 'x', now() - interval '30 s')"))
    try:
        assert states(product.check_pending(operator, 35))["revocation intents"] is WARNING
    finally:
        with database.writing() as session:
            session.execute(text("DELETE FROM revocation_intents WHERE account = 'nowhere'"))


def test_pepper_without_keys_can_be_retired_and_a_missing_one_is_a_failed_check(
    harness: AppHarness, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_account(harness.services, "doctor-peppers")
    harness.new_key("doctor-peppers")
    assert states(product.check_peppers(operator, every_account=True)) == {"peppers": OK}
    monkeypatch.setattr(harness.services.issuer, "pepper_ids", lambda: ("2099a", "2098a"))
    use = peppers_in_use.count(operator)
    use.unreachable.clear()  # accounts of other tests: their databases may not exist any more
    monkeypatch.setattr(product.peppers_in_use, "count", lambda _: use)
    found = by_check(product.check_peppers(operator, every_account=True))
    assert found["pepper 2098a"].fix == "Run: kataven peppers retire 2098a"
    assert found["pepper dev1"].state is FAILED
    monkeypatch.setattr(product, "MAX_ACCOUNTS", 0)
    [skipped] = product.check_peppers(operator, every_account=False)
    assert "--all-accounts" in skipped.found


def test_old_pepper_is_a_warning(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    use = peppers_in_use.count(operator)
    use.created = {name: (first.replace(year=2020), last) for name, (first, last) in use.created.items()}
    monkeypatch.setattr(product.peppers_in_use, "count", lambda _: use)
    found = by_check(product.check_peppers(operator, every_account=True))
    assert (found["pepper dev1"].state, "in use since 2020-" in found["pepper dev1"].found) == (WARNING, True)


# Status.


def test_status_shows_release_accounts_servers_workers_and_the_last_receipt(harness: AppHarness) -> None:
    new_account(harness.services, "status-shown")
    kataven_json(harness, "accounts", "suspend", "status-shown")
    shown = kataven_json(harness, "status")
    assert (shown["release"], shown["workers"]) == (__version__, 1)
    assert shown["accounts"]["active"] >= 2
    assert shown["servers"][0]["server"] == "default"
    assert shown["last_revocation"]["action"] == "account.suspended"
    text_ = kataven(harness, "status").stdout
    assert f"release           {__version__}\n" in text_
    assert len(text_.splitlines()) < 24


def test_status_shows_the_last_round_of_the_canary(harness: AppHarness) -> None:
    revocation_measurement._ensure_account(Operator("test", harness.services))
    watch = revocation_measurement.CanaryWatch(harness.services, "http://127.0.0.1:1")
    watch.round()
    shown = kataven_json(harness, "status")["last_canary"]
    assert (shown["outcome"], "No API responds" in shown["why"]) == ("failed", True)
