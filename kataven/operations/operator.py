"""The operator who carries out an operation, and the services that it uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from kataven.account.audit import Actor
from kataven.identity.issuer import Issuer
from kataven.identity.scopes import KnownScopes
from kataven.revocation.revocation import Revocation
from kataven.system.database import SystemDatabase
from kataven.system.directory import AccountRecord, Directory
from kataven.system.errors import NoSuchAccount
from kataven.system.sessions import AccountSessions
from kataven.tenancy.serving.registry import EngineRegistry

if TYPE_CHECKING:  # a command that needs neither must not import Flask and gRPC
    from kataven.authservice.client import AuthServiceChannel
    from kataven.ratelimit.limiter import Limiter
    from kataven.web.internal_access import InternalAccess
    from kataven.web.metrics import Metrics


class OperatorServices(Protocol):
    """The services that operations use. `web.services.Services` has them, and so do the commands."""

    @property
    def directory(self) -> Directory: ...

    @property
    def registry(self) -> EngineRegistry: ...

    @property
    def revocation(self) -> Revocation: ...

    @property
    def issuer(self) -> Issuer: ...

    @property
    def scopes(self) -> KnownScopes: ...

    @property
    def auth_service(self) -> AuthServiceChannel | None: ...

    @property
    def limiter(self) -> Limiter: ...

    @property
    def metrics(self) -> Metrics: ...

    @property
    def internal_access(self) -> InternalAccess: ...


@dataclass(frozen=True, slots=True)
class Operator:
    """`name` is the actor in the audit logs: `cli`, or the label of a signed-in user of the console."""

    name: str
    services: OperatorServices

    @property
    def system(self) -> SystemDatabase:
        return self.services.directory.database

    @property
    def sessions(self) -> AccountSessions:
        """Sessions on accounts' databases."""
        return AccountSessions(self.services.directory, self.services.registry)

    @property
    def actor(self) -> Actor:
        """The actor in an account's own audit log."""
        return Actor(f"operator:{self.name}", self.name)

    def read_account(self, account: str) -> AccountRecord:
        """Read the account's current record, bypassing the cache. Raises NoSuchAccount or SystemDatabaseUnavailable."""
        record = self.services.directory.read(account)
        if record is None:
            raise NoSuchAccount(account)
        return record
