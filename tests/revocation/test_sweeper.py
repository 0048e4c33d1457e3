"""Workers that ended without deregistering are removed from the list; running workers are not."""

from __future__ import annotations

from kataven.revocation.coordination import encode_record
from kataven.revocation.fallback.channel import PollerId
from kataven.revocation.sweeper import Sweeper
from tests.revocation.simulation.simulation import LEASE_SECONDS, Process, Simulation


def heartbeat(number: int, lease_seconds: float = 1.0) -> str:
    """The record of a worker in Redis: microseconds by Redis's clock, then what the worker wrote."""
    return f"1700000000000000 {encode_record(number, lease_seconds, 'host', PollerId('', '', 42))}"


def test_worker_that_has_not_renewed_between_two_checks_is_found() -> None:
    sweeper: Sweeper[str, str] = Sweeper(seconds=4)
    assert sweeper.unchanged({"dead": heartbeat(1), "alive": heartbeat(1)}, now=100) == {}
    assert not sweeper.due(103.9)
    assert sweeper.due(104)
    assert sweeper.unchanged({"dead": heartbeat(1), "alive": heartbeat(2)}, now=104) == {"dead": heartbeat(1)}


def test_process_paused_after_reading_the_records_does_not_check_again_too_soon() -> None:
    sweeper: Sweeper[str, str] = Sweeper(seconds=4)
    assert sweeper.due(100)
    sweeper.unchanged({"alive": heartbeat(1)}, now=160)  # read at some time in that minute
    assert not sweeper.due(160.1)


def test_worker_with_a_longer_lease_than_the_check_interval_is_not_removed() -> None:
    simulation = Simulation()
    alice, patient = Process(simulation), Process(simulation)
    patient.guard.lease.seconds = 10 * LEASE_SECONDS
    alice.start()
    patient.start()
    simulation.run_for(LEASE_SECONDS)
    patient.paused = True
    simulation.run_for(12 * LEASE_SECONDS)
    assert "worker:worker1" in simulation.redis.memory.state
    simulation.end()


def test_killed_worker_is_removed_by_the_others_without_any_revocation() -> None:
    simulation = Simulation()
    alice, bob = Process(simulation), Process(simulation)
    alice.start()
    bob.start()
    simulation.run_for(LEASE_SECONDS)
    assert set(simulation.redis.memory.state) >= {"worker:worker0", "worker:worker1"}
    bob.paused = True
    simulation.run_for(12 * LEASE_SECONDS)
    assert "worker:worker1" not in simulation.redis.memory.state
    assert "worker:worker0" in simulation.redis.memory.state
    simulation.end()
