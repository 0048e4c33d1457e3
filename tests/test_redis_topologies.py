"""Every Redis client of the project on a real Redis with Sentinel and on a real cluster, during failovers."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import redis

import app as factory
from kataven import settings
from kataven.hub.sessions import Sessions, SignedInUser
from kataven.operations.diagnosis.findings import CheckResult, ResultState
from kataven.operations.diagnosis.redis import check_redis
from kataven.ratelimit.budget import AddressBudget, AddressBudgetKind
from kataven.ratelimit.cluster_pool import ClusterPool, pool_at
from kataven.ratelimit.fallback import FallbackWindows
from kataven.ratelimit.latency import RedisTimeouts
from kataven.ratelimit.limiter.admission import rate_limit_keys_of
from kataven.ratelimit.memory import MemoryWindows
from kataven.ratelimit.policy import KeyLimits, Limits, RateLimitKey
from kataven.ratelimit.redis_socket import Unreachable, pack
from kataven.ratelimit.windows import RedisWindows
from kataven.redis_clients import NoServer, redis_client, servers_of
from kataven.redis_clients.sentinels import Sentinels
from kataven.redis_clients.slots import slot_of
from kataven.revocation import RevocationTarget
from kataven.revocation.redis_link import RedisLink
from kataven.web.services import EXTENSION, Services
from kataven.widget.families import Families
from kataven.widget.store import WidgetStore
from kataven.widget.user_tokens import UserTokens, UserTokenSubject
from kataven.widget.visitor_tokens import Visitor, VisitorKind, VisitorSession
from tests.support.app_harness import AppHarness, Caller
from tests.support.redis_topologies import HOST, ClusterDeployment, Node, SentinelDeployment, free_ports, wait_until
from tests.test_redis_clients import read_command

pytestmark = pytest.mark.processes

SECONDS = 20
PATIENT = RedisTimeouts(slow=SECONDS, reply=SECONDS, connect=SECONDS)
VISIT = VisitorSession("acme", "key", 1, "agent", "https://www.acme.com", Visitor(VisitorKind.GUEST, "g"))
THREADS = 6


@pytest.fixture(scope="module")
def running_sentinel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelDeployment]:
    with SentinelDeployment(tmp_path_factory.mktemp("sentinel"), password="s-fe") as redis:
        yield redis


@pytest.fixture
def sentinel(running_sentinel: SentinelDeployment) -> SentinelDeployment:
    running_sentinel.restore()
    running_sentinel.wait_until_stable()
    return running_sentinel


@pytest.fixture(scope="module")
def running_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterDeployment]:
    with ClusterDeployment(tmp_path_factory.mktemp("cluster")) as redis:
        yield redis


@pytest.fixture
def cluster(running_cluster: ClusterDeployment) -> ClusterDeployment:
    running_cluster.restore()
    running_cluster.wait_until_stable()
    servers_of.cache_clear()  # so that no test starts with a map that an earlier one has found to be out of date
    return running_cluster


def in_threads(work: Callable[[int], None]) -> None:
    """Run `work` in several threads, and raise what one of them raised."""
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


# With Sentinel


class EveryClient:
    """One client of each kind, which stores a value and returns the values that it reads."""

    def __init__(self, url: str) -> None:
        self.client = redis_client(url, timeout_seconds=SECONDS, decode_responses=True)
        self.pool = pool_at(url, PATIENT)
        self._url = url

    def store(self, name: str) -> tuple[object, object]:
        slot = slot_of(f"{{x}}{name}")
        return self.client.set(f"{{x}}{name}", name), self.pool.call(pack("SET", f"{{x}}{name}2", name), slot)

    def read(self, name: str) -> tuple[object, object, object]:
        key = f"{{x}}{name}"
        with closing(RedisLink(self._url, "{x}:events", SECONDS)) as link:
            return self.client.get(key), self.pool.call(pack("GET", key), slot_of(key)), link.call("GET", key)

    def close(self) -> None:
        self.client.close()
        self.pool.close()


@pytest.fixture
def clients(running_sentinel: SentinelDeployment) -> Iterator[EveryClient]:
    with closing(EveryClient(running_sentinel.url)) as clients:
        yield clients


def test_every_client_uses_the_primary_that_sentinels_name(sentinel: SentinelDeployment, clients: EveryClient) -> None:
    assert clients.store("first") == (True, b"OK")
    assert clients.read("first") == ("first", b"first", "first")
    assert sentinel.primary().command("GET", "{x}first") == "first"


@contextmanager
def fake_server(*replies: bytes) -> Iterator[int]:
    """A server that accepts any password and sends these replies on each connection. Yields its port."""
    listener = socket.create_server((HOST, 0))
    opened: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            opened.append(connection)
            with connection.makefile("rb") as sent:
                next_replies = itertools.cycle(replies)
                while words := read_command(sent):
                    connection.sendall(b"+OK\r\n" if words[0] == b"AUTH" else next(next_replies))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        for one in opened:
            one.close()


def naming(port: int, epoch: int) -> tuple[bytes, bytes]:
    """The replies of a sentinel that names the server at this port."""
    return pack(HOST, port), pack("config-epoch", epoch)  # an array of strings is encoded like a command


def asking_first(sentinel: SentinelDeployment, port: int) -> str:
    return sentinel.url.replace(f"@{HOST}", f"@{HOST}:{port},{HOST}")


def ping(url: str, timeout_seconds: float = SECONDS) -> None:
    with redis_client(url, timeout_seconds=timeout_seconds) as client:
        assert client.ping()
    with closing(pool_at(url, RedisTimeouts(slow=SECONDS, reply=SECONDS, connect=timeout_seconds))) as pool:
        assert pool.call(pack("PING")) == b"PONG"


def test_a_sentinel_that_is_down_is_skipped(sentinel: SentinelDeployment) -> None:
    [port] = free_ports(1)
    ping(asking_first(sentinel, port))


def test_a_sentinel_that_does_not_reply_is_skipped(sentinel: SentinelDeployment) -> None:
    with socket.create_server((HOST, 0)) as listener:  # the kernel accepts connections, as for a paused process
        ping(asking_first(sentinel, listener.getsockname()[1]), timeout_seconds=1)


@pytest.mark.parametrize(
    "reply", [b"*-1\r\n", b"-ERR no\r\n"], ids=["does not monitor the service", "returns an error"]
)
def test_a_sentinel_without_an_answer_is_skipped(sentinel: SentinelDeployment, reply: bytes) -> None:
    with fake_server(reply) as port:
        ping(asking_first(sentinel, port))


def test_a_sentinel_that_names_a_replica_is_not_believed(sentinel: SentinelDeployment) -> None:
    replica = sentinel.replicas()[0]
    with fake_server(*naming(replica.port, 1_000)) as port:
        with closing(pool_at(asking_first(sentinel, port), PATIENT)) as pool:
            assert pool.call(pack("ROLE"))[0] == b"master"
        with redis_client(asking_first(sentinel, port), timeout_seconds=SECONDS) as client:
            assert client.role()[0] == b"master"
        with RedisLink(asking_first(sentinel, port), "{x}:events", SECONDS) as link:
            assert link.call("ROLE")[0] == "master"


def test_a_sentinel_with_an_older_configuration_does_not_lead_back(
    sentinel: SentinelDeployment, tmp_path: Path
) -> None:
    """For example a sentinel that was paused during the failover, and an old primary that is not demoted yet."""
    old = Node(tmp_path, free_ports(1)[0], ["requirepass s-fe"], password="s-fe")
    old.start()
    try:
        old.wait_until_ready()
        with fake_server(*naming(old.port, -1)) as port:
            url = asking_first(sentinel, port)
            servers = servers_of(url)
            assert isinstance(servers, Sentinels)
            servers._order.reverse()
            with redis_client(url, timeout_seconds=SECONDS) as client:
                client.set("a", "1")
                servers._order.reverse()
                assert servers._order[0].port == port
                client.connection_pool.disconnect()
                client.set("a", "2")
        assert old.command("GET", "a") is None
        assert sentinel.primary().command("GET", "a") == "2"
    finally:
        old.kill()


def test_the_problem_is_named_when_no_primary_can_be_used(sentinel: SentinelDeployment) -> None:
    replica = sentinel.replicas()[0]
    with fake_server(*naming(replica.port, 1_000)) as port:
        url = f"redis+sentinel://:s-fe@{HOST}:{port}/kataven"
        with pytest.raises(Unreachable, match=r"sentinel: no primary known \(.*not the primary"):
            pool_at(url, PATIENT).call(pack("PING"))
        with pytest.raises(NoServer) as error:
            redis_client(url, timeout_seconds=SECONDS).ping()
    assert error.value.problem == "sentinel: no primary known"


def test_the_problem_is_named_when_no_sentinel_can_be_reached(sentinel: SentinelDeployment) -> None:
    [port] = free_ports(1)
    with pytest.raises(NoServer, match="can't be reached") as error:
        redis_client(f"redis+sentinel://{HOST}:{port}/kataven", timeout_seconds=SECONDS).ping()
    assert error.value.problem == "sentinel: no sentinel reachable"
    with pytest.raises(NoServer, match="refused the credentials"):
        redis_client(sentinel.url.replace("sentinel_password=s-fe", "sentinel_password=no"), timeout_seconds=9).ping()


def test_after_a_planned_failover_every_connection_leads_to_the_new_primary(
    sentinel: SentinelDeployment, clients: EveryClient
) -> None:
    """Even before the sentinels demote the old primary, which continues to accept commands for some seconds."""
    store, windows = WidgetStore(sentinel.url), RedisWindows(clients.pool)
    in_threads(lambda number: clients.store(f"before-{number}") and None)
    assert windows.take(limit_keys("acme"), "").admitted
    Families(store).create(VISIT)
    old = sentinel.primary()
    with closing(RedisLink(sentinel.url, "{x}:events", SECONDS)) as link:
        sentinel.fail_over()
        new = sentinel.wait_for_other_primary(old)

        def checked() -> bool:
            clients.pool.check_primary()  # as heartbeats do
            primary = servers_of(sentinel.url).primary
            return primary is not None and primary.port == new.port

        wait_until(checked, "the clients learn of the new primary")
        with pytest.raises(redis.ConnectionError, match="another server has become the primary"):
            link.check_primary()
    in_threads(lambda number: clients.store(f"after-{number}") and None)
    for number in range(THREADS):
        assert new.command("GET", f"{{x}}after-{number}") == f"after-{number}"
        assert new.command("GET", f"{{x}}after-{number}2") == f"after-{number}"
    assert {socket.address.port for socket in clients.pool._idle} == {new.port}
    # The new primary does not have the scripts.
    assert windows.take(limit_keys("acme"), "").admitted
    assert windows.peek_all([limit_keys("acme")])[0].admitted
    assert Families(store).read(Families(store).create(VISIT)) == VISIT
    store.close()


def test_when_the_primary_is_killed_threads_continue_and_no_dead_connection_remains(
    running_sentinel: SentinelDeployment, clients: EveryClient
) -> None:
    """No thread receives a reply to another thread's command."""
    stopping = threading.Event()
    done = [0] * THREADS

    def work(number: int) -> None:
        while not stopping.is_set():
            word = f"{number}-{done[number]}"
            try:
                assert clients.client.echo(word) == word
                assert clients.pool.call(pack("ECHO", word)) == word.encode()
            except (redis.RedisError, Unreachable):
                continue
            done[number] += 1

    def fail_over() -> None:
        try:
            wait_until(lambda: all(done), "every thread uses its connection")
            old = running_sentinel.primary()
            old.kill()
            primaries.append(running_sentinel.wait_for_other_primary(old))
            before = list(done)
            wait_until(lambda: all(now > then for now, then in zip(done, before, strict=True)), "threads continue")
        finally:
            stopping.set()

    primaries: list[Node] = []
    failing_over = threading.Thread(target=fail_over)
    failing_over.start()
    in_threads(work)
    failing_over.join()
    assert {socket.address.port for socket in clients.pool._idle} == {node.port for node in primaries}
    clients.store("after")
    assert primaries[0].command("GET", "{x}after") == "after"


# In a cluster


ACCOUNTS = ("acme", "globex", "initech", "umbrella", "hooli", "soylent")


def limit_keys(account: str) -> tuple[RateLimitKey, ...]:
    return rate_limit_keys_of(account, Limits(), "ci", KeyLimits(per_minute=30, concurrent=5))


def test_doctor_checks_the_sentinels_and_the_primary_that_they_name(sentinel: SentinelDeployment) -> None:
    primary = f"redis {HOST}:{sentinel.primary().port}"

    def checked() -> dict[str, CheckResult]:
        return {finding.check: finding for finding in check_redis(sentinel.url)}

    def has_replicas() -> bool:  # after a failover of an earlier test, the former primary joins again
        result = checked().get(f"{primary}: replicas")
        return result is not None and result.found.startswith("2 replicas")

    wait_until(has_replicas, "the primary has two replicas again")
    found = checked()
    assert found["redis sentinels"].found == "3 of 3 respond, 3 are known, quorum 2"
    assert found[primary].state is ResultState.OK
    assert found[f"{primary}: replicas"].found.startswith("2 replicas")
    assert not any(finding.state is ResultState.FAILED for finding in found.values())
    assert "s-fe" not in str(found)


def test_doctor_checks_every_primary_of_the_cluster(cluster: ClusterDeployment) -> None:
    found = {finding.check: finding for finding in check_redis(cluster.url)}
    assert found["redis cluster"].found == "state ok, 16384 of 16384 slots assigned"
    for node in cluster.primaries():
        assert found[f"redis {HOST}:{node.port}"].state is ResultState.OK
    assert {finding.state for finding in found.values()} == {ResultState.OK}


@pytest.fixture
def windows(cluster: ClusterDeployment) -> Iterator[RedisWindows]:
    for node in cluster.primaries():
        node.command("FLUSHALL")
    windows = RedisWindows(pool_at(cluster.url, PATIENT))
    yield windows
    windows.close()


def used(windows: RedisWindows, account: str) -> int:
    return windows.peek(limit_keys(account)).quota_statuses[0].used


def test_slots_are_those_of_the_server(cluster: ClusterDeployment) -> None:
    for key in ("a", "{a}b", "x{a}b{c}", "{}a", "{a", "a{}{b}", "ä{ö}", "limits:api:account:{acme}"):
        assert cluster.nodes[0].command("CLUSTER", "KEYSLOT", key) == slot_of(key)


def test_every_client_reaches_keys_on_every_node(cluster: ClusterDeployment) -> None:
    names = [f"key-{number}" for number in range(20)]
    with closing(pool_at(cluster.url, PATIENT)) as pool, redis_client(cluster.url, timeout_seconds=SECONDS) as client:
        assert isinstance(pool, ClusterPool)
        for name in names:
            assert client.set(name, name)
        slots = [slot_of(name) for name in names]
        assert pool.call_all([pack("GET", name) for name in names], slots) == [name.encode() for name in names]
        assert len(pool._pools) == 3
        assert client.delete(*names) == len(names)


def test_limits_of_accounts_on_every_node_and_of_networks(windows: RedisWindows) -> None:
    for account in ACCOUNTS:
        assert windows.take(limit_keys(account), f"slot-{account}").admitted
    assert {used(windows, account) for account in ACCOUNTS} == {1}
    held = {f"slot-{account}": limit_keys(account) for account in ACCOUNTS}
    assert windows.heartbeat("worker", held) == 1
    windows.add_slots({f"more-{account}": limit_keys(account) for account in ACCOUNTS})
    statuses = [decision.quota_statuses for decision in windows.peek_all([limit_keys(one) for one in ACCOUNTS])]
    assert [status[3].used for status in statuses] == [2] * len(ACCOUNTS)
    windows.reset(["account:{acme}"], ["limits:"])
    assert used(windows, "acme") == 0
    budget = AddressBudget(windows)
    assert budget.spend("2001:db8::1", AddressBudgetKind.PUBLIC).admitted
    assert budget.spend("192.0.2.1", AddressBudgetKind.PUBLIC).admitted
    assert budget.spend("a session", AddressBudgetKind.HUB_TYPING).admitted


def test_scripts_run_on_nodes_that_do_not_have_them(cluster: ClusterDeployment, windows: RedisWindows) -> None:
    for account in ACCOUNTS:
        windows.take(limit_keys(account), "")
    for node in cluster.nodes:
        node.command("SCRIPT", "FLUSH")
    assert [decision.admitted for decision in windows.peek_all([limit_keys(one) for one in ACCOUNTS])] == [True] * 6
    for node in cluster.nodes:
        node.command("SCRIPT", "FLUSH")
    assert all(windows.take(limit_keys(account), "").admitted for account in ACCOUNTS)


def test_local_usage_of_accounts_on_several_nodes_is_reported_once(windows: RedisWindows) -> None:
    shared = FallbackWindows(windows, MemoryWindows())
    shared._stop_using_redis("a test")
    for account in ACCOUNTS:
        assert shared.take(limit_keys(account), "").admitted
    shared.heartbeat()
    shared.heartbeat()
    assert not shared.degraded
    assert {used(windows, account) for account in ACCOUNTS} == {1}


def test_a_moved_slot_is_followed_once(cluster: ClusterDeployment, windows: RedisWindows) -> None:
    slot = slot_of("{acme}")
    source = cluster.primary_of(slot)
    target = next(node for node in cluster.primaries() if node is not source)
    with redis_client(cluster.url, timeout_seconds=SECONDS) as client:
        client.set("{acme}a", "1")
        windows.take(limit_keys("acme"), "")
        during: list[object] = []

        def between() -> None:  # the keys are at the target, and the source redirects each command with ASK
            during.extend((client.get("{acme}a"), windows.take(limit_keys("acme"), "").admitted))

        cluster.move_slot(slot, target, between=between)
        assert during[0] == b"1"
        assert client.get("{acme}a") == b"1"
        assert windows.take(limit_keys("acme"), "").admitted
        pool = windows._pool
        assert isinstance(pool, ClusterPool)
        assert pool._node_of(slot).port == target.port
    cluster.move_slot(slot, source)


def test_one_request_is_decided_locally_while_its_keys_are_on_two_nodes(
    cluster: ClusterDeployment, windows: RedisWindows
) -> None:
    slot = slot_of("{acme}")
    source = cluster.primary_of(slot)
    target = next(node for node in cluster.primaries() if node is not source)
    shared = FallbackWindows(windows, MemoryWindows())
    shared.take(limit_keys("acme"), "held")
    identity = {node.port: node.command("CLUSTER", "MYID") for node in (source, target)}
    target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", identity[source.port])
    source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", identity[target.port])
    source.command("MIGRATE", HOST, target.port, "limits:account:{acme}", 0, 5000)
    assert shared.take(limit_keys("acme"), "").admitted
    assert not shared.degraded
    assert shared.take(limit_keys("globex"), "").admitted
    cluster.move_slot(slot, target)
    shared.heartbeat()
    assert not shared.degraded
    assert used(windows, "acme") == 2
    cluster.move_slot(slot, source)


@pytest.mark.parametrize("planned", [True, False], ids=["planned", "killed"])
def test_clients_follow_a_failover(cluster: ClusterDeployment, windows: RedisWindows, planned: bool) -> None:
    slot = slot_of("{acme}")
    shared = FallbackWindows(windows, MemoryWindows())
    shared.heartbeat()
    with redis_client(cluster.url, timeout_seconds=SECONDS, resend=True) as client:
        client.set("{acme}a", "1")
        shared.take(limit_keys("acme"), "")
        old = cluster.primary_of(slot)
        if planned:
            cluster.fail_over(old)
        else:
            old.kill()
        cluster.wait_for_other_primary(old, slot)
        assert shared.take(limit_keys("acme"), "").admitted

        def restored() -> bool:
            shared.heartbeat()
            return not shared.degraded

        wait_until(restored, "the limits use Redis again")
        assert client.set("{acme}a", "2")
    assert shared.take(limit_keys("acme"), "").admitted
    assert used(windows, "acme") == 3


def test_a_heartbeat_probes_every_node(cluster: ClusterDeployment, windows: RedisWindows) -> None:
    """An account of any node can be next, so a worker must not resume while one of them is unreachable."""
    workers = slot_of("limits:workers")
    other = next(node for node in cluster.primaries() if node is not cluster.primary_of(workers))
    assert windows.heartbeat("worker", {}) == 1
    other.kill()
    with pytest.raises(Unreachable):
        windows.heartbeat("worker", {})


def test_a_node_outside_the_majority_is_not_asked_for_the_slots(cluster: ClusterDeployment) -> None:
    info = b"cluster_state:fail\r\ncluster_current_epoch:1\r\n"
    with fake_server(b"$%d\r\n%b\r\n" % (len(info), info)) as port:
        fake = f"redis+cluster://{HOST}:{port}"
        assert redis_client(cluster.url.replace("//", f"//{HOST}:{port},"), timeout_seconds=SECONDS).ping()
        with pytest.raises(NoServer, match="not part of a working majority") as error:
            redis_client(fake, timeout_seconds=SECONDS).get("a")
    assert error.value.problem == "cluster: no node with a working majority is reachable"


def test_a_server_that_is_not_in_a_cluster_is_rejected(running_sentinel: SentinelDeployment) -> None:
    url = f"redis+cluster://:s-fe@{HOST}:{running_sentinel.primary().port}"
    with pytest.raises(NoServer, match="not part of a cluster"):
        servers_of(url).connect(0, lambda address: address, SECONDS, (redis.RedisError,))


def test_hub_sessions_in_a_cluster(cluster: ClusterDeployment) -> None:
    sessions = Sessions(cluster.url, timeout_seconds=SECONDS)
    session = sessions.new().with_(user=SignedInUser("alice", "Alice", "access", "id"))
    sessions.save(session)
    with sessions.locked(session) as found:
        assert found == session
    assert sessions.use_form("form")
    assert not sessions.use_form("form")
    sessions.end(session)
    assert sessions.read(session.secret) is None
    sessions.close()


def test_visitor_sessions_in_a_cluster(cluster: ClusterDeployment) -> None:
    store = WidgetStore(cluster.url)
    families, tokens = Families(store), UserTokens(store)
    refreshed = families.rotate(families.create(VISIT), VISIT)
    assert families.read(refreshed) == VISIT
    user = UserTokenSubject("key", "user-1")
    assert tokens.redeem("acme", tokens.issue("acme", user)) == user
    store.close()


def keys_of_scripts() -> Sequence[tuple[str, ...]]:
    """The keys of each script call in docs/scaling.md, for one account."""
    page = (Path(__file__).resolve().parents[1] / "docs" / "scaling.md").read_text("utf-8")
    table = page.partition("## Keys in a cluster")[2].partition("\n## ")[0]
    rows = [line.split("|") for line in table.splitlines() if line.startswith("| `")]
    return [tuple(word for word in row[1].replace("`", "").replace(",", " ").split()) for row in rows]


def test_the_documented_keys_of_each_script_are_in_one_slot(cluster: ClusterDeployment) -> None:
    rows = keys_of_scripts()
    assert len(rows) >= 8
    for keys in rows:
        slots = {cluster.nodes[0].command("CLUSTER", "KEYSLOT", key) for key in keys}
        assert len(slots) == 1, keys


@pytest.mark.parametrize("deployment", ["running_sentinel", "running_cluster"])
def test_the_api_uses_redis_and_gives_receipts(
    harness: AppHarness, request: pytest.FixtureRequest, deployment: str
) -> None:
    redis_at: SentinelDeployment | ClusterDeployment = request.getfixturevalue(deployment)
    redis_at.restore()
    redis_at.wait_until_stable()
    key = harness.new_key("acme")
    application = factory.create_api(settings.load({**harness.environ, "KATAVEN_REDIS_URL": redis_at.url}))
    services: Services = application.extensions[EXTENSION]
    services.start()
    try:
        caller = Caller(application, {"Authorization": f"Bearer {key}"})
        assert caller.get("/v1/me").status_code == 200
        assert services.fallback_stats.requests_decided_locally == 0
        wait_until(lambda: services.revocation.status().lease_confirmed, "the worker has a lease")
        receipt = services.revocation.revoke(RevocationTarget("acme", "no-key"))
        # The harness's worker renews at another Redis, and reads the fallback notice.
        assert (receipt.channel, receipt.workers, receipt.acknowledged) == ("split", 2, 2)
        assert [member.id for member in services.revocation.workers()] == [services.revocation.status().worker]
        assert caller.get("/readyz").get_json()["checks"]["redis"] == "ok"
    finally:
        services.stop()
