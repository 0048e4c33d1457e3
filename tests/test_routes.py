"""Every route of the real URL map declares its access and rejects all other callers."""

from __future__ import annotations

import re

import pytest
from flask import Flask

from kataven.dev.personas import BOB
from kataven.web.operation import Operation, operation_of
from tests.support.app_harness import AppHarness, Caller

AN_ID = "00000000-0000-4000-8000-000000000000"


def declared(app: Flask) -> list[Operation]:
    found = []
    for rule in app.url_map.iter_rules():
        operation = operation_of(app.view_functions[rule.endpoint])
        assert operation is not None, f"{rule} declares no access"
        assert operation.path == rule.rule
        assert rule.methods is not None
        assert operation.method in rule.methods
        found.append(operation)
    return found


def path_of(operation: Operation) -> str:
    return re.sub(r"<(?:string:)?\w+>", AN_ID, operation.path)


def test_every_route_declares_its_access(harness: AppHarness) -> None:
    assert len(declared(harness.app)) > 20


def test_only_these_paths_are_public(harness: AppHarness) -> None:
    assert sorted(operation.path for operation in declared(harness.app) if operation.access.public) == [
        "/",
        "/.well-known/security.txt",
        "/api/accounts",
        "/api/accounts/validate/<string:account>",
        "/docs",
        "/docs/errors",
        "/docs/script.js",
        "/docs/style.css",
        "/healthz",
        "/metrics",
        "/readyz",
        "/v1/openapi-operators.json",
        "/v1/openapi.json",
        "/v1/widget/auth/exchange",
        "/v1/widget/auth/guest",
        "/v1/widget/auth/refresh",
        "/v1/widget/config",
        "/v1/widget/jwks.json",
        "/widget.js",
    ]


def test_root_lists_the_paths_of_the_api(harness: AppHarness) -> None:
    for accept in ("*/*", "application/json", "text/html" + " " * 2000):
        response = harness.caller(Accept=accept).get("/")
        assert response.status_code == 200
        entry_point = response.get_json()
        assert response.headers["Vary"] == "Accept"
        for name in ("reference", "error_codes", "openapi", "health"):
            assert harness.caller().get(entry_point[name]).status_code == 200, name


def test_root_sends_browsers_to_the_reference(harness: AppHarness) -> None:
    response = harness.caller(Accept="text/html,application/xhtml+xml,*/*;q=0.8").get("/")
    assert (response.status_code, response.headers["Location"]) == (302, "/docs")
    assert response.headers["Vary"] == "Accept"


def test_every_other_route_returns_401_without_a_credential(harness: AppHarness) -> None:
    for operation in declared(harness.app):
        if not operation.access.public:
            response = harness.caller().call(operation.method, path_of(operation))
            assert (response.status_code, response.get_json()["code"]) == (401, "missing_credential"), operation.path


def test_member_can_not_change_anything(harness: AppHarness) -> None:
    for operation in declared(harness.app):
        if operation.method != "GET" and not operation.access.public:
            response = harness.user(BOB).call(operation.method, path_of(operation))
            assert (response.status_code, response.get_json()["code"]) == (403, "forbidden"), operation.path


def test_charlie_can_not_access_acme(harness: AppHarness, charlie: Caller) -> None:
    for operation in declared(harness.app):
        if not operation.access.public:
            response = charlie.call(operation.method, path_of(operation), headers={"X-Account-ID": "acme"})
            assert (response.status_code, response.get_json()["code"]) == (403, "account_mismatch"), operation.path


@pytest.mark.parametrize(
    "path",
    [
        "/docs",
        "/docs/errors",
        "/docs/script.js",
        "/docs/style.css",
        "/healthz",
        "/readyz",
        "/v1/openapi.json",
        "/v1/openapi-operators.json",
    ],
)
def test_public_pages_return_200(harness: AppHarness, path: str) -> None:
    assert harness.caller().get(path).status_code == 200
