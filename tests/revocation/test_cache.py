"""The cache of verified credentials: what it contains, for how long, and what it must not contain."""

from __future__ import annotations

import gc
from collections.abc import Callable
from types import FunctionType, ModuleType

import pytest

from kataven.identity.credential import ApiKeyCredential, Credential, JwtCredential
from kataven.identity.errors import (
    AccountMismatch,
    AccountSuspended,
    ExpiredCredential,
    InvalidCredential,
    Refused,
    RevokedCredential,
    VerifierUnavailable,
)
from kataven.identity.principal import CredentialKind, Principal
from kataven.revocation import EVERYTHING, CachingVerifier, Guard, GuardedCache, RevocationTarget
from tests.revocation.conftest import HERE, LEASE_SECONDS
from tests.revocation.test_guard import event
from tests.support.clock import Clock

ALICES_KEY = ApiKeyCredential("alices-secret", "acme")
BOBS_KEY = ApiKeyCredential("bobs-secret", "acme")
ALICES_JWT = JwtCredential("alices-token", "acme")
CHARLIES_KEY = ApiKeyCredential("charlies-secret", "globex")
CODE = (type, ModuleType, FunctionType)
CAST = (ALICES_KEY, BOBS_KEY, ALICES_JWT, CHARLIES_KEY)


class Inner:
    """Accepts every credential unless `error` is set, and records the calls."""

    def __init__(self) -> None:
        self.calls: list[Credential] = []
        self.expires_at: float | None = None
        self.person: str | None = "alice"
        self.error: Exception | None = None
        self.during_verify: Callable[[], object] = lambda: None

    def verify(self, credential: Credential) -> Principal:
        self.calls.append(credential)
        self.during_verify()
        if self.error is not None:
            raise self.error
        is_jwt = isinstance(credential, JwtCredential)
        return Principal(
            CredentialKind.JWT if is_jwt else CredentialKind.API_KEY,
            credential.account,
            id_of(credential),
            "a user",
            expires_at=self.expires_at,
            person=self.person if is_jwt else None,
        )


def id_of(credential: Credential) -> str:
    return "id-of-" + credential.token.partition("-")[0]


@pytest.fixture
def inner() -> Inner:
    return Inner()


@pytest.fixture
def verifier(inner: Inner, guard: Guard, clock: Clock) -> CachingVerifier:
    return CachingVerifier(inner, guard, wall_clock=clock)


@pytest.fixture
def pass_time(guard: Guard, clock: Clock) -> Callable[[float], None]:
    """Advance the clock while the worker keeps renewing its lease."""

    def advance(seconds: float) -> None:
        for _ in range(round(seconds * 2)):
            clock.advance(0.5)
            assert guard.epoch is not None
            guard.confirm_lease(clock(), guard.epoch)

    return advance


def refusal(verifier: CachingVerifier, credential: Credential) -> Refused:
    with pytest.raises(Refused) as caught:
        verifier.verify(credential)
    return caught.value


def test_second_request_is_served_from_the_cache(verifier: CachingVerifier, inner: Inner, guard: Guard) -> None:
    for credential in CAST:
        assert verifier.verify(credential) == verifier.verify(credential)
    assert inner.calls == list(CAST)
    assert (guard.stats.hits, guard.stats.misses, guard.stats.bypasses) == (4, 4, 0)


def test_without_a_lease_each_request_is_verified(
    verifier: CachingVerifier, inner: Inner, guard: Guard, clock: Clock
) -> None:
    verifier.verify(ALICES_KEY)
    clock.advance(LEASE_SECONDS)
    verifier.verify(ALICES_KEY)
    verifier.verify(ALICES_KEY)
    assert len(inner.calls) == 3
    assert guard.stats.bypasses == 2


def test_result_verified_without_a_lease_is_not_cached(
    verifier: CachingVerifier, inner: Inner, guard: Guard, clock: Clock
) -> None:
    clock.advance(LEASE_SECONDS)
    verifier.verify(ALICES_KEY)
    guard.confirm_lease(clock(), HERE)
    verifier.verify(ALICES_KEY)
    assert len(inner.calls) == 2


def test_credential_is_verified_again_after_thirty_seconds(
    verifier: CachingVerifier, inner: Inner, pass_time: Callable[[float], None]
) -> None:
    verifier.verify(ALICES_KEY)
    pass_time(29.5)
    verifier.verify(ALICES_KEY)
    assert len(inner.calls) == 1
    pass_time(0.5)
    verifier.verify(ALICES_KEY)
    assert len(inner.calls) == 2


def test_expired_credential_is_not_accepted_from_the_cache(
    verifier: CachingVerifier, inner: Inner, clock: Clock, pass_time: Callable[[float], None]
) -> None:
    inner.expires_at = clock() + 10
    verifier.verify(ALICES_KEY)
    pass_time(9.5)
    verifier.verify(ALICES_KEY)
    assert len(inner.calls) == 1
    inner.error = ExpiredCredential()
    pass_time(0.5)
    assert isinstance(refusal(verifier, ALICES_KEY), ExpiredCredential)


def test_jwt_sent_with_another_account_is_verified_for_that_account(verifier: CachingVerifier, inner: Inner) -> None:
    verifier.verify(ALICES_JWT)
    inner.error = AccountMismatch()
    assert isinstance(refusal(verifier, JwtCredential(ALICES_JWT.token, "globex")), AccountMismatch)


@pytest.mark.parametrize(
    ("target", "evicted"),
    [
        (RevocationTarget("acme", "id-of-bobs"), [BOBS_KEY]),
        (RevocationTarget("acme"), [ALICES_KEY, BOBS_KEY, ALICES_JWT]),
        (RevocationTarget("globex", "id-of-bobs"), []),
        (RevocationTarget("acme", subject="alice"), [ALICES_JWT]),
        (RevocationTarget(None, subject="alice"), [ALICES_JWT]),
        (RevocationTarget("globex", subject="alice"), []),
        (RevocationTarget(None, subject="bob"), []),
        (EVERYTHING, list(CAST)),
    ],
)
def test_event_evicts_what_it_covers_and_nothing_else(
    verifier: CachingVerifier, inner: Inner, guard: Guard, target: RevocationTarget, evicted: list[Credential]
) -> None:
    for credential in CAST:
        verifier.verify(credential)
    inner.calls.clear()
    guard.apply_event(event(target, HERE.count + 1))
    for credential in CAST:
        verifier.verify(credential)
    assert inner.calls == evicted


def test_result_read_before_a_revocation_and_returned_after_it_is_not_cached(
    verifier: CachingVerifier, inner: Inner, guard: Guard
) -> None:
    inner.during_verify = lambda: guard.apply_event(event(RevocationTarget("acme", "id-of-alices"), HERE.count + 1))
    verifier.verify(ALICES_KEY)
    assert guard.stats.stale_drops == 1
    inner.during_verify = lambda: None
    inner.error = RevokedCredential()
    assert isinstance(refusal(verifier, ALICES_KEY), RevokedCredential)


def test_request_paused_while_its_worker_regains_the_lease_finds_no_stale_entry(
    inner: Inner, guard: Guard, clock: Clock
) -> None:
    """It starts without a lease, and the worker renews before it continues. It must find no older entry."""
    verifier = CachingVerifier(inner, guard)
    verifier.verify(ALICES_KEY)
    clock.advance(LEASE_SECONDS)
    inner.error = RevokedCredential()
    reading = guard.lease.clock

    def held_up_after_reading() -> float:
        now = reading()
        guard.lease.clock = reading
        guard.confirm_lease(now, HERE)
        return now

    guard.lease.clock = held_up_after_reading
    verifier._clock = lambda: guard.lease.clock()
    assert isinstance(refusal(verifier, ALICES_KEY), RevokedCredential)


@pytest.mark.parametrize("error", [InvalidCredential, RevokedCredential, ExpiredCredential, AccountSuspended])
def test_rejected_key_is_rejected_from_the_cache_for_five_seconds(
    verifier: CachingVerifier,
    inner: Inner,
    guard: Guard,
    pass_time: Callable[[float], None],
    error: type[Refused],
) -> None:
    inner.error = error("for a reason")
    first, second = refusal(verifier, ALICES_KEY), refusal(verifier, ALICES_KEY)
    assert (type(second), str(second)) == (error, "for a reason")
    assert second is not first
    assert len(inner.calls) == 1
    assert guard.stats.cached_refusals == 1
    pass_time(5)
    refusal(verifier, ALICES_KEY)
    assert len(inner.calls) == 2


def test_refusal_is_cached_without_a_lease(verifier: CachingVerifier, inner: Inner, clock: Clock) -> None:
    clock.advance(LEASE_SECONDS)
    inner.error = InvalidCredential()
    refusal(verifier, ALICES_KEY)
    refusal(verifier, ALICES_KEY)
    assert len(inner.calls) == 1


def test_reactivated_account_is_accepted_immediately(verifier: CachingVerifier, inner: Inner, guard: Guard) -> None:
    inner.error = AccountSuspended()
    refusal(verifier, ALICES_KEY)
    inner.error = None
    guard.apply_event(event(RevocationTarget("acme"), HERE.count + 1))
    assert verifier.verify(ALICES_KEY).account == "acme"


def test_invalid_keys_do_not_displace_valid_ones(inner: Inner, guard: Guard) -> None:
    verifier = CachingVerifier(inner, guard, capacity=10, refused_capacity=10)
    verifier.verify(ALICES_KEY)
    inner.error = InvalidCredential()
    for number in range(100):
        refusal(verifier, ApiKeyCredential(f"junk-{number}", "acme"))
    inner.error = None
    inner.calls.clear()
    verifier.verify(ALICES_KEY)
    assert inner.calls == []


def test_cache_is_bounded_and_evicts_the_oldest_entry_first(inner: Inner, guard: Guard) -> None:
    verifier = CachingVerifier(inner, guard, capacity=2)
    for credential in (ALICES_KEY, BOBS_KEY, CHARLIES_KEY):
        verifier.verify(credential)
    inner.calls.clear()
    for credential in (BOBS_KEY, CHARLIES_KEY, ALICES_KEY):
        verifier.verify(credential)
    assert inner.calls == [ALICES_KEY]


@pytest.mark.parametrize(
    ("credential", "error"),
    [(ALICES_JWT, InvalidCredential), (ALICES_KEY, VerifierUnavailable), (ALICES_JWT, VerifierUnavailable)],
)
def test_refusals_that_may_change_are_not_cached(
    verifier: CachingVerifier, inner: Inner, credential: Credential, error: type[Exception]
) -> None:
    inner.error = error()
    for _ in range(2):
        with pytest.raises(error):
            verifier.verify(credential)
    assert len(inner.calls) == 2


def test_cache_contains_no_token(guard: Guard, clock: Clock) -> None:
    inner = Inner()
    verifier = CachingVerifier(inner, guard, wall_clock=clock)
    verifier.verify(ALICES_KEY)
    inner.error = InvalidCredential()
    refusal(verifier, BOBS_KEY)
    inner.calls.clear()
    inner.error = None
    texts = [thing for thing in everything_in(verifier) if isinstance(thing, str | bytes)]
    assert "id-of-alices" in texts
    assert not [text for text in texts if "secret" in str(text)]


def everything_in(thing: object) -> list[object]:
    """All objects that are reachable from an object."""
    found: dict[int, object] = {}
    waiting = [thing]
    while waiting:
        found.update((id(item), item) for item in waiting)
        waiting = [item for item in gc.get_referents(*waiting) if id(item) not in found and not isinstance(item, CODE)]
    return list(found.values())


class TestGuardedCache:
    """GuardedCache, for other values."""

    def test_value_is_read_once_while_the_lease_is_valid(self, guard: Guard, clock: Clock) -> None:
        cache: GuardedCache[str, str] = GuardedCache(guard, ttl_seconds=5, capacity=10)
        answers = iter(["first", "second", "third"])
        assert [cache.get("acme", RevocationTarget("acme"), lambda: next(answers)) for _ in range(2)] == [
            "first",
            "first",
        ]
        clock.advance(LEASE_SECONDS)
        assert [cache.get("acme", RevocationTarget("acme"), lambda: next(answers)) for _ in range(2)] == [
            "second",
            "third",
        ]

    def test_value_is_read_again_after_an_event(self, guard: Guard) -> None:
        cache: GuardedCache[str, str] = GuardedCache(guard, ttl_seconds=5, capacity=10)
        cache.get("acme", RevocationTarget("acme"), lambda: "open")
        guard.apply_event(event(RevocationTarget("acme"), HERE.count + 1))
        assert cache.get("acme", RevocationTarget("acme"), lambda: "suspended") == "suspended"

    def test_value_read_before_an_event_and_returned_after_it_is_not_cached(self, guard: Guard) -> None:
        cache: GuardedCache[str, str] = GuardedCache(guard, ttl_seconds=5, capacity=10)

        def read_slowly() -> str:
            guard.apply_event(event(RevocationTarget("acme"), HERE.count + 1))
            return "open"

        cache.get("acme", RevocationTarget("acme"), read_slowly)
        assert cache.get("acme", RevocationTarget("acme"), lambda: "suspended") == "suspended"

    def test_none_is_not_cached(self, guard: Guard) -> None:
        cache: GuardedCache[str, str | None] = GuardedCache(guard, ttl_seconds=5, capacity=10)
        cache.get("acme", RevocationTarget("acme"), lambda: None)
        assert cache.get("acme", RevocationTarget("acme"), lambda: "created") == "created"


def test_a_user_without_an_id_is_not_cached(verifier: CachingVerifier, inner: Inner) -> None:
    """An auth-service of an earlier release sends none, so no event could evict the entry."""
    inner.person = None
    for _ in range(2):
        verifier.verify(ALICES_JWT)
    assert inner.calls == [ALICES_JWT] * 2


def test_a_users_token_that_is_being_verified_during_the_cutoff_is_not_cached(
    verifier: CachingVerifier, inner: Inner, guard: Guard
) -> None:
    inner.during_verify = lambda: guard.apply_event(event(RevocationTarget(None, subject="alice"), HERE.count + 1))
    verifier.verify(ALICES_JWT)
    inner.during_verify = lambda: None
    verifier.verify(ALICES_JWT)
    assert inner.calls == [ALICES_JWT] * 2
