"""Reads the roles that a verified token grants from Zitadel's roles claim: `{role: {org_id: primary_domain}}`.

An account belongs to one Zitadel organisation; a role in that organisation is a role in the account. Parts of the claim
that do not have this form grant nothing and raise nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any

from kataven.identity.principal import Role

DEFAULT_ROLE_CLAIMS: Sequence[str] = ("urn:zitadel:iam:org:project:roles",)
"""The claim with the roles in the project of the client that the token was issued to. See also `role_claims_for`."""

_STRONGEST_FIRST = (Role.OWNER, Role.ADMIN, Role.MEMBER)


def role_claims_for(project_id: str) -> tuple[str, ...]:
    """The claims that can contain roles in the project with this id. In Zitadel, the id is the API's audience.

    Tokens of service users have only the claim with the id, because a service user belongs to no project.
    """
    return (*DEFAULT_ROLE_CLAIMS, f"urn:zitadel:iam:org:project:{project_id}:roles")


def roles_for(
    claims: Mapping[str, Any], org_id: str, role_claims: Sequence[str] = DEFAULT_ROLE_CLAIMS
) -> frozenset[Role]:
    """The known roles that the token grants in the organisation `org_id`; none if `org_id` is empty."""
    return frozenset(role for role, org in _grants(claims, role_claims) if org_id and org == org_id)


def strongest_role(
    claims: Mapping[str, Any], org_id: str, role_claims: Sequence[str] = DEFAULT_ROLE_CLAIMS
) -> Role | None:
    """The strongest role in a customer's account: owner before admin before member. None means no access.

    The operator role grants nothing there. It applies only in the operators' organisation, see `is_operator`.
    """
    held = roles_for(claims, org_id, role_claims)
    return next((role for role in _STRONGEST_FIRST if role in held), None)


class RoleGap(StrEnum):
    """Why a valid token grants no role in an account."""

    NO_CLAIM = "no_role_claim"
    NOT_READABLE = "roles_not_readable"
    ELSEWHERE = "roles_elsewhere"


def role_gap(claims: Mapping[str, Any], role_claims: Sequence[str] = DEFAULT_ROLE_CLAIMS) -> RoleGap:
    """The reason why `strongest_role` or `is_operator` found no role in this token."""
    if not any(claim in claims for claim in role_claims):
        return RoleGap.NO_CLAIM
    return RoleGap.ELSEWHERE if organisations(claims, role_claims) else RoleGap.NOT_READABLE


def is_operator(
    claims: Mapping[str, Any], operators_org_id: str, role_claims: Sequence[str] = DEFAULT_ROLE_CLAIMS
) -> bool:
    """Whether the token grants the operator role in `operators_org_id`, the organisation of `kataven-admin`."""
    return Role.OPERATOR in roles_for(claims, operators_org_id, role_claims)


def organisations(claims: Mapping[str, Any], role_claims: Sequence[str] = DEFAULT_ROLE_CLAIMS) -> frozenset[str]:
    """The ids of all organisations in which the token grants a known role: the accounts that a user can sign in to."""
    return frozenset(org for _, org in _grants(claims, role_claims))


def _grants(claims: Mapping[str, Any], role_claims: Sequence[str]) -> Iterator[tuple[Role, str]]:
    for claim in role_claims:
        granted = claims.get(claim)
        if not isinstance(granted, dict):
            continue
        for role in Role:
            organisations = granted.get(role.value)
            if isinstance(organisations, dict):
                yield from ((role, org) for org, domain in organisations.items() if isinstance(domain, str) and org)
