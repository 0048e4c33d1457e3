"""The line `issuer` of `/readyz`: what the fetches of the OIDC issuer's keys showed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest

from kataven.identity.errors import VerifierUnavailable
from kataven.identity.jwks import COOLDOWN_SECONDS, USABLE_SECONDS, JwksClient
from kataven.web.services import EXTENSION
from tests.support.app_harness import AppHarness
from tests.support.clock import Clock
from tests.support.jose import ec_signer
from tests.support.key_server import ISSUER, KeyServer


@dataclasses.dataclass
class Readiness:
    """The API with an issuer whose documents and clock a test controls."""

    harness: AppHarness
    server: KeyServer
    clock: Clock
    keys: JwksClient

    def issuer(self) -> str:
        """The line of the issuer. The API is ready in every state of the issuer."""
        response = self.harness.caller().get("/readyz")
        assert (response.status_code, response.get_json()["status"]) == (200, "ready")
        return str(response.get_json()["checks"]["issuer"])


@pytest.fixture
def readiness(harness: AppHarness) -> Iterator[Readiness]:
    server, clock = KeyServer(ec_signer().jwk()), Clock()
    keys = JwksClient(ISSUER, server, clock=clock)
    services = harness.app.extensions[EXTENSION]
    harness.app.extensions[EXTENSION] = dataclasses.replace(services, issuer_keys=keys)
    yield Readiness(harness, server, clock, keys)
    harness.app.extensions[EXTENSION] = services


def test_probe_fetches_no_keys(readiness: Readiness) -> None:
    assert readiness.issuer() == "unknown: no JWT has required the issuer's keys yet"
    assert readiness.server.asked == []


def test_available_issuer_is_ok_with_the_age_of_its_keys(readiness: Readiness) -> None:
    readiness.keys.key("ec-1")
    readiness.clock.advance(12)
    assert readiness.issuer() == "ok: keys fetched 12 s ago"


def test_issuer_that_was_never_available_is_degraded(readiness: Readiness) -> None:
    readiness.server.down = True
    with pytest.raises(VerifierUnavailable):
        readiness.keys.key("ec-1")
    readiness.clock.advance(3)
    assert readiness.issuer() == (
        "degraded: the last fetch of the keys, 3 s ago, failed: down; JWTs are rejected with 503, API keys are accepted"
    )


def test_unavailable_issuer_is_degraded_until_it_recovers(readiness: Readiness) -> None:
    readiness.keys.key("ec-1")
    readiness.server.down = True
    readiness.clock.advance(USABLE_SECONDS - COOLDOWN_SECONDS - 1)
    readiness.keys.key("ec-1")
    age = USABLE_SECONDS - COOLDOWN_SECONDS - 1
    assert readiness.issuer().endswith(f"failed: down; JWTs are verified with keys that were fetched {age} s ago")
    readiness.clock.advance(COOLDOWN_SECONDS + 1)
    assert readiness.issuer().endswith("JWTs are rejected with 503, API keys are accepted")
    readiness.server.down = False
    readiness.keys.key("ec-1")
    assert readiness.issuer() == "ok: keys fetched 0 s ago"


def test_process_with_an_auth_service_has_no_keys(readiness: Readiness) -> None:
    app = readiness.harness.app
    app.extensions[EXTENSION] = dataclasses.replace(app.extensions[EXTENSION], issuer_keys=None)
    assert readiness.issuer() == "off: the auth-service verifies JWTs"
