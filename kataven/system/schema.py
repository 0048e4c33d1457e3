"""The schema of the system database, and the schema of the accounts' databases."""

from __future__ import annotations

from sqlalchemy import make_url
from sqlalchemy.orm import Session

from kataven.tenancy.schema import Schema
from kataven.tenancy.server import DatabaseServer

OLDEST_SYSTEM_SERVED = "system_0005"
"""The oldest revision of the system database that this release serves. `system_0006` is needed only for migration runs,
`system_0007` only for the journal, `system_0008` only for servers behind a connection pooler, `system_0009` only for
cutoffs and blocks of users and for the rotation policy of accounts, `system_0010` only for the history of revocation
times, `system_0011` only for the e-mail domains of accounts, and `system_0012` only for temporary raises of limits and
for the history of refused and failed requests. So the release can be deployed before the database is upgraded."""

SYSTEM_SCHEMA = Schema("system", "kataven.system.models:SystemBase.metadata", oldest=OLDEST_SYSTEM_SERVED)

OLDEST_SERVED = "account_0001"
"""The oldest revision of an account's database that this release serves; the window reaches to the newest.

Requests for an account outside the window return 503 `schema_mismatch`. A release that needs a new revision sets this
constant to it. The release before only adds the revision, so that accounts can be migrated while both releases run.
tests/hub/test_served_revisions.py tests the API, the Hub and the commands at each revision of the window.
"""

ACCOUNT_SCHEMA = Schema("account", "kataven.account.models:AccountBase.metadata", oldest=OLDEST_SERVED)


def upgrade_system(url: str) -> str:
    """Create the system database if it is missing, and upgrade it to the newest revision, which is returned."""
    from kataven.tenancy.migrations.fleet import MIGRATION_SETTINGS  # workers don't migrate

    target = make_url(url)
    assert target.database is not None  # noqa: S101  settings refuse a URL without one
    with DatabaseServer(target).maintenance() as maintenance:
        maintenance.lock(f"system {target.database}")
        if not maintenance.exists(target.database):
            maintenance.create(target.database, "template0")
        with DatabaseServer(target, MIGRATION_SETTINGS).connect(target.database) as connection:
            SYSTEM_SCHEMA.upgrade(connection)
    return SYSTEM_SCHEMA.head


def system_has(session: Session, needed: str) -> bool:
    """Whether the system database is at `needed` or a later revision that this release serves."""
    revision, known = system_revision(session), SYSTEM_SCHEMA.revisions
    return SYSTEM_SCHEMA.serves(revision) and revision in known[known.index(needed) :]


def system_revision(session: Session) -> str | None:
    """The current revision of the system database; None before its first migration."""
    return SYSTEM_SCHEMA.revision_of(session.connection())
