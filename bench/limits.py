"""What limits cost a request: ours next to Flask-Limiter's three windows with headers, in one run.

    python -m bench.limits                  starts a Redis of its own; --redis URL for another one
    python -m bench.limits --seconds 60     longer, and so less noisy

Every variant is the same Flask application, called in this process without a server, in short slices that take turns.
The cost of limits is the CPU that a request takes more than without any, here and in Redis together.
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
from typing import Any

import flask
import redis
from flask_limiter import Limit
from flask_limiter import Limiter as FlaskLimiter

from kataven.dev.embedded.redis_server import EmbeddedRedis
from kataven.ratelimit.fallback import FallbackWindows
from kataven.ratelimit.latency import RedisTimeouts
from kataven.ratelimit.limiter import Admission, Limiter, install
from kataven.ratelimit.limiter.storage import WindowStorage
from kataven.ratelimit.memory import MemoryWindows
from kataven.ratelimit.policy import Limits
from kataven.ratelimit.redis_pool import RedisPool
from kataven.ratelimit.windows import RedisWindows

HUGE = 1_000_000
LIMITS = Limits(per_minute=HUGE, per_hour=HUGE, per_day=HUGE, concurrent=HUGE)
THREE: list[str | Callable[[], str] | Limit] = [f"{HUGE}/minute", f"{HUGE}/hour", f"{HUGE}/day"]
SLICE = 200
"""Requests of one variant before the next has its turn."""


def bare() -> flask.Flask:
    app = flask.Flask(__name__)
    app.add_url_rule("/agents", view_func=lambda: "[]", endpoint="agents")
    return app


def shipped(url: str, strategy: str) -> flask.Flask:
    """Flask-Limiter as its documentation sets it up."""
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


class OneTrip(WindowStorage):
    """All our windows and the slot behind what Flask-Limiter takes for one limit."""

    STORAGE_SCHEME = ["bench-one-trip"]  # noqa: RUF012 the library declares it so
    limiter: Limiter
    admission: Admission

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        OneTrip.admission = self.limiter.admit("acme", LIMITS)
        return True

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        return time.time(), self.admission.quota_statuses[0].used


def spanning(limiter: Limiter) -> flask.Flask:
    """One Flask-Limiter item that spans all windows: one evaluation, one round trip, its own headers."""
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
        storage_options={"windows": lambda: limiter.windows},  # type: ignore[dict-item]
        strategy="moving-window",
    )
    return app


def ours(limiter: Limiter) -> flask.Flask:
    """Our own hook, as the product has it, beside Flask-Limiter's decorators, which limit nothing here."""
    app = bare()
    install(app, limiter, lambda: "203.0.113.7")

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
    """One request, its answer thrown away."""

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], Any]:
        if not status.startswith("200"):
            raise RuntimeError(status)
        return lambda _: None

    body = app({**ENVIRON, "wsgi.input": io.BytesIO(), "wsgi.errors": sys.stderr}, start_response)
    list(body)
    with contextlib.suppress(AttributeError):
        body.close()  # type: ignore[attr-defined]


class Meter:
    """CPU of this process and of Redis, in microseconds a request."""

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
    """Measure every variant, and print what its limits cost."""
    patient = RedisPool(url, RedisTimeouts(slow=5, answer=30, connect=5))  # this machine may be busy
    limiter = Limiter(FallbackWindows(RedisWindows(patient), MemoryWindows()))
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
    """One line for each variant: CPU and time of a request, what its limits cost, and that next to ours."""
    cpu = {name: median(meter.own) + median(meter.redis) for name, meter in meters.items()}
    ours_costs = cpu["our hook"] - cpu["no limits"]
    print(f"{'microseconds a request, median':50}{'CPU here':>10}{'in Redis':>10}{'time':>8}{'limits':>8}{'x ours':>8}")
    for name, meter in meters.items():
        costs = cpu[name] - cpu["no limits"]
        print(
            f"{name:50}{median(meter.own):10.0f}{median(meter.redis):10.0f}{median(meter.wall):8.0f}"
            f"{costs:8.0f}{costs / ours_costs:8.1f}"
        )


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--redis", metavar="URL", help="a Redis to use; it is emptied")
    parser.add_argument("--seconds", type=float, default=20)
    options = parser.parse_args()
    if options.redis:
        compare(options.redis, options.seconds)
        return
    with tempfile.TemporaryDirectory() as folder, EmbeddedRedis(Path(folder), persistent=False) as server:
        compare(server.url, options.seconds)


if __name__ == "__main__":
    main()
