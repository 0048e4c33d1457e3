"""The scenarios of the simulation: three regions, revocations from each of them, and a failure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random

from bench.regions.events import Future, Loop, Network, Steps
from bench.regions.protocol import Region, SimulatedReceipt, World, revoke

US, EU, AP = "us-east", "eu-west", "ap-northeast"
HOME = US
"""The region of the system database."""
ROUND_TRIPS: Mapping[frozenset[str], float] = {
    frozenset((US, EU)): 0.075,
    frozenset((US, AP)): 0.160,
    frozenset((EU, AP)): 0.220,
}
"""Seconds. Rounded from published tables of a cloud's round trips between regions: see docs/regions.md."""
LOCAL_ROUND_TRIP = 0.0005
JITTER = 0.02
LOSS = 0.001
WARM_SECONDS = 3.0
"""Until each worker holds both leases."""
FILL_BEFORE_SECONDS, FILL_AFTER_SECONDS = 0.6, 0.4
FILLS, LATE_FILL_SECONDS = 2, (1.5, 2.9)
"""Each worker sends requests at random times around the revocation of their key, so that some reads are in progress,
and one later."""


@dataclass(frozen=True)
class Scenario:
    """A failure that starts at `failure_at` and ends after `lasts`, in simulated seconds after the warm-up."""

    name: str
    fail: Callable[[World], None] = lambda world: None
    repair: Callable[[World], None] = lambda world: None
    failure_at: float = 3.0
    lasts: float = 15.0
    seconds: float = 24.0
    """How long revocations are started."""
    settle: float = 13.0
    """After the last one: longer than its receipt takes."""
    event_loss: float = 0.0
    loss: float = LOSS


@dataclass(frozen=True)
class History:
    """What one scenario recorded."""

    name: str
    receipts: Sequence[SimulatedReceipt]
    unconfirmed: int
    """Revocations without a receipt: their revoker did not reach the system database or the account's database."""
    violations: Sequence[str]
    checks: int
    seconds_without_leases: float
    """How long a worker had to verify each request in the database, on average over all workers."""


def _starve(world: World) -> None:
    world.regions[EU].workers[0].starved = True


def _resume(world: World) -> None:
    world.regions[EU].workers[0].resume()


def _cut_off(world: World) -> None:
    world.network.cut(world.network.pairs_of(AP))


def _cut_one_path(world: World) -> None:
    world.network.cut([frozenset((EU, AP))])


def _heal(world: World) -> None:
    world.network.heal()


def _heal_in_steps(world: World) -> None:
    """First the path to the system database, then the other one."""
    _heal(world)
    _cut_one_path(world)
    world.loop.after(5.0, lambda: _heal(world))


def _pause_coordinator(world: World) -> None:
    """Pause the coordinator of a region after a heartbeat, and cut the region off while the coordinator is paused. Its
    first act afterwards is to write the grant of that old heartbeat, before the region leases expire."""
    coordinator = world.regions[AP].coordinator
    coordinator.paused = Future()
    world.loop.after(1.0, lambda: _cut_off(world))
    world.loop.after(8.5, lambda: _resume_coordinator(world))


def _resume_coordinator(world: World) -> None:
    coordinator = world.regions[AP].coordinator
    paused, coordinator.paused = coordinator.paused, None
    assert paused is not None
    paused.resolve(True)


def _replace_redis(world: World) -> None:
    world.regions[EU].replace_redis()


def _split(world: World) -> None:
    world.regions[EU].split()


def _unite(world: World) -> None:
    world.regions[EU].unite()


SCENARIOS = [
    Scenario("no failure", seconds=16.0, settle=4.0),
    Scenario("one worker paused", _starve, _resume, lasts=8.0, seconds=16.0, settle=4.0),
    Scenario("lossy network", seconds=16.0, settle=4.0, event_loss=0.0005, loss=0.03),
    Scenario("path between two regions cut", _cut_one_path, _heal, lasts=8.0, seconds=16.0, settle=6.0),
    Scenario("one region cut off, and back", _cut_off, _heal_in_steps),
    Scenario("cut off, coordinator paused", _pause_coordinator, _heal, lasts=20.0),
    Scenario("Redis of a region replaced", _replace_redis, seconds=18.0),
    Scenario("two Redis in a region at once", _split, _unite, lasts=6.0, seconds=12.0),
]


def run(
    scenario: Scenario,
    *,
    workers: int = 200,
    seed: int = 1,
    interval: float = 0.4,
    without: str | None = None,
) -> History:
    """Simulate a scenario with `workers` in each region, and a revocation per `interval`. The same arguments give
    the same history."""
    loop, random = Loop(), Random(f"{seed} {scenario.name}")  # noqa: S311
    network = Network(loop, random, ROUND_TRIPS, local_round_trip=LOCAL_ROUND_TRIP, jitter=JITTER, loss=scenario.loss)
    world = World(loop, random, network, HOME, without=without, event_loss=scenario.event_loss)
    for name in (US, EU, AP):
        Region(world, name, workers)
    for region in world.regions.values():
        region.start()
    loop.run_until(WARM_SECONDS)
    loop.after(scenario.failure_at, lambda: scenario.fail(world))
    loop.after(scenario.failure_at + scenario.lasts, lambda: scenario.repair(world))
    receipts: list[SimulatedReceipt] = []
    started = 0
    moment = 0.5
    while moment < scenario.seconds:
        loop.spawn(_revocation(world, moment, f"key{started}", receipts))
        started += 1
        moment += interval * random.uniform(0.5, 1.5)
    samples = _Samples(world)
    loop.run_until(WARM_SECONDS + scenario.seconds + scenario.settle)
    return History(
        scenario.name, receipts, started - len(receipts), world.violations, world.checks, samples.seconds_without_leases
    )


def run_number(number: int, *, workers: int, seed: int, without: str | None) -> History:
    """Simulate one of `SCENARIOS`, in a process of its own."""
    return run(SCENARIOS[number], workers=workers, seed=seed, without=without)


class _Samples:
    """Samples how many workers hold no valid leases."""

    STEP_SECONDS = 0.5

    def __init__(self, world: World) -> None:
        self._world = world
        self.seconds_without_leases = 0.0
        self._sample()

    def _sample(self) -> None:
        workers = self._world.workers()
        without = sum(not worker.guard.leases_valid() for worker in workers)
        self.seconds_without_leases += without / len(workers) * self.STEP_SECONDS
        self._world.loop.after(self.STEP_SECONDS, self._sample)


def _revocation(world: World, moment: float, key: str, receipts: list[SimulatedReceipt]) -> Steps:
    """Let each worker use a key around `moment`, and revoke it then, from a random region."""
    random, regions = world.random, list(world.regions)
    account_region, revoker_region = random.choice(regions), random.choice(regions)
    yield max(0.0, moment - FILL_BEFORE_SECONDS)
    for worker in world.workers():
        moments = [random.uniform(0, FILL_BEFORE_SECONDS + FILL_AFTER_SECONDS) for _ in range(FILLS)]
        for after in [*moments, FILL_BEFORE_SECONDS + random.uniform(*LATE_FILL_SECONDS)]:
            world.loop.after(after, partial(worker.request, key, account_region))
    yield FILL_BEFORE_SECONDS
    yield from revoke(world, revoker_region, account_region, key, receipts)
