"""Which roles a token grants in which organisation; invalid claims grant nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kataven.identity.grants import (
    DEFAULT_ROLE_CLAIMS,
    RoleGap,
    is_operator,
    organisations,
    role_claims_for,
    role_gap,
    roles_for,
    strongest_role,
)
from kataven.identity.principal import Role

CLAIM = DEFAULT_ROLE_CLAIMS[0]
PROJECT_CLAIM = "urn:zitadel:iam:org:project:4711:roles"


def roles(**granted: object) -> dict[str, object]:
    return {CLAIM: granted}


def test_role_applies_only_in_its_own_organisation() -> None:
    claims = roles(owner={"org-acme": "acme.example"}, member={"org-globex": "globex.example"})
    assert roles_for(claims, "org-acme") == {Role.OWNER}
    assert roles_for(claims, "org-globex") == {Role.MEMBER}
    assert roles_for(claims, "org-other") == frozenset()
    assert organisations(claims) == {"org-acme", "org-globex"}


@pytest.mark.parametrize(
    ("held", "strongest"),
    [
        (["owner", "admin", "member"], Role.OWNER),
        (["member", "admin"], Role.ADMIN),
        (["member"], Role.MEMBER),
        (["operator", "member"], Role.MEMBER),
        (["operator"], None),
        (["superuser"], None),
        ([], None),
    ],
)
def test_strongest_role_is_owner_before_admin_before_member(held: list[str], strongest: Role | None) -> None:
    claims = roles(**{role: {"org-acme": "acme.example"} for role in held})
    assert strongest_role(claims, "org-acme") is strongest


def test_operator_role_applies_only_in_the_operators_organisation() -> None:
    claims = roles(operator={"org-kataven-admin": "kataven.example"})
    assert is_operator(claims, "org-kataven-admin")
    assert not is_operator(claims, "org-acme")
    assert strongest_role(claims, "org-kataven-admin") is None


def test_operator_role_in_a_customers_organisation_grants_no_console_access() -> None:
    claims = roles(operator={"org-acme": "acme.example"}, owner={"org-kataven-admin": "x"})
    assert not is_operator(claims, "org-kataven-admin")


@pytest.mark.parametrize(
    "org_id", ["ORG-ACME", "org-acme ", " org-acme", "org-acm", "org-acme\x00", "org-ácme", "*", "%"]
)
def test_organisations_are_compared_exactly(org_id: str) -> None:
    claims = roles(owner={"org-acme": "acme.example"})
    assert roles_for(claims, org_id) == frozenset()
    assert roles_for(roles(owner={org_id: "acme.example"}), "org-acme") == frozenset()


@pytest.mark.parametrize("role", ["Owner", "OWNER", "owner ", "ownér", "own", ""])
def test_roles_are_compared_exactly(role: str) -> None:
    assert roles_for(roles(**{role: {"org-acme": "acme.example"}}), "org-acme") == frozenset()


def test_account_without_an_organisation_grants_no_role() -> None:
    claims = roles(owner={"": "nowhere.example"})
    assert roles_for(claims, "") == frozenset()
    assert organisations(claims) == frozenset()


def test_claim_of_a_project_applies_only_if_configured() -> None:
    claims = {PROJECT_CLAIM: {"owner": {"org-acme": "acme.example"}}, **roles(member={"org-acme": "acme.example"})}
    assert strongest_role(claims, "org-acme") is Role.MEMBER
    assert strongest_role(claims, "org-acme", [PROJECT_CLAIM]) is Role.OWNER
    assert roles_for(claims, "org-acme", [CLAIM, PROJECT_CLAIM]) == {Role.OWNER, Role.MEMBER}


ODD: list[object] = [
    None,
    True,
    1,
    "owner",
    ["owner"],
    [{"owner": {"org-acme": "acme.example"}}],
    {"owner": "org-acme"},
    {"owner": ["org-acme"]},
    {"owner": None},
    {"owner": True},
    {"owner": {"org-acme": None}},
    {"owner": {"org-acme": True}},
    {"owner": {"org-acme": {"acme.example": 1}}},
    {"owner": {"org-acme": ["acme.example"]}},
    {"org-acme": {"owner": "acme.example"}},
    {"org-acme": "owner"},
]


@pytest.mark.parametrize("odd", ODD, ids=str)
def test_claim_of_another_form_grants_nothing(odd: object) -> None:
    assert roles_for({CLAIM: odd}, "org-acme") == frozenset()
    assert strongest_role({CLAIM: odd}, "org-acme") is None


def test_invalid_part_of_a_claim_does_not_affect_the_rest() -> None:
    claims = roles(
        owner=["org-acme"], admin={"org-acme": None, "org-globex": "globex.example"}, member={"org-acme": "a"}
    )
    assert roles_for(claims, "org-acme") == {Role.MEMBER}
    assert roles_for(claims, "org-globex") == {Role.ADMIN}


WORDS = st.sampled_from(["owner", "admin", "member", "operator", "org-acme", "org-globex", ""]) | st.text(max_size=5)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
)


@given(claim=ANYTHING)
def test_no_claim_raises_and_each_role_comes_from_the_claim(claim: object) -> None:
    granted = roles_for({CLAIM: claim}, "org-acme")
    for role in granted:
        assert isinstance(claim, dict)
        assert isinstance(claim[role.value]["org-acme"], str)


def test_the_claim_with_the_project_id_grants_the_same_roles() -> None:
    """Tokens of service users contain only this claim, because they belong to no project."""
    claims = {PROJECT_CLAIM: {"member": {"org-acme": "acme.example"}}}
    assert strongest_role(claims, "org-acme", role_claims_for("4711")) is Role.MEMBER
    assert strongest_role(claims, "org-acme", role_claims_for("4712")) is None
    both = {**claims, **roles(owner={"org-acme": "acme.example"})}
    assert strongest_role(both, "org-acme", role_claims_for("4711")) is Role.OWNER


@pytest.mark.parametrize(
    ("claims", "gap"),
    [
        ({}, RoleGap.NO_CLAIM),
        ({"roles": {"owner": {"1": "acme.example"}}}, RoleGap.NO_CLAIM),
        ({DEFAULT_ROLE_CLAIMS[0]: ["owner"]}, RoleGap.NOT_READABLE),
        ({DEFAULT_ROLE_CLAIMS[0]: {"viewer": {"1": "acme.example"}}}, RoleGap.NOT_READABLE),
        ({DEFAULT_ROLE_CLAIMS[0]: {"owner": {"2": "globex.example"}}}, RoleGap.ELSEWHERE),
    ],
    ids=str,
)
def test_a_token_without_a_role_is_explained(claims: dict[str, object], gap: RoleGap) -> None:
    assert strongest_role(claims, "1") is None
    assert role_gap(claims) is gap
