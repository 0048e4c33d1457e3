"""The cost of credential lookups: each is counted and bounded."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

import pytest

from kataven.identity import token as tokens
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
from kataven.identity.token import TokenKind
from kataven.ratelimit.budget import PER_MINUTE, AddressBudget, AddressBudgetKind
from kataven.ratelimit.lane import BURST, RESERVED, Lanes
from kataven.ratelimit.limiter import LimitExceeded
from kataven.ratelimit.memory import MemoryWindows
from kataven.web.lookups import OUTCOMES, MeteredVerifier
from tests.support.clock import Clock
from tests.support.jose import as_json, b64

MALLORY = "198.51.100.23"
NEIGHBOUR = "198.51.100.24"
FAILED = PER_MINUTE[AddressBudgetKind.FAILED]
SUBJECT = PER_MINUTE[AddressBudgetKind.SUBJECT]
GUESSES_IN_LANE = BURST - RESERVED


class InnerVerifier:
    """The inner verifier: accepts the keys in `good`, raises the configured error for others, and counts its calls."""

    def __init__(self) -> None:
        self.valid: set[str] = set()
        self.error: Callable[[], Exception] = InvalidCredential
        self.times = 0
        self.meanwhile: Callable[[], None] = lambda: None

    def verify(self, credential: Credential) -> Principal:
        self.times += 1
        self.meanwhile()
        if credential.token not in self.valid:
            raise self.error()
        return Principal(CredentialKind.API_KEY, credential.account, "id", "name")


class World:
    def __init__(self, clock: Clock) -> None:
        self.inner = InnerVerifier()
        self.outcomes: Counter[str] = Counter()
        self.address: str | None = MALLORY
        self.budget = AddressBudget(MemoryWindows(clock=clock), clock=clock)
        self.verifier = MeteredVerifier(
            self.inner, self.budget, lambda: self.address, self.count, lanes=Lanes(clock=clock), max_accepted=100
        )

    def count(self, outcome: str) -> None:
        assert outcome in OUTCOMES
        self.outcomes[outcome] += 1

    def present(self, credential: Credential, address: str | None = MALLORY) -> str:
        """`accepted`, `limited`, or the problem code."""
        self.address = address
        try:
            self.verifier.verify(credential)
        except LimitExceeded as error:
            return "limited" if ("Retry-After", "1") in error.headers() else "limited for long"
        except Refused as refusal:
            return refusal.code
        except VerifierUnavailable:
            return "unavailable"
        return "accepted"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def world(clock: Clock) -> World:
    return World(clock)


def key(account: str = "acme") -> ApiKeyCredential:
    return ApiKeyCredential(tokens.generate(TokenKind.API_KEY, account).text, account)


def jwt(subject: str = "mallory", account: str = "acme") -> JwtCredential:
    claims = {"iss": "https://id.example", "sub": subject}
    return JwtCredential(".".join((b64(as_json({"alg": "ES256"})), b64(as_json(claims)), b64(b"signature"))), account)


def spend_all(world: World, address: str = MALLORY) -> None:
    while world.present(key(), address) != "limited":
        pass


def test_three_thousand_guesses_cost_the_budget_and_one_lane(world: World) -> None:
    responses = Counter(world.present(key("globex")) for _ in range(3_000))
    assert world.inner.times == FAILED + GUESSES_IN_LANE
    assert responses == {"invalid_credential": world.inner.times, "limited": 3_000 - world.inner.times}
    assert world.outcomes == {"within_budget": FAILED, "lane": GUESSES_IN_LANE, "refused": responses["limited"]}


def test_jwt_for_unknown_accounts_spends_the_budget_of_its_subject_from_any_address(world: World) -> None:
    world.inner.error = AccountMismatch
    for number in range(1_500):
        world.present(jwt(account=f"invented{number}"), f"198.51.100.{number % 200}")
    assert world.inner.times == SUBJECT + GUESSES_IN_LANE
    assert world.present(jwt("alice"), MALLORY) == "account_mismatch", "other subjects are looked up"


@pytest.mark.parametrize(
    "error", [InvalidCredential, ExpiredCredential, RevokedCredential, AccountSuspended, AccountMismatch]
)
@pytest.mark.parametrize("credential", [key, jwt])
def test_every_rejection_after_a_lookup_is_counted(
    world: World, error: type[Refused], credential: Callable[[], Credential]
) -> None:
    world.inner.error = error
    world.present(credential())
    assert world.budget.spend(MALLORY, AddressBudgetKind.FAILED).quota_statuses[0].used == 2


def test_verifier_failure_spends_no_budget(world: World) -> None:
    world.inner.error = VerifierUnavailable
    assert [world.present(key()) for _ in range(FAILED + 100)] == ["unavailable"] * (FAILED + 100)


def test_unverified_subject_is_not_trusted(world: World) -> None:
    # Any client can put alice's name into a token; only the issuer can sign it.
    for _ in range(SUBJECT):
        assert world.present(jwt("alice")) == "invalid_credential"
    assert world.budget.exhausted("https://id.example alice", AddressBudgetKind.SUBJECT) is None


def test_expired_token_of_one_user_does_not_exhaust_a_shared_address(world: World, clock: Clock) -> None:
    world.inner.error = ExpiredCredential
    for _ in range(3_000):
        world.present(jwt("bob"))
        clock.advance(0.02)
    assert world.budget.exhausted(MALLORY, AddressBudgetKind.FAILED) is None


def test_valid_new_key_from_an_exhausted_address_is_accepted_on_retry(world: World, clock: Clock) -> None:
    valid = key()
    world.inner.valid.add(valid.token)
    spend_all(world)
    first = world.present(valid)
    for _ in range(1_000):
        assert world.present(key()) == "limited"
    clock.advance(1)
    for _ in range(100):
        world.present(key())
    assert (first, world.present(valid)) == ("limited", "accepted")
    assert world.present(key(), NEIGHBOUR) == "invalid_credential"


def test_previously_accepted_key_needs_no_lane(world: World) -> None:
    valid = key()
    world.inner.valid.add(valid.token)
    assert world.present(valid, NEIGHBOUR) == "accepted"
    spend_all(world)
    assert [world.present(valid) for _ in range(50)] == ["accepted"] * 50
    world.inner.valid.clear()
    assert world.present(valid) == "invalid_credential"
    assert world.present(valid) == "limited", "once it was refused it is as any other"


def test_first_rejection_of_a_previously_accepted_key_is_not_counted(world: World) -> None:
    revoked = [key() for _ in range(90)]
    for _ in range(10):
        world.inner.valid.update(one.token for one in revoked)
        assert {world.present(one) for one in revoked} == {"accepted"}
        world.inner.valid.clear()
        assert {world.present(one) for one in revoked} == {"invalid_credential"}
    assert world.budget.spend(MALLORY, AddressBudgetKind.FAILED).quota_statuses[0].used == 1
    world.present(revoked[0])
    assert world.budget.spend(MALLORY, AddressBudgetKind.FAILED).quota_statuses[0].used == 3, "its next refusal counts"


def test_acceptance_for_one_account_does_not_extend_to_another(world: World) -> None:
    valid = jwt("alice")
    world.inner.valid.add(valid.token)
    assert world.present(valid) == "accepted"
    spend_all(world)
    assert world.present(JwtCredential(valid.token, "invented")) == "limited"


def test_accepted_credentials_are_remembered_in_bounded_memory(world: World) -> None:
    for _ in range(200):
        valid = key()
        world.inner.valid.add(valid.token)
        world.present(valid)
    assert len(world.verifier._accepted._digests) == 100


def test_invalid_credentials_occupy_one_lookup_at_a_time(world: World, clock: Clock) -> None:
    spend_all(world)
    clock.advance(2)
    inside, go_on = threading.Event(), threading.Event()

    def meanwhile() -> None:
        inside.set()
        assert go_on.wait(30)

    world.inner.meanwhile = meanwhile
    before = world.inner.times
    holding = threading.Thread(target=lambda: world.present(key()))
    holding.start()
    assert inside.wait(30)
    assert [world.present(key()) for _ in range(100)] == ["limited"] * 100
    go_on.set()
    holding.join(30)
    assert world.inner.times == before + 1


def test_networks_of_one_ipv6_site_share_ten_budgets_and_one_lane(world: World) -> None:
    for number in range(20_000):
        world.present(key(), f"2001:db8:1:{number % 5_000:x}::1")
    assert world.inner.times == 10 * FAILED + GUESSES_IN_LANE
    assert world.present(key(), "2001:db8:2::1") == "invalid_credential"


def test_lookups_outside_a_request_are_not_counted(world: World) -> None:
    spend_all(world)
    assert world.present(key(), None) == "invalid_credential"
    assert world.budget.exhausted(MALLORY, AddressBudgetKind.FAILED) is not None
