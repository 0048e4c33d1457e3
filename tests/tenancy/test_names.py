"""Valid, invalid and reserved account names, and their error messages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kataven.tenancy.errors import InvalidAccountName, ReservedAccountName, TenancyError
from kataven.tenancy.names import DatabaseNames, check_account_name, check_new_account_name, quoted


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


def test_an_application_chooses_its_prefix_and_its_reserved_names() -> None:
    names = DatabaseNames("shop", frozenset({"shop-staff"}))
    assert names.template("R-1") == "shop_template_r_1"
    assert names.scratch("a").startswith("shop_scratch_")
    for name in ("shop-staff", "shop_template_1", "shop_scratch_1", "postgres", "pg_x"):
        with pytest.raises(ReservedAccountName):
            names.check_new(name)
    for name in ("kataven-admin", "kataven_system", "kataven_template_1"):
        assert names.check_new(name) == name


@pytest.mark.parametrize("prefix", ["", "1shop", "Shop", "pg_shop", "a" * 21, 'a"b'])
def test_an_invalid_prefix_is_rejected(prefix: str) -> None:
    with pytest.raises(ValueError, match=r"the prefix .* must have 1 to 20"):
        DatabaseNames(prefix)


def test_an_invalid_name_is_no_error_of_the_database() -> None:
    # A handler that returns 503 for every TenancyError must not do so for a name that the caller has to change.
    assert not issubclass(InvalidAccountName, TenancyError)
    assert issubclass(InvalidAccountName, ValueError)
