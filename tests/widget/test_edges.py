"""What stands around the flows: CORS, the script as it is served, Redis gone, an installation without a key."""

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
def test_a_preflight_is_answered_to_anybody(harness: AppHarness, path: str, prefix: str) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    answer = harness.anybody(Origin="https://anywhere.example").call("OPTIONS", prefix + path, headers=asked)
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answer.headers["Access-Control-Allow-Methods"] == "GET, POST"
    assert answer.headers["Access-Control-Allow-Headers"] == "Content-Type, traceparent, tracestate"
    assert int(answer.headers["Access-Control-Max-Age"]) > 0
    assert "Origin" in answer.headers["Vary"]
    assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize("path", sorted(PATHS))
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_every_answer_can_be_read_by_other_origins_refusals_too(harness: AppHarness, path: str, method: str) -> None:
    answer = harness.anybody(Origin="https://anywhere.example").call(method, path, data="{")
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "X-Request-ID" in answer.headers["Access-Control-Expose-Headers"]
    assert "Origin" in answer.headers["Vary"]
    assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize("path", [SECRET_PATH, "/v1/agents", "/v1/widget-keys", "/v1/widget/nothing", "/v1/me"])
def test_nothing_that_takes_a_credential_can_be_read_by_other_origins(acme_key: Caller, path: str) -> None:
    asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
    for method in ("OPTIONS", "GET", "POST"):
        answer = acme_key.call(method, path, headers=asked)
        assert not [name for name in answer.headers.keys() if name.startswith("Access-Control")]  # noqa: SIM118


def test_a_refusal_for_the_budget_of_an_address_can_be_read(harness: AppHarness, site: Site) -> None:
    crowded = "203.0.113.99"
    while harness.services.limiter.addresses.spend(crowded, AddressBudgetKind.PUBLIC).admitted:
        pass
    caller, come_from = harness.anybody(Origin=ORIGIN), {"environ_base": {"REMOTE_ADDR": crowded}}
    query = {"client_key": site.key, "agent_id": site.agent_id}
    answer = caller.get("/v1/widget/config", query_string=query, **come_from)
    assert refusal(answer) == (429, "rate_limited")
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "Retry-After" in answer.headers["Access-Control-Expose-Headers"]
    assert str(PER_MINUTE[AddressBudgetKind.PUBLIC]) in answer.get_json()["detail"]
    # Junk is refused as junk all the same: it costs no look-up, so it is not counted.
    junk = caller.get("/v1/widget/config", query_string={"client_key": "junk"}, **come_from)
    assert refusal(junk) == (400, "invalid_request")
    assert site.config().status_code == 200, "its neighbours are served"


# --- the script


def test_the_script_is_small_and_the_same_for_everybody(harness: AppHarness) -> None:
    plain = harness.anybody().get("/widget.js", headers={"Accept-Encoding": "identity"})
    packed = harness.anybody().get("/widget.js", headers={"Accept-Encoding": "gzip, br"})
    assert plain.data == SOURCE.read_bytes() == gzip.decompress(packed.data)
    assert len(packed.data) <= MAX_BYTES
    assert (plain.headers.get("Content-Encoding"), packed.headers["Content-Encoding"]) == (None, "gzip")
    for answer in (plain, packed):
        assert answer.status_code == 200
        assert answer.content_type == "text/javascript; charset=utf-8"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert answer.headers["Cache-Control"].startswith("public, max-age=")
        assert "Accept-Encoding" in answer.headers["Vary"]
    assert plain.headers["ETag"] != packed.headers["ETag"], "they are different bytes"


def test_who_has_the_script_is_not_sent_it_again(harness: AppHarness) -> None:
    gzipped = {"Accept-Encoding": "gzip"}
    tag = harness.anybody().get("/widget.js", headers=gzipped).headers["ETag"]
    again = harness.anybody().get("/widget.js", headers={**gzipped, "If-None-Match": tag})
    assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", tag)
    assert again.headers["Cache-Control"].startswith("public")
    assert harness.anybody().get("/widget.js", headers={**gzipped, "If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize(
    "word", ["eval(", "new Function", "innerHTML", "insertAdjacentHTML", "document.write", "import("]
)
def test_the_script_makes_no_code_and_no_markup_of_text(word: str) -> None:
    assert word not in SOURCE.read_text()


# --- what is not there


def test_without_redis_nobody_is_let_in_and_the_rest_goes_on(
    site: Site, acme_key: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    visit = site.guest().get_json()
    gone = WidgetStore("unix:///there-is-no-redis-here.sock")
    monkeypatch.setattr(site.harness.services.widget.store, "_client", gone._client)
    user = acme_key.post(SECRET_PATH, {"external_user_id": "u-17"})
    for answer in (site.guest(), site.refresh(visit["refresh_token"]), user):
        assert refusal(answer) == (503, "unavailable")
        assert int(answer.headers["Retry-After"]) >= 1
    assert site.config().status_code == 200
    monkeypatch.undo()
    assert site.refresh(visit["refresh_token"]).status_code == 200, "and the token was not used up"


def test_an_installation_without_a_signing_key_says_so(harness: AppHarness, site: Site) -> None:
    environ = {name: value for name, value in harness.environ.items() if name != "KATAVEN_WIDGET_SIGNING_KEYS"}
    application = factory.create_api(settings.load(environ))
    body = {"client_key": site.key, "agent_id": site.agent_id}
    visitor = Caller(application, {"Origin": ORIGIN})
    services: Services = application.extensions[EXTENSION]
    services.start()
    try:
        for answer in (visitor.post("/v1/widget/auth/guest", body), visitor.get("/v1/widget/jwks.json")):
            assert refusal(answer) == (503, "widget_not_configured")
            assert int(answer.headers["Retry-After"]) >= 1
        assert visitor.get("/v1/widget/config", query_string=body).status_code == 200
        assert "KATAVEN_WIDGET_SIGNING_KEYS" in visitor.get("/readyz").get_json()["checks"]["widget"]
    finally:
        services.stop()
