"""A worker whose threads are occupied rejects requests that wait too long, and serves urgent ones."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from flask import Flask

from kataven.hub import backchannel_logout, pages_app
from kataven.web.priorities import ENDS_ACCESS, ENDS_ACCESS_IN_THE_HUB, lanes
from kataven.web.server.request_threads import Lane
from tests.support.app_harness import AppHarness
from tests.support.gunicorn import Gunicorn
from tests.support.waiting import wait_until
from tests.web.server.running import get, read_answer, refused, small
from tests.web.server.test_gthread import GET

pytestmark = pytest.mark.processes


def occupy(server: Gunicorn, folder: Path, body: bytes = b"") -> socket.socket:
    """A connection whose request occupies a thread until `folder/end` exists."""
    folder.mkdir()
    connection = server.connect()
    connection.sendall(f"GET /hold?{folder} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    wait_until((folder / "begun").exists, 30)
    return connection


def test_request_that_waits_too_long_returns_503_with_retry_after(tmp_path: Path) -> None:
    with small(tmp_path, WAIT_SECONDS="0.05") as server:
        held = [occupy(server, tmp_path / name) for name in ("one", "two")]  # all threads
        with server.connect() as connection:
            connection.sendall(GET)
            status, headers, body = read_answer(connection)
        assert (status, headers["retry-after"], headers["connection"]) == (503, "1", "close")
        problem = json.loads(body)
        assert (problem["code"], problem["status"]) == ("unavailable", 503)
        assert problem["request_id"] == headers["x-request-id"]
        assert "more requests than it can process" in problem["detail"]
        assert json.loads(get(server, "/environ"))["PATH_INFO"] == "/environ"  # a probe
        for name, connection in zip(("one", "two"), held, strict=True):
            (tmp_path / name / "end").touch()
            with connection:
                assert read_answer(connection)[0] == 200
        assert refused(server)["overloaded"] == 1


def test_lanes_name_existing_routes(harness: AppHarness) -> None:
    pages = Flask(__name__)
    for blueprint in pages_app.BLUEPRINTS:
        pages.register_blueprint(blueprint)
    routes = {(method, rule.rule) for rule in harness.app.url_map.iter_rules() for method in rule.methods or ()}
    forms = {rule.rule for rule in pages.url_map.iter_rules() if "POST" in (rule.methods or ())}
    for method, path in ENDS_ACCESS:
        if path != "/v1/security-events":  # only if it is configured
            assert any(verb == method and rule.startswith(path) for verb, rule in routes), (method, path)
    assert ("GET", "/healthz") in routes
    for _, path in ENDS_ACCESS_IN_THE_HUB:
        assert any(rule.startswith(path) for rule in forms), path
    assert ("POST", backchannel_logout.PATH) in ENDS_ACCESS_IN_THE_HUB


def test_lanes_include_aliases_and_exclude_the_rest() -> None:
    probes, urgent = lanes()[Lane.PROBE], lanes()[Lane.URGENT]
    assert b"GET /healthz HTTP/1.1".startswith(probes)
    for line in (b"DELETE /v1/api-keys/1 ", b"PATCH /hub-api/api/v1/api-keys/1 HTTP/1.1", b"POST /people/1/block "):
        assert line.startswith(urgent)
    for line in (b"GET /v1/agents HTTP/1.1", b"GET /v1/api-keys ", b"POST /v1/api-keys HTTP/1.1", b"get /healthz"):
        assert not line.startswith((*probes, *urgent))
