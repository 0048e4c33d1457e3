"""Bringing accounts' databases to this code's schema, and seeing where each one is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError

from kataven.system import accounts, operators
from kataven.system.database import SystemDatabase
from kataven.system.directory import record_of, record_query
from kataven.system.models import Account
from kataven.system.schema import ACCOUNT_SCHEMA
from kataven.tenancy.directory import Tenant
from kataven.tenancy.errors import TenancyError


@dataclass(frozen=True, slots=True)
class AccountState:
    """Where one account's schema is; `error` says why that can't be told."""

    account: str
    revision: str | None
    served: bool
    error: str | None = None


def tenants(database: SystemDatabase, account: str | None = None) -> list[Tenant]:
    """Every account that has a database, or the one that is named. Raises NoSuchAccount."""
    with database.reading() as session:
        if account is not None:
            accounts.read(session, account)
        query = record_query().where(Account.schema_revision.is_not(None)).order_by(Account.account_id)
        rows = session.execute(query if account is None else query.where(Account.account_id == account)).all()
    return [record_of(database.url, row).tenant for row in rows]


def status(tenant: Tenant) -> AccountState:
    """What the account's own database says."""
    engine = create_engine(tenant.url, hide_parameters=True)
    try:
        with engine.connect() as connection:
            revision = ACCOUNT_SCHEMA.revision_of(connection)
    except DBAPIError:
        return AccountState(tenant.account, None, False, "its database can't be reached")
    finally:
        engine.dispose()
    return AccountState(tenant.account, revision, ACCOUNT_SCHEMA.serves(revision))


def upgrade(database: SystemDatabase, chosen: list[Tenant], *, actor: str) -> Iterator[AccountState]:
    """Upgrade one account after the other; one that fails is reported and does not stop the others."""
    for tenant in chosen:
        yield _upgrade(database, tenant, actor)


def _upgrade(database: SystemDatabase, tenant: Tenant, actor: str) -> AccountState:
    before = status(tenant)
    if before.error is not None or before.revision == ACCOUNT_SCHEMA.head:
        return before
    engine = create_engine(tenant.url, hide_parameters=True)
    try:
        with engine.connect() as connection:
            ACCOUNT_SCHEMA.upgrade(connection)
    except (DBAPIError, TenancyError) as error:
        return AccountState(tenant.account, before.revision, before.served, f"{type(error).__name__}")
    finally:
        engine.dispose()
    after = status(tenant)
    with database.writing() as session:
        accounts.read(session, tenant.account, lock=True).schema_revision = after.revision
        operators.record(session, actor, "account.migrated", tenant.account, {"to": after.revision})
    return after
