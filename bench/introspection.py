"""Measures what the bound on tokens without the issuer's confirmation costs (KATAVEN_OIDC_INTROSPECTION_SECONDS).

    python -m bench.introspection

Verifies one JWT with and without the bound, in one process and in one run, and counts the requests to the issuer for a
token that is used all the time. The issuer is a small server on this machine, without network latency: add yours to the
first use of a token that is older than the bound.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

from bench.harness import shared_harness
from kataven import settings
from kataven.application import create_api
from kataven.dev.personas import ALICE
from kataven.identity.client_assertion import ClientSecret
from kataven.identity.credential import JwtCredential
from kataven.identity.jwt import VerifiedClaims
from kataven.identity.people import Person
from kataven.people.confirmations import Bound, Confirmations
from kataven.revocation.guard import Guard
from kataven.revocation.lease import Lease
from kataven.web.services import EXTENSION, Services
from tests.support.app_harness import AppHarness
from tests.support.clock import Clock
from tests.support.introspecting_issuer import CLIENT_ID, SECRET, IntrospectingIssuer, introspecting, introspector_for

BOUND_SECONDS = 60
HOUR = 3600


@contextmanager
def _services(harness: AppHarness, issuer: IntrospectingIssuer | None) -> Iterator[Services]:
    """A process's services; with an issuer, with the bound."""
    environ = dict(harness.environ)
    if issuer is not None:
        environ |= {
            "KATAVEN_OIDC_INTROSPECTION_SECONDS": str(BOUND_SECONDS),
            "KATAVEN_OIDC_INTROSPECTION_CLIENT_ID": CLIENT_ID,
            "KATAVEN_OIDC_INTROSPECTION_CLIENT_SECRET": SECRET,
        }
    services: Services = create_api(settings.load(environ)).extensions[EXTENSION]
    if issuer is not None:
        assert services.confirmations is not None
        services.confirmations._introspector = introspector_for(issuer.url, ClientSecret(CLIENT_ID, SECRET))
    services.start()
    while not services.revocation.guard.leases_valid():
        time.sleep(0.01)
    try:
        yield services
    finally:
        services.stop()


def _timed(action: Callable[[], object], times: int = 1) -> float:
    started = time.perf_counter()
    for _ in range(times):
        action()
    return (time.perf_counter() - started) / times


def measure(harness: AppHarness, issuer: IntrospectingIssuer, rounds: int) -> list[tuple[str, float, float]]:
    """The seconds of one verification without and with the bound, by situation."""
    found = []
    with _services(harness, None) as plain, _services(harness, issuer) as bounded:
        token = harness.issuer.token(ALICE, claims={"iat": int(time.time()) - 3000, "exp": int(time.time()) + 3000})
        credential = JwtCredential(token, ALICE.account)
        both = (plain, bounded)

        def hit(services: Services) -> float:
            services.verifier.verify(credential)
            return _timed(lambda: services.verifier.verify(credential), 2000)

        def miss(services: Services) -> float:
            services.verifier._principals._items.clear()  # type: ignore[attr-defined]
            return _timed(lambda: services.verifier.verify(credential))

        def first(services: Services) -> float:
            if services.confirmations is not None:
                services.confirmations._remembered._items.clear()
            return miss(services)

        for name, run in (("cached", hit), ("after 30 s", miss), ("older than the bound", first)):
            pairs = [[run(services) for services in both] for _ in range(rounds)]
            found.append((name, *(statistics.median(one[n] for one in pairs) for n in (0, 1))))
    return found


class _Confirms:
    """An issuer that confirms every token, and counts the requests."""

    def __init__(self) -> None:
        self.asked = 0

    def ask(self, token: str, sub: str) -> Future[bool]:
        self.asked += 1
        future: Future[bool] = Future()
        future.set_result(True)
        return future

    def close(self) -> None: ...


def requests_per_hour(bound_seconds: float) -> int:
    """How often one worker asks the issuer about a token that is used every second for an hour."""
    clock, wall_clock, issuer = Clock(0.0), Clock(), _Confirms()
    guard = Guard(Lease(1.0, clock), Lease(1.0, clock))
    confirmations = Confirmations(issuer, guard, Bound(bound_seconds, 60), lambda _: None, wall_clock=wall_clock)
    claims = VerifiedClaims("alice", "Alice", wall_clock() + 2 * HOUR, {}, Person("issuer", "alice"), wall_clock())
    ask_again_at = 0.0
    for _ in range(HOUR):
        if clock() >= ask_again_at:
            ask_again_at = min(confirmations.require("token", claims), clock() + 30)  # cached for 30 s at most
        clock.advance(1)
        wall_clock.advance(1)
    return issuer.asked


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.introspection", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=50, help="rounds of each measurement (default: 50)")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name, introspecting() as issuer:
        folder = Path(name)
        folder.chmod(0o711)
        with shared_harness(folder) as harness:
            found = measure(harness, issuer, rounds)
    print("one verification of a JWT, median      without     with   ratio")
    for situation, plain, bounded in found:
        print(f"  {situation:<32}  {plain * 1e6:8.1f} {bounded * 1e6:8.1f} µs {bounded / plain:6.2f}")
    print("requests to the issuer per hour, worker and token that is in use")
    for seconds in (10, 60, 300, 900):
        print(f"  bound of {seconds:4} s                 {requests_per_hour(seconds):8}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
