"""The operations that *Try it* sends: those of customers that only read and that accept a user's JWT."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

Json = dict[str, Any]


class UnknownOperation(Exception):
    """The document has no operation with this id that may be tried."""


class InvalidParameter(Exception):
    """A parameter is missing or not one of the operation's. The message is written for callers."""


@dataclass(frozen=True, slots=True)
class TryableOperation:
    """An operation that reads."""

    path: str
    parameters: Mapping[str, str]
    """Name to place: `path` or `query`."""

    def target(self, given: Mapping[str, str]) -> str:
        """The path and the query of a request with these parameters; empty ones are omitted. Raises
        InvalidParameter."""
        unknown = sorted(set(given) - set(self.parameters))
        if unknown:
            raise InvalidParameter(f"Unknown parameter: {unknown[0][:100]}.")
        path = {name: given.get(name, "") for name, place in self.parameters.items() if place == "path"}
        missing = sorted(name for name, value in path.items() if not value)
        if missing:
            raise InvalidParameter(f"Enter a value for {missing[0]}.")
        # A server decodes %2F before it selects the operation, so a slash would select another one.
        if any(value in {".", ".."} or "/" in value for value in path.values()):
            raise InvalidParameter("`.`, `..` and values with `/` are not valid in a path.")
        query = {name: value for name, value in given.items() if value and name not in path}
        quoted = {name: quote(value, safe="") for name, value in path.items()}
        return self.path.format(**quoted) + (f"?{urlencode(query)}" if query else "")


def is_tryable(method: str, operation: Json) -> bool:
    """Whether an operation of the customers' document may be tried."""
    return method == "get" and {"jwt": []} in operation["security"]


def find(document: Json, operation_id: str) -> TryableOperation:
    """An operation of the customers' document. Raises UnknownOperation."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if operation["operationId"] == operation_id and is_tryable(method, operation):
                places = {one["name"]: one["in"] for one in operation["parameters"] if one["in"] in {"path", "query"}}
                return TryableOperation(path, places)
    raise UnknownOperation(operation_id)
