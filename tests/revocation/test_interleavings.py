"""Searches for a history that violates the guarantee, and checks that the search finds one if a rule is missing.

The real lease, guard, cache, worker and barrier run in the simulation. Only time, Redis, the network, the database and
the scheduler are simulated (see `simulation/`).
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from kataven.identity.principal import Principal
from kataven.revocation import EVERYTHING, Channel, Guard, Receipt, RevocationTarget, RevocationUnconfirmed, subscriber
from kataven.revocation.barrier import Barrier
from kataven.revocation.cache import CachingVerifier
from kataven.revocation.coordination import CoordinationStore, Published
from kataven.revocation.epoch import Epoch, Event
from kataven.revocation.fallback.channel import FallbackNotice, FallbackUnreachable, PollerHeartbeat
from kataven.revocation.fallback.poller import FallbackPoller
from kataven.revocation.lease import Lease, expiry_wait_seconds
from kataven.revocation.subscriber import Subscriber
from tests.revocation.simulation.simulation import Components, DirectoryModel, Simulation
from tests.revocation.simulation.state_machine import AcceptedTooLate, RevocationMachine

pytestmark = pytest.mark.searches

SEARCH = settings(stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(autouse=True, scope="module")
def _deterministic_backoff() -> Iterator[None]:
    """Hypothesis must be able to reproduce what it finds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subscriber, "_backoff", lambda attempt, lease_seconds: lease_seconds / 2 ** max(0, 4 - attempt))
        yield


@pytest.fixture(autouse=True, scope="module")
def _silence_outage_logs() -> Iterator[None]:
    logger = logging.getLogger("kataven.revocation")
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(logging.NOTSET)


TestNoRequestIsAcceptedAfterTheReceipt = RevocationMachine.TestCase
TestNoRequestIsAcceptedAfterTheReceipt.settings = settings(
    SEARCH, max_examples=int(os.environ.get("KATAVEN_TEST_INTERLEAVINGS", "50")), stateful_step_count=60
)


class LeaseThatNeverExpires(Lease):
    """The lease rule is missing."""

    def confirm(self, counted_from: float) -> None:
        self.valid_until = math.inf


class BarrierThatDoesNotWait(Barrier):
    """The barrier rule is missing: the revoker does not wait for acknowledgements."""

    def _wait_for_last_acknowledgement(self, published: Published, until: float) -> int | None:
        return super()._wait_for_last_acknowledgement(published, -math.inf) or 0


class GuardThatMissesGaps(Guard):
    """The first half of the epoch rule is missing: a missed event is not detected."""

    def confirm_lease(self, counted_from: float, epoch: Epoch) -> None:
        if not self.lease.is_valid():
            self._evict(EVERYTHING)
        self.epoch = epoch
        self.lease.confirm(counted_from)


class GuardWithoutFillTokens(Guard):
    """The second half of the epoch rule is missing: a result read before a revocation is cached after it."""

    def cache_result(self, fill_token: int, target: RevocationTarget, keep: Callable[[], None]) -> bool:
        keep()
        return True


class BarrierThatTrustsAnyRedis(Barrier):
    """A publication counts at any Redis, and workers with another home Redis do not receive it."""

    def _other_home_possible(self, redis: str) -> bool:
        return False


class WorkerThatAcknowledgesFirst(Subscriber):
    """It acknowledges an event before it evicts."""

    def _apply(self, messages: list[str]) -> list[Event]:
        return [Event.parse(message) for message in messages]

    def _acknowledge(self, store: CoordinationStore, events: list[Event]) -> None:
        super()._acknowledge(store, events)
        for event in events:
            self._guard.apply_event(event)


class BarrierThatPostsWithoutWaiting(Barrier):
    """It posts a fallback notice without waiting for the readers."""

    def _revoke_by_notice(self, target: RevocationTarget, started: float, channel: Channel) -> Receipt:
        try:
            self._fallback.post_notice()
        except FallbackUnreachable as error:
            raise RevocationUnconfirmed from error
        return Receipt(0, 0, 0.0, channel=channel)


class BarrierThatWaitsForOneRedisLease(Barrier):
    """Without Redis, waiting one lease is not sufficient: a worker that reaches Redis renews."""

    def _revoke_by_notice(self, target: RevocationTarget, started: float, channel: Channel) -> Receipt:
        self._sleep_until(self._clock() + expiry_wait_seconds(self._lease_seconds))
        return Receipt(0, 0, 0.0, channel=channel)


class PollerThatAcknowledgesFirst(FallbackPoller):
    """It writes that it read a notice before it clears its caches."""

    def _write_heartbeat(self) -> None:
        self._read = self._fallback.read_state(0).notice
        super()._write_heartbeat()

    def poll(self) -> None:
        latest = self._fallback.read_state(0).notice
        if self._read not in (None, latest):
            self._read = latest
            self._heartbeat_count += 1
            self._fallback.write_heartbeat(
                PollerHeartbeat(self.id, self._heartbeat_count, latest, self._guard.home_to_write()[0])
            )
        else:
            super().poll()


class GuardThatIgnoresNotices(Guard):
    """It confirms its reader lease without clearing its caches."""

    def apply_notice(self, counted_from: float, notice: FallbackNotice) -> None:
        self.reader_lease.confirm(counted_from)


class VerifierThatCachesTokensByCredentialOnly(CachingVerifier):
    """The event of a user does not cover the user's entries."""

    def _cache_principal(self, fill_token: int, key: bytes, principal: Principal, now: float) -> None:
        super()._cache_principal(fill_token, key, replace(principal, person="unknown"), now)


class DirectoryThatKeepsTheLatestCutoff(DirectoryModel):
    """The latest cutoff in all accounts is cached without the guard."""

    def __init__(self, simulation: Simulation, guard: Guard) -> None:
        super().__init__(simulation, guard)
        found: dict[str, float | None] = {}

        def get(key: str, _: RevocationTarget, read: Callable[[], float | None]) -> float | None:
            return found[key] if key in found else found.setdefault(key, read())

        everywhere: Any = SimpleNamespace(get=get)
        self._everywhere = everywhere


@pytest.mark.parametrize(
    ("part", "broken"),
    [
        ("lease", LeaseThatNeverExpires),
        ("barrier", BarrierThatDoesNotWait),
        ("guard", GuardThatMissesGaps),
        ("guard", GuardWithoutFillTokens),
        ("barrier", BarrierThatTrustsAnyRedis),
        ("worker", WorkerThatAcknowledgesFirst),
        ("barrier", BarrierThatPostsWithoutWaiting),
        ("barrier", BarrierThatWaitsForOneRedisLease),
        ("reader", PollerThatAcknowledgesFirst),
        ("guard", GuardThatIgnoresNotices),
        ("verifier", VerifierThatCachesTokensByCredentialOnly),
        ("directory", DirectoryThatKeepsTheLatestCutoff),
    ],
)
def test_search_finds_a_counterexample_without_a_rule(part: str, broken: type[Any]) -> None:
    class BrokenMachine(RevocationMachine):
        components = type("BrokenParts", (Components,), {part: broken})

    search = settings(SEARCH, max_examples=2_000, derandomize=True, database=None, phases=[Phase.generate])
    with pytest.raises(AcceptedTooLate):
        run_state_machine_as_test(BrokenMachine, settings=search)
