"""A running auth-service, and a channel to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kataven.authservice.client import RemoteVerifier
from kataven.identity.credential import ApiKeyCredential
from kataven.identity.errors import VerifierUnavailable
from tests.support.app_harness import AppHarness
from tests.support.auth_service import Service, serves
from tests.support.waiting import wait_until


@contextmanager
def running_service(harness: AppHarness, socket: Path, log: Path) -> Iterator[Service]:
    """A service on a Unix socket, which is ready."""
    try:
        with Service(harness.environ, log, f"unix:{socket}") as running:
            wait_until(lambda: serves(running.address), 20, running.log.read_text)
            yield running
    finally:
        socket.unlink(missing_ok=True)


def answers(verifier: RemoteVerifier, credential: ApiKeyCredential) -> bool:
    try:
        verifier.verify(credential)
    except VerifierUnavailable:
        return False
    return True
