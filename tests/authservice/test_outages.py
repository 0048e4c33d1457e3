"""An auth-service that exits, hangs or is not there, and what its callers get until it recovers."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from kataven.authservice.client import AuthServiceChannel, RemoteIssuer, RemoteVerifier
from kataven.identity.credential import ApiKeyCredential
from kataven.identity.errors import VerifierUnavailable
from kataven.identity.token import TokenKind
from tests.authservice.running import answers, running_service
from tests.support.app_harness import AppHarness
from tests.support.auth_service import Service, remote_environ
from tests.support.gunicorn import Gunicorn
from tests.support.waiting import wait_until

pytestmark = pytest.mark.processes


@pytest.fixture
def service(harness: AppHarness, server_folder: Path, tmp_path: Path) -> Iterator[Service]:
    with running_service(harness, server_folder / "auth.sock", tmp_path / "auth.log") as running:
        yield running


def test_an_exited_service_is_unavailable_and_a_new_one_is_used(
    harness: AppHarness, service: Service, connection: AuthServiceChannel
) -> None:
    verifier = RemoteVerifier(connection)
    credential = ApiKeyCredential(harness.new_key("acme"), "acme")
    assert verifier.verify(credential).account == "acme"
    service.kill()
    for _ in range(3):
        with pytest.raises(VerifierUnavailable):
            verifier.verify(credential)
    with pytest.raises(VerifierUnavailable):
        RemoteIssuer(connection).issue(TokenKind.API_KEY, "acme")
    service.start()
    wait_until(lambda: answers(verifier, credential), 20, service.log.read_text)


def test_a_call_to_a_paused_service_times_out(
    harness: AppHarness, service: Service, connection: AuthServiceChannel
) -> None:
    verifier = RemoteVerifier(connection)
    credential = ApiKeyCredential(harness.new_key("acme"), "acme")
    assert answers(verifier, credential)
    service.pause()
    with pytest.raises(VerifierUnavailable):
        verifier.verify(credential)
    service.process.send_signal(signal.SIGCONT)
    wait_until(lambda: answers(verifier, credential), 20, service.log.read_text)


def test_without_the_service_cache_misses_return_503_until_it_recovers(
    harness: AppHarness, service: Service, tmp_path: Path
) -> None:
    known, unknown = harness.new_key("acme"), harness.new_key("acme")
    with (
        Gunicorn(remote_environ(harness.environ, service.address), tmp_path / "api.log", workers=1) as api,
        api.client(known) as warm,
        api.client(unknown) as cold,
    ):
        # The worker caches nothing before its first lease is valid.
        wait_until(lambda: warm.get("/readyz").json()["checks"]["lease"] == "ok", 20, service.log.read_text)
        assert warm.get("/v1/me").status_code == 200
        service.kill()
        missed = cold.get("/v1/me")
        assert (missed.status_code, missed.json()["code"]) == (503, "unavailable")
        assert int(missed.headers["Retry-After"]) >= 1
        assert warm.get("/v1/me").status_code == 200, "a hit is served within its lease and its 30 s"
        service.start()
        wait_until(lambda: cold.get("/v1/me").status_code == 200, 20, service.log.read_text)
