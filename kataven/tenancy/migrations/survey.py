"""Reads the revision of every account, and whether its schema has drifted from that revision. Uses threads."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sqlalchemy import NullPool
from sqlalchemy.exc import DBAPIError

from kataven.tenancy.dialect import EngineFactory, server_key
from kataven.tenancy.directory import Tenant
from kataven.tenancy.error_classification import in_words
from kataven.tenancy.pg_connection import ConnectionSettings
from kataven.tenancy.schema import Schema
from kataven.tenancy.server import DatabaseServer
from kataven.tenancy.templates import Templates

Known = dict[tuple[object, str], str]


@dataclass(frozen=True, slots=True)
class AccountState:
    """One account's schema. `behind` is the number of revisions to the head; None for an unknown revision.

    `drifted` is None if no template at that revision exists. `error` is set if the database could not be read.
    """

    account: str
    revision: str | None = None
    served: bool = False
    behind: int | None = None
    drifted: bool | None = None
    error: str = ""


def survey(
    schema: Schema,
    tenants: Sequence[Tenant],
    settings: ConnectionSettings,
    jobs: int = 8,
    progress: Callable[[AccountState], None] = lambda _: None,
) -> list[AccountState]:
    """The state of each tenant, in their order. An unavailable account is included, with its error."""
    servers, known = EngineFactory(settings), _known_fingerprints(schema, tenants)
    states = []
    with ThreadPoolExecutor(jobs) as pool:
        for state in pool.map(lambda tenant: _read_state(schema, servers, known, tenant), tenants):
            progress(state)
            states.append(state)
    return states


def _known_fingerprints(schema: Schema, tenants: Sequence[Tenant]) -> Known:
    """The fingerprints of each server's templates. Unavailable servers are left out."""
    known: Known = {}
    for key, url in {server_key(tenant.url): tenant.url for tenant in tenants}.items():
        server = DatabaseServer(url)
        templates = Templates(server, schema)
        try:
            with server.maintenance() as maintenance:
                for revision in schema.revisions:
                    fingerprint = templates.known_fingerprint(maintenance, revision)
                    if fingerprint is not None:
                        known[key, revision] = fingerprint
        except DBAPIError:
            continue
    return known


def _read_state(schema: Schema, servers: EngineFactory, known: Known, tenant: Tenant) -> AccountState:
    try:
        with servers.create_engine(tenant.url, poolclass=NullPool).connect() as connection:
            revision, fingerprint = schema.state(connection)
    except DBAPIError as error:
        return AccountState(tenant.account, error=in_words(error))
    behind = None
    if revision in schema.revisions:
        behind = len(schema.path(revision))
    expected = known.get((server_key(tenant.url), revision or ""))
    drifted = None if expected is None else expected != fingerprint
    return AccountState(tenant.account, revision, schema.serves(revision), behind, drifted)
