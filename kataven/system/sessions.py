"""Sessions on account databases by account name, for the verifier, background threads and operations.

A request handler already has its tenant and does not use this module.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from kataven.identity.verifier import AccountFacts as KnownAccount
from kataven.system.directory import Directory
from kataven.tenancy.directory import Tenant
from kataven.tenancy.errors import NoTenant
from kataven.tenancy.serving.registry import EngineRegistry
from kataven.tenancy.serving.rows import RowQuery, Rows
from kataven.tenancy.serving.session import TenantSession


class AccountSessions:
    """Opens sessions through the engine registry."""

    def __init__(self, directory: Directory, registry: EngineRegistry) -> None:
        self._directory = directory
        self._registry = registry

    @contextmanager
    def reading(self, account: str) -> Iterator[TenantSession]:
        """Raises TenancyError or SystemDatabaseUnavailable."""
        with self._registry.reading(self._tenant(account)) as session:
            yield session

    @contextmanager
    def writing(self, account: str) -> Iterator[TenantSession]:
        """Raises TenancyError or SystemDatabaseUnavailable."""
        with self._registry.writing(self._tenant(account)) as session:
            yield session

    @contextmanager
    def recording_usage(self, account: str) -> Iterator[TenantSession]:
        """Raises TenancyError or SystemDatabaseUnavailable."""
        with self._registry.autocommit(self._tenant(account)) as session:
            yield session

    def rows_at(self, account: KnownAccount, query: RowQuery, values: Mapping[str, Any]) -> Rows:
        """The rows of `query` in the database of an account that was just looked up, without a session."""
        return self._registry.rows(_home(account), query, values)

    def recording_usage_at(self, account: KnownAccount) -> AbstractContextManager[TenantSession]:
        """Like the method without `_at`, for an account that was just looked up: saves a second lookup."""
        return self._registry.autocommit(_home(account))

    def _tenant(self, account: str) -> Tenant:
        record = self._directory.find(account)
        if record is None:
            raise NoTenant(f"account {account!r} does not exist")
        return record.tenant


def _home(account: KnownAccount) -> Tenant:
    if not isinstance(account.location, Tenant):
        raise NoTenant(f"the directory did not say where {account.name!r} is")
    return account.location
