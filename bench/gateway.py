"""What `/v1/verify` costs a gateway: the time of a check, and of a request through nginx with and without it.

    python -m bench.gateway [--requests 2000]

One worker, one connection, cached credentials. The variants alternate, so the ratios hold on a busy machine. Exit
status 1 if a check takes more than 1.15 times as long as `GET /v1/me`, which does the same work and has a body.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median, quantiles

from bench.harness import shared_harness
from bench.request.client import Connection
from tests.support.gateways import Backend, Gateway
from tests.support.gunicorn import Gunicorn

CEILING = 1.15
WARM_UP = 200
SLICE = 50
ROUND = 500


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2_000, help="of each variant")
    options = parser.parse_args()
    print(f"{len(os.sched_getaffinity(0))} cores, load average before: {os.getloadavg()[0]:.1f}\n")
    with tempfile.TemporaryDirectory(prefix="kataven-bench-") as name, shared_harness(Path(name)) as harness:
        key, folder = harness.new_key("acme"), Path(name)
        environ = {**harness.environ, "KATAVEN_TRUSTED_PROXIES": "1", "MAX_REQUESTS": "0"}
        checked, unchecked = folder / "checked", folder / "unchecked"
        with Backend() as backend, Gunicorn(environ, folder / "api.log", workers=1) as api:
            kataven = f"{api.host}:{api.port}"
            for made in (checked, unchecked):
                made.mkdir()
            with (
                Gateway("nginx", checked, kataven, backend.address) as site,
                _Unchecked("nginx", unchecked, kataven, backend.address) as open_site,
            ):
                variants = {
                    "GET /v1/me": partial(Connection, api.url, "/v1/me", key),
                    "GET /v1/verify": partial(Connection, api.url, "/v1/verify", key),
                    "GET /v1/verify?cost=5": partial(Connection, api.url, "/v1/verify?cost=5", key),
                    "nginx, without a check": partial(Connection, open_site.url, "/orders", key),
                    "nginx, with auth_request": partial(Connection, site.url, "/orders", key),
                }
                taken = _alternate(variants, options.requests)
    for variant, seconds in taken.items():
        tail = quantiles(seconds, n=100)[98]
        print(f"{variant:28} p50 {median(seconds) * 1000:6.2f} ms    p99 {tail * 1000:6.2f} ms")
    ratio = median(taken["GET /v1/verify"]) / median(taken["GET /v1/me"])
    added = median(taken["nginx, with auth_request"]) - median(taken["nginx, without a check"])
    print(f"\n/v1/verify takes {ratio:.2f} times as long as /v1/me (at most {CEILING})")
    print(f"the check adds {added * 1000:.2f} ms to a request through nginx")
    return 0 if ratio <= CEILING else 1


class _Unchecked(Gateway):
    """The same nginx, without the check."""

    ready_status = 200

    def recipe(self, file: str, *replacements: tuple[str, str]) -> Path:
        path = super().recipe(file, *replacements)
        path.write_text(re.sub(r"^ *auth_request /_kataven_verify;$", "", path.read_text(), flags=re.MULTILINE))
        return path


def _alternate(variants: Mapping[str, Callable[[], Connection]], requests: int) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(0, requests, ROUND):  # nginx closes a connection after 1,000 requests
        with contextlib.ExitStack() as stack:
            opened = {name: stack.enter_context(contextlib.closing(connect())) for name, connect in variants.items()}
            for name, connection in opened.items():
                _send(name, connection, WARM_UP)
            for _ in range(0, ROUND, SLICE):
                for name, connection in opened.items():
                    taken[name] += _send(name, connection, SLICE)
    return taken


def _send(name: str, connection: Connection, requests: int) -> list[float]:
    """The duration of each request, in seconds."""
    taken = []
    for _ in range(requests):
        started_at = time.perf_counter()
        status = connection.request()
        taken.append(time.perf_counter() - started_at)
        if status != 200:
            raise RuntimeError(f"{name} returned {status}")
    return taken


if __name__ == "__main__":
    raise SystemExit(main())
