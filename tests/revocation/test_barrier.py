"""For which workers a revoker waits, and how long. Real code; time, Redis and the network are simulated."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kataven.revocation import EVERYTHING, Channel, Guard, Receipt, RevocationTarget, RevocationUnconfirmed
from kataven.revocation.epoch import Epoch
from kataven.revocation.fallback.channel import FallbackNotice
from kataven.revocation.lease import CLOCK_TOLERANCE
from tests.revocation.simulation.simulation import LEASE_SECONDS, READER_LEASE_SECONDS, Components, Process, Simulation

ONE_LEASE_MS = LEASE_SECONDS * CLOCK_TOLERANCE * 1000


class ThreeProcesses:
    """Two workers and a command."""

    def __init__(self) -> None:
        self.simulation = Simulation()
        self.alice, self.bob, self.command = (Process(self.simulation) for _ in range(3))
        self.alice.start()
        self.bob.start()
        self.simulation.run_for(2 * LEASE_SECONDS)
        self.revoke(self.command)

    def revoke(self, process: Process) -> Receipt:
        """Revoke the first key and run until the receipt is returned. Raises RevocationUnconfirmed."""
        receipts: list[Receipt] = []
        process.on_receipt = receipts.append
        revoker = process.revoke(self.simulation.keys[0])
        self.simulation.run_for(10 * LEASE_SECONDS, until=lambda: revoker.done)
        assert not self.simulation.accepted_too_late
        if not receipts:
            raise RevocationUnconfirmed
        return receipts[0]


@pytest.fixture
def processes() -> Iterator[ThreeProcesses]:
    processes = ThreeProcesses()
    yield processes
    processes.simulation.end()


def test_receipt_is_returned_as_soon_as_every_worker_has_acknowledged(processes: ThreeProcesses) -> None:
    receipt = processes.revoke(processes.alice)
    assert (receipt.workers, receipt.acknowledged, receipt.expired) == (2, 2, 0)
    assert receipt.ms < 1
    assert receipt.publish_to_last_ack_ms is not None


def test_revoker_waits_one_lease_for_a_worker_that_does_not_acknowledge(processes: ThreeProcesses) -> None:
    processes.bob.paused = True
    receipt = processes.revoke(processes.alice)
    assert (receipt.workers, receipt.acknowledged, receipt.expired) == (2, 1, 1)
    assert receipt.ms == pytest.approx(ONE_LEASE_MS, abs=1)
    assert receipt.publish_to_last_ack_ms is None


def test_revoker_does_not_wait_for_a_worker_whose_process_has_ended(processes: ThreeProcesses) -> None:
    processes.bob.dead = processes.bob.paused = True
    receipt = processes.revoke(processes.command)
    assert (receipt.workers, receipt.acknowledged, receipt.expired) == (1, 1, 0)
    assert receipt.ms < 1
    assert [worker.id for worker in processes.command.store.members()] == [processes.alice.worker.id]
    processes.alice.dead = processes.alice.paused = True
    assert processes.revoke(processes.command).ms < 1


def test_ended_worker_does_not_shorten_the_wait_for_another_one(processes: ThreeProcesses) -> None:
    processes.alice.dead = processes.alice.paused = processes.bob.paused = True
    receipt = processes.revoke(processes.command)
    assert (receipt.workers, receipt.acknowledged, receipt.expired) == (1, 0, 1)
    assert receipt.ms == pytest.approx(ONE_LEASE_MS, abs=1)


def test_worker_whose_lease_expired_is_not_waited_for_until_it_renews(processes: ThreeProcesses) -> None:
    processes.bob.paused = True
    processes.revoke(processes.alice)
    again = processes.revoke(processes.alice)
    assert (again.workers, again.acknowledged) == (1, 1)
    assert again.ms < 1
    processes.bob.paused = False
    processes.simulation.run_for(LEASE_SECONDS)
    assert processes.revoke(processes.alice).acknowledged == 2


def test_revoker_does_not_wait_at_its_first_revocation(processes: ThreeProcesses) -> None:
    newcomer = Process(processes.simulation)
    receipt = processes.revoke(newcomer)
    assert receipt.acknowledged == 2
    assert receipt.ms < 1


@pytest.mark.parametrize("data_loss", ["flush", "restart", "fail_over"])
def test_fallback_notice_is_posted_after_redis_lost_the_list_of_workers(
    processes: ThreeProcesses, data_loss: str
) -> None:
    getattr(processes.simulation.redis, data_loss)()
    if data_loss != "flush":
        processes.simulation.end_connections()
    receipt = processes.revoke(processes.command)
    assert (receipt.channel, receipt.workers, receipt.acknowledged) == (Channel.SPLIT, 2, 2)
    assert receipt.ms < ONE_LEASE_MS
    processes.simulation.run_for(LEASE_SECONDS)
    assert processes.revoke(processes.command).ms < 1


def test_publication_at_an_abandoned_redis_is_repeated_at_the_revokers_home_redis(
    processes: ThreeProcesses,
) -> None:
    """Its idle connection still leads to a primary that was paused and has resumed."""
    for process in processes.simulation.processes:
        process.move(processes.simulation.other_redis, link_ends=True)
    processes.simulation.run_for(2 * LEASE_SECONDS)
    receipt = processes.revoke(processes.alice)
    assert (receipt.channel, receipt.workers, receipt.acknowledged) == (Channel.REDIS, 2, 2)
    assert receipt.ms < 1


def test_command_that_publishes_at_an_abandoned_redis_posts_a_fallback_notice(
    processes: ThreeProcesses,
) -> None:
    for worker in (processes.alice, processes.bob):
        worker.move(processes.simulation.other_redis, link_ends=True)
    processes.simulation.run_for(2 * LEASE_SECONDS)
    receipt = processes.revoke(processes.command)
    assert (receipt.channel, receipt.workers, receipt.acknowledged) == (Channel.SPLIT, 2, 2)


def test_fallback_notice_reaches_a_worker_with_another_home_redis(processes: ThreeProcesses) -> None:
    """Two Redis servers respond at once; events published at one do not reach workers of the other."""
    processes.bob.move(processes.simulation.other_redis, link_ends=True)
    processes.simulation.run_for(2 * LEASE_SECONDS)
    assert processes.bob.guard.leases_valid()
    receipt = processes.revoke(processes.alice)
    assert (receipt.channel, receipt.workers, receipt.acknowledged) == (Channel.SPLIT, 2, 2)


def test_exited_worker_with_another_home_redis_is_not_waited_for(processes: ThreeProcesses) -> None:
    processes.bob.move(processes.simulation.other_redis, link_ends=True)
    processes.simulation.run_for(2 * LEASE_SECONDS)
    processes.bob.dead = processes.bob.paused = True
    processes.revoke(processes.alice)  # removes it from the list of the first Redis
    assert processes.revoke(processes.alice).ms < 1


def test_without_redis_every_worker_reads_a_fallback_notice_within_a_lease(
    processes: ThreeProcesses,
) -> None:
    processes.simulation.redis_up = False
    processes.simulation.end_connections()
    receipt = processes.revoke(processes.command)
    assert (receipt.workers, receipt.acknowledged, receipt.redis_reachable) == (2, 2, False)
    assert receipt.ms < ONE_LEASE_MS


def test_revoker_that_cannot_reach_redis_returns_its_receipt_after_every_worker_applied_it(
    processes: ThreeProcesses,
) -> None:
    """Bob reaches Redis and renews its lease there; Alice does not."""
    evicted: list[RevocationTarget] = []
    processes.bob.guard.subscribe(evicted.append)
    processes.alice.redis_cut_off = True
    receipt = processes.revoke(processes.alice)
    assert (receipt.workers, receipt.acknowledged, receipt.redis_reachable) == (2, 2, False)
    assert evicted == [EVERYTHING]
    assert processes.bob.guard.leases_valid()


def test_revoker_publishes_a_pending_event_after_it_reaches_redis_again(processes: ThreeProcesses) -> None:
    key = processes.simulation.keys[0]
    processes.alice.redis_cut_off = True
    processes.revoke(processes.alice)
    evicted: list[RevocationTarget] = []
    processes.bob.guard.subscribe(evicted.append)
    processes.alice.redis_cut_off = False
    processes.simulation.run_for(2 * LEASE_SECONDS)
    assert evicted == [key]


def test_revoker_waits_once_for_a_worker_that_does_not_read_notices(processes: ThreeProcesses) -> None:
    processes.simulation.redis_up = False
    processes.simulation.end_connections()
    processes.bob.paused = True
    receipt = processes.revoke(processes.alice)
    assert (receipt.workers, receipt.acknowledged) == (2, 1)
    assert receipt.ms == pytest.approx(READER_LEASE_SECONDS * CLOCK_TOLERANCE * 1000, abs=ONE_LEASE_MS / 4)
    again = processes.revoke(processes.alice)
    assert (again.workers, again.acknowledged) == (1, 1)
    assert again.ms < ONE_LEASE_MS


def test_exited_worker_is_not_waited_for(processes: ThreeProcesses) -> None:
    processes.simulation.redis_up = False
    processes.simulation.end_connections()
    processes.bob.dead = processes.bob.paused = True
    receipt = processes.revoke(processes.alice)
    assert (receipt.workers, receipt.acknowledged) == (1, 1)
    assert receipt.ms < ONE_LEASE_MS


def test_no_receipt_is_returned_if_redis_and_the_database_are_unreachable(processes: ThreeProcesses) -> None:
    processes.alice.redis_cut_off = processes.alice.database_cut_off = True
    before = processes.simulation.now
    with pytest.raises(RevocationUnconfirmed):
        processes.revoke(processes.alice)
    assert processes.simulation.now - before == pytest.approx(LEASE_SECONDS * CLOCK_TOLERANCE, abs=0.2)


def test_unconfirmed_revocation_is_published_after_redis_is_reachable(processes: ThreeProcesses) -> None:
    key = processes.simulation.keys[0]
    processes.alice.redis_cut_off = processes.alice.database_cut_off = True
    with pytest.raises(RevocationUnconfirmed):
        processes.revoke(processes.alice)
    evicted: list[RevocationTarget] = []
    processes.bob.guard.subscribe(evicted.append)
    processes.alice.redis_cut_off = False
    processes.simulation.run_for(2 * LEASE_SECONDS)
    assert evicted == [key]


def test_cache_survives_a_database_outage_shorter_than_the_reader_lease(
    processes: ThreeProcesses,
) -> None:
    processes.simulation.database_up = False
    processes.simulation.run_for(READER_LEASE_SECONDS / 2)
    assert processes.alice.guard.leases_valid()
    processes.simulation.run_for(READER_LEASE_SECONDS)
    assert not processes.alice.guard.leases_valid()
    processes.simulation.database_up = True
    processes.simulation.run_for(LEASE_SECONDS)
    assert processes.alice.guard.leases_valid()


@pytest.mark.parametrize("revoker", ["alice", "command"])
def test_without_the_database_no_receipt_is_returned_but_reachable_workers_evict(
    processes: ThreeProcesses, revoker: str
) -> None:
    """The revoker cannot determine whether the Redis that accepted the event is the home Redis of every worker."""
    evicted: list[RevocationTarget] = []
    processes.bob.guard.subscribe(evicted.append)
    key = processes.simulation.keys[0]
    processes.simulation.database_up = False
    with pytest.raises(RevocationUnconfirmed):
        processes.revoke(getattr(processes, revoker))
    assert evicted == [key]


def test_lost_reply_to_a_publication_does_not_delay_the_receipt(processes: ThreeProcesses) -> None:
    processes.command.next_reply_is_lost = True
    receipt = processes.revoke(processes.command)
    assert (receipt.channel, receipt.workers, receipt.acknowledged) == (Channel.REDIS, 2, 2)
    assert receipt.ms < 1


def test_repeated_publication_is_acknowledged_under_its_own_id(processes: ThreeProcesses) -> None:
    """The list of the first attempt contains a worker that another revoker removes before the second."""
    processes.bob.paused = True
    processes.command.next_reply_is_lost = True
    receipts: list[Receipt] = []
    processes.command.on_receipt = receipts.append
    before = processes.simulation.redis.memory.state["count"]
    revoker = processes.command.revoke(processes.simulation.keys[0])
    while processes.simulation.redis.memory.state["count"] == before:
        revoker.step()
    processes.command.paused = True
    processes.revoke(processes.alice)
    processes.command.paused = False
    processes.simulation.run_for(10 * LEASE_SECONDS, until=lambda: revoker.done)
    assert (receipts[0].workers, receipts[0].acknowledged) == (1, 1)


def test_redis_restart_during_the_wait_delays_the_receipt_by_one_lease(processes: ThreeProcesses) -> None:
    processes.bob.thread_starved = True
    receipts: list[Receipt] = []
    processes.alice.on_receipt = receipts.append
    processes.alice.revoke(processes.simulation.keys[0])
    processes.simulation.run_for(0.3)
    processes.simulation.redis.restart()
    processes.simulation.end_connections()
    processes.simulation.run_for(10 * LEASE_SECONDS, until=lambda: bool(receipts))
    assert (receipts[0].workers, receipts[0].acknowledged) == (2, 0)
    assert receipts[0].ms == pytest.approx(ONE_LEASE_MS, abs=1)


def test_revoker_waits_for_the_longest_lease_of_a_listed_worker(processes: ThreeProcesses) -> None:
    patient = Process(processes.simulation)
    patient.guard.lease.seconds = 3 * LEASE_SECONDS
    patient.start()
    processes.simulation.run_for(LEASE_SECONDS)
    patient.paused = True
    assert processes.revoke(processes.alice).ms == pytest.approx(3 * ONE_LEASE_MS, abs=1)


def test_announcement_reaches_every_worker_without_waiting(processes: ThreeProcesses) -> None:
    evicted: list[RevocationTarget] = []
    processes.bob.guard.subscribe(evicted.append)
    before = processes.simulation.now
    processes.alice.barrier.announce(RevocationTarget("acme"))
    processes.simulation.settle()
    assert evicted == [RevocationTarget("acme")]
    assert processes.simulation.now == before


def test_failed_announcement_is_published_when_redis_is_available_again(processes: ThreeProcesses) -> None:
    evicted: list[RevocationTarget] = []
    processes.bob.guard.subscribe(evicted.append)
    processes.simulation.redis_up = False
    processes.alice.barrier.announce(RevocationTarget("acme"))
    processes.simulation.settle()
    assert evicted == []
    processes.simulation.redis_up = True
    processes.simulation.run_for(LEASE_SECONDS)
    assert evicted == [RevocationTarget("acme")]


def test_too_many_pending_announcements_clear_everything(processes: ThreeProcesses) -> None:
    processes.simulation.redis_up = False
    for number in range(200):
        processes.alice.barrier.announce(RevocationTarget("acme", f"key-{number}"))
    evicted: list[RevocationTarget] = []
    processes.bob.guard.subscribe(evicted.append)
    processes.simulation.redis_up = True
    processes.simulation.run_for(LEASE_SECONDS)
    assert RevocationTarget(None) in evicted
    assert len(evicted) < 150


@pytest.mark.parametrize("steps", range(12))
def test_key_whose_revoker_dies_is_rejected_within_a_lease_of_its_commit(steps: int) -> None:
    """Killed at each step, from before it writes its intent until it has returned the receipt."""
    processes = ThreeProcesses()
    simulation, key = processes.simulation, processes.simulation.keys[0]
    assert processes.alice.accepts(key)
    assert processes.bob.accepts(key)
    revoker = processes.command.revoke_with_intent(key)
    for _ in range(steps):
        if revoker.ready:
            revoker.step()
    processes.command.dead = True
    simulation.run_for(1.1 * LEASE_SECONDS)
    assert (key in simulation.revoked) != (processes.alice.accepts(key) or processes.bob.accepts(key))
    simulation.end()


class GuardThatIgnoresUnwrittenHome(Guard):
    """A lease becomes valid immediately, even if the home Redis is not written."""

    def confirm_lease(self, counted_from: float, epoch: Epoch) -> None:
        super().confirm_lease(counted_from, epoch)
        self.lease.confirm(counted_from)


@pytest.mark.parametrize(("guard", "guarantee_kept"), [(Guard, True), (GuardThatIgnoresUnwrittenHome, False)])
def test_worker_uses_no_cache_until_its_new_home_redis_is_written(guard: type[Guard], guarantee_kept: bool) -> None:
    simulation = Simulation(type("SomeParts", (Components,), {"guard": guard}))
    alice, bob = Process(simulation), Process(simulation)
    alice.start()
    bob.start()
    simulation.run_for(2 * LEASE_SECONDS)
    alice.database_cut_off = True
    alice.move(simulation.other_redis, link_ends=True)
    simulation.run_for(0.3 * LEASE_SECONDS)
    key = simulation.keys[0]
    assert alice.accepts(key)
    receipts: list[Receipt] = []
    bob.on_receipt = receipts.append
    bob.revoke(key)
    simulation.run_for(2 * LEASE_SECONDS, until=lambda: bool(receipts))
    assert receipts[0].channel is Channel.REDIS
    simulation.check_revoked_keys()
    assert (not simulation.accepted_too_late) is guarantee_kept
    simulation.end()


class GuardThatIgnoresExpiredReaderLease(Guard):
    """After it was removed from the list of readers, it keeps its cache."""

    def apply_notice(self, counted_from: float, notice: FallbackNotice) -> None:
        if notice != self.notice:
            self._evict(EVERYTHING)
            self.notice = notice
        self.reader_lease.confirm(counted_from)


@pytest.mark.parametrize(("guard", "guarantee_kept"), [(Guard, True), (GuardThatIgnoresExpiredReaderLease, False)])
def test_worker_removed_from_the_readers_clears_its_caches_before_it_uses_them_again(
    guard: type[Guard], guarantee_kept: bool
) -> None:
    """It renews at another Redis the whole time, and revokers do not know about it."""
    simulation = Simulation(type("SomeParts", (Components,), {"guard": guard}))
    alice, bob = Process(simulation), Process(simulation)
    alice.start()
    bob.start()
    alice.move(simulation.other_redis, link_ends=True)
    simulation.run_for(2 * LEASE_SECONDS)
    key = simulation.keys[0]
    assert alice.accepts(key)
    alice.database_cut_off = True
    simulation.run_for(4 * READER_LEASE_SECONDS)  # bob removes it
    receipts: list[Receipt] = []
    bob.on_receipt = receipts.append
    bob.revoke(key)
    simulation.run_for(LEASE_SECONDS, until=lambda: bool(receipts))
    assert receipts[0].channel is Channel.REDIS
    alice.database_cut_off = False
    simulation.run_for(LEASE_SECONDS)
    assert alice.guard.leases_valid()
    assert (not simulation.accepted_too_late) is guarantee_kept
    simulation.end()


def test_without_an_intent_the_key_remains_accepted(processes: ThreeProcesses) -> None:
    key = processes.simulation.keys[0]
    assert processes.alice.accepts(key)
    processes.simulation.commit_revocation(key)
    processes.simulation.run_for(1.1 * LEASE_SECONDS)
    assert processes.alice.accepts(key)
