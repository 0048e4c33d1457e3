"""A certified OpenID Connect provider in a separate process: npm's `oidc-provider`, configured like several
products."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "tools" / "oidc"
HOW_TO_INSTALL = (
    "the tests against an independent issuer need Node.js with npm: `make tools/oidc/node_modules/.package-lock.json` "
    'installs the pinned provider. Without Node.js, `make` leaves them out, and so does `pytest -m "not node"`'
)
MOST_STEPS = 10
SCOPES = "openid profile email offline_access"


@dataclass(frozen=True)
class Shape:
    """The behaviour of an issuer. The defaults are those of no product: standard, and sufficient for the Hub."""

    redirect_uri: str
    post_logout_uri: str
    client_id: str = "kataven-hub"
    client_secret: str | None = None
    subject: str = "alice"
    path: str = ""
    """The path of the issuer's URL."""
    scopes: str = SCOPES
    granted_scopes: str | None = None
    """The part of the requested scopes that is granted; None grants all."""
    audience: str | list[str] | None = "kataven"
    """The `aud` of access tokens; None makes them opaque."""
    access_type: str = "at+jwt"
    access_algorithm: str = "RS256"
    access_claims: Mapping[str, Any] = field(default_factory=dict)
    access_omits: list[str] = field(default_factory=list)
    id_algorithm: str = "RS256"
    id_audience: list[str] | None = None
    id_claims: Mapping[str, Any] = field(default_factory=dict)
    lifetime_seconds: int = 300
    refreshes_without_consent: bool = True
    """Refresh tokens also for requests without `prompt=consent`, against OpenID Connect Core, section 11."""
    requires_par: bool = False
    login_host: str = "127.0.0.1"
    """The host of the login page. Its port is never the issuer's."""
    signs_out_elsewhere: bool = False
    """Whether signing out is confirmed at the host of the login page."""
    backchannel_logout_uri: str | None = None
    """Where the issuer reports that a user signed out."""
    introspection_clients: list[Mapping[str, Any]] = field(default_factory=list)
    """Further clients, which may introspect tokens."""


class IndependentIssuers:
    """The process, and the issuers that it serves."""

    def __init__(self) -> None:
        node = shutil.which("node")
        if node is None or not (FOLDER / "node_modules").is_dir():
            missing = "no node on the PATH" if node is None else "tools/oidc/node_modules is missing"
            pytest.fail(f"{missing}: {HOW_TO_INSTALL}")
        command = [node, "provider.mjs"]
        self._process = subprocess.Popen(command, cwd=FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        started = self._process.stdout.readline()
        if not started:  # what it says is on standard error
            pytest.fail("the provider did not start; it needs Node.js 20.12 or later, see `node --version`")
        self.control: str = json.loads(started)["control"]

    def stop(self) -> None:
        """It ends with its standard input."""
        self._process.communicate()

    def start(self, shape: Shape) -> str:
        """The URL of a new issuer with this shape."""
        return str(self._ask("/issuers", json.dumps(asdict(shape)))["issuer"])

    def expired(self, token: str) -> str:
        """The same token, signed with the same key, expired for an hour."""
        return str(self._ask("/expired", token)["token"])

    def access_token(self, issuer: str, sub: str) -> str:
        """An access token of a user, issued now."""
        return str(self._ask("/access-token", json.dumps({"issuer": issuer, "sub": sub}))["token"])

    def signed(self, issuer: str, kind: str, claims: Mapping[str, Any]) -> str:
        """A token of type `kind` with these claims, signed by the issuer."""
        return str(self._ask("/signed", json.dumps({"issuer": issuer, "typ": kind, "claims": claims}))["token"])

    def opaque_token(self, issuer: str, sub: str) -> str:
        """An access token that only the issuer can read."""
        return str(self._ask("/opaque-token", json.dumps({"issuer": issuer, "sub": sub}))["token"])

    def revoke_token(self, issuer: str, token: str) -> None:
        """Revoke an opaque token."""
        self._ask("/revoke-token", json.dumps({"issuer": issuer, "token": token}))

    def sign_out(self, issuer: str, sub: str) -> bool:
        """Sign a user out by back-channel logout. Returns whether the client confirmed it."""
        return bool(self._ask("/backchannel-logout", json.dumps({"issuer": issuer, "sub": sub}))["confirmed"])

    def _ask(self, path: str, body: str) -> dict[str, Any]:
        answer = httpx2.post(f"{self.control}{path}", content=body, trust_env=False)
        said: dict[str, Any] = answer.raise_for_status().json()
        return said


def signed_in(url: str, back_to: str) -> str:
    """Sign in at the issuer as a browser would, starting at the Hub's redirect URL. Returns the final URL at
    `back_to`."""
    with httpx2.Client(trust_env=False) as browser:
        answer = browser.get(url)
        for _ in range(MOST_STEPS):
            if (location := answer.headers.get("Location", "")).startswith(back_to):
                return str(location)
            if answer.status_code == 200 and "/sign-in/" in urlsplit(str(answer.url)).path:
                answer = browser.post(answer.url)
            else:
                assert answer.is_redirect, answer.text
                target = answer.url.join(location)
                # Browsers take every name below `localhost` for this machine; resolvers don't.
                loopback = str(target.host).endswith(".localhost")
                answer = browser.get(target.copy_with(host="127.0.0.1") if loopback else target)
    raise AssertionError(f"still at {answer.url} after {MOST_STEPS} steps")


@pytest.fixture(scope="session")
def independent_issuers() -> Iterator[IndependentIssuers]:
    """One process per pytest worker that runs such tests."""
    running = IndependentIssuers()
    yield running
    running.stop()
