"""The bound on tokens without the issuer's confirmation: what is asked, when, and what if the issuer is silent."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future

import pytest

from kataven.identity.credential import JwtCredential
from kataven.identity.errors import ExpiredCredential, SessionEnded, VerifierUnavailable
from kataven.identity.jwt import VerifiedClaims
from kataven.identity.people import Person
from kataven.identity.principal import CredentialKind, Principal, Role
from kataven.people.confirmations import (
    COOLDOWN_SECONDS,
    MAX_IN_PROGRESS,
    RECHECK_SECONDS,
    Bound,
    Confirmations,
    ConfirmingVerifier,
    IntrospectionFailed,
)
from kataven.revocation.cache import CachingVerifier
from kataven.revocation.epoch import Epoch, Event
from kataven.revocation.guard import Guard
from kataven.revocation.lease import Lease
from kataven.revocation.target import RevocationTarget
from tests.support.clock import Clock

ISSUER, NOW = "https://issuer.example", 1_800_000_000.0
BOUND, GRACE = 60.0, 30.0


class FakeIntrospector:
    """Responds at once with `responds`, or leaves the requests open."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.responds: bool | Exception | None = True
        self.open: list[Future[bool]] = []

    def ask(self, token: str, sub: str) -> Future[bool]:
        self.asked.append(token)
        future: Future[bool] = Future()
        if self.responds is None:
            self.open.append(future)
        elif isinstance(self.responds, bool):
            future.set_result(self.responds)
        else:
            future.set_exception(self.responds)
        return future

    def close(self) -> None: ...


class Fixture:
    def __init__(self, capacity: int = 100) -> None:
        self.clock, self.wall_clock, self.counts = Clock(1000.0), Clock(NOW), Counter[str]()
        self.guard = Guard(Lease(1.0, self.clock), Lease(1.0, self.clock))
        self.issuer = FakeIntrospector()
        self.confirmations = Confirmations(
            self.issuer,
            self.guard,
            Bound(BOUND, GRACE),
            lambda outcome: self.counts.update([outcome]),
            capacity=capacity,
            timeout_seconds=0.05,
            wall_clock=self.wall_clock,
        )

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.wall_clock.advance(seconds)

    def require(self, name: str = "token", *, issued_ago: float = 1000, expires_at: float = NOW + 100_000) -> float:
        issued_at = self.wall_clock() - issued_ago
        claims = VerifiedClaims("alice", "alice", expires_at, {}, Person(ISSUER, "alice"), issued_at)
        return self.confirmations.require(name, claims)

    def event(self, target: RevocationTarget) -> None:
        self.guard.apply_event(Event(Epoch("redis", 1), Epoch("redis", 2), target, "1"))


@pytest.fixture
def bounded() -> Fixture:
    return Fixture()


def test_a_fresh_token_is_confirmed_by_its_issue(bounded: Fixture) -> None:
    assert bounded.require(issued_ago=0) == bounded.clock() + BOUND / 2
    assert bounded.issuer.asked == []


@pytest.mark.parametrize("issued_ago", [BOUND, 10_000])
def test_an_older_token_is_introspected_before_it_is_accepted(bounded: Fixture, issued_ago: float) -> None:
    assert bounded.require(issued_ago=issued_ago) == bounded.clock() + BOUND / 2
    assert bounded.issuer.asked == ["token"]
    bounded.require()
    assert bounded.issuer.asked == ["token"]


def test_a_token_without_a_time_of_issue_is_introspected(bounded: Fixture) -> None:
    claims = VerifiedClaims("alice", "alice", NOW + 1000, {}, Person(ISSUER, "alice"))
    bounded.confirmations.require("token", claims)
    assert bounded.issuer.asked == ["token"]


def test_a_token_within_its_bound_does_not_wait_for_the_issuer(bounded: Fixture) -> None:
    bounded.require()
    bounded.issuer.responds = None
    bounded.advance(BOUND / 2)
    for _ in range(3):
        assert bounded.require() == bounded.clock() + RECHECK_SECONDS
    assert len(bounded.issuer.asked) == 2, "one request per token at a time"
    bounded.issuer.open[0].set_result(True)
    bounded.advance(BOUND / 2 - 1)
    assert bounded.require() > bounded.clock()
    assert bounded.counts == {"active": 2}


def test_a_confirmation_counts_from_before_its_request(bounded: Fixture) -> None:
    bounded.require()
    bounded.issuer.responds = None
    bounded.advance(BOUND / 2)
    began = bounded.clock()
    bounded.require()
    bounded.advance(5)
    bounded.issuer.open[0].set_result(True)
    assert bounded.require() == began + BOUND / 2


@pytest.mark.parametrize("age", [BOUND / 2, BOUND])
def test_a_token_that_is_not_active_is_refused(bounded: Fixture, age: float) -> None:
    bounded.require()
    bounded.advance(age)
    bounded.issuer.responds = False
    if age < BOUND:  # it is asked about beside the request
        bounded.require()
    with pytest.raises(SessionEnded):
        bounded.require()
    asked = len(bounded.issuer.asked)
    with pytest.raises(SessionEnded):
        bounded.require()
    assert len(bounded.issuer.asked) == asked, "the refusal is remembered"


def test_a_token_that_expires_now_is_expired(bounded: Fixture) -> None:
    bounded.issuer.responds = False
    with pytest.raises(ExpiredCredential):
        bounded.require(expires_at=NOW + 5)


def test_while_the_issuer_is_silent_tokens_have_a_grace_period(bounded: Fixture) -> None:
    bounded.require()
    bounded.issuer.responds = IntrospectionFailed("silent")
    bounded.advance(BOUND)
    assert bounded.require() == bounded.clock() + RECHECK_SECONDS
    bounded.advance(GRACE - 1)
    assert bounded.require() == bounded.clock() + 1
    bounded.advance(1)
    with pytest.raises(VerifierUnavailable) as unavailable:
        bounded.require()
    assert unavailable.value.retry_after_seconds == COOLDOWN_SECONDS
    assert (bounded.counts["grace"], bounded.counts["unavailable"]) == (2, 1)
    bounded.issuer.responds = True
    bounded.advance(COOLDOWN_SECONDS)
    assert bounded.require() > bounded.clock()


def test_a_token_that_was_never_confirmed_has_no_grace_period(bounded: Fixture) -> None:
    bounded.issuer.responds = IntrospectionFailed("silent")
    with pytest.raises(VerifierUnavailable):
        bounded.require()


def test_after_an_unexpected_failure_the_issuer_is_asked_again(bounded: Fixture) -> None:
    bounded.issuer.responds = RuntimeError("a token")
    with pytest.raises(VerifierUnavailable):
        bounded.require()
    assert bounded.confirmations._in_progress == {}
    bounded.issuer.responds = True
    bounded.advance(COOLDOWN_SECONDS)
    assert bounded.require() > bounded.clock()


def test_a_silent_issuer_delays_one_request_per_cooldown(bounded: Fixture) -> None:
    bounded.issuer.responds = IntrospectionFailed("silent")
    for number in range(10):
        with pytest.raises(VerifierUnavailable):
            bounded.require(f"token {number}")
    assert len(bounded.issuer.asked) == 1
    bounded.advance(COOLDOWN_SECONDS)
    bounded.issuer.responds = None  # the first request of the next attempt is still open
    for number in range(10):
        with pytest.raises(VerifierUnavailable):
            bounded.require(f"token {number}")
    assert len(bounded.issuer.asked) == 2


def test_requests_in_progress_are_bounded(bounded: Fixture) -> None:
    bounded.issuer.responds = None
    for number in range(MAX_IN_PROGRESS + 10):
        bounded.require(f"token {number}", issued_ago=BOUND - 1)
    assert len(bounded.issuer.asked) == MAX_IN_PROGRESS


def test_the_memory_is_bounded() -> None:
    bounded = Fixture(capacity=10)
    for number in range(50):
        bounded.require(f"token {number}")
    assert len(bounded.confirmations._remembered) == 10
    assert bounded.confirmations._in_progress == {}


@pytest.mark.parametrize(
    ("target", "asked"),
    [
        (RevocationTarget(None, subject=Person(ISSUER, "alice").id), 2),
        (RevocationTarget(None), 2),
        (RevocationTarget(None, subject=Person(ISSUER, "bob").id), 1),
        (RevocationTarget("acme", "a key"), 1),
    ],
    ids=["the user", "everything", "another user", "a key"],
)
def test_events_of_the_user_evict_the_confirmation(bounded: Fixture, target: RevocationTarget, asked: int) -> None:
    bounded.guard.epoch = Epoch("redis", 1)
    bounded.require()
    bounded.event(target)
    bounded.require()
    assert len(bounded.issuer.asked) == asked


def test_a_confirmation_from_before_an_event_is_not_remembered(bounded: Fixture) -> None:
    bounded.guard.epoch = Epoch("redis", 1)
    bounded.issuer.responds = None
    bounded.require(issued_ago=BOUND - 1)
    bounded.event(RevocationTarget(None, subject=Person(ISSUER, "alice").id))
    bounded.issuer.open[0].set_result(True)
    bounded.issuer.responds = False
    with pytest.raises(SessionEnded):
        bounded.require()


def test_threads_with_one_token_share_a_request(bounded: Fixture) -> None:
    bounded.confirmations._timeout_seconds = 30
    bounded.issuer.responds = None
    results: list[float] = []
    threads = [threading.Thread(target=lambda: results.append(bounded.require())) for _ in range(8)]
    for thread in threads:
        thread.start()
    _until(lambda: len(bounded.issuer.open) == 1)
    bounded.issuer.open[0].set_result(True)
    for thread in threads:
        thread.join()
    assert (len(results), bounded.issuer.asked) == (8, ["token"])


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


class FakeVerifier:
    def __init__(self) -> None:
        self.verified = 0

    def verify(self, credential: JwtCredential) -> Principal:
        self.verified += 1
        return Principal(
            CredentialKind.JWT, "acme", "alice", "Alice", Role.OWNER, NOW + 100_000, person=Person(ISSUER, "alice").id
        )


def test_a_cached_principal_is_verified_again_in_time_to_ask_the_issuer(
    bounded: Fixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cached principal does not outlive the time until which the confirmation may be used."""
    inner = FakeVerifier()
    confirming = ConfirmingVerifier(inner, bounded.confirmations)
    monkeypatch.setattr(
        "kataven.people.confirmations.jws.parse", lambda _: type("Parsed", (), {"payload": {"iat": NOW}})
    )
    verifier = CachingVerifier(confirming, bounded.guard, ttl_seconds=1000, wall_clock=bounded.wall_clock)
    credential = JwtCredential("token", "acme")

    def hold_leases() -> None:
        bounded.guard.lease.confirm(bounded.clock())
        bounded.guard.reader_lease.confirm(bounded.clock())

    hold_leases()
    for _ in range(3):
        verifier.verify(credential)
    assert inner.verified == 1
    bounded.advance(BOUND / 2)
    hold_leases()
    verifier.verify(credential)
    assert (inner.verified, bounded.issuer.asked) == (2, ["token"])
    bounded.issuer.responds = False
    bounded.advance(BOUND)
    hold_leases()
    with pytest.raises(SessionEnded):
        verifier.verify(credential)
