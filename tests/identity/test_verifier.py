"""What a verifier checks in addition to the key store."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from kataven.identity import token as tokens
from kataven.identity.credential import ApiKeyCredential
from kataven.identity.errors import InvalidCredential
from kataven.identity.jwks import JwksClient
from kataven.identity.jwt import JwtVerifier
from kataven.identity.people import Presented
from kataven.identity.peppers import KeyHash, Pepper, PepperRing
from kataven.identity.token import TokenKind
from kataven.identity.verifier import AccountFacts, LocalVerifier, StoredKey
from tests.support.clock import Clock
from tests.support.key_server import ISSUER, KeyServer

OLD, NEW = Pepper("2025a", b"o" * 32), Pepper("2026a", b"n" * 32)


class LooseStore:
    """Returns its only key for every lookup, as a collation or a prefix match might."""

    def __init__(self, held: KeyHash) -> None:
        self.held = held
        self.rehashed: list[KeyHash] = []

    def account(self, name: str, presented: Presented | None = None) -> AccountFacts | None:
        return AccountFacts(name, open=True, zitadel_org_id=None)

    def find(self, account: AccountFacts, candidates: Sequence[KeyHash]) -> StoredKey | None:
        return StoredKey("id", "CI", self.held, expires_at=None, revoked=False)

    def rehash(self, account: AccountFacts, key_id: str, old: KeyHash, new: KeyHash) -> None:
        self.rehashed.append(new)


def verifier_over(store: LooseStore) -> LocalVerifier:
    jwts = JwtVerifier(JwksClient(ISSUER, KeyServer(), clock=Clock()), ISSUER, "kataven", Clock())
    return LocalVerifier(store, store, PepperRing([NEW, OLD]), jwts)


@pytest.mark.parametrize("pepper", [NEW, OLD])
def test_key_from_the_store_is_rejected_unless_its_hash_is_equal(pepper: Pepper) -> None:
    held, other = (tokens.generate(TokenKind.API_KEY, "acme").text for _ in range(2))
    store = LooseStore(pepper.hash(held))
    verifier = verifier_over(store)
    with pytest.raises(InvalidCredential):
        verifier.verify(ApiKeyCredential(other, "acme"))
    assert store.rehashed == [], "a key that is refused takes nothing over"
    assert verifier.verify(ApiKeyCredential(held, "acme")).id == "id"
