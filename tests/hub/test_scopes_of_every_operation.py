"""Every operation under every path, with keys of each scope: the API, its aliases, and the Hub's legacy path."""

from __future__ import annotations

import pytest

from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.identity.scopes import READ_ONLY, SCOPES, granted
from kataven.system.schema import ACCOUNT_SCHEMA
from kataven.web.operation import Operation, operation_of
from tests.hub.conftest import Hub
from tests.support.app_harness import AppHarness
from tests.support.walk import REQUESTS, World, prefixes

ACCOUNT = "walked-by-scope"
NONE = ["unknown-noun:read"]
"""No operation requires it. Stored by another release or for another application."""


@pytest.fixture(scope="module")
def world(harness: AppHarness, postgres: EmbeddedPostgres) -> World:
    return World(harness, postgres, ACCOUNT, ACCOUNT_SCHEMA.head)


@pytest.mark.parametrize("scopes", [None, list(READ_ONLY), *([scope] for scope in SCOPES), NONE], ids=str)
def test_each_operation_requires_its_scope(
    harness: AppHarness, hub: Hub, world: World, scopes: list[str] | None
) -> None:
    key = harness.new_key(ACCOUNT, scopes=scopes)
    has = set(SCOPES) if scopes is None else granted(scopes)
    for view in harness.app.view_functions.values():
        operation = operation_of(view)
        if operation is not None and not operation.access.public:
            check(harness, hub, world, operation, key, allowed=operation.scope is None or operation.scope in has)


def check(harness: AppHarness, hub: Hub, world: World, operation: Operation, key: str, *, allowed: bool) -> None:
    headers = {"Authorization": f"Bearer {key}", "If-None-Match": "*"}
    for prefix in prefixes(operation.path):
        app = hub.app if prefix.startswith("/hub-api") else harness.app
        request = REQUESTS[operation.method, operation.path](world)
        for method in [operation.method, *(["HEAD"] if operation.method == "GET" else [])]:
            response = app.test_client().open(prefix + request.path, method=method, json=request.body, headers=headers)
            where = f"{method} {prefix}{request.path}: {response.status_code}"
            if operation.access.keys and allowed:
                assert response.status_code not in (401, 403), where
                continue
            assert response.status_code == 403, where
            challenge = f'Bearer realm="kataven", error="insufficient_scope", scope="{operation.scope}"'
            if operation.access.keys:
                assert response.headers["WWW-Authenticate"] == challenge, where
