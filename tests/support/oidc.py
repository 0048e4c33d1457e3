"""The development issuer for tests: real discovery, keys and HTTP on a loopback port, and any token one likes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from kataven.dev.cast import ALICE, Person
from kataven.dev.issuer import DevIssuer
from kataven.dev.issuer.keys import SigningAlgorithm
from kataven.dev.issuer.tokens import access_claims
from tests.support.jose import Signer, without_none


class IssuerWithPen(DevIssuer):
    """A running issuer that also signs whatever a test asks it to."""

    def token(
        self,
        person: Person = ALICE,
        *,
        claims: Mapping[str, object] | None = None,
        algorithm: SigningAlgorithm = "ES256",
        **header: object,
    ) -> str:
        """An access token for `person`. `claims` and `header` replace or add members; None takes one out."""
        payload = without_none({**access_claims(self.url, person), **(claims or {})})
        return self.signer(algorithm).token(payload, **{"typ": "at+jwt", **header})

    def signer(self, algorithm: SigningAlgorithm = "ES256") -> Signer:
        """The issuer's own key."""
        key = self.keyring.signing_key(algorithm)
        return Signer(key.kid, key.algorithm, key.private)


@pytest.fixture(scope="session")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IssuerWithPen]:
    """One issuer per worker. Who rotates its keys or stops it starts one of their own instead."""
    with IssuerWithPen(tmp_path_factory.mktemp("issuer")) as running:
        yield running
