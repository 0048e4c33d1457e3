"""Shortens the JSON Schemas of the tools, because a model reads all of them before the first question.

Pydantic adds a `title` to every schema, which repeats the field's name, and writes optional values as `anyOf`. Without
these, an input schema still has every name, type, constraint and description.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Schema = dict[str, Any]

RESULT: Schema = {"type": "object"}
"""The output schema of every tool. Half of the tool list would otherwise be output schemas, which a model doesn't need
in order to call a tool, and each result names its fields. A tool without an output schema would have no structured
result in some clients."""

_SCHEMAS_BY_NAME = ("properties", "$defs")
_SCHEMA_LISTS = ("anyOf", "allOf", "oneOf", "prefixItems")
_SINGLE_SCHEMAS = ("items", "additionalProperties")


def shorten(schema: Schema) -> Schema:
    """An input schema that accepts the same arguments, without titles and without `default: null`."""
    kept = {
        keyword: value
        for keyword, value in schema.items()
        if keyword != "title" and not (keyword == "default" and value is None)
    }
    return _merge_null(_each_inner(kept, shorten))


def _each_inner(schema: Schema, change: Callable[[Schema], Schema]) -> Schema:
    """`schema` with `change` applied to each schema that it contains. Keywords and property names differ: a property
    can be named `title`."""
    result = dict(schema)
    for keyword in _SCHEMAS_BY_NAME:
        if keyword in result:
            result[keyword] = {name: change(inner) for name, inner in result[keyword].items()}
    for keyword in _SCHEMA_LISTS:
        if keyword in result:
            result[keyword] = [change(inner) for inner in result[keyword]]
    for keyword in _SINGLE_SCHEMAS:
        if isinstance(result.get(keyword), dict):
            result[keyword] = change(result[keyword])
    return result


def _merge_null(schema: Schema) -> Schema:
    """`anyOf: [{type: string, …}, {type: null}]` as `type: [string, null], …`, where both mean the same."""
    alternatives: list[Schema] = schema.get("anyOf", [])
    if len(alternatives) != 2 or alternatives[1] != {"type": "null"}:
        return schema
    one = alternatives[0]
    if not isinstance(one.get("type"), str) or (one.keys() - {"type"}) & {"enum", "const", *schema}:
        return schema
    rest = {keyword: value for keyword, value in schema.items() if keyword != "anyOf"}
    return {**one, "type": [one["type"], "null"], **rest}
