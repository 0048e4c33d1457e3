"""Finds the method of the Python SDK for each operation, by calling every method with a sender that records.

Nothing lists the operations: a method that the SDK gains appears in the reference without further changes.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

_KEY: Final = f"sk_live_acme_{'0' * 49}"
_AN_ID: Final = "00000000-0000-4000-8000-000000000000"


@dataclass(frozen=True, slots=True)
class SdkCall:
    """A method of the SDK: `agents.create`, and what it accepts."""

    name: str
    parameters: tuple[str, ...]
    """Arguments without a default, in their order."""
    options: frozenset[str]
    """Arguments that are passed by name."""
    any_field: bool
    """Whether it accepts the fields of the body by name."""
    iterates: bool
    """Whether it returns the items of a list, page by page."""


@cache
def calls() -> dict[tuple[str, str], SdkCall]:
    """The calls by HTTP method and path, such as `("GET", "/v1/agents/{}")`. See `key_of`."""
    found: dict[tuple[str, str], SdkCall] = {}
    for name, method in _methods():
        recorder = _Recorder()
        parameters = inspect.signature(method).parameters.values()
        needed = tuple(
            one.name for one in parameters if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD
        )
        _bind(method, recorder)(*(_AN_ID if one.endswith("_id") else "x" for one in needed))
        call = SdkCall(
            name,
            needed,
            frozenset(one.name for one in parameters if one.default is not one.empty),
            any(one.kind is one.VAR_KEYWORD for one in parameters),
            recorder.iterates,
        )
        for place in recorder.places:
            if place not in found or call.iterates:
                found[place] = call
    return found


def key_of(method: str, path: str) -> tuple[str, str]:
    """The key of an operation in `calls`."""
    return method.upper(), re.sub(r"\{\w+\}", "{}", path)


def _methods() -> Iterator[tuple[str, Callable[..., Any]]]:
    from kataven.client import KatavenClient  # imports an HTTP client, so only the first rendered page does it

    with KatavenClient(_KEY, base_url="http://localhost/v1") as client:
        for place, resource in {"": client, **vars(client)}.items():
            if not hasattr(resource, "_sender"):
                continue
            for name, method in inspect.getmembers(resource, inspect.ismethod):
                if not name.startswith("_") and name != "close":
                    yield f"{place}.{name}".removeprefix("."), method


def _bind(method: Any, recorder: _Recorder) -> Callable[..., Any]:
    """The same method of an object that sends nothing."""
    stand_in = object.__new__(type(method.__self__))
    stand_in._sender = recorder
    bound: Callable[..., Any] = method.__func__.__get__(stand_in)
    return bound


class _Recorder:
    """Takes the place of the SDK's sender."""

    def __init__(self) -> None:
        self.places: list[tuple[str, str]] = []
        self.iterates = False

    def send(self, request: Any) -> None:
        self.places.append((request.method, f"/v1{request.path.replace(_AN_ID, '{}')}"))

    def iterate(self, page: Callable[[None], Any]) -> None:
        self.iterates = True
        self.send(page(None))
