"""What an API key may do: scopes such as `agents:read`. `<noun>:write` includes `<noun>:read`.

A key without scopes has full access. Which scope an operation requires is derived from its declaration; see
`kataven.web.operation`.
"""

from __future__ import annotations

from collections.abc import Iterable

READ, WRITE = "read", "write"

SCOPES = (
    "agents:read",
    "agents:write",
    "api-keys:read",
    "widget-keys:read",
    "widget-keys:write",
    "widget-settings:read",
    "widget-settings:write",
    "widget-sessions:write",
)
"""The scopes that a key can have. A test compares them with the operations that accept API keys."""

READ_ONLY = tuple(scope for scope in SCOPES if scope.endswith(f":{READ}"))
"""The preset *Read only*."""


def granted(scopes: Iterable[str]) -> frozenset[str]:
    """The scopes that these scopes grant: themselves, and `<noun>:read` for each `<noun>:write`."""
    given = frozenset(scopes)
    return given | {scope.removesuffix(WRITE) + READ for scope in given if scope.endswith(f":{WRITE}")}


def normalized(scopes: Iterable[str]) -> tuple[str, ...]:
    """The scopes in the order of `SCOPES`, without those that another one includes. Raises ValueError for an unknown
    one."""
    given = frozenset(scopes)
    unknown = sorted(given.difference(SCOPES))
    if unknown:
        raise ValueError(f"{unknown[0]!r} is not a scope. The scopes are {', '.join(SCOPES)}")
    return tuple(
        scope
        for scope in SCOPES
        if scope in given and scope.removesuffix(READ) + WRITE not in given.difference({scope})
    )


def includes_all(scopes: Iterable[str] | None, others: Iterable[str] | None) -> bool:
    """Whether `scopes` grant everything that `others` grant. None is full access."""
    if scopes is None:
        return True
    return others is not None and granted(others) <= granted(scopes)
