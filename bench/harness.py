"""The complete product's servers for a benchmark: PostgreSQL, Redis, an issuer, and the accounts acme and globex."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import app as factory
from kataven import settings
from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.dev.embedded.redis_server import EmbeddedRedis
from kataven.operations import account_creation
from kataven.web.services import EXTENSION
from tests.support.app_harness import ACCOUNTS, AppHarness, environ_for, new_account
from tests.support.oidc import IssuerWithPen


@contextmanager
def shared_harness(folder: Path, *, max_connections: int = 200) -> Iterator[AppHarness]:
    """Everything except gunicorn. The harness itself takes no lease, so it does not count as a worker."""
    folder.chmod(0o711)
    with (
        EmbeddedPostgres(folder / "postgres", fsync=False, max_connections=max_connections) as postgres,
        EmbeddedRedis(folder / "redis", persistent=False) as redis,
        IssuerWithPen(folder / "issuer") as issuer,
    ):
        environ = environ_for(postgres, redis.url, issuer.url, "kataven_system")
        environ["KATAVEN_HOST_SLOTS_DIR"] = str(folder / "slots")  # separate from other servers on this machine
        configured = settings.load(environ)
        account_creation.prepare_system(configured.database_url.get_secret_value())
        application = factory.create_api(configured)
        services = application.extensions[EXTENSION]
        for account in ACCOUNTS:
            new_account(services, account)
        yield AppHarness(application, services, issuer, environ)
        services.stop()
