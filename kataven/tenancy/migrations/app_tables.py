"""Tables of an application in the databases of accounts, beside the tables that another application manages.

The tables are in a PostgreSQL schema with the application's name, and have their own revisions, recorded in that
schema. So they don't count as drift of the other tables, and both are migrated independently. Dumps contain both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from kataven.tenancy.directory import Tenant
from kataven.tenancy.error_classification import in_words
from kataven.tenancy.migrations.fleet import MIGRATION_SETTINGS
from kataven.tenancy.schema import Schema
from kataven.tenancy.server import DatabaseServer

_NAME = re.compile(r"(?!pg_)[a-z][a-z0-9_]{0,62}")
_TAKEN = frozenset({"public", "information_schema", "tenancy_canary"})


@dataclass(frozen=True, slots=True)
class UpgradedAccount:
    """The result for one account: the revision of its tables, or the reason why they were not upgraded."""

    account: str
    revision: str | None
    error: str | None = None


@dataclass(frozen=True)
class AppTables:
    """The tables of one application.

    `name` is the PostgreSQL schema: the models declare it (`MetaData(schema="notes")`), and so do the revisions in
    `versions`. `metadata` locates the models, as `"package.module:Base.metadata"`. Raises ValueError for an invalid
    name.
    """

    name: str
    versions: Path
    metadata: str

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or self.name in _TAKEN:
            raise ValueError(
                f"{self.name!r} can't be the schema of an application: use lower-case letters, digits and '_', "
                "starting with a letter, and not 'public'"
            )

    @property
    def schema(self) -> Schema:
        """The revisions."""
        return Schema(self.name, self.metadata, versions=self.versions)

    def upgrade(self, tenant: Tenant) -> str:
        """Create or upgrade the tables of one account. Returns their revision. A concurrent call waits.

        Raises the errors of the revisions. Each revision is applied completely or not at all.
        """
        schema, url = self.schema, tenant.past_pooler().url
        with DatabaseServer(url, MIGRATION_SETTINGS).connect(str(url.database)) as connection:
            connection.execute(
                text("SELECT pg_advisory_lock(hashtextextended(:name, 0))"), {"name": f"app {self.name}"}
            )
            # The name is checked above, so it can't end the quotes.
            connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{self.name}"'))
            connection.execute(text(f'SET search_path TO "{self.name}"'))  # the revision is recorded in this schema
            connection.commit()  # each statement has committed itself; this ends SQLAlchemy's own transaction
            schema.upgrade(connection)
        return schema.head

    def upgrade_all(self, tenants: Iterable[Tenant]) -> Iterator[UpgradedAccount]:
        """Upgrade each account. One that can't be reached does not keep the others from being upgraded."""
        for tenant in tenants:
            try:
                yield UpgradedAccount(tenant.account, self.upgrade(tenant))
            except DBAPIError as error:
                yield UpgradedAccount(tenant.account, None, in_words(error))
