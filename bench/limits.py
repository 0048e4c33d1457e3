"""Measures the cost of rate limits per request, compared with Flask-Limiter's three windows with headers.

    python -m bench.limits                  starts a separate Redis; --redis URL selects another one
    python -m bench.limits --seconds 60     runs longer, with less noise

Every variant is the same Flask application, called in this process without a server, in short alternating slices. The
cost is the additional CPU time per request compared with no limits, in this process and in Redis together.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NoReturn

import flask
import redis
from flask_limiter import Limit
from flask_limiter import Limiter as FlaskLimiter
from limits.storage import MovingWindowSupport, Storage

from kataven.dev.embedded.redis_server import EmbeddedRedis
from kataven.ratelimit.fallback import FallbackWindows
from kataven.ratelimit.latency import RedisTimeouts
from kataven.ratelimit.limiter import Admission, Limiter
from kataven.ratelimit.memory import MemoryWindows
from kataven.ratelimit.policy import LIMIT_FIELDS, Limits
from kataven.ratelimit.redis_pool import RedisPool
from kataven.ratelimit.windows import RedisWindows

HUGE = 1_000_000
LIMITS = Limits(**{limit.field: HUGE for limit in LIMIT_FIELDS})
THREE: list[str | Callable[[], str] | Limit] = [f"{HUGE}/minute", f"{HUGE}/hour", f"{HUGE}/day"]
SLICE = 200
"""Requests per slice of one variant."""


def bare() -> flask.Flask:
    app = flask.Flask(__name__)
    app.add_url_rule("/agents", view_func=lambda: "[]", endpoint="agents")
    return app


def shipped(url: str, strategy: str) -> flask.Flask:
    """Flask-Limiter, configured as in its documentation."""
    app = bare()
    url = url.replace("unix:", "redis+unix:")
    FlaskLimiter(
        lambda: "acme",
        app=app,
        default_limits=THREE,
        headers_enabled=True,
        storage_uri=url,
        strategy=strategy,
        key_prefix=strategy,
    )
    return app


class OneTrip(Storage, MovingWindowSupport):
    """A storage of the `limits` library: one of its limits stands for all our windows and the slot."""

    STORAGE_SCHEME = ["bench-one-trip"]  # noqa: RUF012  declared this way by the library
    limiter: Limiter
    admission: Admission

    def __init__(self, uri: str) -> None:
        super().__init__(uri)

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        return ()

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        OneTrip.admission = self.limiter.admit("acme", LIMITS)
        return True

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        return time.time(), self.admission.quota_statuses[0].used

    def check(self) -> bool:
        return True

    def incr(self, key: str, expiry: int, amount: int = 1) -> NoReturn:
        raise NotImplementedError

    def get(self, key: str) -> NoReturn:
        raise NotImplementedError

    def get_expiry(self, key: str) -> NoReturn:
        raise NotImplementedError

    def reset(self) -> NoReturn:
        raise NotImplementedError

    def clear(self, key: str) -> NoReturn:
        raise NotImplementedError


def spanning(limiter: Limiter) -> flask.Flask:
    """One Flask-Limiter limit for all windows: one evaluation and one round trip, with its own headers."""
    app = bare()
    OneTrip.limiter = limiter

    @app.after_request
    def release(response: flask.Response) -> flask.Response:
        OneTrip.admission.release()
        return response

    FlaskLimiter(
        lambda: "acme",
        app=app,
        default_limits=THREE[:1],
        headers_enabled=True,
        storage_uri="bench-one-trip://",
        strategy="moving-window",
    )
    return app


def ours(limiter: Limiter) -> flask.Flask:
    """The hook of Kataven Hub."""
    app = bare()

    @app.before_request
    def admit() -> None:
        flask.g.admission = limiter.admit("acme", LIMITS)

    @app.after_request
    def release(response: flask.Response) -> flask.Response:
        for name, value in flask.g.admission.headers():
            response.headers[name] = value
        flask.g.admission.release()
        return response

    return app


ENVIRON = {
    "REQUEST_METHOD": "GET",
    "SCRIPT_NAME": "",
    "PATH_INFO": "/agents",
    "QUERY_STRING": "",
    "SERVER_NAME": "bench",
    "SERVER_PORT": "80",
    "REMOTE_ADDR": "127.0.0.1",
    "wsgi.url_scheme": "http",
}


def request(app: flask.Flask) -> None:
    """Send one request and discard the response."""

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], Any]:
        if not status.startswith("200"):
            raise RuntimeError(status)
        return lambda _: None

    body = app({**ENVIRON, "wsgi.input": io.BytesIO(), "wsgi.errors": sys.stderr}, start_response)
    list(body)
    with contextlib.suppress(AttributeError):
        body.close()  # type: ignore[attr-defined]


class Meter:
    """CPU time of this process and of Redis, in microseconds per request."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self.own: list[float] = []
        self.redis: list[float] = []
        self.wall: list[float] = []

    def measure(self, app: flask.Flask) -> None:
        redis_before, own_before, wall_before = self._redis_cpu(), time.process_time(), time.perf_counter()
        for _ in range(SLICE):
            request(app)
        wall, own = time.perf_counter() - wall_before, time.process_time() - own_before
        for values, seconds in ((self.own, own), (self.wall, wall), (self.redis, self._redis_cpu() - redis_before)):
            values.append(seconds / SLICE * 1e6)

    def _redis_cpu(self) -> float:
        cpu = self._client.info("cpu")
        return float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])


def compare(url: str, seconds: float) -> None:
    """Measure every variant and print the cost of its limits."""
    pool = RedisPool(url, RedisTimeouts(slow=5, reply=30, connect=5))  # the machine can be busy
    limiter = Limiter(FallbackWindows(RedisWindows(pool), MemoryWindows()))
    limiter.start()
    apps = {
        "no limits": bare(),
        "Flask-Limiter, three fixed windows, headers": shipped(url, "fixed-window"),
        "Flask-Limiter, three moving windows, headers": shipped(url, "moving-window"),
        "Flask-Limiter, one item that spans our windows": spanning(limiter),
        "our hook": ours(limiter),
    }
    with redis.Redis.from_url(url) as client:
        client.flushall()
        meters = {name: Meter(client) for name in apps}
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for name, app in apps.items():
                meters[name].measure(app)
        client.flushall()
    limiter.stop()
    report(meters)


def report(meters: dict[str, Meter]) -> None:
    """Print one line per variant: CPU time and duration of a request, the cost of limits, and its ratio to ours."""
    cpu = {name: median(meter.own) + median(meter.redis) for name, meter in meters.items()}
    ours_costs = cpu["our hook"] - cpu["no limits"]
    print(
        f"{'microseconds per request, median':50}{'CPU here':>10}{'in Redis':>10}{'time':>8}{'limits':>8}{'x ours':>8}"
    )
    for name, meter in meters.items():
        costs = cpu[name] - cpu["no limits"]
        print(
            f"{name:50}{median(meter.own):10.0f}{median(meter.redis):10.0f}{median(meter.wall):8.0f}"
            f"{costs:8.0f}{costs / ours_costs:8.1f}"
        )


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--redis", metavar="URL", help="the Redis to use; all of its keys are deleted")
    parser.add_argument("--seconds", type=float, default=20)
    options = parser.parse_args()
    if options.redis:
        compare(options.redis, options.seconds)
        return
    with tempfile.TemporaryDirectory() as folder, EmbeddedRedis(Path(folder), persistent=False) as server:
        compare(server.url, options.seconds)


if __name__ == "__main__":
    main()
