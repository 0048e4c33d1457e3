"""Hypothesis advances a simulation, injects faults, and searches for a key that is accepted too late."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kataven.revocation import RevocationTarget
from tests.revocation.simulation.actors import Actor
from tests.revocation.simulation.simulation import (
    INSTANT,
    LEASE_SECONDS,
    READER_LEASE_SECONDS,
    Components,
    Process,
    Simulation,
)

WORKER = st.sampled_from([0, 1])
PROCESS = st.sampled_from([0, 1, 2])
KEY = st.integers(0, 5)
"""The last two are tokens of one user in two accounts."""
SCOPE = st.sampled_from(["credential", "account", "everywhere"])
SECONDS = st.sampled_from([0.1, 0.26, 0.5, 0.8, 1.1])


class AcceptedTooLate(AssertionError):
    """The guarantee is violated: these keys were accepted in requests that started after their receipts."""


class RevocationMachine(RuleBasedStateMachine):
    """Two workers and a command, with slow and fast clocks, any order of steps, and all faults."""

    components: type[Components] = Components

    def __init__(self) -> None:
        super().__init__()
        self.simulation = Simulation(self.components)
        self.workers = [Process(self.simulation, clock_rate=1.0), Process(self.simulation, clock_rate=0.995)]
        self.command = Process(self.simulation, clock_rate=1.005)

    @initialize()
    def workers_start(self) -> None:
        self.threads = [worker.start() for worker in self.workers]
        self.simulation.run_for(1.5)
        self.requests_arrive(0)
        self.requests_arrive(1)

    # Normal operation

    @rule(worker=WORKER)
    def requests_arrive(self, worker: int) -> None:
        if not self.workers[worker].paused:
            for key in self.simulation.keys:
                self.workers[worker].accepts(key)

    @rule(worker=WORKER, index=KEY, steps=st.integers(1, 6))
    def request_with_a_new_key_starts(self, worker: int, index: int, steps: int) -> None:
        self._step_repeatedly(self.workers[worker].request(self.simulation.create_key(index)), steps)

    @rule(worker=WORKER, steps=st.integers(1, 6))
    def requests_with_revoked_keys_start(self, worker: int, steps: int) -> None:
        for key in self.simulation.all_revoked[-3:]:
            self._step_repeatedly(self.workers[worker].request(key), steps)

    @rule(actor=st.integers(0, 9), steps=st.integers(1, 3))
    def an_actor_continues(self, actor: int, steps: int) -> None:
        for _ in range(steps):
            if ready := self.simulation.ready():
                ready[actor % len(ready)].step()

    @rule(process=PROCESS, indexes=st.sets(KEY, min_size=1, max_size=2), scope=SCOPE, steps=st.integers(0, 3))
    def revocations_start(self, process: int, indexes: set[int], scope: str, steps: int) -> None:
        for target in [self._target(index, scope) for index in indexes]:
            self._step_repeatedly(self.simulation.processes[process].revoke(target), steps)

    @rule(process=PROCESS, index=KEY, scope=SCOPE)
    def revocation_returns_its_receipt(self, process: int, index: int, scope: str) -> None:
        revoker = self.simulation.processes[process].revoke(self._target(index, scope))
        self.simulation.run_for(1.1 * READER_LEASE_SECONDS, until=lambda: revoker.done)

    @rule(worker=WORKER, process=PROCESS, index=KEY, scope=SCOPE, steps=st.integers(1, 6))
    def revocation_overtakes_a_request(self, worker: int, process: int, index: int, scope: str, steps: int) -> None:
        request = self.workers[worker].request(self.simulation.create_key(index))
        self._step_repeatedly(request, steps)
        self.revocation_returns_its_receipt(process, index, scope)
        self._step_repeatedly(request, 6)

    @rule(seconds=SECONDS)
    def time_passes(self, seconds: float) -> None:
        self.simulation.run_for(seconds)

    # Faults. One rule covers several, so that faults do not outnumber normal steps.

    @rule(seconds=SECONDS)
    def time_passes_without_scheduling(self, seconds: float) -> None:
        self.simulation.now += seconds

    @rule(worker=WORKER, stopped=st.booleans(), thread_starved=st.booleans())
    def worker_is_paused_or_starved_or_neither(self, worker: int, stopped: bool, thread_starved: bool) -> None:
        self.workers[worker].paused, self.workers[worker].thread_starved = stopped, thread_starved

    @rule(worker=WORKER, steps=st.integers(1, 4))
    def starved_thread_runs_a_few_steps(self, worker: int, steps: int) -> None:
        thread = self.threads[worker]
        self.workers[worker].thread_starved = False
        if self.simulation.now < thread.wakes_at < self.simulation.now + LEASE_SECONDS:
            self.simulation.now = thread.wakes_at + INSTANT
        self._step_repeatedly(thread, steps)
        self.workers[worker].thread_starved = True

    @rule(process=PROCESS, redis=st.booleans(), fallback=st.booleans())
    def process_is_disconnected_or_reconnected(self, process: int, redis: bool, fallback: bool) -> None:
        unlucky = self.simulation.processes[process]
        unlucky.redis_cut_off, unlucky.database_cut_off = redis, fallback
        if redis:
            unlucky.close_link()

    @rule(process=PROCESS, what=st.sampled_from(["event lost", "reply lost", "half open", "cut"]))
    def network_fails(self, process: int, what: str) -> None:
        unlucky = self.simulation.processes[process]
        unlucky.next_event_is_lost |= what == "event lost"
        unlucky.next_reply_is_lost |= what == "reply lost"
        if unlucky.link is not None:
            unlucky.link.half_open |= what == "half open"
            unlucky.link.dead |= what == "cut"

    @rule(what=st.sampled_from(["flushed", "restarts", "fails over", "rolled back", "gone"]))
    def redis_fails(self, what: str) -> None:
        simulation = self.simulation
        if what == "flushed":
            simulation.redis.flush()
            return
        simulation.end_connections()
        if what == "restarts":
            simulation.redis.restart()
        elif what == "fails over":
            simulation.redis.fail_over()
        elif what == "rolled back":
            simulation.now += 1.1 * LEASE_SECONDS  # restoring a machine takes longer than a lease
            simulation.redis.roll_back()
        else:
            simulation.redis_up = False

    @rule(process=PROCESS, back=st.booleans(), link_ends=st.booleans())
    def process_moves_to_another_redis(self, process: int, back: bool, link_ends: bool) -> None:
        simulation = self.simulation
        simulation.processes[process].move(simulation.redis if back else simulation.other_redis, link_ends=link_ends)

    @rule(link_ends=st.booleans())
    def all_processes_move_to_another_redis(self, link_ends: bool) -> None:
        simulation = self.simulation
        simulation.redis, simulation.other_redis = simulation.other_redis, simulation.redis
        for process in simulation.processes:
            process.move(simulation.redis, link_ends=link_ends)

    @rule()
    def all_faults_are_repaired(self) -> None:
        if not self.simulation.redis_up:
            self.simulation.redis.restart()
            self.simulation.redis_up = True
        for worker in self.simulation.processes:
            worker.paused = worker.thread_starved = worker.next_event_is_lost = False
            worker.redis_cut_off = worker.database_cut_off = False
            worker.move(self.simulation.redis, link_ends=True)
        self.simulation.run_for(1.5 * LEASE_SECONDS)
        self.requests_arrive(0)
        self.requests_arrive(1)

    # The guarantee

    @invariant()
    def no_request_that_started_after_the_receipt_was_accepted(self) -> None:
        self.simulation.check_revoked_keys()
        if self.simulation.accepted_too_late:
            raise AcceptedTooLate(self.simulation.accepted_too_late)

    def _step_repeatedly(self, actor: Actor, steps: int) -> None:
        for _ in range(steps):
            if actor.ready:
                actor.step()

    def _target(self, index: int, scope: str) -> RevocationTarget:
        """A key or its whole account; for a user's token, the user in its account or everywhere, or its account."""
        key = self.simulation.keys[index]
        if scope == "account":
            return RevocationTarget(key.account)
        if key.subject is None:
            return key
        return RevocationTarget(None if scope == "everywhere" else key.account, subject=key.subject)

    def teardown(self) -> None:
        self.simulation.end()
