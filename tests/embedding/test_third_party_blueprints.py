"""Blueprints of other packages in the API are held to the rules of its own, or the API does not start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Blueprint, Flask, Response

import app as factory
from kataven import settings
from kataven.dev.personas import ALICE
from kataven.web.access import KEYS_ONLY
from kataven.web.operation import ApiBlueprint, ResponseSpec, operation_of
from kataven.web.request_context import RequestContext
from kataven.web.schema import View
from kataven.web.services import EXTENSION, Services
from kataven.web.third_party import BlueprintRefused
from tests.embedding import greetings
from tests.support.app_harness import AppHarness, Caller


@pytest.fixture(scope="module")
def extended(harness: AppHarness) -> Iterator[Flask]:
    """The API with the blueprint."""
    app = factory.create_api(settings.load(harness.environ), blueprints=[greetings.create()])
    services: Services = app.extensions[EXTENSION]
    services.start()
    yield app
    services.stop()


def caller(app: Flask, key: str) -> Caller:
    return Caller(app, {"Authorization": f"Bearer {key}"})


def test_operation_of_another_package_passes_the_pipeline(harness: AppHarness, extended: Flask) -> None:
    with_key = caller(extended, harness.new_key("acme"))
    response = with_key.get("/v1/greetings")
    assert (response.status_code, response.get_json()) == (200, {"text": "hello", "account": "acme"})
    assert response.headers["RateLimit"].startswith('"per-minute"')
    assert with_key.get("/api/v1/greetings").headers["Deprecation"]
    assert with_key.post("/v1/greetings", {"text": "hi"}).status_code == 201
    problem = with_key.post("/v1/greetings", {"txet": "hi"}).get_json()
    assert {error["field"] for error in problem["errors"]} == {"text", "txet"}
    without = Caller(extended, {}).get("/v1/greetings")
    assert (without.status_code, without.get_json()["code"]) == (401, "missing_credential")


def test_operation_of_another_package_is_in_the_document_and_in_the_metrics(
    harness: AppHarness, extended: Flask
) -> None:
    caller(extended, harness.new_key("acme")).get("/v1/greetings")
    document = Caller(extended, {}).get("/v1/openapi.json").get_json()
    assert set(document["paths"]["/v1/greetings"]) == {"get", "post"}
    assert {"GreetingInput", "Greeting"} <= set(document["components"]["schemas"])
    assert {"name": "greetings", "description": "Greetings."} in document["tags"]
    services: Services = extended.extensions[EXTENSION]
    assert b'route="/v1/greetings"' in services.metrics.exposition()


def test_scopes_of_another_package_are_granted_and_required(harness: AppHarness, extended: Flask) -> None:
    alice = Caller(extended, harness.user(ALICE).headers)
    body = {"name": "CI", "expiry": "30d"}
    created = alice.post("/v1/api-keys", {**body, "scopes": ["greetings:read"]})
    assert (created.status_code, created.get_json()["scopes"]) == (201, ["greetings:read"])
    key = caller(extended, created.get_json()["key"])
    assert key.get("/v1/greetings").status_code == 200
    problem = key.post("/v1/greetings", {"text": "hi"}).get_json()
    assert (problem["code"], "`greetings:write`" in problem["detail"]) == ("insufficient_scope", True)
    assert key.get("/v1/agents").get_json()["code"] == "insufficient_scope"
    schemas = Caller(extended, {}).get("/v1/openapi.json").get_json()["components"]["schemas"]
    assert {"greetings:read", "greetings:write", "agents:read"} <= set(schemas["Scope"]["enum"])
    unknown = harness.user(ALICE).post("/v1/api-keys", {**body, "scopes": ["greetings:read"]})
    assert unknown.status_code == 400, "the API without the package has no such scope"


def _with_options() -> ApiBlueprint:
    blueprint = ApiBlueprint("hidden", __name__, "secret", "Secrets.")
    response = ResponseSpec(200, "The secret.", greetings.GreetingView)

    @blueprint.operation("OPTIONS", "/v1/hidden", access=KEYS_ONLY, summary="Show", response=response)
    def show_hidden(context: RequestContext) -> Response:
        raise AssertionError("reached without a credential")

    return blueprint


def _named_like_an_operation_of_the_api() -> ApiBlueprint:
    blueprint = ApiBlueprint("others", __name__, "agent", "Other agents.")
    response = ResponseSpec(200, "The agents.", greetings.GreetingView)

    @blueprint.operation("GET", "/v1/other-agents", access=KEYS_ONLY, summary="List", response=response)
    def list_agents(context: RequestContext) -> Response:
        raise AssertionError("not called")

    return blueprint


def _undeclared() -> ApiBlueprint:
    blueprint = greetings.create()
    blueprint.add_url_rule("/v1/hidden", "hidden", lambda: "", methods=["GET"])
    return blueprint


class AgentView(View):
    """Another model with the name of one of the API."""


class Agent(View):
    """A model whose name in the document is that of one of the API."""


@pytest.mark.parametrize(
    ("blueprints", "message"),
    [
        ([greetings.create(name="agents")], "two blueprints are named 'agents'"),
        ([greetings.create(path="/v1/agents/<id>")], r"both declare GET /v1/agents/<id>"),
        ([greetings.create(), greetings.create(name="others")], "both declare GET /v1/greetings"),
        ([greetings.create(path="/greetings")], "must start with /v1/"),
        ([greetings.create(path="/v1/files/<path:name>")], "has a converter"),
        ([_undeclared()], "/v1/hidden declares no access"),
        ([_with_options()], "/v1/hidden declares OPTIONS"),
        ([greetings.create(model=AgentView)], "both have a model that is published as 'Agent'"),
        ([greetings.create(model=Agent)], "both have a model that is published as 'Agent'"),
        ([_named_like_an_operation_of_the_api()], "both are the operation 'listAgents'"),
        ([Blueprint("plain", __name__)], "is not an ApiBlueprint"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_conflict_is_a_startup_error(harness: AppHarness, blueprints: list[ApiBlueprint], message: str) -> None:
    with pytest.raises(BlueprintRefused, match=message):
        factory.create_api(settings.load(harness.environ), blueprints=blueprints)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package with an entry point."""
    metadata = tmp_path / "greetings-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: greetings\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[kataven.blueprints]\ngreetings = tests.embedding.greetings:blueprint\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("installed")
def test_entry_point_is_added_only_if_the_setting_names_it(harness: AppHarness) -> None:
    for names, expected in (("", False), ("greetings", True)):
        app = factory.create_api(settings.load({**harness.environ, "KATAVEN_BLUEPRINTS": names}))
        assert ("greetings" in app.blueprints) == expected


@pytest.mark.usefixtures("installed")
def test_unknown_entry_point_is_a_startup_error_that_lists_the_installed_ones(harness: AppHarness) -> None:
    with pytest.raises(
        BlueprintRefused, match=r"KATAVEN_BLUEPRINTS: 0 installed .* 'greeting' .* Installed: greetings"
    ):
        factory.create_api(settings.load({**harness.environ, "KATAVEN_BLUEPRINTS": "greeting"}))


def test_without_other_blueprints_the_api_is_unchanged(harness: AppHarness) -> None:
    app = factory.create_api(settings.load(harness.environ))
    assert {str(rule) for rule in app.url_map.iter_rules()} == {str(rule) for rule in harness.app.url_map.iter_rules()}
    assert all(operation_of(view) for view in app.view_functions.values())
