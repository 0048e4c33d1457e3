"""The patterns of the OpenAPI document, as JavaScript reads them, accept the strings that the API accepts.

JSON Schema defines `pattern` in ECMA-262 with the flag `u`. Its `\\s` and some escapes differ from Python's.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from kataven.web.conditional import IF_MATCH_PATTERN
from kataven.web.openapi import operations_of
from kataven.web.schema import Input
from tests.support.app_harness import AppHarness

pytestmark = [pytest.mark.programs, pytest.mark.node]

MORE_THAN_A_PATTERN = {"client_key", "user_token", "refresh_token", "logo_url"}
"""The API also checks a checksum or a host, so it rejects strings that match the pattern."""

TRICKY = [
    *("生产环境", "Ünïcode", "🦜", "a", " a ", "", " ", "\u00a0", "\u3000", "\u3164", "\u200b", "\ufeff", "\u2028"),
    *("\u0085", "a\u009bb", "a\u0085b", "a\u0000b", "a\nb", "a\n", "a\r", "a\u202eb", "a\u2066b", "a\u007fb"),
    *("\U0001f9ff", "\U000e0041", "a@b", "a@b\ufeff", "a@b\u0085", "a@b\u001c", "a@b\u180e", "a@\u2028b", "a@b\n"),
    *(
        "ä@ö.example",
        "a b@c",
        "@",
        "a@b@c",
        "a@\u202eb",
        "#1746a2",
        "#1746A2",
        "#1746a2\n",
        "#12345",
        "#\u0661\u0662\u0663\u0664\u0665\u0666",
    ),
    *("https://acme.com/l.svg", "https://", "https://a\n", "http://a", "agent.created", "agent.created\n"),
    *("1-" + "0" * 32, "1-" + "0" * 32 + "\n", "\u0661-" + "0" * 32, "jwt:alice", "acme", "acme\n"),
    *('"a"', '"a", W/"b"', "*", '"\u00e9"', '"a" ', '"a\u0085"'),
]
TEXTS = st.one_of(
    st.text(max_size=30),
    st.text(st.sampled_from("".join(TRICKY)), max_size=12),
    st.from_regex(r"\A[a-z._-]{0,5}[@#:/]?[\s\S]{0,5}\Z"),
)


class EcmaScript:
    """A Node.js process that matches patterns."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def matches(self, pattern: str, texts: list[str]) -> list[bool]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"pattern": pattern, "texts": texts}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"not a pattern in ECMA-262 with the flag u: {pattern}"
        found: list[bool] = json.loads(line)
        return found


@pytest.fixture(scope="module")
def ecmascript() -> Iterator[EcmaScript]:
    node = shutil.which("node")
    assert node is not None, 'install Node.js, or leave these tests out with `pytest -m "not node"`'
    program = Path(__file__).with_name("ecma_patterns.mjs")
    with subprocess.Popen([node, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8") as process:
        yield EcmaScript(process)
        assert process.stdin is not None
        process.stdin.close()


def fields_with_patterns(app: Flask) -> dict[str, tuple[type[BaseModel], str]]:
    """Every field of a body or query whose schema has a pattern, by model and name."""
    found: dict[str, tuple[type[BaseModel], str]] = {}
    for operation in operations_of(app):
        for model in (operation.body, operation.query):
            for name in model.model_fields if model is not None else ():
                if model is not None and pattern_of(model, name) is not None:
                    found[f"{model.__name__}.{name}"] = (model, name)
    return found


def pattern_of(model: type[BaseModel], name: str) -> dict[str, Any] | None:
    """The schema with the pattern of a field; None if it has none."""
    schema = model.model_json_schema()["properties"][name]
    choices: list[dict[str, Any]] = [schema, *schema.get("anyOf", [])]
    return next((choice for choice in choices if "pattern" in choice), None)


def validator_of(model: type[BaseModel], name: str) -> Callable[[str], bool]:
    field = TypeAdapter(model.model_fields[name].rebuild_annotation(), config=None)

    def accepts(text: str) -> bool:
        try:
            field.validate_python(text, strict=issubclass(model, Input))
        except ValidationError:
            return False
        return True

    return accepts


def test_every_field_with_a_pattern_is_known(harness: AppHarness) -> None:
    """A name that is listed here is checked below. The list makes sure that fields are found."""
    found = {name.partition(".")[2] for name in fields_with_patterns(harness.app)}
    assert found >= {
        *MORE_THAN_A_PATTERN,
        "name",
        "description",
        "accent_color",
        "cursor",
        "email",
        "action",
        "actor",
        "q",
    }


def test_patterns_and_the_api_accept_the_same_strings(harness: AppHarness, ecmascript: EcmaScript) -> None:
    fields = fields_with_patterns(harness.app)
    validators = {name: validator_of(*place) for name, place in fields.items()}
    schemas = {name: pattern_of(*place) or {} for name, place in fields.items()}

    @given(st.lists(TEXTS, min_size=20, max_size=60))
    @example(TRICKY)
    @settings(max_examples=20, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    def agree(texts: list[str]) -> None:
        for name, schema in schemas.items():
            for text, matches in zip(texts, ecmascript.matches(schema["pattern"], texts), strict=True):
                documented = matches and schema.get("minLength", 0) <= len(text) <= schema.get("maxLength", len(text))
                accepted = validators[name](text)
                if name.partition(".")[2] in MORE_THAN_A_PATTERN:
                    assert documented or not accepted, (name, text)
                else:
                    assert documented == accepted, (name, text)

    agree()


@pytest.mark.parametrize("tag", [text for text in TRICKY if text.isascii() and text.isprintable()])
def test_pattern_of_if_match_equals_the_apis_check(harness: AppHarness, ecmascript: EcmaScript, tag: str) -> None:
    [documented] = ecmascript.matches(IF_MATCH_PATTERN, [tag.strip()])
    response = harness.bearer(harness.new_key("acme")).get("/v1/me", headers={"If-Match": tag})
    assert documented == (response.status_code != 400), tag
