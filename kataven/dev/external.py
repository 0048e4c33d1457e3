"""Servers that the developer brings along: whether they answer, before anything is built on them."""

from __future__ import annotations

import psycopg2
import redis
from sqlalchemy.engine import make_url

from kataven.dev.errors import DevError
from kataven.redis_clients import redis_client

TIMEOUT_SECONDS = 5
OPTIONS = "-c timezone=UTC"
"""As in each of the product's own connections: a server that refuses them is found out at the start."""
A_POOLER = "a pooler such as PgBouncer answers there, so name PostgreSQL itself"


def require_postgres(url: str) -> None:
    """Raise DevError if no PostgreSQL answers at `url`. The database that it names need not exist yet."""
    given = make_url(url).set(drivername="postgresql+psycopg2")
    refusals = []
    for candidate in (given, given.set(database="postgres")):
        positional, named = candidate.get_dialect()().create_connect_args(candidate)
        try:
            psycopg2.connect(*positional, **{"connect_timeout": TIMEOUT_SECONDS, **named, "options": OPTIONS}).close()
        except psycopg2.Error as error:  # libpq's words name host, user and database, never the password
            refusals.append(str(error).strip().splitlines()[0])
            if "unsupported startup parameter" in refusals[-1]:
                raise DevError(f"KATAVEN_DATABASE_URL: {refusals[-1]}; {A_POOLER}") from None
        else:
            return
    raise DevError(f"KATAVEN_DATABASE_URL: {refusals[0]}")


def require_redis(url: str) -> None:
    """Raise DevError if no Redis answers at `url`."""
    try:
        connected = redis_client(url, timeout_seconds=TIMEOUT_SECONDS)
    except ValueError as error:
        raise DevError(f"KATAVEN_REDIS_URL: {error}") from None
    with connected as client:
        try:
            client.ping()
        except redis.RedisError as error:
            raise DevError(f"KATAVEN_REDIS_URL: {str(error).splitlines()[0]}") from None
