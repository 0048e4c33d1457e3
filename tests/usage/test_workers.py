"""The stored usage equals what clients saw, over several workers, while one is killed and Redis is restarted.

`python -m bench.usage` does the same for longer.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.scenarios import usage_load
from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.dev.embedded.redis_server import EmbeddedRedis
from kataven.dev.personas import Persona
from kataven.identity.principal import Role
from kataven.operations import account_creation
from kataven.system import limits
from kataven.system.database import SystemDatabase
from tests.support.app_harness import PLENTY, environ_for
from tests.support.gunicorn import Gunicorn
from tests.support.oidc import IssuerWithPen

pytestmark = pytest.mark.processes

ACCOUNT = "counted-by-workers"
OWNER = Persona("owner-counted", "Owner", ACCOUNT, Role.OWNER)


@pytest.fixture
def environ(
    postgres: EmbeddedPostgres, issuer: IssuerWithPen, redis_to_restart: EmbeddedRedis, server_folder: Path
) -> dict[str, str]:
    found = environ_for(postgres, redis_to_restart.url, issuer.url, "kataven_usage")
    found["KATAVEN_HOST_SLOTS_DIR"] = str(server_folder / "usage-slots")
    url = found["KATAVEN_DATABASE_URL"]
    account_creation.prepare_system(url)
    database = SystemDatabase(url)
    account_creation.create(database, account_creation.NewAccount(ACCOUNT, "Counted", f"org-{ACCOUNT}"), actor="test")
    with database.writing() as session:
        limits.change(session, ACCOUNT, PLENTY)
    database.close()
    return found


@pytest.fixture
def redis_to_restart(server_folder: Path) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(server_folder / "usage-redis", persistent=False) as server:
        yield server


def test_counts_equal_what_clients_saw_while_a_worker_is_killed_and_redis_restarts(
    environ: dict[str, str], redis_to_restart: EmbeddedRedis, issuer: IssuerWithPen, tmp_path: Path
) -> None:
    def restart_redis() -> None:
        redis_to_restart.stop()
        redis_to_restart.start()

    with (
        Gunicorn(environ, tmp_path / "log", workers=2) as server,
        server.client(issuer.token(OWNER), ACCOUNT) as owner,
    ):
        faults = [(0.4, lambda: usage_load.kill_a_worker(server)), (0.7, restart_redis)]
        seen = usage_load.run(server, owner, 3.0, threads=4, faults=faults)
        usage_load.replace_workers(server)
        found = usage_load.compare(server, owner, seen, settled_seconds=1.0)
    assert seen.total > 0
    assert found.problems(most_lost=seen.total) == []
