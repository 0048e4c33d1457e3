"""Checks that a developer's own PostgreSQL and Redis are reachable, before a run uses them."""

from __future__ import annotations

import psycopg2
import redis
from sqlalchemy.engine import make_url

from kataven.dev.embedded.errors import DevError
from kataven.redis_clients import redis_client

TIMEOUT_SECONDS = 5
OPTIONS = "-c timezone=UTC"
"""The product's connections set this, so a server that rejects it is detected at startup."""
POOLER_HINT = (
    "this is a connection pooler such as PgBouncer; set KATAVEN_DIRECT_DATABASE_URL to the URL of PostgreSQL itself"
)


def require_postgres(url: str, name: str = "KATAVEN_DATABASE_URL", *, pooled: bool = False) -> None:
    """Raise DevError if PostgreSQL is not reachable at `url`. The database in `url` need not exist yet.

    `name` is the variable that contains the URL. With `pooled`, the URL may lead to a connection pooler, which refuses
    options.
    """
    options = {} if pooled else {"options": OPTIONS}
    given = make_url(url).set(drivername="postgresql+psycopg2")
    errors = []
    for candidate in (given, given.set(database="postgres")):
        positional, named = candidate.get_dialect()().create_connect_args(candidate)
        try:
            psycopg2.connect(*positional, **{"connect_timeout": TIMEOUT_SECONDS, **named, **options}).close()
        except psycopg2.Error as error:  # libpq's messages name host, user and database, never the password
            errors.append(str(error).strip().splitlines()[0])
            if "unsupported startup parameter" in errors[-1]:
                raise DevError(f"{name}: {errors[-1]}; {POOLER_HINT}") from None
        else:
            return
    raise DevError(f"{name}: {errors[0]}")


def require_redis(url: str) -> None:
    """Raise DevError if Redis is not reachable at `url`."""
    try:
        with redis_client(url, timeout_seconds=TIMEOUT_SECONDS) as client:
            client.ping()
    except (ValueError, redis.RedisError) as error:
        raise DevError(f"KATAVEN_REDIS_URL: {str(error).splitlines()[0]}") from None
