"""The format of a key: generated keys can be parsed, and keys with one wrong character cannot."""

import re
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kataven.identity import token as tokens
from kataven.identity.errors import MalformedToken
from kataven.identity.token import ALPHABET, TOKEN_PATTERN, TokenKind

accounts = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,62}", fullmatch=True)
kinds = st.sampled_from(TokenKind)


def _assembled(kind: TokenKind, account: str, secret: str) -> str:
    body = f"{kind}_live_{account}_{secret}"
    return body + tokens.checksum(body)


# Assembled rather than generated, so that Hypothesis can reproduce what it finds.
texts = st.builds(_assembled, kinds, accounts, st.text(ALPHABET, min_size=43, max_size=43))


@given(kinds, accounts)
def test_generated_key_can_be_parsed(kind: TokenKind, account: str) -> None:
    generated = tokens.generate(kind, account)
    assert tokens.parse(generated.text) == generated


@given(texts, st.data())
def test_any_changed_character_is_rejected(text: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.one_of(st.sampled_from(ALPHABET + "_-"), st.characters()).filter(lambda c: c != text[at]))
    with pytest.raises(MalformedToken):
        tokens.parse(text[:at] + other + text[at + 1 :])


@given(texts, st.data())
def test_any_missing_or_repeated_character_is_rejected(text: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(text) - 1))
    for mangled in (text[:at] + text[at + 1 :], text[:at] + text[at] + text[at:]):
        with pytest.raises(MalformedToken):
            tokens.parse(mangled)


@given(texts, st.data())
def test_two_swapped_characters_are_rejected(text: str, data: st.DataObject) -> None:
    at = data.draw(st.sampled_from([i for i in range(len(text) - 1) if text[i] != text[i + 1]]))
    with pytest.raises(MalformedToken):
        tokens.parse(text[:at] + text[at + 1] + text[at] + text[at + 2 :])


@given(st.text())
def test_arbitrary_text_is_rejected(text: str) -> None:
    with pytest.raises(MalformedToken):
        tokens.parse(text)


@pytest.mark.parametrize("blank", ["\n", " ", "\r\n", "\x00"])
def test_surrounding_whitespace_is_rejected(blank: str) -> None:
    text = tokens.generate(TokenKind.API_KEY, "acme").text
    for padded in (text + blank, blank + text):
        with pytest.raises(MalformedToken):
            tokens.parse(padded)


def test_the_checksum_is_the_crc32_in_base62() -> None:
    text = tokens.generate(TokenKind.API_KEY, "a_b-c").text
    value = 0
    for character in text[-6:]:
        value = value * 62 + ALPHABET.index(character)
    assert value == zlib.crc32(text[:-6].encode())


def test_the_account_may_contain_underscores() -> None:
    generated = tokens.generate(TokenKind.WIDGET_KEY, "a_b_live_c")
    assert tokens.parse(generated.text).account == "a_b_live_c"


def test_the_published_pattern_finds_keys_in_text() -> None:
    generated = [tokens.generate(kind, account).text for kind in TokenKind for account in ("acme", "a_b-c", "x" * 63)]
    assert re.findall(TOKEN_PATTERN, " ".join(f'key="{text}";' for text in generated)) == generated


def test_a_secret_has_256_bits() -> None:
    assert 62**tokens.SECRET_LENGTH > 2**256


def test_generating_for_an_invalid_account_name_raises() -> None:
    for name in ("", "Acme", "-acme", "a" * 64, "a b", "ä"):
        with pytest.raises(ValueError, match="invalid account name"):
            tokens.generate(TokenKind.API_KEY, name)


def test_the_repr_contains_no_secret() -> None:
    generated = tokens.generate(TokenKind.API_KEY, "acme")
    assert generated.text[-20:] not in repr(generated)
