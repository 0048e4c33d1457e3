"""The inputs of API keys, for the API and the Hub."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from kataven.identity import conditions, scopes
from kataven.ratelimit.policy import LIMIT_FIELDS, MAX_LIMIT, KeyLimits, Limits, contradictions
from kataven.web.inputs.times import time_in_range
from kataven.web.openapi import SCOPE_SCHEMA
from kataven.web.problems import FieldError, InvalidRequest
from kataven.web.schema import Input, SingleLine, no_default, with_fields

MAX_SCOPES = 100


KeyName = Annotated[str, SingleLine(200)]


def _whole(given: object) -> object:
    """In JSON Schema, 5.0 is an integer."""
    return int(given) if isinstance(given, float) and given.is_integer() else given


def _time(given: object) -> datetime | None:
    if given is None:
        return None
    try:
        moment = datetime.fromisoformat(given) if isinstance(given, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError("must be a time with a time zone (RFC 3339), for example 2027-01-31T12:00:00Z")
    return time_in_range(moment)


ScopeName = Annotated[str, Field(max_length=scopes.MAX_LENGTH), WithJsonSchema(SCOPE_SCHEMA)]
ScopeList = Annotated[
    list[ScopeName] | None,
    Field(min_length=1, max_length=MAX_SCOPES),
    Field(description="What the key may do, such as `agents:read`. `write` includes `read`. Null means full access."),
]
NetworkText = Annotated[
    str,
    Field(max_length=64),
    AfterValidator(conditions.network_of),
    WithJsonSchema({"type": "string", "format": "ip-network", "maxLength": 64}),
]
Networks = Annotated[list[NetworkText], Field(max_length=conditions.MAX_NETWORKS)]
AllowedAddresses = Annotated[
    Networks,
    Field(description="The addresses or networks from which the key may be used. Empty means all."),
]
DeniedAddresses = Annotated[
    Networks,
    Field(description="The addresses or networks from which the key is rejected, even if they are allowed."),
]
FromBrowsers = Annotated[
    bool,
    Field(
        description="Whether browsers may send the key. If false, requests with `Origin` or `Sec-Fetch-Site` are "
        "rejected with 403 `browser_use`."
    ),
]
NotBefore = Annotated[
    datetime | None, BeforeValidator(_time), Field(description="The key is rejected before this time.")
]
LimitValue = Annotated[
    Annotated[int, Field(ge=1, le=MAX_LIMIT)] | None,
    BeforeValidator(_whole),
    Field(default=None, json_schema_extra=no_default),
]


@with_fields((limit.field for limit in LIMIT_FIELDS), LimitValue)
class KeyLimitsInput(Input):
    """Limits of the key, at most the account's. A limit that is omitted or null is the account's."""


def known_scopes(names: Sequence[str] | None, known: Iterable[str]) -> tuple[str, ...] | None:
    """The scopes, normalized. Raises InvalidRequest for a scope that this installation does not have."""
    try:
        return None if names is None else scopes.normalized(names, known)
    except ValueError as error:
        raise InvalidRequest([FieldError("scopes", str(error))]) from None


def checked_limits(given: KeyLimitsInput | None, account: Limits) -> dict[str, int]:
    """The limits that are set. Raises InvalidRequest if one exceeds the account's, or contradicts another."""
    limits = {} if given is None else {name: value for name, value in given.given().items() if value is not None}
    problems = [
        FieldError(f"limits.{name}", f"is {value}, above the account's limit of {getattr(account, name)}")
        for name, value in limits.items()
        if value > getattr(account, name)
    ]
    problems += [FieldError("limits", problem) for problem in contradictions(KeyLimits(**limits), limits)]
    if problems:
        raise InvalidRequest(problems)
    return limits
