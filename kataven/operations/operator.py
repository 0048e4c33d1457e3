"""The operator who carries out an operation, and the services that it uses."""

from __future__ import annotations

from dataclasses import dataclass

from kataven.account.audit import Actor
from kataven.system.database import SystemDatabase
from kataven.system.directory import AccountRecord
from kataven.system.errors import NoSuchAccount
from kataven.system.sessions import AccountSessions
from kataven.web.services import Services


@dataclass(frozen=True, slots=True)
class Operator:
    """`name` is the actor in the audit logs: `cli`, or the label of a signed-in user of the console."""

    name: str
    services: Services

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
