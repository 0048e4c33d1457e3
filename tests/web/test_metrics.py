"""`/metrics`: who can read it, what it contains, and what it never contains."""

from __future__ import annotations

import dataclasses
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from flask import Flask
from prometheus_client.parser import text_string_to_metric_families
from werkzeug.serving import make_server

import app as factory
from kataven import logs, settings, tracing
from kataven.dev.personas import ALICE
from kataven.operations.operator import Operator
from kataven.operations.revocation_measurement import Measurement, MeasurementFailed
from kataven.web import health
from kataven.web.internal_access import InternalAccess
from kataven.web.metrics import Metrics
from kataven.web.metrics_publisher import MetricsPublisher
from kataven.web.observe import MEASURE_HEADER, WORKER_HEADER
from kataven.web.services import EXTENSION
from tests.support.app_harness import AppHarness, Caller

TOKEN = "a-token-for-prometheus"


def sample(harness: AppHarness, name: str, **labels: str) -> float:
    """The current value of a metric; 0 if it has no series yet."""
    text = harness.caller().get("/metrics").get_data(as_text=True)
    for family in text_string_to_metric_families(text):
        for found in family.samples:
            if found.name == f"kataven_{name}" and labels.items() <= found.labels.items():
                return found.value
    return 0.0


@pytest.fixture
def with_token(harness: AppHarness) -> Iterator[AppHarness]:
    services = harness.app.extensions[EXTENSION]
    harness.app.extensions[EXTENSION] = dataclasses.replace(services, internal_access=InternalAccess(TOKEN))
    yield harness
    harness.app.extensions[EXTENSION] = services


def test_without_a_token_only_loopback_can_read_metrics(harness: AppHarness) -> None:
    assert harness.caller().get("/metrics").status_code == 200
    for elsewhere in ("192.0.2.1", "2001:db8::1", ""):
        response = harness.caller().get("/metrics", environ_base={"REMOTE_ADDR": elsewhere})
        assert (response.status_code, response.json["code"]) == (403, "forbidden")
        assert "KATAVEN_METRICS_TOKEN" in response.json["detail"]


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP"])
def test_request_through_a_local_proxy_does_not_count_as_loopback(harness: AppHarness, header: str) -> None:
    assert harness.caller().get("/metrics", headers={header: "127.0.0.1"}).status_code == 403


def test_metrics_require_the_configured_token(with_token: AppHarness) -> None:
    assert with_token.caller().get("/metrics").status_code == 403
    assert with_token.caller(Authorization="Bearer wrong").get("/metrics").status_code == 403
    assert with_token.caller(Authorization="Bearer \xe9").get("/metrics").status_code == 403
    response = with_token.caller(Authorization=f"Bearer {TOKEN}").get(
        "/metrics", environ_base={"REMOTE_ADDR": "192.0.2.1"}
    )
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"


def test_in_production_metrics_require_a_token(harness: AppHarness) -> None:
    """Requests through a TCP proxy on the same host, which adds no header, also have a loopback address."""
    assert factory.build_services(settings.load(harness.environ), "api").internal_access == InternalAccess(
        None, trust_loopback=True
    )
    production = {
        **harness.environ,
        "KATAVEN_ENV": "production",
        "KATAVEN_PEPPERS": f"p{harness.environ['KATAVEN_PEPPERS'][3:]}",
        "KATAVEN_WIDGET_SIGNING_KEYS": f"p{harness.environ['KATAVEN_WIDGET_SIGNING_KEYS'][3:]}",
        "KATAVEN_PUBLIC_URL": "https://api.example.com",
        "KATAVEN_OIDC_ISSUER": "https://login.example.com",
    }
    services = harness.app.extensions[EXTENSION]
    for token, status in ((None, 403), (TOKEN, 200)):
        given = {**production, **({} if token is None else {"KATAVEN_METRICS_TOKEN": token})}
        internal_access = factory.build_services(settings.load(given), "api").internal_access
        harness.app.extensions[EXTENSION] = dataclasses.replace(services, internal_access=internal_access)
        try:
            for shown in (f"Bearer {token}", f"bearer {token}"):
                assert harness.caller(Authorization=shown).get("/metrics").status_code == status
            assert harness.caller().get("/metrics").status_code == 403
        finally:
            harness.app.extensions[EXTENSION] = services


def test_readiness_checks_are_returned_to_operators_only(with_token: AppHarness) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"X-Kataven-Measure": "1"}, {"X-Kataven-Measure": "wrong"}):
        response = with_token.caller().call("GET", "/readyz", headers=headers)
        assert (response.status_code, response.get_json()) == (200, {"status": "ready"})
        assert WORKER_HEADER not in response.headers
    response = with_token.caller(Authorization=f"Bearer {TOKEN}").get("/readyz")
    assert response.get_json()["checks"]["system_database"] == "ok"
    response = with_token.caller(**{MEASURE_HEADER: TOKEN}).get("/readyz")
    assert response.headers[WORKER_HEADER]
    assert response.get_json() == {"status": "ready"}


def test_unauthenticated_readiness_has_the_status_without_details(
    with_token: AppHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(health.CHECKS, "system_database", lambda _: "failing: run `flask migrations upgrade --system`")
    response = with_token.caller().get("/readyz")
    assert (response.status_code, response.get_json()) == (503, {"status": "not_ready"})
    response = with_token.caller(Authorization=f"Bearer {TOKEN}").get("/readyz")
    assert (response.status_code, "flask migrations" in response.text) == (503, True)


def test_worker_header_requires_the_token(with_token: AppHarness) -> None:
    """The response names the missing setting."""
    without = dataclasses.replace(with_token.services, internal_access=InternalAccess())
    with serving(with_token.app) as url:
        with (
            pytest.raises(MeasurementFailed, match="KATAVEN_METRICS_TOKEN"),
            Measurement.begin(Operator("test", without), url),
        ):
            pass
        measured = dataclasses.replace(with_token.services, internal_access=InternalAccess(TOKEN))
        with Measurement.begin(Operator("test", measured), url) as measurement:
            assert measurement.workers == {with_token.services.revocation.status().worker}


@contextmanager
def serving(app: Flask) -> Iterator[str]:
    """`app` on a loopback port."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_requests_are_counted_by_route_and_status_never_by_path(harness: AppHarness, acme_key: Caller) -> None:
    route = {"surface": "api", "method": "GET", "route": "/v1/agents/<agent_id>", "status": "404"}
    before = sample(harness, "requests_total", **route)
    lost = sample(harness, "requests_total", route="none", status="404", method="other")
    acme_key.get("/v1/agents/00000000-0000-4000-8000-00000000dead")
    acme_key.call("BREW", "/v1/pot-of-coffee")
    assert sample(harness, "requests_total", **route) == before + 1
    assert sample(harness, "requests_total", route="none", status="404", method="other") == lost + 1
    text = harness.caller().get("/metrics").get_data(as_text=True)
    assert "dead" not in text
    assert "coffee" not in text


def test_verifications_are_counted_by_outcome(harness: AppHarness, acme_key: Caller) -> None:
    def count(credential: str, outcome: str) -> float:
        return sample(harness, "verifications_total", credential=credential, outcome=outcome)

    before = [count("api_key", "accepted"), count("jwt", "accepted"), count("api_key", "expired_credential")]
    acme_key.get("/v1/me")
    harness.user(ALICE).get("/v1/me")
    key = harness.new_key("acme", expires_at=datetime(2026, 1, 1, tzinfo=UTC))
    assert harness.bearer(key).get("/v1/me").status_code == 401
    after = [count("api_key", "accepted"), count("jwt", "accepted"), count("api_key", "expired_credential")]
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1, 1]


def test_problems_are_counted_by_code(harness: AppHarness) -> None:
    before = sample(harness, "problems_total", code="missing_credential")
    harness.caller().get("/v1/me")
    assert sample(harness, "problems_total", code="missing_credential") == before + 1


def test_revocations_are_measured(harness: AppHarness) -> None:
    before = sample(harness, "revocation_receipt_seconds_count"), sample(harness, "revocations_total", channel="redis")
    harness.services.revocation.revoke(harness.scope("acme"))
    after = sample(harness, "revocation_receipt_seconds_count"), sample(harness, "revocations_total", channel="redis")
    assert after == (before[0] + 1, before[1] + 1)


def publisher_of(harness: AppHarness, metrics: Metrics) -> MetricsPublisher:
    services = harness.services
    return MetricsPublisher(
        metrics,
        revocation=services.revocation,
        histories=services.histories,
        registry=services.registry,
        limiter=services.limiter,
        fallback_stats=services.fallback_stats,
        issuer_keys=services.issuer_keys,
    )


def test_publishing_repeatedly_does_not_count_twice(harness: AppHarness) -> None:
    metrics = Metrics()
    publisher = publisher_of(harness, metrics)
    for _ in range(3):
        publisher.publish()
    lookups = metrics.registry.get_sample_value("kataven_cache_lookups_total", {"result": "miss"})
    assert lookups == harness.services.revocation.stats.misses
    builds = metrics.registry.get_sample_value("kataven_tenancy_engine_builds_total")
    assert builds == harness.services.registry.metrics().builds
    assert metrics.registry.get_sample_value("kataven_workers") == 1


def test_issuer_key_fetches_are_counted(harness: AppHarness) -> None:
    assert harness.user(ALICE).get("/v1/me").status_code == 200  # verifying a JWT fetches them
    keys = harness.services.issuer_keys
    assert keys is not None
    metrics = Metrics()
    publisher_of(harness, metrics).publish()
    fetched = metrics.registry.get_sample_value("kataven_issuer_key_fetches_total", {"outcome": "fetched"})
    assert fetched == keys.counts.fetched >= 1


def test_no_metric_contains_an_account_a_key_or_a_user(harness: AppHarness, acme_key: Caller) -> None:
    acme_key.get("/v1/agents")
    harness.user(ALICE).get("/v1/api-keys")
    text = harness.caller().get("/metrics").get_data(as_text=True)
    assert not re.search(r"acme|globex|sk_live|pk_live|alice|127\.0\.0\.1", text)


def test_log_context_is_cleared_after_a_request(harness: AppHarness, acme_key: Caller) -> None:
    acme_key.get("/v1/me")
    assert logs.ids() == {}
    assert tracing.current.get() is None
