"""What a process that serves requests loads at startup. Each module costs CPU at every start, and memory."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.support.app_harness import AppHarness
from tests.support.gunicorn import CHECKOUT

API = """
import gc, sys
from wsgi import api
assert gc.isenabled(), "paused only while the application is created"
print(*sys.modules)
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
    "mako": "renders Alembic's drafts",
    "opentelemetry.exporter": "exports traces, if KATAVEN_TRACES is set",
    "yaml": "is for development",
}


def test_the_api_loads_nothing_that_it_does_not_use(harness: AppHarness) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", API],
        cwd=CHECKOUT,
        env={**os.environ, **harness.environ},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = ran.stdout.split()
    assert "kataven.web.pipeline" in loaded
    unused = [name for name in UNUSED if any(f"{module}.".startswith(f"{name}.") for module in loaded)]
    assert unused == []
