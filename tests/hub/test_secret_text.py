"""What is recognized as a secret, and what it costs: the text of an unauthenticated request is checked too."""

from __future__ import annotations

import pytest

from kataven.hub.secret_text import has_key_in_url, has_secret
from kataven.identity import token as tokens
from kataven.identity.token import TokenKind

RANDOM_PART = tokens.generate(TokenKind.API_KEY, "acme").text.rpartition("_")[2]


@pytest.mark.parametrize("around", ["{}", "key={}.", f"{'a' * 39} {{}}", f"{'a' * 100}{{}}"])
def test_random_part_of_a_key_is_a_secret(around: str) -> None:
    assert has_secret(around.format(RANDOM_PART))


@pytest.mark.parametrize("text", ["a" * 64, "0123456789abcdef" * 4, "Ab1" * 13, f"{'Ab' * 30} 1", "aB " * 40 + "1"])
def test_hashes_and_short_words_are_no_secret(text: str) -> None:
    assert not has_secret(text)


@pytest.mark.parametrize(
    ("word", "times"), [("a", 500_000), ("://a", 125_000), ("aA", 250_000), (f"{'aA' * 19} ", 12_000)]
)
def test_texts_as_long_as_a_form_are_checked(word: str, times: int) -> None:
    """A form has up to 1 MiB. A check that reads a word again for each of its characters would not end within hours."""
    assert not has_secret(word * times)


@pytest.mark.parametrize("query", [b"q=sk_live_acme_abcd", b"q=SK%5FLIVE%5Facme_abcd", b"q=sk_%6cive_acme_abcd"])
def test_key_in_a_url_is_found_in_every_encoding(query: bytes) -> None:
    assert has_key_in_url(query)
