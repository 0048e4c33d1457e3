"""The shape of a JSON body is bounded before it is parsed."""

from __future__ import annotations

import json

import pytest

from kataven.web import json_shape
from kataven.web.json_shape import MAX_NAMES, MAX_NESTED, MAX_VALUES, ShapeError

MEBIBYTE = 1024 * 1024


def refusal(body: bytes) -> tuple[str | None, str]:
    with pytest.raises(ShapeError) as caught:
        json_shape.check(body)
    return caught.value.name, caught.value.message


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (json.dumps(dict.fromkeys(map(str, range(MAX_NAMES + 1)), 0)), "64 names"),
        (json.dumps({"a": {str(number): 0 for number in range(MAX_NAMES)}}), "64 names"),
        (json.dumps({"a": [0] * (MAX_VALUES + 1)}), "512 values"),
        (json.dumps({"a": [""] * (MAX_VALUES + MAX_NAMES + 1)}), "576 strings"),
        ('{"a":' + "[" * MAX_NESTED + "]" * MAX_NESTED + "}", "32 objects and arrays"),
        ('{"a":' + "9" * 65 + "}", "64 characters"),
        ('{"a":-0.' + "0" * 100 + "1}", "64 characters"),
        ("[]", "JSON object"),
        ('"text"', "JSON object"),
        ("null", "JSON object"),
    ],
)
def test_body_that_exceeds_a_shape_limit_is_rejected(body: str, words: str) -> None:
    name, message = refusal(body.encode())
    assert name is None
    assert words in message


@pytest.mark.parametrize("body", ['{"a": 1, "b": 2, "a": 1}', '{"b": {"a": 1, "a": 2}}', '{"a": 1, "\\u0061": 2}'])
def test_repeated_name_is_rejected_because_parsers_differ(body: str) -> None:
    assert refusal(body.encode()) == ("a", "is specified more than once")


def test_json_syntax_within_strings_does_not_count() -> None:
    prompt = 'Say {"a": [1, 2]}, "quoted" \\ and ' * 5_000
    json_shape.check(json.dumps({"name": prompt, "n": 0.25, "list": ["x"] * 100, "none": None}).encode())


@pytest.mark.parametrize("body", [b"", b"{", b'{"a": NaN}', b'{"a"', b"\xff\xfe", b'{"a": "\\ud800"}'])
def test_invalid_json_is_left_to_validation(body: bytes) -> None:
    json_shape.check(body)


@pytest.mark.parametrize("unit", [b'"a":0,', b"[", b'{"":', b"0,", b'"",', b"9", b'""', b"{}"], ids=repr)
def test_one_mebibyte_of_tokens_is_rejected_before_parsing(unit: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def must_not_be_called(*_: object, **__: object) -> None:
        pytest.fail("it was parsed")

    monkeypatch.setattr(json_shape.json, "loads", must_not_be_called)
    refusal((b'{"a":' + unit * (MEBIBYTE // len(unit)))[:MEBIBYTE])


def test_unterminated_strings_are_scanned_once() -> None:
    # If the pattern were matched again from each of half a million quotes, this would exceed the test's timeout.
    json_shape.check(b'"\\' * (MEBIBYTE // 2))
