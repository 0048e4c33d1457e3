"""HEAD, OPTIONS and the aliases, on every route."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from kataven.web.operation import Operation, operation_of
from tests.support.app_harness import AppHarness, Caller
from tests.support.gunicorn import Gunicorn

AN_ID = "00000000-0000-4000-8000-000000000000"
CHANGING = {"X-Request-ID", "Date", "RateLimit"}


def operations(harness: AppHarness) -> list[Operation]:
    found = (operation_of(harness.app.view_functions[rule.endpoint]) for rule in harness.app.url_map.iter_rules())
    return [operation for operation in found if operation is not None]


def path_of(operation: Operation) -> str:
    return re.sub(r"<(?:string:)?\w+>", AN_ID, operation.path)


def test_head_equals_get_without_a_body_on_every_route(harness: AppHarness, acme_key: Caller) -> None:
    tried = 0
    for operation in operations(harness):
        if operation.method == "GET":
            tried += 1
            get, head = (acme_key.call(method, path_of(operation)) for method in ("GET", "HEAD"))
            assert head.data == b"", operation.path
            assert head.status_code == get.status_code, operation.path
            headers = [
                {name: text for name, text in response.headers if name not in CHANGING} for response in (get, head)
            ]
            if operation.path not in {"/v1/me", "/healthz", "/readyz", "/metrics"}:  # what they say changes
                assert headers[0] == headers[1], operation.path
    assert tried > 15


def test_head_of_a_compressed_response_has_its_content_length(acme_key: Caller) -> None:
    path = acme_key.post("/v1/agents", {"name": "Wordy", "system_prompt": "word " * 2_000}).headers["Location"]
    get, head = (acme_key.call(method, path, headers={"Accept-Encoding": "gzip"}) for method in ("GET", "HEAD"))
    assert head.headers["Content-Length"] == get.headers["Content-Length"] == str(len(get.data))
    assert (head.headers["Content-Encoding"], head.headers["ETag"]) == ("gzip", get.headers["ETag"])


def test_head_without_get_returns_405(acme_key: Caller) -> None:
    response = acme_key.call("HEAD", "/v1/widget/auth/guest")
    assert (response.status_code, response.headers["Allow"], response.data) == (405, "OPTIONS, POST", b"")


def test_options_lists_the_methods_of_every_route_without_a_credential(harness: AppHarness) -> None:
    for operation in operations(harness):
        if operation.forward_auth:
            continue  # treats every method like GET: see test_forward_auth.py
        response = harness.caller().call("OPTIONS", path_of(operation))
        allowed = response.headers["Allow"].split(", ")
        assert (response.status_code, response.data) == (200, b""), operation.path
        assert operation.method in allowed
        assert "OPTIONS" in allowed
        assert ("HEAD" in allowed) == ("GET" in allowed)
        assert allowed == sorted(allowed)
        assert ("Accept-Patch" in response.headers) == ("PATCH" in allowed)
        for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} - set(allowed):
            assert harness.caller().call(method, path_of(operation)).status_code == 405, (method, operation.path)


def test_options_does_not_count_toward_limits(harness: AppHarness, acme_key: Caller) -> None:
    assert "RateLimit" not in acme_key.call("OPTIONS", "/v1/agents").headers


def test_options_of_an_unknown_path_returns_404(harness: AppHarness) -> None:
    assert harness.caller().call("OPTIONS", "/v1/nothing").status_code == 404


@pytest.mark.parametrize("alias", ["/api/v1/agents", "/hub-api/api/v1/agents"])
@pytest.mark.parametrize("query", ["", "?limit=1"])
def test_alias_response_has_deprecation_and_canonical_link(acme_key: Caller, alias: str, query: str) -> None:
    for _ in range(2):
        acme_key.post("/v1/agents", {"name": "Listed"})
    response = acme_key.get(alias + query)
    assert response.status_code == 200
    assert re.fullmatch(r"@\d{10}", response.headers["Deprecation"])
    links = response.headers.getlist("Link")
    assert links[-1] == '<http://127.0.0.1:8000/v1/agents>; rel="canonical"'
    assert any(link.endswith('rel="next"') for link in links) or query != "?limit=1"


def test_error_response_at_an_alias_has_deprecation(harness: AppHarness) -> None:
    for alias in ("/api/v1/me", "/hub-api/api/accounts", "/hub-api/api/accounts/validate/acme"):
        assert "Deprecation" in harness.caller().get(alias).headers, alias
    assert "Deprecation" not in harness.caller().get("/api/v1/nothing").headers


def test_canonical_paths_are_not_deprecated(harness: AppHarness, acme_key: Caller) -> None:
    for operation in operations(harness):
        response = acme_key.call("HEAD" if operation.method == "GET" else "OPTIONS", path_of(operation))
        assert "Deprecation" not in response.headers, operation.path


@pytest.mark.parametrize(
    ("requested", "canonical"),
    [
        ("%0D%0AX-Injected:%20yes", "%0D%0AX-Injected%3A%20yes"),
        ("%C3%BCml%C3%A4ut", "%C3%BCml%C3%A4ut"),
        ("%3E;%20rel=x", "%3E%3B%20rel%3Dx"),
    ],
)
def test_special_characters_of_a_path_are_quoted_in_the_link(
    harness: AppHarness, requested: str, canonical: str
) -> None:
    response = harness.caller().get(f"/hub-api/api/accounts/validate/{requested}")
    assert response.headers["Link"] == f'<http://127.0.0.1:8000/api/accounts/validate/{canonical}>; rel="canonical"'
    assert "X-Injected" not in response.headers
    assert "Deprecation" not in harness.caller().get(f"/api/accounts/validate/{requested}").headers


@pytest.fixture(scope="module")
def server(harness: AppHarness, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    with Gunicorn(harness.environ, tmp_path_factory.mktemp("manners") / "log") as running:
        yield running


def test_head_and_304_have_no_body_on_the_wire(harness: AppHarness, server: Gunicorn) -> None:
    key = harness.new_key("acme")
    with server.client(key) as client:
        made = client.post("/v1/agents", json={"name": "On the wire", "system_prompt": "word " * 2_000})
        path = made.headers["Location"]
        tag = client.get(path).headers["ETag"]
        line = f"Authorization: Bearer {key}\r\nAccept-Encoding: gzip\r\nConnection: close\r\n"
        for request in (f"HEAD {path} HTTP/1.1", f"GET {path} HTTP/1.1\r\nIf-None-Match: {tag}"):
            response = server.raw(f"{request}\r\nHost: x\r\n{line}\r\n".encode())
            assert response.endswith(b"\r\n\r\n"), response
            assert response.count(b"\r\n\r\n") == 1


def test_options_asterisk_does_not_return_500(server: Gunicorn) -> None:
    response = server.raw(b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert int(response.split(b" ", 2)[1]) < 500
