"""Strict parsing: rejects what the lenient decoders of the standard library accept."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kataven.identity import strict

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)


@given(raw=st.binary())
def test_base64url_round_trip(raw: bytes) -> None:
    assert strict.base64url(base64.urlsafe_b64encode(raw).rstrip(b"=").decode()) == raw


@given(text=st.text(alphabet="ABQRgwxy019-_=+/ \n", max_size=6))
def test_base64url_has_one_spelling_for_each_value(text: str) -> None:
    try:
        raw = strict.base64url(text)
    except ValueError:
        return
    assert base64.urlsafe_b64encode(raw).rstrip(b"=").decode() == text


@pytest.mark.parametrize("text", ["QQ==", "QQ=", "QR", "QUJ", "A", "QQ\n", " QQ", "Q Q", "++++", "////", "QQ\x00", "é"])
def test_base64url_rejects_other_spellings(text: str) -> None:
    with pytest.raises(ValueError, match="base64url"):
        strict.base64url(text)


@given(document=st.dictionaries(st.text(max_size=9), JSON, max_size=4), ascii_only=st.booleans())
def test_json_round_trip(document: dict[str, object], ascii_only: bool) -> None:
    assert strict.json_object(json.dumps(document, ensure_ascii=ascii_only).encode()) == document


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b"{} {}",
        b"{'a':1}",
        b'{"a":1,}',
        b'{"a":1,"a":1}',
        b'{"a":{"b":1,"b":2}}',
        b'{"a":[{"b":1,"\\u0062":2}]}',
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":1e400}',
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":"\x01"}',
        b'{"a":"\xff"}',
        b'{"a":"\\ud800"}',
        b'{"a":"\\uDC00\\uD800"}',
        b'{"\\udfff":1}',
        b"\xef\xbb\xbf{}",
        json.dumps({"a": 1}).encode("utf-16"),
    ],
)
def test_json_rejects_ambiguous_and_invalid_documents(raw: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 the reasons differ, and callers don't tell them apart
        strict.json_object(raw)


def nested(depth: int) -> bytes:
    return b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


def test_json_is_accepted_up_to_the_maximum_depth() -> None:
    assert "a" in strict.json_object(nested(strict.MAX_DEPTH))
    for depth in (strict.MAX_DEPTH + 1, 1_000, 200_000):
        with pytest.raises(ValueError, match="deeply"):
            strict.json_object(nested(depth))


def test_brackets_in_strings_and_siblings_do_not_add_depth() -> None:
    document = {"a": '[[{"' * 100, 'b]\\"[': "\\", "c": [[] for _ in range(500)]}
    assert strict.json_object(json.dumps(document).encode()) == document
