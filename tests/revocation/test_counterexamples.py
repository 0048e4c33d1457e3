"""Replays the model checker's counterexamples with the real classes: a key is accepted too late only if a rule is
disabled.

`python -m proof --write` writes the traces, and `make prove` checks that the models still produce them.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kataven.identity.credential import Credential
from kataven.identity.principal import Principal
from kataven.revocation import EVERYTHING, CachingVerifier, Guard, RevocationTarget
from kataven.revocation.barrier import Barrier
from kataven.revocation.coordination import CoordinationStore, Published
from kataven.revocation.epoch import Epoch, Event
from kataven.revocation.fallback.channel import FallbackNotice
from kataven.revocation.lease import Clock, Lease
from kataven.revocation.subscriber import Subscriber
from tests.revocation.simulation.actors import pause
from tests.revocation.simulation.replay import Replay
from tests.revocation.simulation.simulation import Components

TRACES = Path(__file__).parent / "traces"


@pytest.fixture(autouse=True)
def _silence_outage_logs() -> Iterator[None]:
    logger = logging.getLogger("kataven.revocation")
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(logging.NOTSET)


class LeaseThatNeverExpires(Lease):
    def __init__(self, seconds: float, clock: Clock) -> None:
        super().__init__(seconds, clock)
        self.valid_until = math.inf

    def confirm(self, counted_from: float) -> None:
        """Does nothing: the lease is always valid."""


class VerifierThatLooksUpFirst(CachingVerifier):
    """It looks up the key before it checks the lease."""

    def verify(self, credential: Credential) -> Principal:
        key = self._digest(credential)
        principal = self._principals.get(key, -math.inf)
        if principal is not None and self._guard.leases_valid_at(self._clock()):
            return principal
        return super().verify(credential)


class GuardWithoutFillTokens(Guard):
    """It caches a result that was read before a revocation."""

    def cache_result(self, fill_token: int, target: RevocationTarget, store: Callable[[], None]) -> bool:
        store()
        return True


class GuardThatInvalidatesTokensLast(Guard):
    """It evicts the entries before it invalidates the fill tokens."""

    def _evict(self, target: RevocationTarget) -> None:
        for evict in self._caches:
            evict(target)
            pause()
        with self._lock:
            self._recent_targets.append(target)
            self._evictions += 1


class GuardThatMissesGaps(Guard):
    """It does not detect a missed event when a renewal returns another epoch."""

    def confirm_lease(self, counted_from: float, epoch: Epoch) -> None:
        if self.lease.is_valid():
            self.epoch = epoch
        super().confirm_lease(counted_from, epoch)


class SubscriberThatAcknowledgesFirst(Subscriber):
    """It acknowledges an event before it evicts."""

    def _apply(self, messages: list[str]) -> list[Event]:
        return [Event.parse(message) for message in messages]

    def _acknowledge(self, store: CoordinationStore, events: list[Event]) -> None:
        super()._acknowledge(store, events)
        for event in events:
            self._guard.apply_event(event)


class BarrierThatDoesNotWait(Barrier):
    """It returns the receipt without waiting for acknowledgements."""

    def _wait_for_last_acknowledgement(self, published: Published, until: float) -> int | None:
        return 0


class BarrierThatIgnoresHomes(Barrier):
    """It does not read the home Redis of each worker."""

    def _other_home_possible(self, redis: str) -> bool:
        return False


class GuardThatNeedsNoWrittenHome(Guard):
    """Its lease is valid before its home Redis is written."""

    def confirm_lease(self, counted_from: float, epoch: Epoch) -> None:
        super().confirm_lease(counted_from, epoch)
        self.lease.confirm(counted_from)


class GuardThatChecksItsHomeAfterEvicting(Guard):
    """It checks that its home Redis is written only after it has cleared its caches, not before."""

    def confirm_lease(self, counted_from: float, epoch: Epoch) -> None:
        if epoch != self.epoch or not self.lease.is_valid():
            self._evict(EVERYTHING)
            self.epoch = epoch
        with self._lock:
            self._home_redis = epoch.redis
            written = self._written_home == epoch.redis
        if written:
            self.lease.confirm(counted_from)
        else:
            self.lease.drop()


class GuardThatKeepsItsWrittenHomeDuringAWrite(Guard):
    """It treats its previous home Redis as written while the write of the new one is in progress."""

    def home_to_write(self) -> tuple[str, bool]:
        return self._home_redis or "", self._home_redis is not None and self._home_redis != self._written_home


class GuardThatKeepsEntriesOfAnExpiredLease(Guard):
    """It does not clear its caches when it renews an expired lease at the same epoch."""

    def confirm_lease(self, counted_from: float, epoch: Epoch) -> None:
        with self._lock:
            written_before = self._written_home == epoch.redis
        if epoch != self.epoch:
            self._evict(EVERYTHING)
            self.epoch = epoch
        with self._lock:
            self._home_redis = epoch.redis
            written = self._written_home == epoch.redis
        if written_before and written:
            self.lease.confirm(counted_from)
        else:
            self.lease.drop()


class GuardThatIgnoresNotices(Guard):
    """It confirms its reader lease without clearing its caches."""

    def apply_notice(self, counted_from: float, notice: FallbackNotice) -> None:
        self.reader_lease.confirm(counted_from)


DISABLED_RULES: dict[str, tuple[str, type[Any]]] = {
    "lease-lease": ("lease", LeaseThatNeverExpires),
    "lease-lease-before-lookup": ("verifier", VerifierThatLooksUpFirst),
    "lease-token": ("guard", GuardWithoutFillTokens),
    "lease-token-spoiled-first": ("guard", GuardThatInvalidatesTokensLast),
    "lease-epoch-in-renewals": ("guard", GuardThatMissesGaps),
    "lease-acknowledgement-after-forgetting": ("worker", SubscriberThatAcknowledgesFirst),
    "lease-wait": ("barrier", BarrierThatDoesNotWait),
    "homes-home": ("guard", GuardThatNeedsNoWrittenHome),
    "homes-homes-read": ("barrier", BarrierThatIgnoresHomes),
    "homes-home-before-forgetting": ("guard", GuardThatChecksItsHomeAfterEvicting),
    "homes-home-unknown-while-writing": ("guard", GuardThatKeepsItsWrittenHomeDuringAWrite),
    "homes-forgetting-when-the-lease-expired": ("guard", GuardThatKeepsEntriesOfAnExpiredLease),
    "fallback-notice-read": ("guard", GuardThatIgnoresNotices),
}
"""For each trace, the component to replace and the class that disables the rule."""


def keys_accepted_too_late(trace: str, components: type[Components]) -> list[RevocationTarget]:
    """Replay a trace and return the keys that were accepted in a request that started after their receipt."""
    replay = Replay(components, model=trace.partition("-")[0])
    try:
        replay.run((TRACES / f"{trace}.txt").read_text().splitlines())
        return replay.simulation.accepted_too_late
    finally:
        replay.simulation.end()


def test_every_counterexample_is_replayed() -> None:
    assert {path.stem for path in TRACES.glob("*.txt")} == set(DISABLED_RULES)


@pytest.mark.parametrize("trace", DISABLED_RULES)
def test_revoked_key_is_accepted_after_the_receipt_if_the_rule_is_disabled(trace: str) -> None:
    component, broken = DISABLED_RULES[trace]
    assert keys_accepted_too_late(trace, type("BrokenComponents", (Components,), {component: broken}))


@pytest.mark.parametrize("trace", DISABLED_RULES)
def test_revoked_key_is_rejected_after_the_receipt_if_all_rules_are_enabled(trace: str) -> None:
    assert keys_accepted_too_late(trace, Components) == []
