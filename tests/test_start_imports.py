"""What a process that serves requests loads at startup, and what a command of `flask` loads. Each module costs CPU at
every start, and memory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

from tests.support.app_harness import AppHarness
from tests.support.auth_service import remote_environ
from tests.support.gunicorn import CHECKOUT

API = """
import gc, sys
from wsgi import api
assert gc.isenabled(), "paused only while the application is created"
print(*sys.modules)
"""
COMMAND = """
import sys
from flask.cli import cli
cli.main(["accounts", "list"], standalone_mode=False)
print(*sys.modules)
"""
FORK = """
from types import SimpleNamespace
from sqlalchemy.orm import class_mapper
from kataven.account.models import Agent
from kataven.serve import gunicorn_conf
from kataven.web import reference
from wsgi import hub
gunicorn_conf.when_ready(SimpleNamespace(LISTENERS=[], app=SimpleNamespace(wsgi=lambda: hub)))
pages = hub.extensions["kataven.pages"].jinja_env
print(*(name for name in pages.list_templates() if not any(name == key[1] for key in pages.cache.keys())))
print(hub.extensions[reference.EXTENSION].cache_info().currsize)
print(class_mapper(Agent, configure=False).configured)
"""
UNUSED = {
    "alembic": "migrates databases; a worker only compares revisions",
    "authlib": "signs users in at the Hub",
    "grpc": "calls the auth-service, if KATAVEN_AUTH_SERVICE is set",
    "google.protobuf": "encodes the calls of the auth-service",
    "joserfc": "is loaded by authlib",
    "kataven.dev": "is for development",
    "kataven.hub": "serves pages",
    "kataven.mcp_server": "is another program",
    "kataven.telemetry": "exports traces, if KATAVEN_TRACES is set",
    "kataven.tenancy.migrations": "migrates databases",
    "kataven.web.docs": "renders the reference",
    "mako": "renders Alembic's drafts",
    "markdown_it": "renders the reference",
    "opentelemetry.exporter": "exports traces, if KATAVEN_TRACES is set",
    "yaml": "is for development",
}


def test_the_api_loads_nothing_that_it_does_not_use(harness: AppHarness) -> None:
    loaded = _loaded(harness.environ)
    assert "kataven.web.pipeline" in loaded
    unused = [name for name in UNUSED if any(f"{module}.".startswith(f"{name}.") for module in loaded)]
    assert unused == []


def test_an_api_with_an_auth_service_loads_no_http_client(harness: AppHarness) -> None:
    """The auth-service verifies the users' tokens, so it fetches the issuer's keys."""
    loaded = _loaded(remote_environ(harness.environ, "localhost:1"))
    assert "grpc" in loaded
    assert "httpx2" not in loaded


def test_a_command_of_flask_loads_neither_the_api_nor_the_hub(harness: AppHarness) -> None:
    loaded = _loaded(harness.environ, COMMAND)
    assert {"flask", "kataven.commands.accounts", "kataven.system.accounts"} < set(loaded)
    served = ("kataven.api", "kataven.application", "kataven.hub", "kataven.web", "prometheus_client")
    assert [name for name in served if any(f"{module}.".startswith(f"{name}.") for module in loaded)] == []


def test_what_requests_need_is_created_before_the_fork(harness: AppHarness) -> None:
    """Otherwise each worker creates it for its first requests, in memory that it shares with no other worker."""
    hub_url = {"KATAVEN_HUB_URL": "http://localhost:4711"}
    assert _printed({**harness.environ, **hub_url}, FORK) == "\n1\nTrue\n"


def _loaded(environ: Mapping[str, str], script: str = API) -> list[str]:
    return _printed(environ, script).split()


def _printed(environ: Mapping[str, str], script: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-c", script],
        cwd=CHECKOUT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=True,
    )
    return ran.stdout
