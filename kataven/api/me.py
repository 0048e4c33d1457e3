"""`/v1/me`: who am I, and how much is left to me?"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from flask import Response

from kataven.identity.principal import CredentialKind, Role
from kataven.web.access import READ
from kataven.web.operation import Answer, ApiBlueprint
from kataven.web.request_context import RequestContext
from kataven.web.schema import View, write_json

blueprint = ApiBlueprint("me", __name__, "principal", "The caller.")


class CredentialView(View):
    """What the caller showed."""

    kind: CredentialKind
    id: str
    name: str
    expires_at: datetime | None


class LimitView(View):
    """One limit and what is left of it now, this request counted."""

    limit: int
    remaining: int


class LimitsView(View):
    """The limits that apply to this caller: the lower of the account's and the key's."""

    per_minute: LimitView
    per_hour: LimitView
    per_day: LimitView
    concurrent: LimitView


class MeView(View):
    """Who is calling."""

    account: str
    account_name: str
    credential: CredentialView
    role: Role | None
    limits: LimitsView


@blueprint.operation("GET", "/v1/me", access=READ, summary="Who am I", answer=Answer(200, "The caller.", MeView))
def read_me(context: RequestContext) -> Response:
    """The account, the credential, its role (null for an API key), and the limits with what is left of them."""
    principal = context.principal
    expires_at = None if principal.expires_at is None else datetime.fromtimestamp(principal.expires_at, UTC)
    return write_json(
        {
            "account": principal.account,
            "account_name": context.account.name,
            "credential": {
                "kind": principal.kind,
                "id": principal.id,
                "name": principal.name,
                "expires_at": expires_at,
            },
            "role": principal.role,
            "limits": _limits(context),
        }
    )


def _limits(context: RequestContext) -> dict[str, Any]:
    """For each limit the quota that has least left: the account's, or the key's own."""
    limits: dict[str, Any] = {}
    for quota_status in context.quota_statuses:
        name = quota_status.quota.name.removeprefix("key-").replace("-", "_")
        shown = {"limit": quota_status.quota.limit, "remaining": quota_status.remaining}
        if name not in limits or shown["remaining"] < limits[name]["remaining"]:
            limits[name] = shown
    return limits
