"""What a verified token grants, read from Zitadel's roles claim: `{role: {org_id: primary_domain}}`.

An account belongs to one Zitadel organisation; a role held there is a role in the account. Every part of the claim that
is not of that form grants nothing, and no form of it raises.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any

from kataven.identity.principal import Role

DEFAULT_ROLE_CLAIMS: Sequence[str] = ("urn:zitadel:iam:org:project:roles",)
"""The roles in the project of the client that the token was issued to. See also `role_claims_for`."""

_STRONGEST_FIRST = (Role.OWNER, Role.ADMIN, Role.MEMBER)


def role_claims_for(project_id: str) -> tuple[str, ...]:
    """The claims that can hold roles for the project with this id. At Zitadel the id is the API's audience.

    Tokens of service users have only the claim with the id, because a service user belongs to no project.
    """
    return (*DEFAULT_ROLE_CLAIMS, f"urn:zitadel:iam:org:project:{project_id}:roles")


def roles_for(
    claims: Mapping[str, Any], org_id: str, role_claims: Sequence[str] = DEFAULT_ROLE_CLAIMS
) -> frozenset[Role]:
    """The roles that we know, among those held in the organisation `org_id`; none in an organisation without an id."""
    return frozenset(role for role, org in _grants(claims, role_claims) if org_id and org == org_id)


def strongest_role(
    claims: Mapping[str, Any], org_id: str, role_claims: Sequence[str] = DEFAULT_ROLE_CLAIMS
) -> Role | None:
    """What the caller is in a customer's account: owner before admin before member. None means: not let in.

    An operator is nobody there. That role counts in the operators' own organisation alone, see `is_operator`.
    """
    held = roles_for(claims, org_id, role_claims)
    return next((role for role in _STRONGEST_FIRST if role in held), None)


class RoleGap(StrEnum):
    """Why a correct token gives its holder no role in an account."""

    NO_CLAIM = "no_role_claim"
    NOT_READABLE = "roles_not_readable"
    ELSEWHERE = "roles_elsewhere"


def role_gap(claims: Mapping[str, Any], role_claims: Sequence[str] = DEFAULT_ROLE_CLAIMS) -> RoleGap:
    """The reason, for a token of which `strongest_role` or `is_operator` found nothing."""
    if not any(claim in claims for claim in role_claims):
        return RoleGap.NO_CLAIM
    return RoleGap.ELSEWHERE if organisations(claims, role_claims) else RoleGap.NOT_READABLE


def is_operator(
    claims: Mapping[str, Any], operators_org_id: str, role_claims: Sequence[str] = DEFAULT_ROLE_CLAIMS
) -> bool:
    """Whether the caller is an operator in the organisation of `kataven-admin`, whose id the caller of this passes."""
    return Role.OPERATOR in roles_for(claims, operators_org_id, role_claims)


def organisations(claims: Mapping[str, Any], role_claims: Sequence[str] = DEFAULT_ROLE_CLAIMS) -> frozenset[str]:
    """The ids of all organisations in which the caller holds a role that we know: where a sign-in may lead."""
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
