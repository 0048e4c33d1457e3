"""Checks that a user is refused after the receipt, as a key is: an independent OIDC provider signs users out.

    python -m bench.people                       300 rounds by each channel, four workers
    python -m bench.people --rounds 30 --by push

Each round has a separate user. Threads send requests with the user's access token to the workers. The provider (npm's
`oidc-provider`, see tools/oidc) reports that the user signed out. The report is repeated until it is acknowledged, and
the acknowledgement is the receipt. Every request that starts after it must be refused. Exits with 1 if one was
accepted.

    logout   back-channel logout to the Hub; the receipt is the status 200
    push     a signed security event to the API (RFC 8935); the receipt is the status 202
    poll     a signed security event, fetched by `kataven events poll` (RFC 8936); the receipt is its acknowledgement

In every 10th round, one worker is paused (SIGSTOP) from before the report until all other requests are done. In every
25th round, Redis is killed and started again, empty, while the event is reported.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.scenarios.environment import ACCOUNT, open_environment
from kataven.dev.embedded.binaries import redis_program
from kataven.dev.issuer import AUDIENCE
from kataven.dev.personas import org_id
from tests.support.gunicorn import Gunicorn, free_port
from tests.support.independent_issuer import IndependentIssuers, Shape
from tests.support.transmitter import RfcTransmitter, transmitting

WORKERS = 4
EVENTS_AUDIENCE = "https://api.kataven.example/events"
SESSION_REVOKED = "https://schemas.openid.net/secevent/caep/event-type/session-revoked"
PAUSED_EVERY, RESTARTED_EVERY = 10, 25
REPORT_SECONDS = 60.0
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
    repeated: int = 0
    """Reports that were not confirmed at first."""

    @property
    def accepted_too_late(self) -> int:
        return self.after[200]

    @property
    def passed(self) -> bool:
        """503 is no acceptance: a worker that can't verify, for example without the issuer's keys, refuses."""
        served = bool(self.before[200]) and set(self.before) <= {200, 503}
        return not self.unconfirmed and served and set(self.after) <= {*REFUSED, 503}


@dataclass(frozen=True)
class Site:
    """The API and the Hub in the workers of one server, and the issuer that they trust."""

    port: int
    issuers: IndependentIssuers
    issuer: str
    account: str
    server: Gunicorn | None = None
    transmitter: RfcTransmitter | None = None


class ScratchRedis:
    """A Redis on a TCP port that can be killed and started again. It stores nothing on disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        options = ("--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
        self._process = subprocess.Popen(
            [redis_program(), *options], cwd=self._folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as client:
                client.sendall(b"PING\r\n")
                if client.recv(5) == b"+PONG":
                    return
            time.sleep(0.01)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


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
        "KATAVEN_EVENTS_AUDIENCE": EVENTS_AUDIENCE,
        "KATAVEN_TRUSTED_PROXIES": "1",  # so that each round has an address with its own budget of refused credentials
    }
    with (
        transmitting() as transmitter,
        Gunicorn({**environ, **changed}, log, workers=WORKERS, application="wsgi:app", port=port) as server,
        _polling({**environ, **changed, "KATAVEN_EVENTS_POLL_URL": transmitter.url}, log),
    ):
        yield Site(port, issuers, issuer, account, server, transmitter)


@contextmanager
def _polling(environ: Mapping[str, str], log: Path) -> Iterator[None]:
    """`kataven events poll`."""
    with log.open("ab") as output:
        command = [sys.executable, "-m", "kataven", "events", "poll"]
        process = subprocess.Popen(command, env={**os.environ, **environ}, stdout=output, stderr=output)
        try:
            yield
        finally:
            process.terminate()
            process.wait()


def by_logout(site: Site, sub: str) -> bool:
    """Report the sign-out by back-channel logout. Returns whether it was confirmed."""
    return site.issuers.sign_out(site.issuer, sub)


def by_push(site: Site, sub: str) -> bool:
    """Report the sign-out by a pushed security event."""
    _, token = _event(site, sub)
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=30)
    try:
        connection.request("POST", "/v1/security-events", token, {"Content-Type": "application/secevent+jwt"})
        return connection.getresponse().status == 202
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def by_poll(site: Site, sub: str) -> bool:
    """Report the sign-out by a security event that is polled."""
    assert site.transmitter is not None
    jti, token = _event(site, sub)
    site.transmitter.offer(jti, token)
    site.transmitter.wait_for(lambda: jti in site.transmitter.acknowledged, REPORT_SECONDS)
    return True


Fault = Callable[[], contextlib.AbstractContextManager[None]]
CHANNELS: dict[str, Callable[[Site, str], bool]] = {"logout": by_logout, "push": by_push, "poll": by_poll}


def _event(site: Site, sub: str) -> tuple[str, str]:
    jti, now = f"{sub}-{time.time_ns()}", int(time.time())
    claims = {
        "iss": site.issuer,
        "aud": EVENTS_AUDIENCE,
        "iat": now,
        "jti": jti,
        "sub_id": {"format": "iss_sub", "iss": site.issuer, "sub": sub},
        "events": {SESSION_REVOKED: {"event_timestamp": now}},
    }
    return jti, site.issuers.signed(site.issuer, "secevent+jwt", claims)


def run(
    site: Site, rounds: int, threads: int = 8, by: str = "logout", redis: ScratchRedis | None = None, first: int = 0
) -> Score:
    """Sign out one user per round under load. With `redis`, workers are paused and Redis is restarted as well."""
    score = Score()
    for number in range(rounds):
        address = f"10.{first}.{number // 250}.{number % 250 + 1}"
        faults = _faults(site, number + 1, redis)
        _round(site, f"owner-{time.time_ns()}", address, threads, score, CHANNELS[by], faults)
        score.rounds += 1
    return score


@contextmanager
def _paused(site: Site) -> Iterator[None]:
    assert site.server is not None
    pid = site.server.worker_pids()[0]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def _restarted(redis: ScratchRedis) -> Iterator[None]:
    def start_later() -> None:
        time.sleep(0.3)  # so that some reports find no Redis
        redis.start()

    redis.kill()
    starting = threading.Thread(target=start_later)
    starting.start()
    try:
        yield
    finally:
        starting.join()


def _faults(
    site: Site, number: int, redis: ScratchRedis | None
) -> Callable[[], contextlib.AbstractContextManager[None]]:
    if redis is not None and number % RESTARTED_EVERY == 0:
        return lambda: _restarted(redis)
    if redis is not None and number % PAUSED_EVERY == 0:
        return lambda: _paused(site)
    return contextlib.nullcontext


def _round(
    site: Site,
    sub: str,
    address: str,
    threads: int,
    score: Score,
    report: Callable[[Site, str], bool],
    fault: Fault,
) -> None:
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
    with fault():
        started = time.perf_counter()
        while not report(site, sub):  # the sender repeats what was not confirmed
            score.repeated += 1
            if time.perf_counter() - started > REPORT_SECONDS:
                score.unconfirmed += 1
                break
            time.sleep(0.1)
        score.milliseconds.append((time.perf_counter() - started) * 1000)
        receipt_returned.set()
        # A thread whose request the paused worker accepted ends its round after the worker continues.
        deadline = time.perf_counter() + 2
        for thread in running:
            thread.join(max(0, deadline - time.perf_counter()))
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
    parser.add_argument("--rounds", type=int, default=300, help="users to sign out by each channel (default: 300)")
    parser.add_argument("--threads", type=int, default=8, help="threads that send requests (default: 8)")
    parser.add_argument("--by", choices=CHANNELS, action="append", help="only this channel; can be repeated")
    arguments = parser.parse_args()
    issuers, scores = IndependentIssuers(), {}
    try:
        with open_environment() as environment, tempfile.TemporaryDirectory() as folder:
            redis = ScratchRedis(Path(folder))
            try:
                environ = environment.process_settings(redis.url, environment.database_url, 1.0)
                with open_site(environ, Path(folder) / "log", issuers) as site:
                    for first, by in enumerate(arguments.by or CHANNELS):
                        scores[by] = run(site, arguments.rounds, arguments.threads, by, redis, first)
                        _print(by, scores[by])
            finally:
                redis.kill()
    finally:
        issuers.stop()
    return 0 if all(score.passed for score in scores.values()) else 1


def _print(by: str, score: Score) -> None:
    times = sorted(score.milliseconds)
    after = sum(score.after.values())
    print(f"{by}: {score.rounds} users signed out; {after} requests started after the receipt")
    print(
        f"  accepted too late: {score.accepted_too_late}; unconfirmed: {score.unconfirmed}; repeated: {score.repeated}"
    )
    print(f"  before {dict(score.before)}, overlapping {dict(score.overlapping)}, after {dict(score.after)}")
    print(f"  until the receipt: median {statistics.median(times):.1f} ms, longest {times[-1]:.1f} ms", flush=True)


if __name__ == "__main__":
    sys.exit(main())
