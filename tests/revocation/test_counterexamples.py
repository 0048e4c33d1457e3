"""The counterexamples of the model checker, with the real classes: a key is accepted late only without the rule.

`python -m proof --write` writes the traces, and `make prove` checks that they are what the models give.
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
from kataven.revocation import EVERYTHING, CachingVerifier, Guard, Scope
from kataven.revocation.barrier import Barrier
from kataven.revocation.board import Published
from kataven.revocation.bus import Worker
from kataven.revocation.epoch import Epoch, Event
from kataven.revocation.lease import Clock, Lease
from kataven.revocation.notices import Notice
from tests.revocation.simulation.actors import pause
from tests.revocation.simulation.replay import Replay
from tests.revocation.simulation.world import Parts

TRACES = Path(__file__).parent / "traces"


@pytest.fixture(autouse=True)
def _outages_are_no_news() -> Iterator[None]:
    logger = logging.getLogger("kataven.revocation")
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(logging.NOTSET)


class LeaseThatNeverExpires(Lease):
    def __init__(self, seconds: float, clock: Clock) -> None:
        super().__init__(seconds, clock)
        self.until = math.inf

    def confirm(self, asked_at: float) -> None:
        """It holds already."""


class VerifierThatLooksUpFirst(CachingVerifier):
    """It looks the key up, and then looks whether the lease holds."""

    def verify(self, credential: Credential) -> Principal:
        key = self._digest(credential)
        found = self._known.get(key, -math.inf)
        if found is not None and self._guard.holds_at(self._clock()):
            return found
        return super().verify(credential)


class GuardWithoutTokens(Guard):
    def finish_fill(self, ticket: int, scope: Scope, keep: Callable[[], None]) -> bool:
        keep()
        return True


class GuardThatForgetsBeforeItSpoils(Guard):
    """What is remembered goes first, and the fill tokens afterwards."""

    def _forget(self, scope: Scope) -> None:
        for forget in self._memories:
            forget(scope)
            pause()
        with self._lock:
            self._recent.append(scope)
            self._forgotten += 1


class GuardThatMissesGaps(Guard):
    """A renewal at another epoch is not noticed."""

    def confirmed(self, asked_at: float, epoch: Epoch) -> None:
        if self.lease.holds():
            self.epoch = epoch
        super().confirmed(asked_at, epoch)


class WorkerThatAcknowledgesFirst(Worker):
    def _hear(self, messages: list[str]) -> list[Event]:
        return [Event.parse(message) for message in messages]

    def _acknowledge(self, board: Any, events: list[Event]) -> None:
        super()._acknowledge(board, events)
        for event in events:
            self._guard.heard(event)


class BarrierThatDoesNotWait(Barrier):
    def _wait_for_all(self, published: Published, until: float) -> int | None:
        return 0


class BarrierThatReadsNoHomes(Barrier):
    def _may_be_elsewhere(self, redis: str) -> bool:
        return False


class GuardWhoseLeaseNeedsNoHome(Guard):
    def confirmed(self, asked_at: float, epoch: Epoch) -> None:
        super().confirmed(asked_at, epoch)
        self.lease.confirm(asked_at)


class GuardThatForgetsBeforeItLooksAtItsHome(Guard):
    """It looks whether its home is written only when it has forgotten."""

    def confirmed(self, asked_at: float, epoch: Epoch) -> None:
        if epoch != self.epoch or not self.lease.holds():
            self._forget(EVERYTHING)
            self.epoch = epoch
        with self._lock:
            self._renews_at = epoch.redis
            written = self._written == epoch.redis
        if written:
            self.lease.confirm(asked_at)
        else:
            self.lease.drop()


class GuardThatKeepsItsHomeWhileItMoves(Guard):
    """It takes the former home for written while a new one is being written."""

    def move_to_write(self) -> tuple[str, bool]:
        return self._renews_at or "", self._renews_at is not None and self._renews_at != self._written


class GuardThatRemembersOverAnExpiredLease(Guard):
    def confirmed(self, asked_at: float, epoch: Epoch) -> None:
        if epoch != self.epoch:
            self._forget(EVERYTHING)
            self.epoch = epoch
        with self._lock:
            self._renews_at = epoch.redis
            written = self._written == epoch.redis
        if written:
            self.lease.confirm(asked_at)
        else:
            self.lease.drop()


class GuardThatReadsNoNotices(Guard):
    def noticed(self, asked_at: float, notice: Notice) -> None:
        self.reading.confirm(asked_at)


WITHOUT = {
    "lease-lease": ("lease", LeaseThatNeverExpires),
    "lease-lease-before-lookup": ("verifier", VerifierThatLooksUpFirst),
    "lease-token": ("guard", GuardWithoutTokens),
    "lease-token-spoiled-first": ("guard", GuardThatForgetsBeforeItSpoils),
    "lease-epoch-in-renewals": ("guard", GuardThatMissesGaps),
    "lease-acknowledgement-after-forgetting": ("worker", WorkerThatAcknowledgesFirst),
    "lease-wait": ("barrier", BarrierThatDoesNotWait),
    "homes-home": ("guard", GuardWhoseLeaseNeedsNoHome),
    "homes-homes-read": ("barrier", BarrierThatReadsNoHomes),
    "homes-home-before-forgetting": ("guard", GuardThatForgetsBeforeItLooksAtItsHome),
    "homes-home-unknown-while-writing": ("guard", GuardThatKeepsItsHomeWhileItMoves),
    "homes-forgetting-when-the-lease-expired": ("guard", GuardThatRemembersOverAnExpiredLease),
    "fallback-notice-read": ("guard", GuardThatReadsNoNotices),
}


def replay(name: str, parts: type[Parts]) -> list[Scope]:
    """The keys that are accepted too late."""
    played = Replay(parts, name.partition("-")[0])
    try:
        played.run((TRACES / f"{name}.txt").read_text().splitlines())
        return played.world.accepted_too_late
    finally:
        played.world.end()


def test_every_counterexample_is_replayed() -> None:
    assert {path.stem for path in TRACES.glob("*.txt")} == set(WITHOUT)


@pytest.mark.parametrize("name", WITHOUT)
def test_counterexample_is_real_without_the_rule(name: str) -> None:
    part, broken = WITHOUT[name]
    assert replay(name, type("PartsWithoutARule", (Parts,), {part: broken}))


@pytest.mark.parametrize("name", WITHOUT)
def test_counterexample_is_prevented_by_the_rule(name: str) -> None:
    assert replay(name, Parts) == []
