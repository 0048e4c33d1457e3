"""What a world stands on: a PostgreSQL, an issuer, and the account acme with its owner Alice and all the keys it needs.

It outlives the worlds, which bring their own Redis and their own workers.
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
from kataven.system import limits

ACCOUNT = ALICE.account
BENCH = Actor("bench:worlds", "Worlds")
PLENTY = {"per_minute": 1_000_000, "per_hour": 10_000_000, "per_day": 100_000_000, "concurrent": 1_000}
"""Limits that are never met: what is looked for is a key that is let in, not one that is slowed down."""
BATCH = 100
TOKEN_SECONDS = 12 * 3600


@dataclass(frozen=True)
class Key:
    """An API key of acme's."""

    id: str
    text: str = field(repr=False)


@dataclass
class Ground:
    """See `laid`."""

    folder: Path
    postgres: EmbeddedPostgres
    issuer_url: str
    pepper: str = field(repr=False)
    _keys: deque[Key] = field(default_factory=deque, repr=False)

    def environ(self, redis_url: str, database_url: str, lease_seconds: float) -> dict[str, str]:
        """What a process of the product is told."""
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
        """What the product is put together from, for use beside it. It has no lease, so it remembers nothing."""
        return assembly.foundation(settings.load(self.environ(redis_url, self.database_url, lease_seconds)))

    def alice(self) -> dict[str, str]:
        """The headers with which Alice, who owns acme, is let in."""
        token = sign(self.folder / "issuer", self.issuer_url, ACCOUNT, ALICE.role, ttl_seconds=TOKEN_SECONDS)
        return {"Authorization": f"Bearer {token}", "X-Account-ID": ACCOUNT}

    def next_key(self) -> Key:
        """A key that nobody has used yet."""
        if not self._keys:
            self._keys.extend(self._mint(BATCH))
        return self._keys.popleft()

    def _mint(self, count: int) -> Iterator[Key]:
        issuer = assembly.local_issuer(settings.load(self.environ("unix:///nowhere", self.database_url, 1.0)))
        with opened(self.foundation()) as parts, parts.sessions.writing(ACCOUNT) as session:
            for _ in range(count):
                issued = issuer.issue(TokenKind.API_KEY, ACCOUNT)
                row = api_keys.issue(session, "hammered", issued, None, BENCH)
                yield Key(str(row.id), issued.text)


@contextmanager
def opened(parts: Foundation) -> Iterator[Foundation]:
    """`parts`, with its connections closed at the end."""
    try:
        yield parts
    finally:
        parts.registry.close()
        parts.directory.database.close()


@contextmanager
def laid() -> Iterator[Ground]:
    """A ground in a scratch folder, gone at the end. To be called from the main thread, like all embedded servers."""
    folder = Path(tempfile.mkdtemp(prefix="kataven-worlds-"))
    if os.geteuid() == 0:
        folder.chmod(0o711)  # so that the user who runs PostgreSQL for root can get to its data
    try:
        pepper = f"dev1:{base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()}"
        with EmbeddedPostgres(folder / "postgres", fsync=False) as postgres, DevIssuer(folder / "issuer") as issuer:
            ground = Ground(folder, postgres, issuer.url, pepper)
            _prepare(ground)
            yield ground
    finally:
        shutil.rmtree(folder)


def _prepare(ground: Ground) -> None:
    account_creation.prepare_system(ground.database_url)
    with opened(ground.foundation()) as parts:
        database = parts.directory.database
        account_creation.create(database, account_creation.NewAccount(ACCOUNT, "Acme", org_id(ACCOUNT)), actor="worlds")
        with database.writing() as session:
            limits.change(session, ACCOUNT, PLENTY)
