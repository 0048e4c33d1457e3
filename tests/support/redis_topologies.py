"""Real Redis deployments whose nodes tests may kill, pause and promote: one with Sentinel, and a cluster.

    with SentinelDeployment(folder) as redis: ...   three sentinels, a primary and two replicas
    with ClusterDeployment(folder) as redis: ...    three primaries with one replica each

Both have `url`, for `KATAVEN_REDIS_URL`, and `nodes`. The servers listen on loopback ports that the kernel chose.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

import redis

from kataven.dev.embedded.binaries import redis_program
from kataven.redis_clients.slots import SLOTS, slot_of

TIMEOUT_SECONDS = 60
HOST = "127.0.0.1"
REVOCATION_SLOT = slot_of("{kataven:revocation}")


def wait_until(happens: Callable[[], object], what: str) -> None:
    """Return when the condition is true. Errors of Redis count as not yet."""
    pause = threading.Event()
    for _ in range(TIMEOUT_SECONDS * 50):
        with suppress(redis.RedisError):
            if happens():
                return
        pause.wait(0.02)
    raise AssertionError(f"did not happen in time: {what}")


def free_ports(count: int) -> list[int]:
    """Ports that are free, and whose cluster bus port (10,000 higher) is free as well."""
    with ExitStack() as stack:
        found: list[int] = []
        while len(found) < count:
            one = stack.enter_context(socket.create_server((HOST, 0)))
            port = int(one.getsockname()[1])
            with suppress(OSError, OverflowError):
                stack.enter_context(socket.create_server((HOST, port - 10_000)))
                found.append(port - 10_000)
        return found


class Node:
    """One `redis-server` process: a data server or a sentinel."""

    def __init__(
        self, folder: Path, port: int, options: Sequence[str], *, sentinel: bool = False, password: str = ""
    ) -> None:
        self.port = port
        self._password = password or None
        self.address = (HOST, port)
        self._folder = folder
        self._options = options
        self._sentinel = sentinel
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / "redis.conf"
        self._file.write_text("\n".join([f"port {port}", f"bind {HOST}", *options, ""]))

    def start(self) -> None:
        command = [str(redis_program()), str(self._file), *(["--sentinel"] if self._sentinel else [])]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self._folder, stdout=log, stderr=log)

    def wait_until_ready(self) -> None:
        with self.client() as client:
            wait_until(client.ping, f"the server at port {self.port} replies")

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Stop the process with SIGSTOP. The kernel still accepts connections to it."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    @property
    def running(self) -> bool:
        return self._process is not None

    def client(self) -> redis.Redis:
        return redis.Redis(
            HOST, self.port, password=self._password, decode_responses=True, socket_timeout=1, protocol=2
        )

    def command(self, *command: str | int) -> Any:
        with self.client() as client:
            return client.execute_command(*command)

    def role(self) -> str:
        """`master`, `slave` or `sentinel`, as the node itself reports."""
        return str(self.command("ROLE")[0])


class _Deployment:
    """Starts and stops nodes."""

    nodes: list[Node]

    def _start(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            node.start()
        for node in nodes:
            node.wait_until_ready()

    def _stop(self) -> None:
        for node in self.all_nodes():
            if node.running:
                with suppress(ProcessLookupError):
                    node.resume()
                node.kill()

    def all_nodes(self) -> list[Node]:
        return self.nodes

    def at(self, port: int) -> Node:
        """The data server at this port."""
        return next(node for node in self.nodes if node.port == port)

    def restore(self) -> None:
        """Resume or start every node that a test paused or killed."""
        for node in self.all_nodes():
            if node.running:
                node.resume()
            else:
                node.start()
                node.wait_until_ready()


class SentinelDeployment(_Deployment):
    """Three sentinels that monitor the service `kataven`: a primary and two replicas.

    A sentinel regards a server as down after `down_after_milliseconds`. With `password`, the servers and the sentinels
    require it.
    """

    service = "kataven"

    def __init__(
        self, folder: Path, *, down_after_milliseconds: int = 1000, options: Sequence[str] = (), password: str = ""
    ) -> None:
        ports = free_ports(6)
        data = [
            'save ""',
            "appendonly no",
            "repl-diskless-sync-delay 0",
            "repl-ping-replica-period 1",
            *([f"requirepass {password}", f"masterauth {password}"] if password else []),
            *options,
        ]
        self.nodes = [
            Node(
                folder / f"data-{number}",
                port,
                [*data, *([f"replicaof {HOST} {ports[0]}"] if number else [])],
                password=password,
            )
            for number, port in enumerate(ports[:3])
        ]
        monitoring = [
            f"sentinel monitor {self.service} {HOST} {ports[0]} 2",
            f"sentinel down-after-milliseconds {self.service} {down_after_milliseconds}",
            f"sentinel failover-timeout {self.service} 2000",
            *([f"sentinel auth-pass {self.service} {password}", f"requirepass {password}"] if password else []),
        ]
        self.sentinels = [
            Node(folder / f"sentinel-{number}", port, monitoring, sentinel=True, password=password)
            for number, port in enumerate(ports[3:])
        ]
        hosts = ",".join(f"{HOST}:{node.port}" for node in self.sentinels)
        self.url = f"redis+sentinel://{f':{password}@' if password else ''}{hosts}/{self.service}/0"
        self.url += f"?sentinel_password={password}" if password else ""

    def all_nodes(self) -> list[Node]:
        return [*self.nodes, *self.sentinels]

    def primary(self) -> Node:
        """The primary that most sentinels name."""
        named: list[int] = []
        for sentinel in self.sentinels:
            with suppress(redis.RedisError):
                named.append(int(sentinel.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service)[1]))
        return self.at(max(named, key=named.count))

    def wait_until_stable(self) -> None:
        """Every sentinel names the same primary, and the other servers replicate it."""
        wait_until(self._is_stable, "one primary, two replicas, and three sentinels that agree")

    def wait_for_other_primary(self, than: Node) -> Node:
        """The next primary, when most sentinels name it and it has the role."""
        wait_until(lambda: self.primary() is not than and self.primary().role() == "master", "a replica is promoted")
        return self.primary()

    def replicas(self) -> list[Node]:
        primary = self.primary()
        return [node for node in self.nodes if node is not primary]

    def fail_over(self) -> None:
        """Request a planned failover. Returns before it is complete."""

        def requested() -> bool:
            self.sentinels[0].command("SENTINEL", "FAILOVER", self.service)
            return True

        wait_until(requested, "a sentinel accepts the request for a failover")

    def __enter__(self) -> Self:
        try:
            self._start(self.nodes)
            self._start(self.sentinels)
            self.wait_until_stable()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _is_stable(self) -> bool:
        states = []
        for sentinel in self.sentinels:
            state = sentinel.command("SENTINEL", "MASTER", self.service)
            found = state if isinstance(state, dict) else dict(zip(state[::2], state[1::2], strict=True))
            states.append((found["port"], found["num-other-sentinels"], found["flags"]))
        primary = self.primary()
        if {(str(port), str(others), flags) for port, others, flags in states} != {(str(primary.port), "2", "master")}:
            return False
        replicas = [node for node in self.nodes if node is not primary]
        return primary.role() == "master" and all(
            (role := node.command("ROLE"))[0] == "slave" and int(role[2]) == primary.port and role[3] == "connected"
            for node in replicas
        )


class ClusterDeployment(_Deployment):
    """Three primaries with one replica each. A node is regarded as down after `node_timeout_milliseconds`."""

    def __init__(self, folder: Path, *, node_timeout_milliseconds: int = 1500, options: Sequence[str] = ()) -> None:
        data = [
            'save ""',
            "appendonly no",
            "cluster-enabled yes",
            "cluster-config-file nodes.conf",
            f"cluster-node-timeout {node_timeout_milliseconds}",
            "cluster-replica-validity-factor 0",
            "repl-diskless-sync-delay 0",
            "repl-ping-replica-period 1",
            *options,
        ]
        self.nodes = [Node(folder / f"node-{number}", port, data) for number, port in enumerate(free_ports(6))]
        self.url = "redis+cluster://" + ",".join(f"{HOST}:{node.port}" for node in self.nodes[:3])

    def primary_of(self, slot: int) -> Node:
        """The node that most running nodes regard as the primary of the slot."""
        named: list[int] = []
        for node in self.nodes:
            with suppress(redis.RedisError):
                named += [int(primary[1]) for first, last, primary, *_ in self._slots(node) if first <= slot <= last]
        return self.at(max(named, key=named.count))

    def primary(self) -> Node:
        """The node with the slot of the revocation protocol."""
        return self.primary_of(REVOCATION_SLOT)

    def replicas(self) -> list[Node]:
        """The running replicas of `primary()`."""
        return self.replicas_of(self.primary())

    def replicas_of(self, primary: Node) -> list[Node]:
        found = []
        for node in self.nodes:
            with suppress(redis.RedisError):
                role = node.command("ROLE")
                if role[0] == "slave" and int(role[2]) == primary.port:
                    found.append(node)
        return found

    def fail_over(self, primary: Node | None = None) -> None:
        """Request a planned failover from a replica of `primary`. Returns before it is complete."""
        self.replicas_of(primary or self.primary())[0].command("CLUSTER", "FAILOVER")

    def wait_for_other_primary(self, than: Node, slot: int | None = None) -> Node:
        """The next primary of the slot, when most nodes know it."""
        slot = REVOCATION_SLOT if slot is None else slot
        wait_until(
            lambda: self.primary_of(slot) is not than and self.primary_of(slot).role() == "master",
            "a replica is promoted",
        )
        return self.primary_of(slot)

    def move_slot(self, slot: int, target: Node, *, between: Callable[[], None] = lambda: None) -> None:
        """Move a slot with its keys, as `redis-cli --cluster reshard` does. `between` runs when the keys have moved and
        the slot has not."""
        source = self.primary_of(slot)
        identities = {node.port: str(node.command("CLUSTER", "MYID")) for node in (source, target)}
        target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", identities[source.port])
        source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", identities[target.port])
        while keys := source.command("CLUSTER", "GETKEYSINSLOT", slot, 100):
            source.command("MIGRATE", HOST, target.port, "", 0, 5000, "KEYS", *keys)
        between()
        for node in (target, source):
            node.command("CLUSTER", "SETSLOT", slot, "NODE", identities[target.port])
        wait_until(lambda: self.primary_of(slot) is target, "the nodes know the slot's new node")

    def primaries(self) -> list[Node]:
        return [node for node in self.nodes if node.running and node.role() == "master"]

    def wait_until_stable(self) -> None:
        """Every node sees all slots covered, and each primary has a connected replica."""
        wait_until(self._is_stable, "a cluster with three primaries and three replicas")

    def __enter__(self) -> Self:
        try:
            self._start(self.nodes)
            self._form()
            self.wait_until_stable()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _form(self) -> None:
        first, *others = self.nodes
        for number, node in enumerate(self.nodes):
            node.command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in others:
            first.command("CLUSTER", "MEET", HOST, node.port)
        wait_until(
            lambda: all(len(str(node.command("CLUSTER", "NODES")).splitlines()) == 6 for node in self.nodes),
            "the nodes know each other",
        )
        bounds = [SLOTS * number // 3 for number in range(4)]
        for number, (node, replica) in enumerate(zip(self.nodes[:3], self.nodes[3:], strict=True)):
            # ADDSLOTSRANGE, the short form, is only in Redis 7 and later.
            node.command("CLUSTER", "ADDSLOTS", *range(bounds[number], bounds[number + 1]))
            replica.command("CLUSTER", "REPLICATE", str(node.command("CLUSTER", "MYID")))

    def _is_stable(self) -> bool:
        for node in self.nodes:
            info = node.command("CLUSTER", "INFO")
            if "cluster_state:ok" not in (info if isinstance(info, str) else _lines(info)):
                return False
            slots = list(self._slots(node))
            if len({primary[1] for _, _, primary, *_ in slots}) != 3 or any(len(one) != 4 for one in slots):
                return False
        roles = [node.command("ROLE") for node in self.nodes]
        return sum(role[0] == "master" for role in roles) == 3 and all(
            role[3] == "connected" for role in roles if role[0] == "slave"
        )

    def _slots(self, node: Node) -> Iterator[Any]:
        connection = redis.Connection(host=HOST, port=node.port, socket_timeout=1, protocol=2, decode_responses=True)
        try:
            connection.connect()
            connection.send_command("CLUSTER", "SLOTS")
            yield from connection.read_response()
        finally:
            connection.disconnect()


def _lines(info: dict[str, Any]) -> str:
    return "\n".join(f"{name}:{value}" for name, value in info.items())
