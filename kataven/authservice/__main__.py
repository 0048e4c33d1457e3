"""`python -m kataven.authservice`: runs the auth-service, the only process that holds the peppers."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

import grpc

from kataven import assembly, logs, settings
from kataven.authservice.remembered_accounts import RememberingVerifier
from kataven.authservice.server import AuthServer, AuthService
from kataven.authservice.tls import TlsFiles
from kataven.settings import Settings, SettingsError
from kataven.system.history_check import HistoryWatch

if TYPE_CHECKING:
    from kataven.telemetry.spans import Telemetry

STOP_CHECK_SECONDS = 1.0


def main() -> int:
    """Serve until SIGTERM or SIGINT. Returns 2 if the configuration is invalid, 1 if the address cannot be bound."""
    try:
        configured = settings.load(os.environ)
        assembly.require_usable_pooler(configured)
    except SettingsError as error:
        sys.stderr.write("\n".join(["The configuration is invalid:", *(f"  {line}" for line in error.problems), ""]))
        return 2
    if configured.peppers is None:
        sys.stderr.write(
            "KATAVEN_PEPPERS: is missing. The auth-service holds the peppers: set it, and unset KATAVEN_AUTH_SERVICE.\n"
        )
        return 2
    logs.capture_all_output()
    try:
        serve(configured)
    except RuntimeError as error:
        sys.stderr.write(f"KATAVEN_AUTH_BIND: {error}\n")
        return 1
    return 0


def serve(configured: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises RuntimeError if the address cannot be bound."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    telemetry = assembly.telemetry(configured, "kataven-auth", lambda outcome, n: None)  # it has no metrics endpoint
    parts = assembly.foundation(configured)
    histories = HistoryWatch(parts.directory.database, parts.histories)
    # This process takes no lease, so its directory caches nothing. With a cache, it might not have evicted an entry yet
    # when a worker that already has calls it, and return a stale result for that worker to cache.
    verifier = RememberingVerifier(assembly.local_verifier(configured, parts))
    service = AuthService(verifier, assembly.local_issuer(configured))
    tls = TlsFiles(*configured.auth_tls) if configured.auth_tls else None
    server = AuthServer(service, configured.auth_bind, tls, _interceptors(telemetry))
    if telemetry is not None:
        telemetry.start()
    parts.registry.start()
    histories.start()
    server.start()
    try:
        # If the process was just resumed after a pause, the kernel can deliver the signal to another thread, which does
        # not wake this one.
        while not stop.wait(STOP_CHECK_SECONDS):
            pass
    finally:
        server.stop()
        histories.stop()
        parts.registry.close()
        parts.directory.database.close()
        if telemetry is not None:
            telemetry.stop()


def _interceptors(telemetry: Telemetry | None) -> list[grpc.ServerInterceptor]:
    if telemetry is None:
        return []
    from kataven.telemetry.instruments import GrpcServerSpans  # loads OpenTelemetry

    return [GrpcServerSpans(telemetry)]


if __name__ == "__main__":
    sys.exit(main())
