"""Where every account's schema is, and whether it is what its revision says: a read, from threads."""

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
    """One account's schema. `behind` counts the revisions to the head, None for one that is not known here.

    `drifted` is None where there is no template at that revision to compare with. `error` if it could not be read.
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
    """The state of each tenant, in their order. An account that can't be reached is a row like any other."""
    servers, known = EngineFactory(settings), _known_fingerprints(schema, tenants)
    states = []
    with ThreadPoolExecutor(jobs) as pool:
        for state in pool.map(lambda tenant: _look(schema, servers, known, tenant), tenants):
            progress(state)
            states.append(state)
    return states


def _known_fingerprints(schema: Schema, tenants: Sequence[Tenant]) -> Known:
    """What each server's templates say that a revision looks like. A server that is down says nothing."""
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


def _look(schema: Schema, servers: EngineFactory, known: Known, tenant: Tenant) -> AccountState:
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
