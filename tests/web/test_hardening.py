"""Security headers of every response, and which responses are cacheable."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from flask import Flask
from werkzeug.test import TestResponse

import app as factory
from kataven import settings
from kataven.hub import pages_app
from kataven.web import health
from kataven.web.hardening import HSTS
from kataven.web.operation import operation_of
from kataven.web.services import EXTENSION
from tests.support.app_harness import AppHarness, Caller

AN_ID = "00000000-0000-4000-8000-000000000000"
KEPT = {
    "/.well-known/security.txt": "public, max-age=3600",
    "/docs": "public, max-age=300",
    "/docs/errors": "public, max-age=300",
    "/docs/script.js": "public, max-age=300",
    "/docs/style.css": "public, max-age=300",
    "/v1/openapi-operators.json": "public, max-age=300",
    "/v1/openapi.json": "public, max-age=300",
    "/v1/widget/jwks.json": "public, max-age=300",
    "/widget.js": "public, max-age=300, stale-while-revalidate=86400",
}
"""Every other response is not cacheable."""


@contextmanager
def built(harness: AppHarness, public_url: str, hub_url: str) -> Iterator[tuple[Flask, Flask]]:
    environ = {**harness.environ, "KATAVEN_PUBLIC_URL": public_url, "KATAVEN_HUB_URL": hub_url}
    configured = settings.load(environ)
    api, hub = factory.create_api(configured), factory.create_hub(configured)
    yield api, hub
    for application in (api, hub):
        application.extensions[EXTENSION].stop()


def answers_of(application: Flask) -> Iterator[TestResponse]:
    client = application.test_client()
    for rule in application.url_map.iter_rules():
        path = re.sub(r"<(?:\w+:)?\w+>", AN_ID, rule.rule)
        for method in ("GET", "POST", "OPTIONS"):
            yield client.open(path, method=method)
    yield client.get("/nowhere")
    yield client.get("/v1/me", headers={"Accept": "text/plain", "Authorization": "<script>alert(1)</script>"})


@pytest.mark.parametrize("scheme", ["https", "http"])
def test_every_response_has_nosniff_and_hsts(harness: AppHarness, scheme: str) -> None:
    local = {"https": "https://api.example.com", "http": "http://localhost:8000"}[scheme]
    hub_url = {"https": "https://hub.example.com", "http": "http://localhost:4712"}[scheme]
    with built(harness, local, hub_url) as (api, hub):
        for application in (api, hub, hub.extensions[pages_app.PAGES]):
            seen = 0
            for response in answers_of(application):
                assert response.headers.getlist("X-Content-Type-Options") == ["nosniff"], response.request.path
                expected = [HSTS] if scheme == "https" else []
                assert response.headers.getlist("Strict-Transport-Security") == expected, response.request.path
                seen += 1
            assert seen > 20


def test_response_of_an_unexpected_error_has_the_security_headers(
    harness: AppHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(health.CHECKS, "system_database", lambda _: 1 / 0)
    response = harness.caller().get("/readyz")
    assert (response.status_code, response.headers["X-Content-Type-Options"]) == (500, "nosniff")


def test_only_listed_responses_are_cacheable(harness: AppHarness, acme_key: Caller) -> None:
    for rule in harness.app.url_map.iter_rules():
        operation = operation_of(harness.app.view_functions[rule.endpoint])
        assert operation is not None
        path = re.sub(r"<(?:\w+:)?\w+>", AN_ID, rule.rule)
        for caller in (harness.caller(), acme_key):
            response = caller.call(operation.method, path)
            assert response.headers["Cache-Control"] == KEPT.get(path, "no-store"), path
            if path in KEPT and "Content-Encoding" in caller.get(path, headers={"Accept-Encoding": "gzip"}).headers:
                assert "Accept-Encoding" in response.vary, path
    assert harness.caller().get("/api/accounts").headers["Cache-Control"] == "no-store"
