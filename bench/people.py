"""Checks that a user is refused after the receipt, as a key is: an independent OIDC provider signs users out.

    python -m bench.people --rounds 300

Each round has a user of its own. Threads send requests with the user's access token to two workers. The provider (npm's
`oidc-provider`, see tools/oidc) reports by back-channel logout that the user signed out; the response is the receipt.
Every request that starts after it must be refused. Exits with 1 if one was accepted.
"""

from __future__ import annotations

import argparse
import http.client
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.scenarios.environment import ACCOUNT, open_environment
from kataven.dev.embedded.redis_server import EmbeddedRedis
from kataven.dev.issuer import AUDIENCE
from kataven.dev.personas import org_id
from tests.support.gunicorn import Gunicorn, free_port
from tests.support.independent_issuer import IndependentIssuers, Shape

WORKERS = 2
ROLES = "urn:zitadel:iam:org:project:roles"
REFUSED = frozenset({401, 429})
REQUESTS_AFTER = 2
"""How many requests each thread sends after the receipt."""


@dataclass
class Score:
    """The outcomes of all rounds, by status."""

    rounds: int = 0
    before: Counter[int] = field(default_factory=Counter)
    overlapping: Counter[int] = field(default_factory=Counter)
    """Requests that started before the receipt and ended after it: either outcome is correct."""
    after: Counter[int] = field(default_factory=Counter)
    milliseconds: list[float] = field(default_factory=list)
    unconfirmed: int = 0

    @property
    def accepted_too_late(self) -> int:
        return self.after[200]

    @property
    def passed(self) -> bool:
        return not self.unconfirmed and set(self.before) <= {200} and set(self.after) <= REFUSED


@dataclass(frozen=True)
class Site:
    """The API and the Hub in two workers of one server, and the issuer that they trust."""

    port: int
    issuers: IndependentIssuers
    issuer: str
    account: str


def shape_for(port: int, account: str) -> Shape:
    """An issuer whose users are owners of the account, and which reports sign-outs to the Hub at this port."""
    hub = f"http://localhost:{port}"
    return Shape(
        f"{hub}/auth/callback",
        f"{hub}/signed-out",
        audience=AUDIENCE,
        access_claims={ROLES: {"owner": {org_id(account): f"{account}.example"}}},
        backchannel_logout_uri=f"{hub}/auth/backchannel-logout",
    )


@contextmanager
def open_site(
    environ: Mapping[str, str], log: Path, issuers: IndependentIssuers, account: str = ACCOUNT
) -> Iterator[Site]:
    """`environ` is that of a process of the product; the issuer and the Hub are replaced."""
    port = free_port()
    issuer = issuers.start(shape_for(port, account))
    changed = {
        "KATAVEN_OIDC_ISSUER": issuer,
        "KATAVEN_OIDC_AUDIENCE": AUDIENCE,
        "KATAVEN_HUB_URL": f"http://localhost:{port}",
        "KATAVEN_HUB_CLIENT_ID": "kataven-hub",
        "KATAVEN_TRUSTED_PROXIES": "1",  # so that each round has an address with its own budget of refused credentials
    }
    with Gunicorn({**environ, **changed}, log, workers=WORKERS, application="wsgi:app", port=port):
        yield Site(port, issuers, issuer, account)


def run(site: Site, rounds: int, threads: int = 8) -> Score:
    """Sign out one user per round under load."""
    score = Score()
    for number in range(rounds):
        _round(site, f"owner-{time.time_ns()}", f"198.18.{number // 250}.{number % 250 + 1}", threads, score)
        score.rounds += 1
    return score


def _round(site: Site, sub: str, address: str, threads: int, score: Score) -> None:
    headers = {
        "Authorization": f"Bearer {site.issuers.access_token(site.issuer, sub)}",
        "X-Account-ID": site.account,
        "X-Forwarded-For": address,
    }
    receipt_returned, lock = threading.Event(), threading.Lock()
    warm = threading.Barrier(threads + 1)

    def hammer() -> None:
        found: list[tuple[bool, bool, int]] = []
        # A connection per request, so that either worker serves it.
        found += [(False, False, _request(site.port, headers)) for _ in range(2)]
        warm.wait()
        after = 0
        while after < REQUESTS_AFTER:
            late = receipt_returned.is_set()  # before the request starts
            status = _request(site.port, headers)
            found.append((late, receipt_returned.is_set(), status))
            after += late
        with lock:
            for started_after, ended_after, status in found:
                kind = score.after if started_after else score.overlapping if ended_after else score.before
                # While the sign-out is in progress, either outcome is correct. Many refusals spend the address's
                # budget, and further requests get 429.
                if kind is score.before and status in REFUSED:
                    kind = score.overlapping
                kind[status] += 1

    running = [threading.Thread(target=hammer) for _ in range(threads)]
    for thread in running:
        thread.start()
    warm.wait()
    started = time.perf_counter()
    confirmed = site.issuers.sign_out(site.issuer, sub)
    score.milliseconds.append((time.perf_counter() - started) * 1000)
    receipt_returned.set()
    score.unconfirmed += not confirmed
    for thread in running:
        thread.join()


def _request(port: int, headers: Mapping[str, str]) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/v1/me", headers=dict(headers))
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.people", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=300, help="number of users to sign out (default: 300)")
    parser.add_argument("--threads", type=int, default=8, help="threads that send requests (default: 8)")
    arguments = parser.parse_args()
    issuers = IndependentIssuers()
    try:
        with (
            open_environment() as environment,
            tempfile.TemporaryDirectory() as folder,
            EmbeddedRedis(Path(folder) / "redis", persistent=False) as redis,
        ):
            environ = environment.process_settings(redis.url, environment.database_url, 1.0)
            with open_site(environ, Path(folder) / "log", issuers) as site:
                score = run(site, arguments.rounds, arguments.threads)
    finally:
        issuers.stop()
    times = sorted(score.milliseconds)
    print(f"{score.rounds} users signed out; {sum(score.after.values())} requests started after the receipt")
    print(
        f"accepted too late: {score.accepted_too_late}; unconfirmed: {score.unconfirmed}; before: {dict(score.before)}"
    )
    print(f"sign-out at the issuer: median {statistics.median(times):.1f} ms, longest {times[-1]:.1f} ms")
    return 0 if score.passed else 1


if __name__ == "__main__":
    sys.exit(main())
