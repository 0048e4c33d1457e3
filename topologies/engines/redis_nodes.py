"""Redis servers: one alone, a primary with replicas under Sentinel behind HAProxy, and a Redis Cluster."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis

from tests.support.gunicorn import free_port
from tests.support.waiting import wait_until
from topologies.engine_process import EngineProcess
from topologies.packages import program

START_SECONDS = 60.0
PROMOTION_SECONDS = 90.0
LOCALHOST = "127.0.0.1"
PRIMARY_NAME = "kataven"
DOWN_AFTER_MS = 4_000
FAILURES = (redis.RedisError, OSError)


class RedisNode:
    """One `redis-server` on a loopback port. `options` are lines of its configuration, as arguments."""

    def __init__(self, folder: Path, name: str, options: Sequence[str] = (), port: int | None = None) -> None:
        self.name = name
        self.port = free_port() if port is None else port
        self._data = folder / name
        self._folder = folder
        self._options = options
        self.process = self._new_process()

    @property
    def address(self) -> str:
        return f"{LOCALHOST}:{self.port}"

    def client(self) -> Any:
        return redis.Redis(LOCALHOST, self.port, socket_timeout=2, socket_connect_timeout=2, protocol=2)

    def start(self) -> None:
        """Returns when the server responds and has loaded its data."""
        self._data.mkdir(exist_ok=True)
        self.process = self._new_process()
        self.process.start()
        wait_until(self.responds, START_SECONDS, self.process.tail)

    def stop(self) -> None:
        self.process.stop()

    def responds(self) -> bool:
        self.process.require_running()
        with suppress(*FAILURES), self.client() as client:
            return bool(client.ping())
        return False

    def role(self) -> str:
        """`master`, `slave`, or an empty string if the server doesn't respond."""
        with suppress(*FAILURES), self.client() as client:
            return str(client.role()[0].decode())
        return ""

    def has_replica_in_sync(self) -> bool:
        with suppress(*FAILURES), self.client() as client:
            return int(client.info("replication").get("connected_slaves", 0)) >= 1
        return False

    def _new_process(self) -> EngineProcess:
        command: list[str | Path] = [
            program("redis-server"),
            *("--port", str(self.port), "--bind", LOCALHOST, "--protected-mode", "no", "--dir", str(self._data)),
            *("--maxmemory-policy", "noeviction", "--save", "", *self._options),
        ]
        return EngineProcess(command, self._folder, name=self.name)


class PlainRedis:
    """One Redis. With `persistent`, an append-only file keeps its data over a restart."""

    def __init__(self, folder: Path, *, persistent: bool, address: str = LOCALHOST) -> None:
        """Also listens on `address`."""
        options = ("--appendonly", "yes", "--appendfsync", "everysec") if persistent else ()
        bind = () if address == LOCALHOST else ("--bind", LOCALHOST, address)
        self.node = RedisNode(folder, "redis", (*options, *bind))

    @property
    def url(self) -> str:
        return f"redis://{self.node.address}/0"

    def kill(self) -> None:
        self.node.process.kill()

    def start_again(self) -> None:
        self.node.start()

    def __enter__(self) -> Self:
        self.node.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.node.stop()


class SentinelRedis:
    """A primary, two replicas and three Sentinels, and with `haproxy` a proxy that leads to the primary.

    The configuration is the one that `docs/scaling.md` requires.
    """

    def __init__(self, folder: Path, *, haproxy: bool) -> None:
        self._folder = folder
        self._haproxy = haproxy
        options = ("--min-replicas-to-write", "1", "--min-replicas-max-lag", "2", "--repl-diskless-sync-delay", "0")
        self.nodes = [RedisNode(folder, f"redis-{number}", options) for number in range(3)]
        self.sentinel_ports = [free_port() for _ in range(3)]
        self.proxy_port = free_port()
        self._stack = ExitStack()

    @property
    def url(self) -> str:
        """The URL of the proxy, or of the Sentinels."""
        if self._haproxy:
            return f"redis://{LOCALHOST}:{self.proxy_port}/0"
        sentinels = ",".join(f"{LOCALHOST}:{port}" for port in self.sentinel_ports)
        return f"redis+sentinel://{sentinels}/{PRIMARY_NAME}"

    def primary(self) -> RedisNode:
        """The node that the Sentinels name as the primary, after it has taken that role."""
        found: list[RedisNode] = []

        def agreed() -> bool:
            found[:] = [node for node in self.nodes if node.port == self._named_primary()]
            return bool(found) and found[0].role() == "master"

        wait_until(agreed, PROMOTION_SECONDS, self._logs)
        return found[0]

    def wait_for_promotion(self, old: RedisNode) -> RedisNode:
        """The new primary, as soon as a Sentinel names another node than `old`, which has taken the role."""
        wait_until(lambda: self._named_primary() not in {None, old.port}, PROMOTION_SECONDS, self._logs)
        return self.primary()

    def fail_over(self) -> None:
        """Ask a Sentinel for a planned failover."""
        with redis.Redis(LOCALHOST, self.sentinel_ports[0], socket_timeout=10) as sentinel:
            sentinel.execute_command("SENTINEL", "FAILOVER", PRIMARY_NAME)

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _start(self) -> None:
        for node in self.nodes:
            self._stack.callback(node.stop)
            node.start()
        first = self.nodes[0]
        for node in self.nodes[1:]:
            with node.client() as client:
                client.replicaof(LOCALHOST, first.port)
        wait_until(lambda: _replicas_of(first) == len(self.nodes) - 1, START_SECONDS)
        for number, port in enumerate(self.sentinel_ports):
            self._start_sentinel(number, port)
        wait_until(self._sentinels_are_complete, START_SECONDS, self._logs)
        if self._haproxy:
            self._start_proxy()

    def _start_sentinel(self, number: int, port: int) -> None:
        configuration = self._folder / f"sentinel-{number}.conf"
        configuration.write_text(
            f"port {port}\nbind {LOCALHOST}\ndir {self._folder}\n"
            f"sentinel monitor {PRIMARY_NAME} {LOCALHOST} {self.nodes[0].port} 2\n"
            f"sentinel down-after-milliseconds {PRIMARY_NAME} {DOWN_AFTER_MS}\n"
            f"sentinel failover-timeout {PRIMARY_NAME} 10000\n"
        )
        # `redis-sentinel` is this program under another name.
        process = EngineProcess([program("redis-sentinel"), configuration], self._folder, name=f"sentinel-{number}")
        process.start()
        self._stack.callback(process.stop)

    def _start_proxy(self) -> None:
        servers = "".join(
            f"  server {node.name} {node.address} check inter 500ms fall 2 rise 1 on-marked-down shutdown-sessions\n"
            for node in self.nodes
        )
        configuration = self._folder / "haproxy.cfg"
        configuration.write_text(
            "global\n  maxconn 2000\n"
            "defaults\n  mode tcp\n  timeout connect 1s\n  timeout client 1h\n  timeout server 1h\n  timeout check 1s\n"
            f"listen redis\n  bind {LOCALHOST}:{self.proxy_port}\n"
            "  option tcp-check\n  tcp-check connect\n"
            "  tcp-check send PING\\r\\n\n  tcp-check expect string +PONG\n"
            "  tcp-check send info\\ replication\\r\\n\n  tcp-check expect string role:master\n"
            "  tcp-check send QUIT\\r\\n\n  tcp-check expect string +OK\n" + servers
        )
        process = EngineProcess([program("haproxy"), "-db", "-f", configuration], self._folder, name="haproxy")
        process.start()
        self._stack.callback(process.stop)

        def leads_to_the_primary() -> bool:
            process.require_running()
            with suppress(*FAILURES), redis.Redis(LOCALHOST, self.proxy_port, socket_timeout=2) as client:
                return bool(client.role()[0] == b"master")
            return False

        wait_until(leads_to_the_primary, START_SECONDS, process.tail)

    def _named_primary(self) -> int | None:
        for port in self.sentinel_ports:
            with suppress(*FAILURES), redis.Redis(LOCALHOST, port, socket_timeout=2) as sentinel:
                return int(sentinel.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", PRIMARY_NAME)[1])
        return None

    def _sentinels_are_complete(self) -> bool:
        with suppress(*FAILURES, KeyError):
            for port in self.sentinel_ports:
                with redis.Redis(LOCALHOST, port, socket_timeout=2, decode_responses=True) as sentinel:
                    state: Any = sentinel.sentinel_master(PRIMARY_NAME)
                    if (int(state["num-other-sentinels"]), int(state["num-slaves"])) != (2, 2):
                        return False
            return True
        return False

    def _logs(self) -> str:
        return "\n".join(
            path.read_text(errors="replace")[-800:] for path in sorted(self._folder.glob("sentinel-*.log"))
        )


class RedisCluster:
    """Three primaries with one replica each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "4000", "--repl-diskless-sync-delay", "0")
        # The bus of the cluster listens at the port plus 10000, so a port must not be above 55535.
        ports = [_cluster_port() for _ in range(6)]
        self.nodes = [
            RedisNode(folder, f"cluster-{number}", [*options, "--cluster-config-file", f"nodes-{number}.conf"], port)
            for number, port in enumerate(ports)
        ]
        self._stack = ExitStack()

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(node.address for node in self.nodes[:3])

    def node_with_slot(self, slot: int) -> RedisNode:
        """The primary that serves a slot, according to the first node that responds."""
        for node in self.nodes:
            with suppress(*FAILURES), node.client() as client:
                for first, last, primary, *_ in client.execute_command("CLUSTER SLOTS"):
                    if first <= slot <= last:
                        return next(known for known in self.nodes if known.port == primary[1])
        raise RuntimeError(f"no node of the cluster serves slot {slot}")

    def replica_of(self, primary: RedisNode) -> RedisNode:
        with primary.client() as client:
            identity = client.execute_command("CLUSTER MYID").decode()
        for node in self.nodes:
            with suppress(*FAILURES), node.client() as client:
                described = client.execute_command("CLUSTER", "NODES")
                text = described.decode() if isinstance(described, bytes) else str(described)
                mine = next(line for line in text.splitlines() if "myself" in line)
                if node is not primary and identity in mine.split()[3]:
                    return node
        raise RuntimeError(f"{primary.name} has no replica")

    def fail_over(self, slot: int) -> None:
        """Promote the replica of the slot's primary, as planned maintenance does. Returns when it serves the slot."""
        old = self.node_with_slot(slot)
        with self.replica_of(old).client() as replica:
            replica.execute_command("CLUSTER FAILOVER")
        self.wait_for_promotion(slot, old)

    def wait_for_promotion(self, slot: int, old: RedisNode) -> None:
        def promoted() -> bool:
            seen = set()
            for node in self.nodes:
                if node is old:
                    continue
                with suppress(*FAILURES), node.client() as client:
                    for first, last, primary, *_ in client.execute_command("CLUSTER SLOTS"):
                        if first <= slot <= last:
                            seen.add(primary[1])
            return len(seen) == 1 and old.port not in seen

        wait_until(promoted, PROMOTION_SECONDS, self._logs)

    def move_slot(self, slot: int) -> None:
        """Migrate one slot, with its keys, to another primary while clients use it."""
        source = self.node_with_slot(slot)
        target = next(node for node in map(self.node_with_slot, (0, 8_000, 16_000)) if node is not source)
        with source.client() as near, target.client() as far:
            near_id = near.execute_command("CLUSTER MYID").decode()
            far_id = far.execute_command("CLUSTER MYID").decode()
            far.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", near_id)
            near.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", far_id)
            while keys := near.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100):
                near.execute_command("MIGRATE", LOCALHOST, target.port, "", 0, 5_000, "REPLACE", "KEYS", *keys)
            for client in (far, near):
                client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", far_id)

    def __enter__(self) -> Self:
        try:
            for node in self.nodes:
                self._stack.callback(node.stop)
                node.start()
            self._create()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _create(self) -> None:
        command: list[str | Path] = [
            program("redis-cli"),
            "--cluster",
            "create",
            *(node.address for node in self.nodes),
        ]
        done = subprocess.run(
            [*command, "--cluster-replicas", "1", "--cluster-yes"], capture_output=True, text=True, timeout=120
        )
        if done.returncode != 0:
            raise RuntimeError(f"redis-cli --cluster create failed: {done.stdout[-800:]}{done.stderr[-400:]}")
        wait_until(self._is_complete, START_SECONDS, self._logs)

    def _is_complete(self) -> bool:
        for node in self.nodes:
            with node.client() as client:
                state = client.execute_command("CLUSTER INFO")
                text = state.decode() if isinstance(state, bytes) else str(state)
                if "cluster_state:ok" not in text and "'cluster_state': 'ok'" not in text:
                    return False
        return all(self.replica_of(self.node_with_slot(slot)) for slot in (0, 8_000, 16_000))

    def _logs(self) -> str:
        return "\n".join(node.process.tail()[-500:] for node in self.nodes)


def _replicas_of(node: RedisNode) -> int:
    with node.client() as client:
        info: Any = client.info("replication")
    return sum(
        info.get(f"slave{number}", {}).get("state") == "online" for number in range(int(info["connected_slaves"]))
    )


def _cluster_port() -> int:
    while (port := free_port()) > 55_000:
        pass
    return port
