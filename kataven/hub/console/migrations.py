"""The schema revision of each account, and migration runs with their progress."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from http import HTTPStatus
from typing import Annotated
from urllib.parse import urlencode
from uuid import UUID

from flask import request
from pydantic import Field, StringConstraints
from werkzeug.wrappers import Response as AnyResponse

from kataven.hub.console.lists import account_page, list_query, page_links, searched, server_states
from kataven.hub.page_blueprint import OPERATORS, HubRequest, PageBlueprint, read_form, render, see_other
from kataven.hub.server_watch import ServerState
from kataven.hub.session_middleware import hub_services, save_session
from kataven.operations import account_migrations, migration_runs
from kataven.operations.migration_runs import RunRequest
from kataven.system import accounts, servers
from kataven.system.errors import SystemRefusal
from kataven.system.models import Account
from kataven.system.schema import ACCOUNT_SCHEMA
from kataven.tenancy.migrations.survey import AccountState
from kataven.tenancy.pg_connection import ConnectionSettings
from kataven.web.schema import Input

blueprint = PageBlueprint("console-migrations", __name__, "page")

PAGE = "/console/migrations"
PAGE_SIZE = 25
STATUS_JOBS = 8
PROBE_SETTINGS = ConnectionSettings(
    application_name="kataven console", connect_timeout_seconds=2, statement_timeout_seconds=5.0
)
NEVER_STARTED = "The migration process exited before it started the run. See the Hub's log."


class UpgradeForm(Input):
    """The accounts to migrate, and the limits of the run."""

    account: Annotated[str, StringConstraints(max_length=63)] = ""
    jobs: Annotated[int, Field(ge=1, le=64)] = 8
    canaries: Annotated[int, Field(ge=0, le=1_000)] = 1
    max_failures: Annotated[int, Field(ge=1, le=1_000)] = 5


@blueprint.page(PAGE, OPERATORS)
def show_migrations(hub_request: HubRequest) -> AnyResponse:
    return _page(hub_request)


@blueprint.page(f"{PAGE}/run", OPERATORS)
def show_run(hub_request: HubRequest) -> AnyResponse:
    """The progress of the latest run: a fragment that the open page polls."""
    with hub_request.services.directory.database.reading() as session:
        return render("console/run.html", run_status=migration_runs.latest(session))


def _refill(hub_request: HubRequest, submitted: Mapping[str, str]) -> AnyResponse:
    return _page(hub_request, submitted)


@blueprint.form(PAGE, OPERATORS, _refill)
def upgrade(hub_request: HubRequest) -> AnyResponse:
    form, problems = read_form(UpgradeForm, account=request.form.get("account", "").strip())
    if form is None:
        return _page(hub_request, request.form, problems)
    if request.form.get("confirm", "").strip() != ACCOUNT_SCHEMA.head:
        return _page(hub_request, request.form, {"confirm": f"Enter {ACCOUNT_SCHEMA.head} to confirm the upgrade"})
    chosen = (form.account,) if form.account else ()
    try:
        _start_run(hub_request, RunRequest(chosen, form.jobs, form.canaries, form.max_failures))
    except SystemRefusal as error:
        return _page(hub_request, request.form, {"account": str(error)})
    save_session(
        hub_request, hub_request.session.with_(notice="Migration run requested. It continues if you leave this page.")
    )
    return see_other(PAGE)


def _start_run(hub_request: HubRequest, choice: RunRequest) -> UUID:
    """Raises the errors of `migration_runs.request`."""
    database = hub_request.services.directory.database
    run_id = migration_runs.request(database, hub_request.operator_label, choice)
    on_exit = partial(migration_runs.cancel, database, run_id, NEVER_STARTED)
    try:
        hub_services().runner.start(run_id, on_exit)
    except OSError:
        on_exit()
    return run_id


def _page(
    hub_request: HubRequest, submitted: Mapping[str, str] | None = None, problems: Mapping[str, str] | None = None
) -> AnyResponse:
    search, checked = searched(), "check" in request.args
    with hub_request.services.directory.database.reading() as session:
        page = account_page(session, search, None, PAGE_SIZE)
        registered = [server for server, _ in servers.listing(session)]
        revisions = accounts.count_by_revision(session)
        run_status = migration_runs.latest(session)
    query = {name: value for name, value in list_query().items() if name != "check"}
    return render(
        "console/migrations.html",
        HTTPStatus.BAD_REQUEST if problems else HTTPStatus.OK,
        rows=page.rows,
        states=_states(hub_request, page.rows, server_states(hub_request, registered)) if checked else {},
        checked=checked,
        check=f"{PAGE}?{urlencode({**request.args.to_dict(), 'check': '1'})}",
        links=page_links(PAGE, query, page),
        searched=search.submitted,
        revisions=revisions,
        run_status=run_status,
        behind=_behind,
        served=ACCOUNT_SCHEMA.window,
        head=ACCOUNT_SCHEMA.head,
        submitted=submitted or {},
        problems=problems or {},
    )


def _states(
    hub_request: HubRequest, shown: Sequence[Account], server_states: Mapping[str, ServerState]
) -> dict[str, AccountState]:
    """The revisions in the databases themselves, as in `flask migrations status`, on responding servers only.

    Querying a database on an unresponsive server would block the page until a timeout.
    """
    database = hub_request.services.directory.database
    names = [account.account_id for account in shown if server_states[account.server].responds]
    states = {
        account.account_id: _not_queried(account, server_states[account.server])
        for account in shown
        if not server_states[account.server].responds
    }
    if names:
        chosen = account_migrations.tenants(database, names)
        states |= {
            state.account: state for state in account_migrations.status(database, chosen, STATUS_JOBS, PROBE_SETTINGS)
        }
    return states


def _not_queried(account: Account, server: ServerState) -> AccountState:
    unavailable = server.responds is False
    status = "is not responding" if unavailable else "has not responded yet. Try again in a moment."
    return AccountState(account.account_id, error=f"Server {account.server} {status}")


def _behind(revision: str | None) -> int | None:
    """The number of revisions to the newest one, or None if this release doesn't know the revision."""
    return len(ACCOUNT_SCHEMA.path(revision)) if revision in ACCOUNT_SCHEMA.revisions else None
