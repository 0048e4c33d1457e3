"""Whoever plays fate: Hypothesis moves a world on and breaks it, and looks for a key that is accepted too late."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kataven.revocation import RevocationTarget
from tests.revocation.simulation.actors import Actor
from tests.revocation.simulation.simulation import INSTANT, LEASE_SECONDS, READER_LEASE_SECONDS, Parts, Process, World

WORKER = st.sampled_from([0, 1])
PROCESS = st.sampled_from([0, 1, 2])
KEY = st.integers(0, 3)
SECONDS = st.sampled_from([0.1, 0.26, 0.5, 0.8, 1.1])


class AcceptedTooLate(AssertionError):
    """The promise is broken: these keys were accepted in requests that started after their receipts."""


class Fate(RuleBasedStateMachine):
    """Two workers and a command; slow and fast clocks; any order of steps, and everything that can break."""

    parts: type[Parts] = Parts

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self.parts)
        self.workers = [Process(self.world, clock_rate=1.0), Process(self.world, clock_rate=0.995)]
        self.command = Process(self.world, clock_rate=1.005)

    @initialize()
    def workers_start(self) -> None:
        self.threads = [worker.start() for worker in self.workers]
        self.world.go_on(1.5)
        self.requests_come(0)
        self.requests_come(1)

    # What happens on a good day

    @rule(worker=WORKER)
    def requests_come(self, worker: int) -> None:
        if not self.workers[worker].frozen:
            for key in self.world.keys:
                self.workers[worker].accepts(key)

    @rule(worker=WORKER, place=KEY, steps=st.integers(1, 6))
    def request_with_a_new_key_begins(self, worker: int, place: int, steps: int) -> None:
        self._let_begin(self.workers[worker].request(self.world.mint(place)), steps)

    @rule(worker=WORKER, steps=st.integers(1, 6))
    def requests_with_what_was_revoked_begin(self, worker: int, steps: int) -> None:
        for key in self.world.keys_ended[-3:]:
            self._let_begin(self.workers[worker].request(key), steps)

    @rule(actor=st.integers(0, 9), steps=st.integers(1, 3))
    def somebody_goes_on(self, actor: int, steps: int) -> None:
        for _ in range(steps):
            if ready := self.world.ready():
                ready[actor % len(ready)].step()

    @rule(process=PROCESS, places=st.sets(KEY, min_size=1, max_size=2), account=st.booleans(), steps=st.integers(0, 3))
    def revocations_begin(self, process: int, places: set[int], account: bool, steps: int) -> None:
        for target in [self._scope(place, account) for place in places]:
            self._let_begin(self.world.processes[process].revoke(target), steps)

    @rule(process=PROCESS, place=KEY, account=st.booleans())
    def revocation_is_answered(self, process: int, place: int, account: bool) -> None:
        revoker = self.world.processes[process].revoke(self._scope(place, account))
        self.world.go_on(1.1 * READER_LEASE_SECONDS, until=lambda: revoker.done)

    @rule(worker=WORKER, process=PROCESS, place=KEY, account=st.booleans(), steps=st.integers(1, 6))
    def revocation_overtakes_a_request(self, worker: int, process: int, place: int, account: bool, steps: int) -> None:
        request = self.workers[worker].request(self.world.mint(place))
        self._let_begin(request, steps)
        self.revocation_is_answered(process, place, account)
        self._let_begin(request, 6)

    @rule(seconds=SECONDS)
    def the_world_goes_on(self, seconds: float) -> None:
        self.world.go_on(seconds)

    # What happens on others. Several calamities to a rule, so that they don't outnumber the good days.

    @rule(seconds=SECONDS)
    def nobody_is_scheduled(self, seconds: float) -> None:
        self.world.now += seconds

    @rule(worker=WORKER, stopped=st.booleans(), starved=st.booleans())
    def worker_is_stopped_or_its_thread_starved_or_not(self, worker: int, stopped: bool, starved: bool) -> None:
        self.workers[worker].frozen, self.workers[worker].starved = stopped, starved

    @rule(worker=WORKER, steps=st.integers(1, 4))
    def worker_thread_gets_a_moment_and_is_held_up_again(self, worker: int, steps: int) -> None:
        thread = self.threads[worker]
        self.workers[worker].starved = False
        if self.world.now < thread.wakes_at < self.world.now + LEASE_SECONDS:
            self.world.now = thread.wakes_at + INSTANT
        self._let_begin(thread, steps)
        self.workers[worker].starved = True

    @rule(process=PROCESS, redis=st.booleans(), fallback=st.booleans())
    def process_is_cut_off_or_not(self, process: int, redis: bool, fallback: bool) -> None:
        unlucky = self.world.processes[process]
        unlucky.cut_off, unlucky.cut_off_from_notices = redis, fallback
        if redis:
            unlucky.cut()

    @rule(process=PROCESS, what=st.sampled_from(["event lost", "reply lost", "half open", "cut"]))
    def network_fails(self, process: int, what: str) -> None:
        unlucky = self.world.processes[process]
        unlucky.next_event_is_lost |= what == "event lost"
        unlucky.next_reply_is_lost |= what == "reply lost"
        if unlucky.link is not None:
            unlucky.link.half_open |= what == "half open"
            unlucky.link.dead |= what == "cut"

    @rule(what=st.sampled_from(["flushed", "restarts", "fails over", "rolled back", "gone"]))
    def redis_fails(self, what: str) -> None:
        world = self.world
        if what == "flushed":
            world.redis.flush()
            return
        world.end_connections()
        if what == "restarts":
            world.redis.restart()
        elif what == "fails over":
            world.redis.fail_over()
        elif what == "rolled back":
            world.now += 1.1 * LEASE_SECONDS  # restoring a machine takes longer than a lease
            world.redis.roll_back()
        else:
            world.redis_up = False

    @rule(process=PROCESS, back=st.booleans(), link_ends=st.booleans())
    def process_is_led_to_another_redis(self, process: int, back: bool, link_ends: bool) -> None:
        world = self.world
        world.processes[process].move(world.redis if back else world.other_redis, link_ends=link_ends)

    @rule(link_ends=st.booleans())
    def everybody_is_led_to_another_redis(self, link_ends: bool) -> None:
        world = self.world
        world.redis, world.other_redis = world.other_redis, world.redis
        for process in world.processes:
            process.move(world.redis, link_ends=link_ends)

    @rule()
    def all_is_well_again(self) -> None:
        if not self.world.redis_up:
            self.world.redis.restart()
            self.world.redis_up = True
        for worker in self.world.processes:
            worker.frozen = worker.starved = worker.next_event_is_lost = False
            worker.cut_off = worker.cut_off_from_notices = False
            worker.move(self.world.redis, link_ends=True)
        self.world.go_on(1.5 * LEASE_SECONDS)
        self.requests_come(0)
        self.requests_come(1)

    # What must never happen

    @invariant()
    def no_request_that_started_after_the_receipt_was_accepted(self) -> None:
        self.world.probe()
        if self.world.accepted_too_late:
            raise AcceptedTooLate(self.world.accepted_too_late)

    def _let_begin(self, actor: Actor, steps: int) -> None:
        for _ in range(steps):
            if actor.ready:
                actor.step()

    def _scope(self, place: int, account: bool) -> RevocationTarget:
        """A key, or its whole account."""
        key = self.world.keys[place]
        return RevocationTarget(key.account) if account else key

    def teardown(self) -> None:
        self.world.end()
