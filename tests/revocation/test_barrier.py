"""Revoking: whom a revoker waits for, and how long. Real code; time, Redis and the network are played."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kataven.revocation import EVERYTHING, Channel, Guard, Receipt, RevocationTarget, RevocationUnconfirmed
from kataven.revocation.epoch import Epoch
from kataven.revocation.fallback.channel import FallbackNotice
from kataven.revocation.lease import CLOCK_TOLERANCE
from tests.revocation.simulation.simulation import LEASE_SECONDS, READER_LEASE_SECONDS, Parts, Process, World

ONE_LEASE_MS = LEASE_SECONDS * CLOCK_TOLERANCE * 1000


class Cast:
    """Two workers and a command."""

    def __init__(self) -> None:
        self.world = World()
        self.alice, self.bob, self.command = (Process(self.world) for _ in range(3))
        self.alice.start()
        self.bob.start()
        self.world.go_on(2 * LEASE_SECONDS)
        self.revoke(self.command)

    def revoke(self, process: Process) -> Receipt:
        """Revoke the first key, and let the world go on until the receipt is out. Raises NobodyTold."""
        receipts: list[Receipt] = []
        process.on_receipt = receipts.append
        revoker = process.revoke(self.world.keys[0])
        self.world.go_on(10 * LEASE_SECONDS, until=lambda: revoker.done)
        assert not self.world.accepted_too_late
        if not receipts:
            raise RevocationUnconfirmed
        return receipts[0]


@pytest.fixture
def cast() -> Iterator[Cast]:
    cast = Cast()
    yield cast
    cast.world.end()


def test_receipt_is_out_as_soon_as_every_worker_has_acknowledged(cast: Cast) -> None:
    receipt = cast.revoke(cast.alice)
    assert (receipt.workers, receipt.acknowledged, receipt.expired) == (2, 2, 0)
    assert receipt.ms < 1
    assert receipt.publish_to_last_ack_ms is not None


def test_worker_that_does_not_answer_is_waited_out_for_one_lease(cast: Cast) -> None:
    cast.bob.frozen = True
    receipt = cast.revoke(cast.alice)
    assert (receipt.workers, receipt.acknowledged, receipt.expired) == (2, 1, 1)
    assert receipt.ms == pytest.approx(ONE_LEASE_MS, abs=1)
    assert receipt.publish_to_last_ack_ms is None


def test_worker_that_was_waited_out_is_not_waited_for_again_until_it_is_back(cast: Cast) -> None:
    cast.bob.frozen = True
    cast.revoke(cast.alice)
    again = cast.revoke(cast.alice)
    assert (again.workers, again.acknowledged) == (1, 1)
    assert again.ms < 1
    cast.bob.frozen = False
    cast.world.go_on(LEASE_SECONDS)
    assert cast.revoke(cast.alice).acknowledged == 2


def test_revoker_that_meets_a_redis_for_the_first_time_need_not_wait(cast: Cast) -> None:
    newcomer = Process(cast.world)
    receipt = cast.revoke(newcomer)
    assert receipt.acknowledged == 2
    assert receipt.ms < 1


@pytest.mark.parametrize("forgets", ["flush", "restart", "fail_over"])
def test_workers_are_told_by_a_notice_after_redis_forgot_who_holds_a_lease(cast: Cast, forgets: str) -> None:
    getattr(cast.world.redis, forgets)()
    if forgets != "flush":
        cast.world.end_connections()
    receipt = cast.revoke(cast.command)
    assert (receipt.channel, receipt.workers, receipt.acknowledged) == (Channel.SPLIT, 2, 2)
    assert receipt.ms < ONE_LEASE_MS
    cast.world.go_on(LEASE_SECONDS)
    assert cast.revoke(cast.command).ms < 1


def test_publication_at_a_redis_that_everybody_else_has_left_is_made_again_where_the_revoker_renews(cast: Cast) -> None:
    """Its idle connection still leads to a primary that was paused, and woke."""
    for process in cast.world.processes:
        process.move(cast.world.other_redis, link_ends=True)
    cast.world.go_on(2 * LEASE_SECONDS)
    receipt = cast.revoke(cast.alice)
    assert (receipt.channel, receipt.workers, receipt.acknowledged) == (Channel.REDIS, 2, 2)
    assert receipt.ms < 1


def test_command_whose_publication_reaches_a_redis_that_nobody_renews_at_tells_by_a_notice(cast: Cast) -> None:
    for worker in (cast.alice, cast.bob):
        worker.move(cast.world.other_redis, link_ends=True)
    cast.world.go_on(2 * LEASE_SECONDS)
    receipt = cast.revoke(cast.command)
    assert (receipt.channel, receipt.workers, receipt.acknowledged) == (Channel.SPLIT, 2, 2)


def test_worker_that_renews_at_another_redis_is_told_by_a_notice(cast: Cast) -> None:
    """Two that serve at once: neither hears of what is published at the other."""
    cast.bob.move(cast.world.other_redis, link_ends=True)
    cast.world.go_on(2 * LEASE_SECONDS)
    assert cast.bob.guard.leases_valid()
    receipt = cast.revoke(cast.alice)
    assert (receipt.channel, receipt.workers, receipt.acknowledged) == (Channel.SPLIT, 2, 2)


def test_dead_worker_that_renewed_elsewhere_is_not_waited_for(cast: Cast) -> None:
    cast.bob.move(cast.world.other_redis, link_ends=True)
    cast.world.go_on(2 * LEASE_SECONDS)
    cast.bob.dead = cast.bob.frozen = True
    cast.revoke(cast.alice)  # takes it off the list of the first Redis
    assert cast.revoke(cast.alice).ms < 1


def test_without_redis_every_worker_reads_a_notice_within_a_lease_and_the_receipt_says_so(cast: Cast) -> None:
    cast.world.redis_up = False
    cast.world.end_connections()
    receipt = cast.revoke(cast.command)
    assert (receipt.workers, receipt.acknowledged, receipt.redis_reachable) == (2, 2, False)
    assert receipt.ms < ONE_LEASE_MS


def test_revoker_that_alone_is_cut_off_is_heard_before_its_receipt(cast: Cast) -> None:
    """Bob can reach Redis and renews his lease there; Alice can't."""
    forgotten: list[RevocationTarget] = []
    cast.bob.guard.subscribe(forgotten.append)
    cast.alice.cut_off = True
    receipt = cast.revoke(cast.alice)
    assert (receipt.workers, receipt.acknowledged, receipt.redis_reachable) == (2, 2, False)
    assert forgotten == [EVERYTHING]
    assert cast.bob.guard.leases_valid()


def test_revoker_that_was_cut_off_publishes_as_soon_as_it_is_back(cast: Cast) -> None:
    key = cast.world.keys[0]
    cast.alice.cut_off = True
    cast.revoke(cast.alice)
    forgotten: list[RevocationTarget] = []
    cast.bob.guard.subscribe(forgotten.append)
    cast.alice.cut_off = False
    cast.world.go_on(2 * LEASE_SECONDS)
    assert forgotten == [key]


def test_worker_that_does_not_read_notices_is_waited_out_once(cast: Cast) -> None:
    cast.world.redis_up = False
    cast.world.end_connections()
    cast.bob.frozen = True
    receipt = cast.revoke(cast.alice)
    assert (receipt.workers, receipt.acknowledged) == (2, 1)
    assert receipt.ms == pytest.approx(READER_LEASE_SECONDS * CLOCK_TOLERANCE * 1000, abs=ONE_LEASE_MS / 4)
    again = cast.revoke(cast.alice)
    assert (again.workers, again.acknowledged) == (1, 1)
    assert again.ms < ONE_LEASE_MS


def test_worker_that_is_dead_is_not_waited_for(cast: Cast) -> None:
    cast.world.redis_up = False
    cast.world.end_connections()
    cast.bob.dead = cast.bob.frozen = True
    receipt = cast.revoke(cast.alice)
    assert (receipt.workers, receipt.acknowledged) == (1, 1)
    assert receipt.ms < ONE_LEASE_MS


def test_where_nobody_can_be_told_there_is_no_receipt(cast: Cast) -> None:
    cast.alice.cut_off = cast.alice.cut_off_from_notices = True
    before = cast.world.now
    with pytest.raises(RevocationUnconfirmed):
        cast.revoke(cast.alice)
    assert cast.world.now - before == pytest.approx(LEASE_SECONDS * CLOCK_TOLERANCE, abs=0.2)


def test_nobody_told_is_told_as_soon_as_redis_can_be_reached(cast: Cast) -> None:
    key = cast.world.keys[0]
    cast.alice.cut_off = cast.alice.cut_off_from_notices = True
    with pytest.raises(RevocationUnconfirmed):
        cast.revoke(cast.alice)
    forgotten: list[RevocationTarget] = []
    cast.bob.guard.subscribe(forgotten.append)
    cast.alice.cut_off = False
    cast.world.go_on(2 * LEASE_SECONDS)
    assert forgotten == [key]


def test_place_of_notices_that_is_away_for_less_than_its_lease_costs_requests_nothing(cast: Cast) -> None:
    cast.world.notices_up = False
    cast.world.go_on(READER_LEASE_SECONDS / 2)
    assert cast.alice.guard.leases_valid()
    cast.world.go_on(READER_LEASE_SECONDS)
    assert not cast.alice.guard.leases_valid()
    cast.world.notices_up = True
    cast.world.go_on(LEASE_SECONDS)
    assert cast.alice.guard.leases_valid()


@pytest.mark.parametrize("revoker", ["alice", "command"])
def test_without_the_notices_there_is_no_receipt_but_workers_that_redis_reaches_forget(
    cast: Cast, revoker: str
) -> None:
    """It can't be known whether the Redis that took the event is the one that every worker renews at."""
    forgotten: list[RevocationTarget] = []
    cast.bob.guard.subscribe(forgotten.append)
    key = cast.world.keys[0]
    cast.world.notices_up = False
    with pytest.raises(RevocationUnconfirmed):
        cast.revoke(getattr(cast, revoker))
    assert forgotten == [key]


def test_answer_to_a_publication_that_got_lost_costs_nothing(cast: Cast) -> None:
    cast.command.next_reply_is_lost = True
    receipt = cast.revoke(cast.command)
    assert (receipt.channel, receipt.workers, receipt.acknowledged) == (Channel.REDIS, 2, 2)
    assert receipt.ms < 1


def test_publication_that_is_sent_again_is_acknowledged_by_its_own_id(cast: Cast) -> None:
    """The first attempt's list has a worker that another revoker takes off before the second."""
    cast.bob.frozen = True
    cast.command.next_reply_is_lost = True
    receipts: list[Receipt] = []
    cast.command.on_receipt = receipts.append
    before = cast.world.redis.memory.state["count"]
    revoker = cast.command.revoke(cast.world.keys[0])
    while cast.world.redis.memory.state["count"] == before:
        revoker.step()
    cast.command.frozen = True
    cast.revoke(cast.alice)
    cast.command.frozen = False
    cast.world.go_on(10 * LEASE_SECONDS, until=lambda: revoker.done)
    assert (receipts[0].workers, receipts[0].acknowledged) == (1, 1)


def test_redis_that_restarts_while_acknowledgements_are_awaited_costs_one_lease(cast: Cast) -> None:
    cast.bob.starved = True
    receipts: list[Receipt] = []
    cast.alice.on_receipt = receipts.append
    cast.alice.revoke(cast.world.keys[0])
    cast.world.go_on(0.3)
    cast.world.redis.restart()
    cast.world.end_connections()
    cast.world.go_on(10 * LEASE_SECONDS, until=lambda: bool(receipts))
    assert (receipts[0].workers, receipts[0].acknowledged) == (2, 0)
    assert receipts[0].ms == pytest.approx(ONE_LEASE_MS, abs=1)


def test_longest_lease_that_a_worker_counts_on_is_the_one_that_is_waited_out(cast: Cast) -> None:
    patient = Process(cast.world)
    patient.guard.lease.seconds = 3 * LEASE_SECONDS
    patient.start()
    cast.world.go_on(LEASE_SECONDS)
    patient.frozen = True
    assert cast.revoke(cast.alice).ms == pytest.approx(3 * ONE_LEASE_MS, abs=1)


def test_announcement_reaches_every_worker_and_nobody_waits(cast: Cast) -> None:
    forgotten: list[RevocationTarget] = []
    cast.bob.guard.subscribe(forgotten.append)
    before = cast.world.now
    cast.alice.barrier.announce(RevocationTarget("acme"))
    cast.world.settle()
    assert forgotten == [RevocationTarget("acme")]
    assert cast.world.now == before


def test_announcement_that_could_not_be_made_is_made_when_redis_is_back(cast: Cast) -> None:
    forgotten: list[RevocationTarget] = []
    cast.bob.guard.subscribe(forgotten.append)
    cast.world.redis_up = False
    cast.alice.barrier.announce(RevocationTarget("acme"))
    cast.world.settle()
    assert forgotten == []
    cast.world.redis_up = True
    cast.world.go_on(LEASE_SECONDS)
    assert forgotten == [RevocationTarget("acme")]


def test_too_much_that_is_owed_becomes_everything(cast: Cast) -> None:
    cast.world.redis_up = False
    for number in range(200):
        cast.alice.barrier.announce(RevocationTarget("acme", f"key-{number}"))
    forgotten: list[RevocationTarget] = []
    cast.bob.guard.subscribe(forgotten.append)
    cast.world.redis_up = True
    cast.world.go_on(LEASE_SECONDS)
    assert RevocationTarget(None) in forgotten
    assert len(forgotten) < 150


@pytest.mark.parametrize("steps", range(12))
def test_key_whose_revoker_dies_is_refused_within_a_lease_of_its_commit(steps: int) -> None:
    """Killed at each step, from before it writes down what is about to end until the receipt is out."""
    cast = Cast()
    world, key = cast.world, cast.world.keys[0]
    assert cast.alice.accepts(key)
    assert cast.bob.accepts(key)
    revoker = cast.command.revoke_announced(key)
    for _ in range(steps):
        if revoker.ready:
            revoker.step()
    cast.command.dead = True
    world.go_on(1.1 * LEASE_SECONDS)
    assert (key in world.revoked) != (cast.alice.accepts(key) or cast.bob.accepts(key))
    world.end()


class GuardThatDoesNotWaitUntilItIsWrittenDown(Guard):
    """A lease counts at once, whatever is written down of where this worker renews."""

    def confirm_lease(self, counted_from: float, epoch: Epoch) -> None:
        super().confirm_lease(counted_from, epoch)
        self.lease.confirm(counted_from)


@pytest.mark.parametrize(("guard", "kept"), [(Guard, True), (GuardThatDoesNotWaitUntilItIsWrittenDown, False)])
def test_worker_whose_new_home_is_not_written_yet_remembers_nothing(guard: type[Guard], kept: bool) -> None:
    world = World(type("SomeParts", (Parts,), {"guard": guard}))
    alice, bob = Process(world), Process(world)
    alice.start()
    bob.start()
    world.go_on(2 * LEASE_SECONDS)
    alice.cut_off_from_notices = True
    alice.move(world.other_redis, link_ends=True)
    world.go_on(0.3 * LEASE_SECONDS)
    key = world.keys[0]
    assert alice.accepts(key)
    receipts: list[Receipt] = []
    bob.on_receipt = receipts.append
    bob.revoke(key)
    world.go_on(2 * LEASE_SECONDS, until=lambda: bool(receipts))
    assert receipts[0].channel is Channel.REDIS
    world.probe()
    assert (not world.accepted_too_late) is kept
    world.end()


class GuardThatTrustsALapsedReading(Guard):
    """It was taken off the list of readers, and remembers what it did before."""

    def apply_notice(self, counted_from: float, notice: FallbackNotice) -> None:
        if notice != self.notice:
            self._evict(EVERYTHING)
            self.notice = notice
        self.reader_lease.confirm(counted_from)


@pytest.mark.parametrize(("guard", "kept"), [(Guard, True), (GuardThatTrustsALapsedReading, False)])
def test_worker_that_was_taken_off_the_list_forgets_before_it_is_on_it_again(guard: type[Guard], kept: bool) -> None:
    """It renews at another Redis all the while, and nobody knew that it was there."""
    world = World(type("SomeParts", (Parts,), {"guard": guard}))
    alice, bob = Process(world), Process(world)
    alice.start()
    bob.start()
    alice.move(world.other_redis, link_ends=True)
    world.go_on(2 * LEASE_SECONDS)
    key = world.keys[0]
    assert alice.accepts(key)
    alice.cut_off_from_notices = True
    world.go_on(4 * READER_LEASE_SECONDS)  # bob takes it off
    receipts: list[Receipt] = []
    bob.on_receipt = receipts.append
    bob.revoke(key)
    world.go_on(LEASE_SECONDS, until=lambda: bool(receipts))
    assert receipts[0].channel is Channel.REDIS
    alice.cut_off_from_notices = False
    world.go_on(LEASE_SECONDS)
    assert alice.guard.leases_valid()
    assert (not world.accepted_too_late) is kept
    world.end()


def test_without_an_intent_such_a_key_would_live_on(cast: Cast) -> None:
    key = cast.world.keys[0]
    assert cast.alice.accepts(key)
    cast.world.commit_revocation(key)
    cast.world.go_on(1.1 * LEASE_SECONDS)
    assert cast.alice.accepts(key)
