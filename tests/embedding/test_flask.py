"""A Flask application that embeds Kataven."""

from __future__ import annotations

import os
from typing import Any

import pytest
from flask import Flask, g
from flask.views import MethodView

from kataven import settings
from kataven.account import api_keys
from kataven.dev.personas import ALICE
from kataven.flask import (
    KEYS_ONLY,
    READ,
    Kataven,
    StartedBeforeFork,
    UndeclaredRoutes,
    public,
    reading,
    requires,
    writing,
)
from kataven.flask.extension import EXTENSION
from kataven.identity.token import TokenKind
from kataven.settings import Settings, SettingsError
from kataven.web.membership import Membership
from tests.embedding.applications import flask_app
from tests.support.app_harness import TESTER, AppHarness, Caller


@pytest.fixture
def key(harness: AppHarness) -> str:
    return harness.new_key("acme")


def bearer(app: Flask, key: str) -> Caller:
    return Caller(app, {"Authorization": f"Bearer {key}"})


def stopped(app: Flask) -> None:
    membership: Membership = app.extensions[EXTENSION]
    membership.leave()


def test_view_receives_the_principal_and_the_account(shop: Flask, key: str) -> None:
    response = bearer(shop, key).get("/v1/agents")
    assert response.get_json()["account"] == "acme"
    assert response.get_json()["principal"].startswith("api_key:")
    assert response.headers["RateLimit"].startswith('"per-minute"')
    assert response.headers["X-Request-ID"]


def test_public_view_requires_no_credential_and_has_no_principal(shop: Flask) -> None:
    assert Caller(shop, {}).get("/open").get_json() == {"principal": None}


def test_problem_links_to_the_explanation_at_the_api(shop: Flask, configured: Settings) -> None:
    problem = Caller(shop, {}).get("/v1/agents").get_json()
    assert problem["type"] == f"{configured.public_url}/docs/errors#missing_credential"


def test_route_without_a_declaration_rejects_every_request_and_is_named(shop: Flask, key: str) -> None:
    response = bearer(shop, key).get("/forgotten")
    assert response.status_code == 403
    assert "GET /forgotten declares no access" in response.get_json()["detail"]


def test_start_and_check_name_every_route_without_a_declaration(configured: Settings) -> None:
    app = Flask("unchecked")
    kataven = Kataven(app, settings=configured)
    app.get("/a", endpoint="a")(lambda: "")
    app.get("/b", endpoint="b")(public(lambda: ""))
    for check in (kataven.check, kataven.start):
        with pytest.raises(UndeclaredRoutes) as refused:
            check(app)
        assert refused.value.routes == ("GET /a (a)", "GET /static/<path:filename> (static)")
        assert "public(app.view_functions['static'])" in str(refused.value)
    stopped(app)


def test_route_without_a_declaration_is_public_if_the_extension_is_not_strict(configured: Settings) -> None:
    app = Flask("gradual", static_folder=None)
    Kataven(app, settings=configured, strict=False)
    app.get("/a", endpoint="a")(lambda: {"principal": g.principal})
    app.get("/b", endpoint="b")(requires(READ)(lambda: ""))
    assert Caller(app, {}).get("/a").get_json() == {"principal": None}
    assert Caller(app, {}).get("/b").status_code == 401
    stopped(app)


def test_methods_of_a_class_based_view_declare_their_own_access(configured: Settings, harness: AppHarness) -> None:
    class Things(MethodView):
        @public
        def get(self) -> str:
            return "read"

        @requires(KEYS_ONLY)
        def post(self) -> str:
            return "added"

        def delete(self) -> str:
            raise AssertionError("a method without a declaration ran")

    app = Flask("classes", static_folder=None)
    Kataven(app, settings=configured)
    app.add_url_rule("/things", view_func=Things.as_view("things"))
    anyone, with_key = Caller(app, {}), bearer(app, harness.new_key("acme"))
    statuses = [
        caller.call(method, "/things").status_code
        for caller, method in (
            (anyone, "GET"),
            (anyone, "HEAD"),
            (anyone, "POST"),
            (with_key, "POST"),
            (with_key, "DELETE"),
        )
    ]
    assert statuses == [200, 200, 401, 200, 403]
    stopped(app)


def test_key_with_scopes_reaches_only_views_that_require_one_of_them(shop: Flask, harness: AppHarness) -> None:
    for scopes, expected in ((["notes:write"], (200, 403)), (["agents:read"], (403, 403)), (None, (200, 200))):
        caller = bearer(shop, harness.new_key("acme", scopes=scopes))
        assert (caller.get("/v1/scoped").status_code, caller.get("/v1/agents").status_code) == expected


def test_options_is_public_only_if_flask_responds_to_it(configured: Settings) -> None:
    app = Flask("options", static_folder=None)
    Kataven(app, settings=configured)
    app.get("/automatic", endpoint="automatic")(requires(READ)(lambda: ""))
    app.route("/own", methods=["OPTIONS"], endpoint="own")(lambda: "the view ran")
    assert Caller(app, {}).call("OPTIONS", "/automatic").status_code == 200
    assert Caller(app, {}).call("OPTIONS", "/own").status_code == 403
    stopped(app)


def test_hooks_of_the_application_run_only_for_admitted_requests(configured: Settings, key: str) -> None:
    app = Flask("hooks", static_folder=None)
    seen: list[Any] = []
    app.before_request(lambda: seen.append(g.get("principal")))
    Kataven(app, settings=configured)
    app.get("/a")(requires(READ)(lambda: ""))
    Caller(app, {}).get("/a")
    assert seen == []
    bearer(app, key).get("/a")
    assert [principal.account for principal in seen] == ["acme"]
    stopped(app)


def test_the_application_keeps_its_own_errors_and_its_own_attributes(configured: Settings, key: str) -> None:
    app = Flask("own", static_folder=None)
    Kataven(app, settings=configured)
    app.errorhandler(ZeroDivisionError)(lambda _: ("divided", 418))

    @app.get("/a")
    @requires(READ)
    def divide() -> str:
        g.context = "mine"
        return str(1 / 0)

    response = bearer(app, key).get("/a")
    assert (response.status_code, response.text) == (418, "divided")
    assert bearer(app, key).get("/missing").content_type.startswith("text/html")
    stopped(app)


def test_sessions_open_the_database_of_the_callers_account(configured: Settings, harness: AppHarness) -> None:
    app = Flask("sessions", static_folder=None)
    Kataven(app, settings=configured)

    @app.get("/keys")
    @requires(READ)
    def count_keys() -> dict[str, Any]:
        with reading() as session:
            return {"account": session.account}

    @app.post("/keys")
    @requires(READ)
    def add_key() -> dict[str, Any]:
        issued = harness.services.issuer.issue(TokenKind.API_KEY, "globex")
        with writing() as session:
            return {"id": str(api_keys.issue(session, "embedded", issued, None, TESTER).id)}

    with_key = bearer(app, harness.new_key("globex"))
    assert with_key.get("/keys").get_json() == {"account": "globex"}
    assert with_key.post("/keys").get_json()["id"]
    stopped(app)


def test_revoked_key_is_rejected_by_the_application_once_the_receipt_is_out(shop: Flask, harness: AppHarness) -> None:
    alice = harness.bearer(harness.new_key("acme"))
    created = harness.user(ALICE).post("/v1/api-keys", {"name": "shop", "expiry": "never"}).get_json()
    key = created["key"]
    assert alice.get("/v1/me").status_code == 200
    for _ in range(2):
        assert bearer(shop, key).get("/v1/agents").status_code == 200
    receipt = harness.user(ALICE).patch(f"/v1/api-keys/{created['id']}", {"disabled": True}).get_json()["receipt"]
    assert receipt["workers"] >= 2  # the API, and the application
    assert receipt["acknowledged"] == receipt["workers"]
    refused = bearer(shop, key).get("/v1/agents")
    assert (refused.status_code, refused.get_json()["code"]) == (403, "revoked_credential")


def test_slot_of_a_request_is_released_even_if_the_view_fails(configured: Settings, harness: AppHarness) -> None:
    app = Flask("slots", static_folder=None)
    Kataven(app, settings=configured)

    @app.get("/fails")
    @requires(READ)
    def fail() -> str:
        raise ValueError

    with_key = bearer(app, harness.new_key("globex"))
    remaining = [_concurrent(with_key.get("/fails").headers["RateLimit"]) for _ in range(3)]
    assert len(set(remaining)) == 1
    stopped(app)


def _concurrent(header: str) -> str:
    return header.partition('"concurrent";r=')[2]


def test_child_of_a_process_that_joined_is_rejected_with_the_reason(
    shop: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    Caller(shop, {}).get("/open")
    membership: Membership = shop.extensions[EXTENSION]
    parent = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: parent + 1)
    with pytest.raises(StartedBeforeFork, match=f"started in process {parent}, which then forked"):
        membership.join()
    membership.leave()  # must not stop the services of the parent
    monkeypatch.undo()
    assert membership.joined


def test_extension_is_installed_once_and_found_again(shop: Flask, configured: Settings) -> None:
    with pytest.raises(RuntimeError, match="already installed in the application 'shop'"):
        Kataven(shop, settings=configured)
    with pytest.raises(RuntimeError, match="has no Kataven extension"):
        Kataven().start(Flask("bare"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "name the callers"),
        ({"roles": "owner"}, r"roles must be a tuple, such as roles=\('owner',\)"),
        ({"roles": ("owner", "amdin")}, "unknown role 'amdin'; the roles are owner, admin, member"),
        ({"access": READ, "keys": True}, "not both"),
        ({"access": READ, "scope": "notes"}, "must be <noun>:read or <noun>:write"),
        ({"roles": ("owner",), "scope": "notes:read"}, "does not accept"),
    ],
)
def test_declaration_names_its_mistake(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        requires(**arguments)


def test_settings_of_the_environment_are_reported_together(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("KATAVEN_")]:
        monkeypatch.delenv(name)
    with pytest.raises(SettingsError) as refused:
        Kataven(Flask("unconfigured"))
    assert len(refused.value.problems) > 3


def test_application_opens_no_connection_before_it_starts(harness: AppHarness) -> None:
    unreachable = {
        "KATAVEN_DATABASE_URL": "postgresql+psycopg2://127.0.0.1:1/x",
        "KATAVEN_REDIS_URL": "redis://127.0.0.1:1/0",
    }
    app = flask_app(settings.load({**harness.environ, **unreachable}))
    assert not app.extensions[EXTENSION].joined
