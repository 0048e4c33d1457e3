"""`/v1/me`: the caller's identity and remaining quotas."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from flask import Response
from pydantic import Field

from kataven.identity.principal import CredentialKind, Role
from kataven.ratelimit.policy import LIMIT_FIELDS
from kataven.web.access import ANY_CALLER
from kataven.web.operation import ApiBlueprint, ResponseSpec
from kataven.web.request_context import RequestContext
from kataven.web.schema import View, dump_json, with_fields, write_json

blueprint = ApiBlueprint("me", __name__, "principal", "The caller: identity, role and limits.")


class CredentialView(View):
    """The credential of the request."""

    kind: CredentialKind
    id: str
    name: str
    expires_at: datetime | None


class LimitView(View):
    """A limit and its remaining quota, after this request."""

    limit: int
    remaining: int


@with_fields((limit.field for limit in LIMIT_FIELDS), LimitView)
class LimitsView(View):
    """The limits of the caller: for each, the account's or the key's, whichever has less left."""


class MeView(View):
    """The caller: its account, credential, role and limits."""

    account: str
    account_name: str
    credential: CredentialView
    role: Role | None
    scopes: list[str] | None = Field(
        description="What the API key may do, including the scopes that others include. Null means full access, as for "
        "a JWT."
    )
    limits: LimitsView


@blueprint.operation(
    "GET", "/v1/me", access=ANY_CALLER, summary="Retrieve the caller", response=ResponseSpec(200, "The caller.", MeView)
)
def read_me(context: RequestContext) -> Response:
    """Returns the account, the credential, the role (null for an API key), the scopes (null for full access), and the
    limits with their remaining quota."""
    return write_json(_caller(context))


def describe(context: RequestContext, _environ: Mapping[str, Any]) -> tuple[bytes, list[tuple[str, str]]]:
    """The same body, without headers."""
    return dump_json(_caller(context)), []


def _caller(context: RequestContext) -> dict[str, Any]:
    principal = context.principal
    expires_at = None if principal.expires_at is None else datetime.fromtimestamp(principal.expires_at, UTC)
    return {
        "account": principal.account,
        "account_name": context.account.name,
        "credential": {"kind": principal.kind, "id": principal.id, "name": principal.name, "expires_at": expires_at},
        "role": principal.role,
        "scopes": None if principal.scopes is None else sorted(principal.scopes),
        "limits": _limits(context),
    }


def _limits(context: RequestContext) -> dict[str, Any]:
    """For each limit, the quota with the least remaining: the account's or the key's."""
    limits: dict[str, Any] = {}
    for quota_status in context.quota_statuses:
        name = quota_status.quota.name.removeprefix("key-").replace("-", "_")
        entry = {"limit": quota_status.quota.limit, "remaining": quota_status.remaining}
        if name not in limits or entry["remaining"] < limits[name]["remaining"]:
            limits[name] = entry
    return limits
