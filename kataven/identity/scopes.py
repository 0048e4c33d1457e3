"""What an API key may do: scopes such as `agents:read`. `<noun>:write` includes `<noun>:read`.

A key without scopes has full access. Which scope an operation requires is derived from its declaration; see
`kataven.web.operation`. Other applications and packages add scopes for their own resources.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

READ, WRITE = "read", "write"
MAX_LENGTH = 50
PATTERN = "[a-z][a-z0-9]*(?:-[a-z0-9]+)*:(?:read|write)"

SCOPES = (
    "agents:read",
    "agents:write",
    "api-keys:read",
    "widget-keys:read",
    "widget-keys:write",
    "widget-settings:read",
    "widget-settings:write",
    "widget-sessions:write",
    "usage:read",
    "requests:read",
)
"""The scopes of the API. A test compares them with the operations that accept API keys."""


class KnownScopes:
    """The scopes that a key of this installation can have: those of the API, and those of other applications.

    Filled at startup, before requests are handled.
    """

    def __init__(self, others: Iterable[str] = ()) -> None:
        self._names = dict.fromkeys(SCOPES)
        self.add(others)

    def add(self, names: Iterable[str]) -> None:
        """Raises ValueError if a name is not `<noun>:read` or `<noun>:write`."""
        self._names |= dict.fromkeys(map(checked, names))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def by_noun(self) -> Mapping[str, tuple[str, ...]]:
        """The scopes of each noun: `{"agents": ("agents:read", "agents:write")}`."""
        nouns: dict[str, tuple[str, ...]] = {}
        for scope in self:
            noun = scope.partition(":")[0]
            nouns[noun] = (*nouns.get(noun, ()), scope)
        return nouns

    def read_only(self) -> tuple[str, ...]:
        """The preset *Read only*: every scope that allows reading."""
        return read_only(self)


def read_only(known: Iterable[str]) -> tuple[str, ...]:
    """The scopes that allow reading only."""
    return tuple(scope for scope in known if scope.endswith(f":{READ}"))


READ_ONLY = read_only(SCOPES)


def checked(name: str) -> str:
    """Raises ValueError if `name` can't be a scope. The message is written for programmers and operators."""
    if len(name) > MAX_LENGTH or re.fullmatch(PATTERN, name) is None:
        raise ValueError("a scope must be <noun>:read or <noun>:write, such as notes:read")
    return name


def granted(scopes: Iterable[str]) -> frozenset[str]:
    """The scopes that these scopes grant: themselves, and `<noun>:read` for each `<noun>:write`."""
    given = frozenset(scopes)
    return given | {scope.removesuffix(WRITE) + READ for scope in given if scope.endswith(f":{WRITE}")}


def normalized(scopes: Iterable[str], known: Iterable[str] = SCOPES) -> tuple[str, ...]:
    """The scopes in the order of `known`, without those that another one includes. Raises ValueError for an unknown
    one."""
    given, known = frozenset(scopes), tuple(known)
    unknown = sorted(given.difference(known))
    if unknown:
        raise ValueError(f"{unknown[0]!r} is not a scope. The scopes are {', '.join(known)}")
    return tuple(
        scope for scope in known if scope in given and scope.removesuffix(READ) + WRITE not in given.difference({scope})
    )


def includes_all(scopes: Iterable[str] | None, others: Iterable[str] | None) -> bool:
    """Whether `scopes` grant everything that `others` grant. None is full access."""
    if scopes is None:
        return True
    return others is not None and granted(others) <= granted(scopes)
