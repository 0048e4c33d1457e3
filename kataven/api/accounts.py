"""`/api/accounts`: finds accounts to sign in to. Public, and limited to accounts that are discoverable."""

from __future__ import annotations

from typing import Annotated, Any

from flask import Response, request
from pydantic import Field

from kataven.identity.token import ACCOUNT_PATTERN
from kataven.system import accounts
from kataven.tenancy.errors import InvalidAccountName
from kataven.tenancy.names import check_account_name
from kataven.validation import Shaped
from kataven.web.access import PUBLIC_BY_ADDRESS
from kataven.web.operation import ApiBlueprint, Audience, ResponseSpec
from kataven.web.paging import DEFAULT_LIMIT, INVALID_CURSOR, MAX_LIMIT, link_to_next
from kataven.web.request_context import RequestContext
from kataven.web.schema import Query, View, write_json

blueprint = ApiBlueprint(
    "accounts", __name__, "account", "Find the account to sign in to. Requires no credential.", Audience.OPERATORS
)


class AccountsQuery(Query):
    """Query parameters to find accounts."""

    q: Annotated[str, Shaped(r"^[a-z0-9_-]*$", "must be the start of an account name: a-z, 0-9, - and _", 63)] = Field(
        default="", description="Prefix of the account name."
    )
    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT)] = Field(
        default=DEFAULT_LIMIT, description="The maximum number of items per page."
    )
    cursor: Annotated[str, Shaped(f"^{ACCOUNT_PATTERN}$", INVALID_CURSOR)] | None = Field(
        default=None, description="The value of `X-Next-Cursor` of the previous page: the last account on it."
    )


class AccountView(View):
    """A discoverable account."""

    account: str
    name: str


class AccountValidityView(View):
    """Whether users can sign in to this account. If not, `reason` states why."""

    account: str
    valid: bool
    reason: str | None = None


@blueprint.operation(
    "GET",
    "/api/accounts",
    access=PUBLIC_BY_ADDRESS,
    summary="Find accounts",
    response=ResponseSpec(200, "Discoverable active accounts, by name.", list[AccountView]),
    query=AccountsQuery,
)
def list_accounts(context: RequestContext, query: AccountsQuery) -> Response:
    """Accounts that are not discoverable are not listed. Their users can still sign in."""
    with context.services.directory.database.reading() as session:
        found = accounts.discoverable(session, query.q, query.limit + 1, query.cursor)
    page_rows = found[: query.limit]
    response = write_json([{"account": account.account_id, "name": account.account_name} for account in page_rows])
    if len(found) > query.limit:
        link_to_next(response, {**request.args.to_dict(), "cursor": page_rows[-1].account_id})
    return response


@blueprint.operation(
    "GET",
    "/api/accounts/validate/<string:account>",
    access=PUBLIC_BY_ADDRESS,
    summary="Validate an account name",
    response=ResponseSpec(200, "Whether the name belongs to an active account.", AccountValidityView),
)
def validate_account(context: RequestContext, account: str) -> Response:
    """Returns `valid: false` and the reason if the name is malformed or no active account has it."""
    return write_json({"account": account, **_validity(context, account)})


def _validity(context: RequestContext, account: str) -> dict[str, Any]:
    try:
        check_account_name(account)
    except InvalidAccountName as error:
        return {"valid": False, "reason": error.reason}
    record = context.services.directory.find(account)
    if record is None or not record.open:
        return {"valid": False, "reason": "no active account has this name"}
    return {"valid": True}
