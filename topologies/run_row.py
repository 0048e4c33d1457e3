"""Runs one row: engines, product, load, the failure, recovery, and the checks at the end."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.support.waiting import wait_until
from topologies.columns import Traffic, count, is_unexpected, receipts_by_channel
from topologies.deployment import Deployment, Urls, deploy, direct_request
from topologies.engine_process import engine_folder
from topologies.hub_sessions import read_page_and_record
from topologies.load import KeyUnderTest, Load
from topologies.observation import Recorder
from topologies.two_hosts import TwoHosts

WARM_SECONDS = 120.0
RECOVERY_SECONDS = 90.0
QUIET_SECONDS = 3.0
CHECK_SECONDS = 30.0
FALLBACK_LINE = "falling back to local limits"
ANSWERED = (200, 401, 403)


@dataclass
class Timeline:
    """What the failure did, and when, in seconds since the load started."""

    started_at: float
    failure_at: float = math.inf
    events: list[tuple[float, str]] = field(default_factory=list)

    def note(self, what: str) -> None:
        self.events.append((round(time.monotonic() - self.started_at, 1), what))

    def wait(self, seconds: float) -> None:
        """How long a state of the failure lasts. The load continues."""
        time.sleep(seconds)


@dataclass(frozen=True)
class Topology:
    """Running engines. `urls` has the servers of each host."""

    urls: Sequence[Urls]
    admin_url: str = field(repr=False)
    engine: Any
    """What `disturb` gets."""


@dataclass(frozen=True)
class Row:
    """A topology with one failure."""

    name: str
    topology: str
    failure: str
    programs: tuple[str, ...]
    start: Callable[[Path, ExitStack], Topology]
    disturb: Callable[[Any, Timeline], None]
    examine: Callable[[Deployment, Topology, Load], TwoHosts] | None = None
    """What is measured after the load."""


@dataclass(frozen=True)
class Outcome:
    """The figures of one row."""

    name: str
    topology: str
    failure: str
    late_accepts: int
    other_5xx: int
    degraded_seconds: int
    over_admission: float
    lost_sessions: int
    sessions: int
    resurrected_keys: int
    restarts: int
    lost_agents: int
    revocations: int
    revocations_after_failure: int
    """Those whose receipt arrived after the failure started."""
    receipts_by_channel: Mapping[str, int]
    slowest_receipt_seconds: float
    revocations_retried: int
    seconds: float
    workers_replaced: int
    local_limit_fallbacks: int
    """How often a worker enforced limits locally, because Redis was unavailable or slow."""
    agents: int
    resurrected_in_api: int
    resurrected_in_database: int
    traffic: Traffic
    events: Sequence[tuple[float, str]]
    two_hosts: TwoHosts | None

    @property
    def passed(self) -> bool:
        """Whether nothing happened that must not happen, and the load was sufficient to see it."""
        seen = self.revocations_after_failure > 0 and self.traffic.after_receipt > 0
        examined = self.two_hosts is None or self.two_hosts.passed
        return seen and examined and not (self.late_accepts or self.resurrected_keys or self.other_5xx)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def run_row(row: Row, seconds: float, *, keep: bool = False, without_rule: str | None = None) -> Outcome:
    """Run a row. The load continues for at least `seconds` after the failure. With `keep`, the logs are kept.

    Raises an exception if the engines or the product can't be started, or don't recover.
    """
    folder = engine_folder()
    try:
        with ExitStack() as stack:
            topology = row.start(folder, stack)
            deployment = stack.enter_context(deploy(folder, topology.urls, topology.admin_url, without_rule))
            deployment.wait_until_healthy()
            load = Load(deployment, folder)
            load.start()
            return _measure(row, topology, deployment, load, seconds, broken=without_rule is not None)
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def _measure(
    row: Row, topology: Topology, deployment: Deployment, load: Load, seconds: float, *, broken: bool
) -> Outcome:
    timeline = Timeline(load.started_at)
    try:
        wait_until(load.ready_for_disturbance, WARM_SECONDS, lambda: _progress(load))
        pids = deployment.worker_pids()
        load.disturb()
        timeline.failure_at = time.monotonic()
        timeline.note("failure starts")
        row.disturb(topology.engine, timeline)
        timeline.note("failure is over")
        time.sleep(seconds)
        if not broken:  # late accepts are unexpected responses
            _recover(deployment, load, timeline)
        replaced = len(pids - deployment.worker_pids())
    finally:
        load.stop()
    timeline.note("load stopped")
    return _outcome(row, topology, deployment, load, timeline, replaced)


def _recover(deployment: Deployment, load: Load, timeline: Timeline) -> None:
    """Wait until all workers are healthy and no response is unexpected; restart the product if that takes too long."""
    for attempt in range(2):
        try:
            wait_until(lambda: _is_quiet(load) and not deployment.unhealthy(), RECOVERY_SECONDS, deployment.unhealthy)
        except TimeoutError as error:
            timeline.note(f"not recovered: {str(error)[:300]}")
            if attempt:
                raise
            deployment.restart()
            timeline.note("product restarted")
        else:
            timeline.note("recovered")
            return


def _is_quiet(load: Load) -> bool:
    """Whether no response of the last seconds was unexpected."""
    time.sleep(0.5)
    since = time.monotonic() - QUIET_SECONDS
    recent = [one for one in load.observations() if one.ended > since]
    return bool(recent) and not any(is_unexpected(one, load.keys) for one in recent)


def _outcome(
    row: Row, topology: Topology, deployment: Deployment, load: Load, timeline: Timeline, replaced: int
) -> Outcome:
    receipts = load.receipts()
    accepted = {key.key.id for key in receipts if _is_accepted(deployment, key)}
    enabled = deployment.enabled_keys([key.key.id for key in receipts])
    lost = sum(not _is_signed_in(load, number) for number in range(len(load.users)))
    traffic = count(load.observations(), load.keys, load.started_at)
    return Outcome(
        name=row.name,
        topology=row.topology,
        failure=row.failure,
        late_accepts=traffic.late_accepts,
        other_5xx=traffic.other_5xx,
        degraded_seconds=traffic.degraded_seconds,
        over_admission=traffic.over_admission,
        lost_sessions=lost,
        sessions=len(load.users),
        resurrected_keys=len(accepted | enabled),
        resurrected_in_api=len(accepted),
        resurrected_in_database=len(enabled),
        restarts=deployment.restarts,
        lost_agents=len(load.agents - deployment.agent_names()),
        agents=len(load.agents),
        revocations=len(receipts),
        revocations_after_failure=sum(key.receipt_at > timeline.failure_at for key in receipts),
        receipts_by_channel=receipts_by_channel(receipts),
        slowest_receipt_seconds=round(max((key.seconds for key in receipts), default=0.0), 2),
        revocations_retried=sum(key.attempts > 1 for key in receipts),
        seconds=round(time.monotonic() - load.started_at, 1),
        workers_replaced=replaced,
        local_limit_fallbacks=sum(host.log.read_text().count(FALLBACK_LINE) for host in deployment.hosts),
        traffic=traffic,
        events=timeline.events,
        two_hosts=row.examine(deployment, topology, load) if row.examine is not None else None,
    )


def _is_accepted(deployment: Deployment, key: KeyUnderTest) -> bool:
    """Whether a host accepts a revoked key. A response that says neither is asked for again."""
    for port in deployment.ports:
        deadline = time.monotonic() + CHECK_SECONDS
        while (observation := direct_request(port, key.key)).status not in ANSWERED:
            if time.monotonic() > deadline:
                raise RuntimeError(f"the final check of a revoked key returned {observation.status} {observation.code}")
            time.sleep(0.2)
        if observation.status == 200:
            return True
    return False


def _is_signed_in(load: Load, number: int) -> bool:
    deadline = time.monotonic() + CHECK_SECONDS
    unrecorded = Recorder()
    while (status := read_page_and_record(load.users[number], unrecorded)) in {0, 429, 500, 502, 503, 504}:
        if time.monotonic() > deadline:
            raise RuntimeError(f"the final check of a Hub session returned {status}")
        time.sleep(0.2)
    return status == 200


def _progress(load: Load) -> str:
    seen = load.recorder.snapshot()
    tail = ", ".join(f"{one.kind} {one.status} {one.code}".strip() for one in seen[-15:])
    return f"{len(load.receipts())} receipts, {len(load.users)} users; last responses: {tail}"
