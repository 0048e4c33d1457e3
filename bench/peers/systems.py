"""The systems that are compared: how each is started, and what it doesn't do.

Every system runs with the settings that its documentation recommends for production: one worker, no debug mode, and
persistent connections to PostgreSQL.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.peers import installation

LIST = "/v1/agents"
VERIFY = "/v1/verify"
ME = "/v1/me"

IDLE_SECONDS = "600"
"""A connection is idle while the other systems are measured."""
GUNICORN = ("-m", "gunicorn")
FOUR_THREADS = (
    *("-k", "gthread", "--threads", "4", "--workers", "1", "--keep-alive", IDLE_SECONDS),
    *("-c", "/dev/null", "--bind", "127.0.0.1:{port}"),
)
UVICORN = (
    *("-m", "uvicorn", "--workers", "1", "--loop", "uvloop", "--http", "httptools"),
    *(
        "--timeout-keep-alive",
        IDLE_SECONDS,
        "--no-access-log",
        "--log-level",
        "warning",
        "--host",
        "127.0.0.1",
        "--port",
        "{port}",
    ),
)


@dataclass(frozen=True)
class System:
    """One server. `paths` are what is requested from it: the list, and each way to verify a key."""

    id: str
    name: str
    leaves_out: str
    language: str | None
    """The language of the packages that it needs, or None if the project's own environment has them."""
    paths: tuple[str, ...] = (LIST, VERIFY)
    environ: Mapping[str, str] = field(default_factory=dict)
    prepare: tuple[str, ...] = ()
    """The arguments of the interpreter that create the system's tables and print its key, if it has its own keys."""
    serve: tuple[str, ...] = ()
    """The arguments of the interpreter. `{port}` is replaced."""
    redis_database: int = 1
    """Separate from the product's, which is 0."""
    keeps_history: bool = False
    """Whether its limits keep an entry for each request of the window. They are deleted before each slice, because the
    cost of a request would depend on the duration of the benchmark."""

    @property
    def program(self) -> str:
        if self.language == installation.PYTHON:
            return installation.python()
        return installation.node() if self.language == installation.NODE else sys.executable


def _flask(identifier: str, name: str, leaves_out: str, *paths: str) -> System:
    application = f"bench.request.handlers:{identifier}()"
    return System(identifier, name, leaves_out, None, paths, serve=(*GUNICORN, application, *FOUR_THREADS))


def _fastapi(identifier: str, name: str, key: str, seconds: int) -> System:
    return System(
        identifier,
        name,
        f"a log line, metrics and revocation; headers report one of the three windows; {key}",
        installation.PYTHON,
        environ={"BENCH_KEY_CACHE_SECONDS": str(seconds)},
        serve=(*UVICORN, "fastapi_app:app"),
    )


def _better_auth(mode: str, name: str, updates: str) -> System:
    program = str(installation.APPS / "better_auth.mjs")
    return System(
        f"better-auth-{mode}",
        name,
        f"two of the three windows, because a key has one; a log line and metrics; {updates}",
        installation.NODE,
        environ={"BENCH_MODE": mode, "NODE_ENV": "production"},
        prepare=(program, "prepare"),
        serve=(program, "serve"),
        redis_database=3,
    )


ORM = _flask("orm", "Flask and SQLAlchemy's ORM", "a key, limits, a log line and metrics", LIST)
NAIVE = _flask(
    "naive",
    "Flask, a key in memory, Flask-Limiter",
    "a lookup of the key, revocation, a log line and metrics; headers report one of the three windows",
    LIST,
    VERIFY,
)
FASTAPI_CACHED = _fastapi(
    "fastapi-cached",
    "FastAPI, SQLAlchemy async, slowapi; key cached for 30 s",
    "a revoked key is accepted for up to 30 s",
    30,
)
FASTAPI = _fastapi(
    "fastapi", "FastAPI, SQLAlchemy async, slowapi; key not cached", "each request reads the key's row", 0
)
DRF = System(
    "drf",
    "Django REST framework, djangorestframework-api-key",
    "headers of the limits, a log line and metrics; each request reads the key's row; its throttles keep a time for "
    "each request of the window, deleted before each slice",
    installation.PYTHON,
    prepare=("-c", "import django_app; django_app.prepare()"),
    serve=(*GUNICORN, "django_app:application", *FOUR_THREADS),
    redis_database=2,
    keeps_history=True,
)
BETTER_AUTH = _better_auth("database", "Better Auth, API-key plugin; database", "each request updates the key's row")
BETTER_AUTH_DEFERRED = _better_auth(
    "deferred",
    "Better Auth, API-key plugin; database, `deferUpdates`",
    "each request updates the key's row, because this version defers only the deletion of expired keys",
)
BETTER_AUTH_REDIS = _better_auth(
    "redis",
    "Better Auth, API-key plugin; secondary storage in Redis",
    "concurrent requests can be counted once, because counts are read and then written",
)
BETTER_AUTH_REDIS_DEFERRED = _better_auth(
    "redis-deferred",
    "Better Auth, API-key plugin; secondary storage in Redis, `deferUpdates`",
    "concurrent requests can be counted once, because counts are read, and written after the response",
)
OURS = System(
    "kataven",
    "Kataven Hub",
    "nothing: three windows with headers, a bound on concurrent requests, log line, metrics, usage, revocation before "
    "the receipt",
    None,
    (LIST, ME, VERIFY),
    serve=(*GUNICORN, "wsgi:api", "-c", "gunicorn.conf.py"),
    redis_database=0,
)

SYSTEMS = (
    ORM,
    NAIVE,
    FASTAPI_CACHED,
    FASTAPI,
    DRF,
    BETTER_AUTH,
    BETTER_AUTH_DEFERRED,
    BETTER_AUTH_REDIS,
    BETTER_AUTH_REDIS_DEFERRED,
    OURS,
)
