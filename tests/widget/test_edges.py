"""CORS, the served script, unavailable Redis, and installations without a signing key."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

import app as factory
from kataven import settings
from kataven.ratelimit.budget import PER_MINUTE, AddressBudgetKind
from kataven.web.cors import PATHS
from kataven.web.services import EXTENSION, Services
from kataven.widget.store import WidgetStore
from tests.support.app_harness import AppHarness, Caller
from tests.widget.conftest import ORIGIN, Site, refusal

SECRET_PATH = "/v1/widget/auth/user-token"
MAX_BYTES = 10_000
SOURCE = Path(__file__).resolve().parents[2] / "kataven" / "widget" / "static" / "widget.js"


# --- CORS


@pytest.mark.parametrize("path", sorted(PATHS))
@pytest.mark.parametrize("prefix", ["", "/api", "/hub-api/api"])
def test_preflight_is_allowed_for_any_origin(harness: AppHarness, path: str, prefix: str) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    response = harness.caller(Origin="https://anywhere.example").call("OPTIONS", prefix + path, headers=asked)
    assert response.status_code == 200
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert response.headers["Access-Control-Allow-Methods"] == "GET, POST"
    assert response.headers["Access-Control-Allow-Headers"] == "Content-Type, traceparent, tracestate"
    assert int(response.headers["Access-Control-Max-Age"]) > 0
    assert "Origin" in response.headers["Vary"]
    assert "Access-Control-Allow-Credentials" not in response.headers


@pytest.mark.parametrize("path", sorted(PATHS))
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_all_responses_including_errors_are_readable_by_other_origins(
    harness: AppHarness, path: str, method: str
) -> None:
    response = harness.caller(Origin="https://anywhere.example").call(method, path, data="{")
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert "X-Request-ID" in response.headers["Access-Control-Expose-Headers"]
    assert "Origin" in response.headers["Vary"]
    assert "Access-Control-Allow-Credentials" not in response.headers


@pytest.mark.parametrize("path", [SECRET_PATH, "/v1/agents", "/v1/widget-keys", "/v1/widget/nothing", "/v1/me"])
def test_operations_with_credentials_have_no_cors_headers(acme_key: Caller, path: str) -> None:
    asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
    for method in ("OPTIONS", "GET", "POST"):
        response = acme_key.call(method, path, headers=asked)
        assert not [name for name in response.headers.keys() if name.startswith("Access-Control")]  # noqa: SIM118


def test_rate_limit_response_is_readable_by_other_origins(harness: AppHarness, site: Site) -> None:
    busy_address = "203.0.113.99"
    while harness.services.limiter.addresses.spend(busy_address, AddressBudgetKind.PUBLIC).admitted:
        pass
    caller, from_address = harness.caller(Origin=ORIGIN), {"environ_base": {"REMOTE_ADDR": busy_address}}
    query = {"client_key": site.key, "agent_id": site.agent_id}
    response = caller.get("/v1/widget/config", query_string=query, **from_address)
    assert refusal(response) == (429, "rate_limited")
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert "Retry-After" in response.headers["Access-Control-Expose-Headers"]
    assert str(PER_MINUTE[AddressBudgetKind.PUBLIC]) in response.get_json()["detail"]
    # Invalid requests are still rejected as invalid. They need no lookup, so they don't count.
    junk = caller.get("/v1/widget/config", query_string={"client_key": "junk"}, **from_address)
    assert refusal(junk) == (400, "invalid_request")
    assert site.config().status_code == 200, "other addresses are served"


# --- the script


def test_script_is_small_and_identical_with_and_without_gzip(harness: AppHarness) -> None:
    plain = harness.caller().get("/widget.js", headers={"Accept-Encoding": "identity"})
    packed = harness.caller().get("/widget.js", headers={"Accept-Encoding": "gzip, br"})
    assert plain.data == SOURCE.read_bytes() == gzip.decompress(packed.data)
    assert len(packed.data) <= MAX_BYTES
    assert (plain.headers.get("Content-Encoding"), packed.headers["Content-Encoding"]) == (None, "gzip")
    for response in (plain, packed):
        assert response.status_code == 200
        assert response.content_type == "text/javascript; charset=utf-8"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert response.headers["Cache-Control"].startswith("public, max-age=")
        assert "Accept-Encoding" in response.headers["Vary"]
    assert plain.headers["ETag"] != packed.headers["ETag"], "they are different bytes"


def test_if_none_match_returns_304(harness: AppHarness) -> None:
    gzipped = {"Accept-Encoding": "gzip"}
    tag = harness.caller().get("/widget.js", headers=gzipped).headers["ETag"]
    cached = harness.caller().get("/widget.js", headers={**gzipped, "If-None-Match": tag})
    assert (cached.status_code, cached.data, cached.headers["ETag"]) == (304, b"", tag)
    assert cached.headers["Cache-Control"].startswith("public")
    assert harness.caller().get("/widget.js", headers={**gzipped, "If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize(
    "word", ["eval(", "new Function", "innerHTML", "insertAdjacentHTML", "document.write", "import("]
)
def test_script_does_not_evaluate_code_or_parse_markup(word: str) -> None:
    assert word not in SOURCE.read_text()


# --- missing dependencies


def test_unavailable_redis_returns_503_for_sessions_and_configuration_still_works(
    site: Site, acme_key: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = site.guest().get_json()
    unavailable = WidgetStore("unix:///there-is-no-redis-here.sock")
    monkeypatch.setattr(site.harness.services.widget.store, "_client", unavailable._client)
    user = acme_key.post(SECRET_PATH, {"external_user_id": "u-17"})
    for response in (site.guest(), site.refresh(tokens["refresh_token"]), user):
        assert refusal(response) == (503, "unavailable")
        assert int(response.headers["Retry-After"]) >= 1
    assert site.config().status_code == 200
    monkeypatch.undo()
    assert site.refresh(tokens["refresh_token"]).status_code == 200, "the token was not used"


def test_missing_signing_key_returns_503(harness: AppHarness, site: Site) -> None:
    environ = {name: value for name, value in harness.environ.items() if name != "KATAVEN_WIDGET_SIGNING_KEYS"}
    application = factory.create_api(settings.load(environ))
    body = {"client_key": site.key, "agent_id": site.agent_id}
    visitor = Caller(application, {"Origin": ORIGIN})
    services: Services = application.extensions[EXTENSION]
    services.start()
    try:
        for response in (visitor.post("/v1/widget/auth/guest", body), visitor.get("/v1/widget/jwks.json")):
            assert refusal(response) == (503, "widget_not_configured")
            assert int(response.headers["Retry-After"]) >= 1
        assert visitor.get("/v1/widget/config", query_string=body).status_code == 200
        assert "KATAVEN_WIDGET_SIGNING_KEYS" in visitor.get("/readyz").get_json()["checks"]["widget"]
    finally:
        services.stop()
