"""A malformed token is rejected without a database or Redis call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kataven.identity import token as tokens
from kataven.identity.token import TokenKind
from tests.support.app_harness import AppHarness

MALFORMED = [
    "junk",
    "eyJhbGciOiJub25lIn0",
    tokens.generate(TokenKind.API_KEY, "acme").text[:-1] + "!",
    tokens.generate(TokenKind.API_KEY, "acme").text[:-2],
    tokens.generate(TokenKind.WIDGET_KEY, "acme").text,
    tokens.generate(TokenKind.API_KEY, "kataven-admin").text,
    "x" * 9000,
]


class Calls:
    """Counts database and Redis calls at the functions through which every request passes."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def counting(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.made.append(name)
            return function(*args, **kwargs)

        return counted


@pytest.fixture
def calls(harness: AppHarness, monkeypatch: pytest.MonkeyPatch) -> Calls:
    counted = Calls()
    system, registry = harness.services.directory.database, harness.services.registry
    for owner, name in (
        (system, "reading"),
        (system, "writing"),
        (system, "rows"),
        (registry, "reading"),
        (registry, "rows"),
        (registry, "writing"),
        (harness.services.limiter, "admit"),
        (harness.services.limiter.addresses, "spend"),
        (harness.services.revocation, "revoke"),
    ):
        monkeypatch.setattr(owner, name, counted.counting(name, getattr(owner, name)))
    return counted


@pytest.mark.parametrize("token", MALFORMED, ids=range(len(MALFORMED)))
def test_malformed_token_is_rejected_without_io(harness: AppHarness, calls: Calls, token: str) -> None:
    assert harness.bearer(token).get("/v1/agents").status_code in {400, 401, 403}
    assert harness.bearer(token, "globex").get("/v1/agents").status_code in {400, 401, 403}
    assert calls.made == []


def test_valid_key_is_seen_by_the_same_counters(harness: AppHarness, calls: Calls) -> None:
    key = harness.new_key("acme")
    calls.made.clear()
    assert harness.bearer(key).get("/v1/agents").status_code == 200
    assert {"rows", "admit"} <= set(calls.made)
