"""The page that creates an account."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated

from flask import request
from pydantic import StringConstraints
from werkzeug.wrappers import Response as AnyResponse

from kataven.hub.formatting import pluralize
from kataven.hub.page_blueprint import OPERATORS, HubRequest, PageBlueprint, read_form, render, see_other
from kataven.hub.session_middleware import save_session
from kataven.operations import account_creation
from kataven.operations.operator import Operator
from kataven.system import servers
from kataven.system.errors import SystemRefusal
from kataven.tenancy.errors import InvalidAccountName, TenancyError
from kataven.validation import Shaped
from kataven.web.schema import Input, SingleLine

blueprint = PageBlueprint("console-new-account", __name__, "account")

PATH = "/console/new-account"
"""Not below `/console/accounts`, where each path is the name of an account."""


class NewAccountForm(Input):
    """The form that creates an account."""

    account: Annotated[str, StringConstraints(min_length=1, max_length=63)]
    name: Annotated[str, SingleLine(200)]
    org_id: Annotated[str, Shaped(r"^[!-~]*$", "must be an organisation ID without spaces", 200)] = ""
    server: Annotated[str, StringConstraints(max_length=63)] = ""
    discoverable: bool = False


@blueprint.page(PATH, OPERATORS)
def show_new_account(hub_request: HubRequest) -> AnyResponse:
    return _page(hub_request)


def _refill(hub_request: HubRequest, submitted: Mapping[str, str]) -> AnyResponse:
    return _page(hub_request, submitted)


@blueprint.form(PATH, OPERATORS, _refill)
def create_account(hub_request: HubRequest) -> AnyResponse:
    form, problems = read_form(NewAccountForm, discoverable="discoverable" in request.form)
    if form is None:
        return _page(hub_request, request.form, problems)
    new = account_creation.NewAccount(
        form.account, form.name, form.org_id or None, form.server or None, form.discoverable
    )
    try:
        account_creation.create_account(Operator(hub_request.operator_label, hub_request.services), new)
    except (SystemRefusal, TenancyError, InvalidAccountName) as error:
        return _page(hub_request, request.form, {"account": str(error)})
    save_session(hub_request, hub_request.session.with_(notice=f"Created account “{form.account}”."))
    return see_other(f"/console/accounts/{form.account}")


def _page(
    hub_request: HubRequest, submitted: Mapping[str, str] | None = None, problems: Mapping[str, str] | None = None
) -> AnyResponse:
    with hub_request.services.directory.database.reading() as session:
        registered = servers.listing(session)
    return render(
        "console/new_account.html",
        HTTPStatus.BAD_REQUEST if problems else HTTPStatus.OK,
        servers=[
            ("", "Least loaded"),
            *((s.name, f"{s.name} ({pluralize(n, 'account')})") for s, n in registered if not s.draining),
        ],
        submitted=submitted or {},
        problems=problems or {},
    )
