"""Whatever goes wrong is a problem with a request id, or one plain line for those who ask for it."""

from __future__ import annotations

import json

import pytest
from flask import Flask

import app as factory
from kataven import settings
from kataven.dev.personas import ALICE
from kataven.web.access import PUBLIC
from kataven.web.operation import Answer, ApiBlueprint
from kataven.web.problems import KINDS
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
def test_the_shape_of_a_problem(harness: AppHarness, method: str, path: str, status: int, code: str) -> None:
    answer = harness.anybody().call(method, path)
    assert answer.content_type == "application/problem+json"
    problem = answer.get_json()
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert problem["title"] == KINDS[code].title
    assert problem["type"] == f"/docs/errors#{code}"
    assert problem["detail"]
    assert problem["request_id"] == answer.headers["X-Request-ID"]
    assert answer.headers["Cache-Control"] == "no-store"


def test_405_says_which_methods_there_are(harness: AppHarness) -> None:
    assert harness.anybody().call("PUT", "/v1/agents").headers["Allow"] == "GET, HEAD, OPTIONS, POST"


@pytest.mark.parametrize("accept", ["text/plain", "text/plain, application/json;q=0.5"])
def test_one_plain_line_for_those_who_ask(harness: AppHarness, accept: str) -> None:
    answer = harness.anybody(Accept=accept).get("/v1/agents")
    assert answer.content_type == "text/plain; charset=utf-8"
    detail = "The request has no credential. Send an API key or a JWT: `Authorization: Bearer …`."
    assert answer.text == f"missing_credential: {detail}\n"


@pytest.mark.parametrize(
    "accept", ["*/*", "application/json", "text/html,*/*;q=0.1", "text/plain;q=0.1, application/json"]
)
def test_json_for_everybody_else(harness: AppHarness, accept: str) -> None:
    assert harness.anybody(Accept=accept).get("/v1/agents").content_type == "application/problem+json"


def test_a_request_id_of_the_client_is_kept_if_it_is_harmless(harness: AppHarness) -> None:
    assert harness.anybody(X_Request_ID="order-4711.a_b").get("/healthz").headers["X-Request-ID"] == "order-4711.a_b"
    for hostile in ("short", "with blank 123", "x" * 129, '"quoted-id"', "ünïcode-id"):
        assert harness.anybody(X_Request_ID=hostile).get("/healthz").headers["X-Request-ID"] != hostile


def test_every_answer_has_its_own_request_id(harness: AppHarness) -> None:
    ids = {harness.anybody().get("/healthz").headers["X-Request-ID"] for _ in range(5)}
    assert len(ids) == 5


def test_what_is_unforeseen_is_a_500_that_tells_nothing(harness: AppHarness, capfd: pytest.CaptureFixture[str]) -> None:
    key = harness.new_key("acme")
    application = _with_a_broken_route(harness, f"it broke while holding {key}")
    answer = Caller(application, {"Authorization": f"Bearer {key}"}).get("/broken")
    problem = answer.get_json()
    assert (answer.status_code, problem["code"]) == (500, "internal_error")
    assert "broke" not in answer.text
    logged = capfd.readouterr().err
    assert "RuntimeError: it broke while holding [redacted]" in logged
    assert key not in logged


def _with_a_broken_route(harness: AppHarness, message: str) -> Flask:
    blueprint = ApiBlueprint("broken", __name__, "thing", "A room for a test.")

    @blueprint.operation("GET", "/broken", access=PUBLIC, summary="Break", answer=Answer(200, "Never."))
    def broken(call: RequestContext) -> None:  # type: ignore[misc]
        raise RuntimeError(message)

    application = factory.create_api(settings.load(harness.environ))
    application.register_blueprint(blueprint)
    return application


def test_a_route_that_declares_no_access_is_refused_to_everybody(harness: AppHarness) -> None:
    application = factory.create_api(settings.load(harness.environ))
    application.add_url_rule("/undeclared", view_func=lambda: "secret")
    answer = Caller(application, {"Authorization": f"Bearer {harness.new_key('acme')}"}).get("/undeclared")
    assert (answer.status_code, answer.get_json()["code"]) == (403, "forbidden")


def test_the_log_line_of_a_denied_request_has_its_code_and_its_caller(
    harness: AppHarness, bob: Caller, capsys: pytest.CaptureFixture[str]
) -> None:
    bob.post("/v1/agents", {"name": "Not allowed"})
    harness.bearer(harness.issuer.token(ALICE), "globex").get("/v1/me")
    harness.anybody().get("/v1/me")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if '"kataven.access"' in line]
    assert [[line.get(name) for name in ("status", "code", "account", "principal")] for line in lines] == [
        [403, "forbidden", "acme", "jwt:bob"],
        [403, "account_mismatch", "globex", None],
        [401, "missing_credential", None, None],
    ]


def test_the_log_line_of_a_served_request_has_no_code(bob: Caller, capsys: pytest.CaptureFixture[str]) -> None:
    bob.get("/v1/me")
    (line,) = [json.loads(line) for line in capsys.readouterr().err.splitlines() if '"kataven.access"' in line]
    assert (line["account"], line["principal"]) == ("acme", "jwt:bob")
    assert "code" not in line
