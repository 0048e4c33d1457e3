"""Valid, invalid and reserved account names, and their error messages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kataven.tenancy.errors import InvalidAccountName, ReservedAccountName
from kataven.tenancy.names import check_account_name, check_new_account_name, quoted


@pytest.mark.parametrize("name", ["a", "7", "acme", "a_b-c", "acme-", "a" * 63])
def test_valid_names_are_accepted(name: str) -> None:
    assert check_new_account_name(name) == name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "empty"),
        ("a" * 64, "can have at most 63"),
        ("Acme", "lower-case letters, digits"),
        ("acme corp", "lower-case letters, digits"),
        ("acme\n", "lower-case letters, digits"),
        ("acmé", "lower-case letters, digits"),
        ('a"; DROP DATABASE globex; --', "lower-case letters, digits"),
        ("-acme", "must start with"),
        ("_acme", "must start with"),
    ],
)
def test_an_invalid_name_is_rejected_with_a_reason(name: str, reason: str) -> None:
    with pytest.raises(InvalidAccountName, match=reason) as rejected:
        check_account_name(name)
    assert not isinstance(rejected.value, ReservedAccountName)


@pytest.mark.parametrize(
    "name",
    [
        "kataven-admin",
        "kataven_system",
        "postgres",
        "template0",
        "template1",
        "pg_catalog",
        "kataven_template_1",
        "kataven_scratch_1",
    ],
)
def test_a_reserved_name_is_rejected_only_at_creation(name: str) -> None:
    with pytest.raises(ReservedAccountName, match="reserved"):
        check_new_account_name(name)
    assert check_account_name(name) == name


def test_an_installation_can_reserve_further_names() -> None:
    assert check_new_account_name("hub") == "hub"
    with pytest.raises(ReservedAccountName):
        check_new_account_name("hub", also_reserved={"hub"})


@given(st.text())
def test_a_quoted_name_is_always_one_identifier(name: str) -> None:
    try:
        identifier = quoted(name)
    except InvalidAccountName:
        return
    assert identifier == f'"{name}"'
    assert not set(name) & set('"\\\0 ;')
