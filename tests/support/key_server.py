"""An issuer's discovery document and key set without HTTP: counts fetches and simulates failures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kataven.identity.fetch import FetchFailed
from tests.support.jose import as_json

ISSUER = "https://login.example"
DISCOVERY_URL = f"{ISSUER}/.well-known/openid-configuration"
JWKS_URL = f"{ISSUER}/oauth/v2/keys"


class KeyServer:
    """A Fetcher backed by a dictionary. `down` makes it fail; `before_jwks` runs during a fetch of the key set."""

    def __init__(self, *jwks: dict[str, Any]) -> None:
        self.documents: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.timeouts: list[float] = []
        self.down = False
        self.before_jwks: Callable[[], object] = lambda: None
        self.discovery(issuer=ISSUER, jwks_uri=JWKS_URL)
        self.publish(*jwks)

    def discovery(self, **document: object) -> None:
        self.documents[DISCOVERY_URL] = as_json(document)

    def publish(self, *jwks: object) -> None:
        self.answer_jwks({"keys": list(jwks)})

    def answer_jwks(self, document: object) -> None:
        self.documents[JWKS_URL] = as_json(document)

    @property
    def fetches(self) -> int:
        """Number of fetches of the key set."""
        return self.asked.count(JWKS_URL)

    @property
    def attempts(self) -> int:
        """Number of fetches that started."""
        return self.asked.count(DISCOVERY_URL)

    def get(self, url: str, *, timeout_seconds: float) -> bytes:
        self.asked.append(url)
        self.timeouts.append(timeout_seconds)
        if url == JWKS_URL:
            self.before_jwks()
        if self.down or url not in self.documents:
            raise FetchFailed("down")
        return self.documents[url]


def good_claims(now: float, **claims: object) -> dict[str, Any]:
    """The issuer's claims about Alice. `claims` replace or add claims; None removes one."""
    base: dict[str, Any] = {
        "iss": ISSUER,
        "sub": "alice",
        "jti": "1",
        "aud": ["kataven-hub", "kataven"],
        "iat": int(now),
        "nbf": int(now),
        "exp": int(now) + 3600,
        "name": "Alice",
    }
    return {name: value for name, value in {**base, **claims}.items() if value is not None}


def asked_only_the_issuer(urls: Sequence[str]) -> bool:
    """Whether only URLs that the issuer itself names were fetched."""
    return set(urls) <= {DISCOVERY_URL, JWKS_URL}
