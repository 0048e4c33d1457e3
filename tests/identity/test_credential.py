"""Parsing of the headers into a credential or the first error, without any I/O."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kataven.identity import errors, mistakes
from kataven.identity import token as tokens
from kataven.identity.credential import ApiKeyCredential, JwtCredential, parse_credential
from kataven.identity.token import TokenKind


def key(kind: TokenKind, account: str) -> str:
    """A well-formed key that is the same in every run, so that all pytest workers collect the same tests."""
    body = f"{kind}_live_{account}_{'0' * tokens.SECRET_LENGTH}"
    return body + tokens.checksum(body)


ACME_KEY = key(TokenKind.API_KEY, "acme")
ADMIN_KEY = key(TokenKind.API_KEY, "kataven-admin")
WIDGET_KEY = key(TokenKind.WIDGET_KEY, "acme")
JWT = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"


def test_an_api_key_contains_its_account() -> None:
    assert parse_credential(f"Bearer {ACME_KEY}", None) == ApiKeyCredential(ACME_KEY, "acme")


def test_an_api_key_may_repeat_its_account() -> None:
    assert parse_credential(f"Bearer {ACME_KEY}", "acme") == ApiKeyCredential(ACME_KEY, "acme")


def test_a_jwt_needs_an_account() -> None:
    assert parse_credential(f"Bearer {JWT}", "acme") == JwtCredential(JWT, "acme")


def test_the_scheme_is_case_insensitive() -> None:
    # RFC 9110, section 11.1
    assert parse_credential(f"bEARER {ACME_KEY}", None).account == "acme"


@pytest.mark.parametrize(
    ("authorization", "account", "refusal"),
    [
        (None, None, errors.MissingCredential),
        ("", None, errors.MissingCredential),
        (ACME_KEY, None, errors.MissingCredential),
        (f"Basic {ACME_KEY}", None, errors.MissingCredential),
        (f"Bearer\t{ACME_KEY}", None, errors.MissingCredential),
        ("Bearer", None, errors.MalformedToken),
        ("Bearer ", None, errors.MalformedToken),
        ("Bearer junk", None, errors.MalformedToken),
        (f"Bearer {ACME_KEY},Bearer {ACME_KEY}", None, errors.MalformedToken),
        (f"Bearer {ACME_KEY[:-1]}", None, errors.MalformedToken),
        (f"Bearer sk_live_Acme_{'0' * 49}", None, errors.MalformedToken),
        (f"Bearer sk_test_acme_{'0' * 49}", None, errors.MalformedToken),
        (f"Bearer {'x' * 8193}", None, errors.MalformedToken),
        (f"Bearer eyJ{'A' * 8200}.eyJ9.AA", "acme", errors.MalformedToken),
        ("Bearer \xff\xfe", None, errors.MalformedToken),
        ("Bearer eyJ\x00", None, errors.MalformedToken),
        ("Bearer eyJhbGciOiJub25lIn0", "acme", errors.MalformedToken),
        ("Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0", "acme", errors.MalformedToken),
        (f"Bearer {JWT}=", "acme", errors.MalformedToken),
        ("Bearer eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJlz", "acme", errors.MalformedToken),
        ("Bearer eyJhbGciOiJFUzI1NiJ9..c2lnbmF0dXJl", "acme", errors.MalformedToken),
        (f"Bearer {WIDGET_KEY}", None, errors.NotACredential),
        ("Bearer eyJ0.AAAA.AAAA", None, errors.MalformedToken),
        ("Bearer eyJ0.AAAA.AAAA", "Acme", errors.MalformedToken),
        ("Bearer eyJ0.AAAA.AAAA", "kataven-admin", errors.MalformedToken),
        (f"Bearer {JWT}", None, errors.MissingAccount),
        (f"Bearer {JWT}", "", errors.InvalidAccount),
        (f"Bearer {JWT}", "Acme", errors.InvalidAccount),
        (f"Bearer {JWT}", "acme,acme", errors.InvalidAccount),
        (f"Bearer {JWT}", "acme\n", errors.InvalidAccount),
        (f"Bearer {JWT}", "a" * 64, errors.InvalidAccount),
        (f"Bearer {JWT}", "../acme", errors.InvalidAccount),
        (f"Bearer {ACME_KEY}", "Acme", errors.InvalidAccount),
        (f"Bearer {JWT}", "kataven-admin", errors.ReservedAccount),
        (f"Bearer {ACME_KEY}", "kataven-admin", errors.ReservedAccount),
        (f"Bearer {ADMIN_KEY}", None, errors.ReservedAccount),
        (f"Bearer {ADMIN_KEY}", "acme", errors.ReservedAccount),
        (f"Bearer {ACME_KEY}", "globex", errors.AccountMismatch),
    ],
)
def test_the_refusal(authorization: str | None, account: str | None, refusal: type[errors.Refused]) -> None:
    with pytest.raises(refusal):
        parse_credential(authorization, account)


def test_no_refusal_repeats_the_token() -> None:
    sent = [f"Bearer {ACME_KEY[:-1]}", f"Bearer {WIDGET_KEY}", f"Bearer {ADMIN_KEY}"]
    for authorization, account in itertools.product(sent, [None, "kataven-admin", "Not-A-Name"]):
        with pytest.raises(errors.Refused) as refused:
            parse_credential(authorization, account)
        assert authorization.removeprefix("Bearer ") not in str(refused.value)
        assert "Not-A-Name" not in str(refused.value)


def test_the_repr_contains_no_token() -> None:
    for credential in (parse_credential(f"Bearer {ACME_KEY}", None), parse_credential(f"Bearer {JWT}", "acme")):
        assert credential.token not in repr(credential)


@pytest.mark.parametrize(
    ("authorization", "expected"),
    [
        (f"Bearer {ACME_KEY[:-5]}", "44 instead of 49 characters: it was cut off"),
        (f"Bearer {ACME_KEY}{ACME_KEY[-5:]}", "54 instead of 49 characters: it was pasted twice"),
        (f'Bearer "{ACME_KEY}"', "in quotes"),
        (f"Bearer '{ACME_KEY}", "in quotes"),
        (f"Bearer <{ACME_KEY}>", "brackets"),
        (f"Bearer {ACME_KEY} {ACME_KEY}", "Send exactly one token"),
        (f"Bearer Bearer {ACME_KEY}", "Send exactly one token"),
        ("Bearer $KATAVEN_API_KEY", "the name of a variable"),
        ("Bearer ", "token is empty"),
        (f"Bearer sk-proj-{'a' * 40}", "a key of another service"),
        (f"Bearer sk_test_{'0' * 40}", "do not exist"),
        (f"Bearer sk_live_{'0' * 40}", "no account name"),
        (f"Bearer {ACME_KEY[:-1]}-", "a character that keys cannot contain"),
        (f"Bearer {ACME_KEY[:-1]}{'1' if ACME_KEY[-1] == '0' else '0'}", "checksum"),
        (f"Bearer ut_{'0' * 43}", "a widget visitor"),
        ("Bearer \xe2\x80\x9csk_live_acme", "typographic quote"),
        ("Bearer nonsense", "neither an API key"),
        (ACME_KEY, "no scheme"),
        (f"Bearer\t{ACME_KEY}", "one space"),
        (f"Basic {ACME_KEY}", "uses the scheme `Basic` instead of `Bearer`. The API has no user names"),
        (f"Token {ACME_KEY}", "uses the scheme `Token` instead of `Bearer`. Send an API key"),
        (f"ApiKey {ACME_KEY}", "uses the scheme `Apikey` instead of `Bearer`"),
        (f"Hawk {ACME_KEY}", "must use the scheme `Bearer`"),
        ("Bearer <key>", "a placeholder"),
        ("Bearer <your API key>", "a placeholder"),
        ("Bearer sk_live_YOUR_KEY", "a placeholder"),
        ("Bearer sk_live_your_key", "a placeholder"),
        ("Bearer sk_live_...", "a placeholder"),
        ("Bearer sk_live_\xe2\x80\xa6", "a placeholder"),
        ("Bearer sk_live_acme_xxxxxxxx", "a placeholder"),
        ("Bearer YOUR_API_KEY", "a placeholder"),
        ("Bearer your-api-key-here", "a placeholder"),
        ("Bearer xxxxxxxx", "a placeholder"),
        (f"Bearer sk_live_my-shop_{ACME_KEY[-20:-10]}", "10 instead of 49 characters: it was cut off"),
        (f"Bearer sk_live_example_{ACME_KEY[-20:-10]}", "10 instead of 49 characters: it was cut off"),
        ("Bearer undefined", "an unset variable"),
        ("Bearer None", "an unset variable"),
        ("Bearer [object Object]", "an unset variable"),
        ("Bearer %KATAVEN_API_KEY%", "the name of a variable"),
        (f"Bearer {ACME_KEY}{ACME_KEY}", "contains two API keys"),
        (f"Bearer {ACME_KEY.upper()}", "capital letters"),
        ("Bearer pk_live_acme_abc", "starts like a widget key"),
        ("Bearer eyJhbGciOiJFUzI1NiJ9.eyJzdWIi", "starts like a JWT"),
        ("Bearer hf_abcdefghij", "a key of another service"),
        ("Bearer re_123_abc", "a key of another service"),
    ],
)
def test_the_refusal_describes_the_mistake_without_repeating_the_token(authorization: str, expected: str) -> None:
    with pytest.raises((errors.MalformedToken, errors.MissingCredential)) as refused:
        parse_credential(authorization, None)
    assert expected in str(refused.value)
    assert ACME_KEY[-20:-5] not in str(refused.value)


@given(st.sampled_from(["acme", "my-shop", "your", "example", "key"]), st.integers(1, 60))
def test_a_cut_key_is_never_called_a_placeholder(account: str, kept: int) -> None:
    key = tokens.generate(TokenKind.API_KEY, account).text
    secret = key.rpartition("_")[2]
    cut = key[: len(key) - len(secret) + min(kept, len(secret) - 1)]
    assert kept < 6 or not mistakes.is_placeholder(cut), cut


def test_the_place_of_a_misplaced_key_is_mentioned() -> None:
    with pytest.raises(errors.MissingCredential, match="The `X-API-Key` header is not supported"):
        parse_credential(None, None, misplaced="`X-API-Key` header")
    with pytest.raises(errors.MissingCredential, match="URLs are logged"):
        parse_credential(None, None, misplaced="query parameter `token`")
