"""Traces over OTLP: what a collector receives from the API and the auth-service, and what it must never receive."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from kataven import settings, tracing
from kataven.authservice import codec
from kataven.settings import SettingsError
from kataven.telemetry.exporting import DROPPED, EXPORTED, BoundedProcessor, CountedExporter
from kataven.telemetry.spans import Telemetry
from tests.support.app_harness import AppHarness
from tests.support.auth_service import Service, remote_environ, serves
from tests.support.gunicorn import CHECKOUT, Gunicorn, free_port
from tests.support.waiting import wait_until

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e47{:02x}-00f067aa0ba902b7-{}"
SERVER, CLIENT = 2, 3
IN_QUERY, IN_BODY = "secret-of-the-query", "secret-name-of-an-agent"


@dataclass(frozen=True)
class Received:
    """A span that the collector received."""

    service: str
    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]


@dataclass
class Collector:
    """An OTLP/HTTP collector."""

    port: int = field(default_factory=free_port)
    spans: list[Received] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    def __enter__(self) -> Collector:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.path == "/v1/traces"
                collector.bodies.append(body)
                collector.spans += spans_of(ExportTraceServiceRequest.FromString(body))
                reply = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        ThreadingHTTPServer.allow_reuse_address = True
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def environ(self) -> dict[str, str]:
        return {
            "KATAVEN_TRACES": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
            "OTEL_BSP_SCHEDULE_DELAY": "20",
        }

    def trace(self, trace_id: str, service: str, name: str) -> list[Received]:
        """The spans of a trace, when the named server span has arrived: it ends last."""

        def found() -> list[Received]:
            return [span for span in self.spans if span.trace_id == trace_id]

        wait_until(lambda: any((span.service, span.name) == (service, name) for span in found()), 20, lambda: found())
        return found()


def spans_of(request: ExportTraceServiceRequest) -> Iterator[Received]:
    for resource in request.resource_spans:
        service = values(resource.resource.attributes)["service.name"]
        for scope in resource.scope_spans:
            for one in scope.spans:
                ids = (one.trace_id.hex(), one.span_id.hex(), one.parent_span_id.hex())
                yield Received(service, one.name, one.kind, *ids, values(one.attributes))


def values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


@pytest.fixture(scope="module")
def api(harness: AppHarness, collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    folder = tmp_path_factory.mktemp("telemetry")
    environ = {**harness.environ, **collector.environ, "KATAVEN_METRICS_TOKEN": "a token of the metrics"}
    address = f"127.0.0.1:{free_port()}"
    with Service(environ, folder / "auth.log", address) as service:
        wait_until(lambda: serves(address), 30, service.log.read_text)
        with Gunicorn(remote_environ(environ, address), folder / "api.log", application="wsgi:app") as running:
            yield running


def served(client: Any, method: str, path: str, **options: Any) -> Any:
    """The response; sent again while the auth-service does not respond in time, as it may on a busy machine."""
    responses: list[Any] = []

    def respond() -> bool:
        responses.append(client.request(method, path, **options))
        return bool(responses[-1].status_code != 503)

    wait_until(respond, 30, lambda: responses[-1].text)
    return responses[-1]


def test_one_trace_contains_the_request_and_all_calls_that_it_causes(
    harness: AppHarness, api: Gunicorn, collector: Collector
) -> None:
    parent = PARENT.format(1, "01")
    with api.client(harness.new_key("acme")) as client:
        accepted = served(client, "GET", "/v1/agents?limit=1", headers={"traceparent": parent})
    request_id = accepted.headers["X-Request-ID"]
    wait_until(lambda: request_id in {span.attributes.get("kataven.request_id") for span in collector.spans}, 20)
    spans = [span for span in collector.spans if span.trace_id == parent.split("-")[1]]
    [server] = [span for span in spans if span.attributes.get("kataven.request_id") == request_id]
    assert (server.service, server.kind) == ("kataven-api", SERVER)
    assert server.parent_id == parent.split("-")[2]
    assert server.attributes["http.route"] == "/v1/agents"
    assert server.attributes["http.response.status_code"] == 200
    assert server.attributes["kataven.account"] == "acme"
    calls = {span.name: span for span in spans if span.parent_id == server.span_id}
    assert {span.kind for span in calls.values()} == {CLIENT}
    assert calls["SELECT agents"].attributes["db.system.name"] == "postgresql"
    assert [span for span in calls.values() if span.attributes.get("db.system.name") == "redis"]
    verify = calls[f"{codec.SERVICE}/{codec.VERIFY}"]
    collector.trace(server.trace_id, "kataven-auth", verify.name)
    [continued] = [span for span in collector.spans if span.parent_id == verify.span_id]
    assert (continued.service, continued.kind, continued.trace_id) == ("kataven-auth", SERVER, server.trace_id)
    wait_until(lambda: any(span.parent_id == continued.span_id for span in collector.spans), 20)
    assert f'"trace_id":"{server.trace_id}"' in api.log.read_text()


def test_pages_of_the_hub_have_spans(harness: AppHarness, api: Gunicorn, collector: Collector) -> None:
    parent = PARENT.format(4, "01")
    host = str(settings.load(harness.environ).hub_host)
    with api.client() as browser:
        assert browser.get("/sign-in", headers={"traceparent": parent, "Host": host}).status_code == 200
    spans = collector.trace(parent.split("-")[1], "kataven-api", "GET /sign-in")
    assert [span for span in spans if span.kind == CLIENT and span.attributes.get("db.system.name") == "redis"]


def test_every_worker_exports_after_the_fork(harness: AppHarness, api: Gunicorn, collector: Collector) -> None:
    workers, sent = set(), []
    headers = {"X-Kataven-Measure": "a token of the metrics"}
    while len(workers) < 2:
        with api.client() as client:  # a new connection each time
            response = client.get("/healthz", headers=headers)
        workers.add(response.headers["X-Kataven-Worker"])
        sent.append(response.headers["X-Request-ID"])
    wait_until(lambda: {span.attributes.get("kataven.request_id") for span in collector.spans} >= set(sent), 20)


def test_a_caller_that_does_not_sample_gets_no_spans(harness: AppHarness, api: Gunicorn, collector: Collector) -> None:
    unsampled, sampled = PARENT.format(2, "00"), PARENT.format(3, "01")
    with api.client(harness.new_key("acme")) as client:
        for parent in (unsampled, sampled):
            served(client, "GET", "/v1/agents", headers={"traceparent": parent})
    collector.trace(sampled.split("-")[1], "kataven-api", "GET /v1/agents")
    assert unsampled.split("-")[1] not in {span.trace_id for span in collector.spans}
    assert f'"trace_id":"{unsampled.split("-")[1]}"' in api.log.read_text()


def test_spans_contain_no_secret_no_query_and_no_row(harness: AppHarness, api: Gunicorn, collector: Collector) -> None:
    key, token = harness.new_key("acme"), harness.issuer.token()
    seen = []
    with api.client(key) as client:
        made = served(client, "POST", "/v1/agents", json={"name": IN_BODY})
        seen += [made, served(client, "GET", f"/v1/agents/{made.json()['id']}")]
        seen.append(served(client, "GET", f"/v1/agents?cursor={IN_QUERY}"))
    with api.client(token, "acme") as alice:
        generated = served(alice, "POST", "/v1/api-keys", json={"name": IN_BODY, "expiry": "30d"})
        revoked = served(alice, "PATCH", f"/v1/api-keys/{generated.json()['id']}", json={"disabled": True})
        seen += [generated, revoked]
    with api.client(generated.json()["key"]) as client:
        seen.append(served(client, "GET", f"/v1/me?token={IN_QUERY}"))
    assert [response.status_code for response in seen] == [201, 200, 400, 201, 200, 403]
    sent = {response.headers["X-Request-ID"] for response in seen}
    wait_until(lambda: {span.attributes.get("kataven.request_id") for span in collector.spans} >= sent, 20)
    [refused] = [
        span
        for span in collector.spans
        if span.attributes.get("kataven.request_id") == list(seen)[-1].headers["X-Request-ID"]
    ]
    assert refused.attributes["kataven.problem.code"] == "revoked_credential"
    exported = b"".join(collector.bodies)
    secrets = [key, token, generated.json()["key"], IN_QUERY, IN_BODY, made.json()["id"], "a token of the metrics"]
    secrets += [harness.environ["KATAVEN_PEPPERS"].partition(":")[2], harness.environ["KATAVEN_WIDGET_SIGNING_KEYS"]]
    for secret in secrets:
        assert secret.encode() not in exported
    assert b"SELECT agents" in exported, "the search finds what is there"


def test_a_collector_that_is_down_costs_no_request_and_is_counted(harness: AppHarness, tmp_path: Path) -> None:
    collector = Collector()
    environ = {**harness.environ, **collector.environ}
    with Gunicorn(environ, tmp_path / "log", workers=1) as api, api.client(harness.new_key("acme")) as client:
        assert client.get("/v1/me").status_code == 200
        wait_until(lambda: spans_counted(client, DROPPED) > 0, 30, api.log.read_text)
        assert client.get("/v1/me").status_code == 200
        with collector:
            wait_until(lambda: client.get("/v1/me").status_code == 200 and spans_counted(client, EXPORTED) > 0, 30)
        messages = [json.loads(line)["message"] for line in api.log.read_text().splitlines()]
        told = [message for message in messages if message.startswith("traces: ")]
        assert told[:2] == [
            "traces: the collector is unreachable or rejects spans; spans are dropped",
            "traces: the collector accepts spans again",
        ]
        assert not [line for line in api.log.read_text().splitlines() if '"logger":"opentelemetry' in line]


def spans_counted(client: Any, outcome: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    [line] = [line for line in lines if line.startswith(f'kataven_spans_total{{outcome="{outcome}"}}')]
    return float(line.split()[1])


class Blocked(SpanExporter):
    """A collector that does not respond."""

    def __init__(self) -> None:
        self.released = threading.Event()

    def export(self, spans: Any) -> SpanExportResult:
        self.released.wait(60)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.released.set()


def test_spans_beyond_the_queue_are_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "512")
    counted = {EXPORTED: 0, DROPPED: 0}

    def count(outcome: str, spans: int) -> None:
        counted[outcome] += spans

    blocked = Blocked()
    exporter = CountedExporter(blocked, count)
    processor = BoundedProcessor(exporter, count)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    total = 2000
    for _ in range(total):
        provider.get_tracer("test").start_span("span").end()
    assert counted[DROPPED] >= total - 2 * 512, "a queue, and a batch that is being sent"
    blocked.released.set()
    provider.shutdown()
    assert counted[EXPORTED] + counted[DROPPED] == total


def test_an_exporter_that_raises_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    class Raises(Blocked):
        def export(self, spans: Any) -> SpanExportResult:
            raise RuntimeError("http://user:password@collector")

    counted: list[tuple[str, int]] = []
    span = TracerProvider(shutdown_on_exit=False).get_tracer("test").start_span("span")
    assert isinstance(span, ReadableSpan)
    CountedExporter(Raises(), lambda *given: counted.append(given)).export([span])
    assert counted == [(DROPPED, 1)]
    assert "password" not in caplog.text


def test_a_disabled_sdk_records_nothing_and_keeps_trace_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    telemetry = Telemetry("test", "1", lambda outcome, spans: None)
    telemetry.start()
    assert telemetry.begin("GET", None) is None
    assert tracing.open_trace == tracing.Trace.from_header
    telemetry.stop()


OFF = """
import os, sys
import app as factory
from kataven import settings, tracing
from kataven.ratelimit.redis_socket import RedisSocket
from kataven.authservice.client import AuthServiceChannel
from redis import Redis
from sqlalchemy import Engine
api = factory.create_api(settings.load(os.environ))
# redis-py loads OpenTelemetry's metrics itself, if it is installed.
ours = ("opentelemetry.sdk.trace", "opentelemetry.exporter", "opentelemetry.proto", "kataven.telemetry")
loaded = [name for name in sys.modules if name.startswith(ours)]
assert not loaded, loaded
for method in (RedisSocket.call, RedisSocket.call_all, AuthServiceChannel.call, Redis.execute_command):
    assert method.__module__ != "kataven.telemetry.instruments" and "telemetry" not in method.__code__.co_filename
assert not Engine.dispatch.before_cursor_execute._clslevel.get(Engine)
assert tracing.open_trace == tracing.Trace.from_header
hooks = [*api.before_request_funcs[None], *api.after_request_funcs[None], *api.teardown_request_funcs[None]]
assert not [hook for hook in hooks if "telemetry" in hook.__module__]
"""


def test_without_the_setting_nothing_is_loaded_or_wrapped(harness: AppHarness) -> None:
    environ = {**os.environ, **harness.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    ran = subprocess.run(
        [sys.executable, "-c", OFF], cwd=CHECKOUT, env=environ, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("missing", ["parent", "itself"])
def test_setting_without_the_extra_is_a_configuration_problem(
    harness: AppHarness, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    def find(name: str) -> None:
        if missing == "parent":
            raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib.util, "find_spec", find)
    with pytest.raises(SettingsError, match=r"KATAVEN_TRACES: requires the `otel` extra"):
        settings.load({**harness.environ, "KATAVEN_TRACES": "otlp"})


STATEMENTS = """
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from kataven.telemetry import instruments
from kataven.telemetry.spans import Telemetry

telemetry = Telemetry("test", "1", lambda outcome, spans: None, [instruments.sqlalchemy])
telemetry.start()
memory = InMemorySpanExporter()
telemetry._provider.add_span_processor(SimpleSpanProcessor(memory))
engine = create_engine("sqlite://")
with engine.connect() as connection:
    connection.execute(text("SELECT 1"))  # outside of a request
    telemetry.begin("GET", None)
    try:
        connection.execute(text("SELECT * FROM missing WHERE name = :name"), {"name": "a row's value"})
    except OperationalError:
        pass
    connection.execute(text("SELECT 2"))
telemetry.end()
failed, succeeded, server = memory.get_finished_spans()
assert (failed.name, succeeded.name, server.name) == ("SELECT missing", "SELECT", "GET")
assert failed.attributes["error.type"] == "OperationalError" and not failed.status.is_ok
assert "error.type" not in succeeded.attributes
for span in (failed, succeeded):
    assert span.parent.span_id == server.context.span_id
    assert "value" not in span.to_json() and not span.events
telemetry.stop()
"""


def test_a_failed_statement_has_its_class_and_no_message() -> None:
    environ = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_TIMEOUT": "0.1"}
    ran = subprocess.run(
        [sys.executable, "-c", STATEMENTS], cwd=CHECKOUT, env=environ, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr


ROWS = """
import os
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import bindparam, column, create_engine, select, text
from sqlalchemy.exc import DBAPIError
from kataven.telemetry import instruments
from kataven.telemetry.spans import Telemetry
from kataven.tenancy.serving.rows import RowQuery, connect

telemetry = Telemetry("test", "1", lambda outcome, spans: None, [instruments.rows(RowQuery)])
telemetry.start()
memory = InMemorySpanExporter()
telemetry._provider.add_span_processor(SimpleSpanProcessor(memory))
engine = create_engine(os.environ["DATABASE"])
databases = RowQuery(select(column("datname")).select_from(text("pg_database")).limit(1))
missing = RowQuery(select(column("id")).select_from(text("missing")).where(column("name") == bindparam("name")))
databases.read(connect(engine), engine.dialect, {})  # outside of a request
telemetry.begin("GET", None)
try:
    missing.read(connect(engine), engine.dialect, {"name": "a row's value"})
except DBAPIError:
    pass
databases.read(connect(engine), engine.dialect, {})
telemetry.end()
failed, succeeded, server = memory.get_finished_spans()
assert (failed.name, succeeded.name, server.name) == ("SELECT missing", "SELECT pg_database", "GET")
assert failed.attributes["error.type"] == "42P01" and not failed.status.is_ok
assert "error.type" not in succeeded.attributes
assert succeeded.attributes["db.namespace"] == engine.url.database
for span in (failed, succeeded):
    assert span.parent.span_id == server.context.span_id
    assert "value" not in span.to_json() and not span.events
telemetry.stop()
"""


def test_rows_without_a_session_have_the_spans_of_statements(harness: AppHarness) -> None:
    environ = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_TIMEOUT": "0.1"}
    environ["DATABASE"] = harness.environ["KATAVEN_DATABASE_URL"]
    ran = subprocess.run(
        [sys.executable, "-c", ROWS], cwd=CHECKOUT, env=environ, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
