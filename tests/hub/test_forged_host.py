"""A forged `Host` header never appears in a response: URLs are not built from the request's host."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from urllib.parse import urljoin, urlsplit

import pytest
from flask import Flask
from werkzeug.test import EnvironBuilder, TestResponse

import app as factory
from kataven import settings
from kataven.dev.personas import ALICE, OLIVIA
from tests.hub.conftest import HUB_URL, Hub
from tests.support.app_harness import AppHarness, Caller

EVIL = "forged-host.example"
"""No other test sends it: pages list the origins that widget keys refused."""
FORGED = {
    "X-Forwarded-Host": EVIL,
    "X-Forwarded-Proto": "http",
    "Forwarded": f"host={EVIL};proto=http",
    "X-Original-URL": f"http://{EVIL}/",
}
AN_ID = "00000000-0000-4000-8000-000000000000"
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")


def paths_of(app: Flask) -> list[str]:
    return sorted({re.sub(r"<(?:\w+:)?\w+>", AN_ID, rule.rule) for rule in app.url_map.iter_rules()})


def variants(path: str) -> list[str]:
    return [path, f"{path}/", f"/{path}", path.replace("/", "//"), f"{path}?limit=1", f"{path}/../", f"{path}%2f"]


def mentions(answer: TestResponse) -> list[str]:
    found = [f"{name}: {text}" for name, text in answer.headers if EVIL in text]
    return found + ([answer.text] if EVIL in answer.text else [])


@pytest.fixture(scope="module")
def both(harness: AppHarness, hub: Hub) -> Iterator[Flask]:
    """The API and the Hub in one process, selected by host."""
    built = factory.create_app(settings.load({**harness.environ, "KATAVEN_HUB_URL": HUB_URL}))
    yield built
    built.extensions["kataven"].stop()


def test_no_api_route_repeats_the_host_header(
    harness: AppHarness, acme_key: Caller, alice: object, both: Flask
) -> None:
    callers = [harness.caller(), acme_key, harness.user(ALICE), Caller(both, acme_key.headers)]
    for _ in range(2):
        acme_key.post("/v1/agents", {"name": "One of two"})
    linked = set()
    for path in [
        *paths_of(harness.app),
        "/api/v1/agents",
        "/hub-api/api/v1/agents",
        "/hub-api/api/accounts",
        "/nowhere",
    ]:
        for caller in callers:
            for asked in variants(path):
                answer = caller.get(asked, headers=FORGED, base_url=f"http://{EVIL}")
                assert not mentions(answer), asked
                if 'rel="next"' in answer.headers.get("Link", ""):
                    linked.add(path)
            for method in METHODS:
                assert not mentions(caller.call(method, path, headers=FORGED, base_url=f"http://{EVIL}")), path
    assert linked >= {"/v1/agents", "/api/v1/agents", "/hub-api/api/v1/agents"}


def test_no_hub_page_repeats_the_host_header(hub: Hub) -> None:
    shown = set()
    addresses = ipaddress.ip_network("198.18.128.0/22").hosts()
    for browser in (hub.browser(), hub.signed_in(ALICE), hub.signed_in(OLIVIA)):
        client = browser.client
        cookie = client.get_cookie(hub.services.cookie_name, "localhost")
        for path in [*paths_of(hub.pages), "/hub-api/api/v1/agents", "/nowhere"]:
            client.environ_base["REMOTE_ADDR"] = str(next(addresses))  # each has a budget
            for asked in variants(path):
                for method in ("GET", "POST"):
                    if cookie is not None:
                        client.set_cookie(cookie.key, cookie.value, domain=EVIL)
                    answer = client.open(asked, method=method, headers=FORGED, base_url=f"http://{EVIL}")
                    assert not mentions(answer), asked
                    if answer.status_code == 200:
                        shown.add(path)
    assert shown >= {"/sign-in", "/", "/settings/api-keys", "/console", "/console/health"}


@pytest.mark.parametrize("path", ["/settings//api-keys", "//settings/api-keys", "/settings/api-keys/"])
def test_path_with_an_extra_slash_returns_404(hub: Hub, path: str) -> None:
    answer = hub.browser().get(path)
    assert (answer.status_code, answer.headers.get("Location")) == (404, None)


def test_request_target_without_a_path_is_not_redirected(hub: Hub) -> None:
    """`GET http://evil.example HTTP/1.1`, the absolute form of RFC 9112, section 3.2.2."""
    environ = EnvironBuilder("/", base_url=f"http://{EVIL}").get_environ()
    answer = hub.browser().client.open({**environ, "PATH_INFO": ""})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/sign-in")


def test_no_rule_makes_the_router_redirect(harness: AppHarness, hub: Hub) -> None:
    """Werkzeug's redirects are absolute and contain the request's host."""
    for application in (harness.app, hub.app, hub.pages):
        assert not application.url_map.merge_slashes
        for rule in application.url_map.iter_rules():
            assert rule.rule == "/" or not rule.rule.endswith("/"), rule
            assert not rule.defaults
            assert rule.redirect_to is None
            assert rule.alias is False


def test_pagination_links_contain_the_path_only(acme_key: Caller) -> None:
    """Behind a TLS proxy the link uses https, and the `Host` header can't change its target."""
    for _ in range(2):
        acme_key.post("/v1/agents", {"name": "One of two"})
    for base in ("/v1", "/api/v1", "/hub-api/api/v1"):
        link = acme_key.get(f"{base}/agents?limit=1").headers["Link"]
        target = link[1:].partition(">")[0]
        assert target.startswith(f"{base}/agents?limit=1&cursor=")
        followed = urljoin(f"https://api.example{base}/agents?limit=1", target)
        assert followed.startswith(f"https://api.example{base}/agents?")
        assert acme_key.get(target).status_code == 200


def test_problem_type_links_to_the_responding_host(harness: AppHarness, hub: Hub) -> None:
    refused = harness.caller().get("/v1/me")
    at_the_hub = hub.browser().get("/hub-api/api/v1/me")
    for answer, ask in ((refused, harness.caller().get), (at_the_hub, hub.browser().get)):
        assert answer.status_code == 401
        path, _, fragment = answer.get_json()["type"].partition("#")
        page = ask(path)
        assert page.status_code == 200
        assert f'id="{fragment}"' in page.text
        for linked in re.findall(r'(?:href|src)="(/[^"#]*)"', page.text):
            assert ask(linked).status_code == 200, linked


@pytest.mark.parametrize(
    "path",
    ["/v1/verify", "/%2Fv1/verify", "/v1/verify/envoy/orders", "/v1/verify/envoy;cost=2/orders", "/api/v1/verify"],
)
@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_gateways_are_not_routed_by_the_host_that_their_client_names(
    both: Flask, acme_key: Caller, path: str, method: str
) -> None:
    """Most gateways pass the `Host` of their client."""
    client = both.test_client()
    for host in ("api.example", urlsplit(HUB_URL).netloc):
        headers = {"Host": host}
        assert client.open(path, method=method, headers=headers).headers["X-Kataven-Code"] == "missing_credential"
        accepted = client.open(path, method=method, headers={**headers, **acme_key.headers})
        assert (accepted.status_code, accepted.headers["X-Kataven-Account"]) == (200, "acme")
