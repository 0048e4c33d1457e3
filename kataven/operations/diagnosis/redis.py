"""Checks the Redis servers: topology, configuration, replicas and clocks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from redis.exceptions import RedisError, ResponseError

from kataven.operations.diagnosis.findings import CheckResult, clock, failed, ok, warning
from kataven.redis_clients.connections import ask
from kataven.redis_url import RedisAddress, RedisDeployment, Topology, read_redis_url

TIMEOUT_SECONDS = 2.0
MAX_LAG_BYTES = 1_000_000
OLDEST_VERSION = (6, 2)
ALL_SLOTS = 16_384

_UNREACHABLE = (
    "Check KATAVEN_REDIS_URL and the server. Without Redis, requests are verified in the databases, and each worker"
    " enforces limits locally."
)


def check_redis(url: str) -> Iterator[CheckResult]:
    """The deployment that `url` names. Opens short connections, and changes nothing."""
    deployment = read_redis_url(url)
    if deployment.topology is Topology.SENTINEL:
        yield from _sentinel(deployment)
    elif deployment.topology is Topology.CLUSTER:
        yield from _cluster(deployment)
    else:
        yield from _server(deployment.server)


def _sentinel(deployment: RedisDeployment) -> Iterator[CheckResult]:
    states, problems = [], []
    for sentinel in deployment.nodes:
        try:
            [reply] = ask(sentinel, TIMEOUT_SECONDS, ("SENTINEL", "MASTER", deployment.service))
            states.append(dict(zip(reply[::2], reply[1::2], strict=True)))
        except (RedisError, OSError, TypeError, ValueError):
            problems.append(f"{sentinel.host}:{sentinel.port}")
    count = len(deployment.nodes)
    if not states:
        yield failed("redis sentinels", "no sentinel responds", _UNREACHABLE)
        return
    quorum = max(int(state["quorum"]) for state in states)
    known = max(int(state["num-other-sentinels"]) + 1 for state in states)
    found = f"{len(states)} of {count} respond, {known} are known, quorum {quorum}"
    missing = f"Restore the sentinels {', '.join(problems)}. A failover needs the quorum, and a majority."
    if len(states) < max(quorum, known // 2 + 1):
        yield failed("redis sentinels", found, missing)
    elif problems:
        yield warning("redis sentinels", found, missing)
    elif known < 3:
        yield warning("redis sentinels", found, "Run at least 3 sentinels: with fewer, one loss prevents failovers.")
    else:
        yield ok("redis sentinels", found)
    primaries = {(state["ip"], int(state["port"])) for state in states}
    if len(primaries) > 1:
        yield failed("redis primary", "the sentinels name different primaries", "Check the sentinels and the network.")
    for host, port in sorted(primaries):
        server = deployment.at(host, port)
        yield from _server(server, replicated=True)
        yield _minimum(f"{_name(server)}: min-replicas", server)


def _cluster(deployment: RedisDeployment) -> Iterator[CheckResult]:
    for node in deployment.nodes:
        try:
            info, nodes = ask(node, TIMEOUT_SECONDS, ("CLUSTER", "INFO"), ("CLUSTER", "SLOTS"))
            break
        except (RedisError, OSError):
            continue
    else:
        yield failed("redis cluster", "no node responds", _UNREACHABLE)
        return
    fields = _fields(info)
    state, assigned = fields.get("cluster_state"), int(fields.get("cluster_slots_assigned", 0))
    found = f"state {state}, {assigned} of {ALL_SLOTS} slots assigned"
    if state != "ok" or assigned < ALL_SLOTS:
        yield failed("redis cluster", found, "Run redis-cli --cluster check, and restore the lost primaries.")
    else:
        yield ok("redis cluster", found)
    primaries = {(str(entry[2][0]), int(entry[2][1])) for entry in nodes}
    for host, port in sorted(primaries):
        yield from _server(deployment.at(host or deployment.nodes[0].host, port), replicated=True)


def _server(address: RedisAddress, *, replicated: bool = False) -> Iterator[CheckResult]:
    name = _name(address)
    before = time.time()
    try:
        (seconds, microseconds), role, server, memory = ask(
            address, TIMEOUT_SECONDS, ("TIME",), ("ROLE",), ("INFO", "server"), ("INFO", "memory")
        )
    except (RedisError, OSError) as error:
        reason = "the server refused the command" if isinstance(error, ResponseError) else "unreachable"
        yield failed(name, reason, _UNREACHABLE)
        return
    local = (before + time.time()) / 2
    about, usage = _fields(server), _fields(memory)
    yield _version(name, about.get("redis_version", "0"), str(role[0]))
    yield clock(f"{name}: clock", int(seconds) + int(microseconds) / 1e6 - local)
    yield _memory(f"{name}: memory", usage)
    if role[0] == "master":
        yield _replicas(f"{name}: replicas", role, replicated=replicated)


def _name(address: RedisAddress) -> str:
    return f"redis {address.path or f'{address.host}:{address.port}'}"


def _version(name: str, version: str, role: str) -> CheckResult:
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if numbers < OLDEST_VERSION:
        return failed(name, f"Redis {version}", "Upgrade to Redis 6.2 or later.")
    if role != "master":
        return failed(name, f"Redis {version}, {role}", "KATAVEN_REDIS_URL must lead to the primary.")
    return ok(name, f"Redis {version}, primary")


def _memory(check: str, usage: dict[str, str]) -> CheckResult:
    policy, most = usage.get("maxmemory_policy", "unknown"), int(usage.get("maxmemory", 0))
    used = int(usage.get("used_memory", 0))
    found = f"maxmemory-policy {policy}, {used / 1e6:.0f} MB used" + (f" of {most / 1e6:.0f} MB" if most else "")
    fix = (
        "Set maxmemory-policy noeviction: eviction signs users out, resets limits, and can delete the record of revoked"
        " keys that a database failover needs."
    )
    if policy != "noeviction":
        return failed(check, found, fix) if most else warning(check, f"{found}, no maxmemory", fix)
    if most and used > 0.9 * most:
        return warning(check, found, "Raise maxmemory: at the limit, Redis refuses writes.")
    return ok(check, found)


def _replicas(check: str, role: Any, *, replicated: bool) -> CheckResult:
    offset, replicas = int(role[1]), role[2]
    lag = max((offset - int(replica[2]) for replica in replicas), default=0)
    noun = "replica" if len(replicas) == 1 else "replicas"
    found = f"{len(replicas)} {noun}" + (f", at most {lag} bytes behind" if replicas else "")
    if replicated and not replicas:
        return warning(check, found, "Add a replica: without one, a failover is impossible.")
    if lag > MAX_LAG_BYTES:
        return warning(check, found, "Check the network and the load of the replica: a failover loses what it lacks.")
    return ok(check, found)


def _minimum(check: str, address: RedisAddress) -> CheckResult:
    """Behind Sentinel, a primary that is cut off accepts writes until it is demoted. A cluster's stops on its own."""
    try:
        [pairs] = ask(address, TIMEOUT_SECONDS, ("CONFIG", "GET", "min-replicas-to-write"))
    except (RedisError, OSError):
        return ok(check, "not readable: the server does not allow CONFIG GET")
    value = int(pairs[1]) if len(pairs) > 1 else 0
    if not value:
        fix = "Set min-replicas-to-write 1: a primary that is cut off then stops accepting writes."
        return warning(check, "min-replicas-to-write is 0", fix)
    return ok(check, f"min-replicas-to-write is {value}")


def _fields(info: Any) -> dict[str, str]:
    return dict(line.split(":", 1) for line in str(info).splitlines() if ":" in line)
