"""The environment of all scenarios: PostgreSQL, an OIDC issuer, and the account acme with its owner Alice and its keys.

Scenarios share it. Each site has its own Redis and workers.
"""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from kataven import assembly, settings
from kataven.account import api_keys
from kataven.account.audit import Actor
from kataven.assembly import Foundation
from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.dev.issuer import AUDIENCE, DevIssuer, sign
from kataven.dev.personas import ALICE, org_id
from kataven.identity.token import TokenKind
from kataven.operations import account_creation
from kataven.ratelimit.policy import MAX_LIMIT, WINDOWS
from kataven.system import limits

ACCOUNT = ALICE.account
BENCH = Actor("bench:scenarios", "Scenarios")
UNLIMITED = dict.fromkeys(WINDOWS, MAX_LIMIT) | {"concurrent": 1_000}
"""Limits that are never reached, so that no request is rejected by a rate limit."""
BATCH = 100
TOKEN_SECONDS = 12 * 3600


@dataclass(frozen=True)
class Key:
    """An API key of acme."""

    id: str
    text: str = field(repr=False)


@dataclass
class Environment:
    """See `open_environment`."""

    folder: Path
    postgres: EmbeddedPostgres
    issuer_url: str
    pepper: str = field(repr=False)
    _keys: deque[Key] = field(default_factory=deque, repr=False)

    def process_settings(self, redis_url: str, database_url: str, lease_seconds: float) -> dict[str, str]:
        """The environment variables of a process of the product."""
        return {
            "KATAVEN_ENV": "development",
            "KATAVEN_DATABASE_URL": database_url,
            "KATAVEN_REDIS_URL": redis_url,
            "KATAVEN_PEPPERS": self.pepper,
            "KATAVEN_OIDC_ISSUER": self.issuer_url,
            "KATAVEN_OIDC_AUDIENCE": AUDIENCE,
            "KATAVEN_LEASE_SECONDS": str(lease_seconds),
        }

    @property
    def database_url(self) -> str:
        return self.postgres.url("kataven_system")

    def foundation(self, redis_url: str = "unix:///nowhere", lease_seconds: float = 1.0) -> Foundation:
        """The product's components, for use in this process. It holds no lease, so it caches nothing."""
        return assembly.foundation(settings.load(self.process_settings(redis_url, self.database_url, lease_seconds)))

    def owner_headers(self) -> dict[str, str]:
        """The headers of Alice, the owner of acme."""
        token = sign(self.folder / "issuer", self.issuer_url, ACCOUNT, ALICE.role, ttl_seconds=TOKEN_SECONDS)
        return {"Authorization": f"Bearer {token}", "X-Account-ID": ACCOUNT}

    def next_key(self) -> Key:
        """An unused key."""
        if not self._keys:
            self._keys.extend(self._create_keys(BATCH))
        return self._keys.popleft()

    def _create_keys(self, count: int) -> Iterator[Key]:
        issuer = assembly.local_issuer(settings.load(self.process_settings("unix:///nowhere", self.database_url, 1.0)))
        with open_foundation(self.foundation()) as parts, parts.sessions.writing(ACCOUNT) as session:
            for _ in range(count):
                issued = issuer.issue(TokenKind.API_KEY, ACCOUNT)
                row = api_keys.issue(session, "under test", issued, None, BENCH)
                yield Key(str(row.id), issued.text)


@contextmanager
def open_foundation(parts: Foundation) -> Iterator[Foundation]:
    """`parts`; its connections are closed at the end."""
    try:
        yield parts
    finally:
        parts.registry.close()
        parts.directory.database.close()


@contextmanager
def open_environment() -> Iterator[Environment]:
    """An environment in a temporary folder. Must be opened from the main thread, like all embedded servers."""
    folder = Path(tempfile.mkdtemp(prefix="kataven-scenarios-"))
    if os.geteuid() == 0:
        folder.chmod(0o711)  # the user that runs PostgreSQL for root needs access to the data
    try:
        pepper = f"dev1:{base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()}"
        with EmbeddedPostgres(folder / "postgres", fsync=False) as postgres, DevIssuer(folder / "issuer") as issuer:
            environment = Environment(folder, postgres, issuer.url, pepper)
            _prepare(environment)
            yield environment
    finally:
        shutil.rmtree(folder)


def _prepare(environment: Environment) -> None:
    account_creation.prepare_system(environment.database_url)
    with open_foundation(environment.foundation()) as parts:
        database = parts.directory.database
        account_creation.create(
            database, account_creation.NewAccount(ACCOUNT, "Acme", org_id(ACCOUNT)), actor="scenarios"
        )
        with database.writing() as session:
            limits.change(session, ACCOUNT, UNLIMITED)
