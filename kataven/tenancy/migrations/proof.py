"""Tests a migration on a copy before any account is changed.

The steps are applied to a copy of the smallest account without drift and without open connections. Afterwards, the copy
must have the fingerprint of a database that Alembic creates from scratch. If no account qualifies, the template of the
starting revision is copied instead, which tests the steps without data.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy.exc import OperationalError

from kataven.tenancy.directory import Tenant
from kataven.tenancy.errors import MigrationError, VerificationFailed
from kataven.tenancy.migrations.apply import Applier
from kataven.tenancy.migrations.report import Proof
from kataven.tenancy.migrations.steps import Step
from kataven.tenancy.schema import SchemaState
from kataven.tenancy.server import DatabaseServer, Maintenance
from kataven.tenancy.templates import Templates

_CANDIDATES = 20


def prove(
    server: DatabaseServer, templates: Templates, applier: Applier, tenants: Sequence[Tenant], steps: Sequence[Step]
) -> Proof:
    """Apply `steps` to a copy of one of `tenants`, which are all on `server` and at the revision where the steps start.

    Raises VerificationFailed if the copy's schema is wrong afterwards, MigrationError during another test of the same
    migration, or the errors of the steps.
    """
    started = time.monotonic()
    start, end = steps[0].start or "", steps[-1].revision
    with server.maintenance() as maintenance:
        before, after = (templates.fingerprint(maintenance, revision) for revision in (start, end))
        candidates = _candidates(maintenance, applier, tenants, SchemaState(start, before))
        with _copy(maintenance, templates, candidates, start) as (copy, subject):
            tenant = Tenant(copy, server.url_of(copy))
            with applier.connect(tenant) as connection:
                applier.apply(tenant, connection, steps)
                state = applier.schema.state(connection)
    if state != SchemaState(end, after):
        raise VerificationFailed(f"on a copy of {subject}, the steps to {end} produce another schema than Alembic")
    return Proof(start, end, subject, time.monotonic() - started, after)


def _candidates(
    maintenance: Maintenance, applier: Applier, tenants: Sequence[Tenant], undrifted: SchemaState
) -> Iterator[Tenant]:
    """Accounts that can be copied: no connections, no drift; small ones first."""
    by_database = {str(tenant.url.database): tenant for tenant in tenants[:_CANDIDATES]}
    for database in maintenance.copyable(list(by_database)):
        with applier.connect(by_database[database]) as connection:
            state = applier.schema.state(connection)
        if state == undrifted:
            yield by_database[database]


@contextmanager
def _copy(
    maintenance: Maintenance, templates: Templates, candidates: Iterator[Tenant], start: str
) -> Iterator[tuple[str, str]]:
    """A scratch copy and the name of its source. The copy is dropped at the end of the block."""
    copy = templates.names.scratch(f"proof from {templates.name_of(start)}")
    if not maintenance.try_lock(copy):
        raise MigrationError("another process is testing the same migration")
    maintenance.drop(copy)
    try:
        yield copy, _create_copy(maintenance, templates, candidates, start, copy)
    finally:
        maintenance.drop(copy)
        maintenance.unlock(copy)


def _create_copy(
    maintenance: Maintenance, templates: Templates, candidates: Iterator[Tenant], start: str, copy: str
) -> str:
    for tenant in candidates:
        try:
            maintenance.create(copy, str(tenant.url.database))
        except OperationalError:  # a client has connected to it in the meantime
            continue
        return tenant.account
    template = templates.ensure(maintenance, start)
    maintenance.create(copy, template)
    return template
