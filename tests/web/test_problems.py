"""Every error is a problem with a request id, or one plain line for clients that prefer text."""

from __future__ import annotations

import json

import pytest
from flask import Flask

import app as factory
from kataven import settings
from kataven.account.errors import Conflict
from kataven.dev.personas import ALICE
from kataven.web.access import PUBLIC
from kataven.web.operation import ApiBlueprint, ResponseSpec
from kataven.web.problems import PROBLEM_TYPES
from kataven.web.request_context import RequestContext
from tests.support.app_harness import AppHarness, Caller


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/v1/agents/", 404, "not_found"),
        ("GET", "//v1/agents", 404, "not_found"),
        ("GET", "/V1/agents", 404, "not_found"),
        ("PUT", "/v1/agents", 405, "method_not_allowed"),
        ("POST", "/v1/me", 405, "method_not_allowed"),
        ("BREW", "/v1/agents", 405, "method_not_allowed"),
        ("GET", "/v1/agents", 401, "missing_credential"),
    ],
)
def test_problem_has_the_documented_fields(harness: AppHarness, method: str, path: str, status: int, code: str) -> None:
    response = harness.caller().call(method, path)
    assert response.content_type == "application/problem+json"
    problem = response.get_json()
    assert (response.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert problem["title"] == PROBLEM_TYPES[code].title
    assert problem["type"] == f"/docs/errors#{code}"
    assert problem["detail"]
    assert problem["request_id"] == response.headers["X-Request-ID"]
    assert response.headers["Cache-Control"] == "no-store"


def test_405_lists_the_supported_methods(harness: AppHarness) -> None:
    assert harness.caller().call("PUT", "/v1/agents").headers["Allow"] == "GET, HEAD, OPTIONS, POST"


@pytest.mark.parametrize("accept", ["text/plain", "text/plain, application/json;q=0.5"])
def test_accept_text_plain_returns_one_line(harness: AppHarness, accept: str) -> None:
    response = harness.caller(Accept=accept).get("/v1/agents")
    assert response.content_type == "text/plain; charset=utf-8"
    detail = "The request has no credential. Send an API key or a JWT: `Authorization: Bearer …`."
    assert response.text == f"missing_credential: {detail}\n"


@pytest.mark.parametrize(
    "accept", ["*/*", "application/json", "text/html,*/*;q=0.1", "text/plain;q=0.1, application/json"]
)
def test_other_accept_headers_return_json(harness: AppHarness, accept: str) -> None:
    assert harness.caller(Accept=accept).get("/v1/agents").content_type == "application/problem+json"


def test_well_formed_request_id_of_the_client_is_kept(harness: AppHarness) -> None:
    assert harness.caller(X_Request_ID="order-4711.a_b").get("/healthz").headers["X-Request-ID"] == "order-4711.a_b"
    for hostile in ("short", "with blank 123", "x" * 129, '"quoted-id"', "ünïcode-id"):
        assert harness.caller(X_Request_ID=hostile).get("/healthz").headers["X-Request-ID"] != hostile


def test_every_response_has_its_own_request_id(harness: AppHarness) -> None:
    ids = {harness.caller().get("/healthz").headers["X-Request-ID"] for _ in range(5)}
    assert len(ids) == 5


def test_unexpected_error_is_a_500_without_details(harness: AppHarness, capfd: pytest.CaptureFixture[str]) -> None:
    key = harness.new_key("acme")
    application = _with_a_broken_route(harness, RuntimeError(f"it broke while holding {key}"))
    response = Caller(application, {"Authorization": f"Bearer {key}"}).get("/broken")
    problem = response.get_json()
    assert (response.status_code, problem["code"]) == (500, "internal_error")
    assert "broke" not in response.text
    logged = capfd.readouterr().err
    assert "RuntimeError: it broke while holding [redacted]" in logged
    assert key not in logged


def test_conflict_returns_409_with_its_message(harness: AppHarness) -> None:
    key = harness.new_key("acme")
    application = _with_a_broken_route(harness, Conflict("The agent is archived. Restore it first."))
    response = Caller(application, {"Authorization": f"Bearer {key}"}).get("/broken")
    problem = response.get_json()
    assert (response.status_code, problem["code"], problem["title"]) == (409, "conflict", "Conflict")
    assert problem["detail"] == "The agent is archived. Restore it first."


def _with_a_broken_route(harness: AppHarness, error: Exception) -> Flask:
    blueprint = ApiBlueprint("broken", __name__, "thing", "A package for a test.")

    @blueprint.operation("GET", "/broken", access=PUBLIC, summary="Break", response=ResponseSpec(200, "Never."))
    def broken(call: RequestContext) -> None:  # type: ignore[misc]
        raise error

    application = factory.create_api(settings.load(harness.environ))
    application.register_blueprint(blueprint)
    return application


def test_route_without_declared_access_rejects_every_request(harness: AppHarness) -> None:
    application = factory.create_api(settings.load(harness.environ))
    application.add_url_rule("/undeclared", view_func=lambda: "secret")
    response = Caller(application, {"Authorization": f"Bearer {harness.new_key('acme')}"}).get("/undeclared")
    assert (response.status_code, response.get_json()["code"]) == (403, "forbidden")


def test_access_log_of_a_rejected_request_has_its_code_and_caller(
    harness: AppHarness, bob: Caller, capsys: pytest.CaptureFixture[str]
) -> None:
    bob.post("/v1/agents", {"name": "Not allowed"})
    harness.bearer(harness.issuer.token(ALICE), "globex").get("/v1/me")
    harness.caller().get("/v1/me")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if '"kataven.access"' in line]
    assert [[line.get(name) for name in ("status", "code", "account", "principal")] for line in lines] == [
        [403, "forbidden", "acme", "jwt:bob"],
        [403, "account_mismatch", "globex", None],
        [401, "missing_credential", None, None],
    ]


def test_access_log_of_a_successful_request_has_no_code(bob: Caller, capsys: pytest.CaptureFixture[str]) -> None:
    bob.get("/v1/me")
    (line,) = [json.loads(line) for line in capsys.readouterr().err.splitlines() if '"kataven.access"' in line]
    assert (line["account"], line["principal"]) == ("acme", "jwt:bob")
    assert "code" not in line
