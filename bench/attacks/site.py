"""The attacked server, and the credentials and ids that clients and attackers use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from urllib.parse import urlsplit

from bench.attacks.connection import bearer
from kataven.account import api_keys
from kataven.account.audit import Actor
from kataven.dev.personas import ALICE, CHARLIE
from kataven.identity.token import TokenKind
from tests.support.app_harness import AppHarness, Caller
from tests.support.gunicorn import Gunicorn, free_port

AGENTS = 10
ORIGIN = "https://www.acme.com"
WORKERS, THREADS = 2, 8
BENCH = Actor("bench:attacks", "Bench")
BATCH = 100


@dataclass
class Site:
    """The attacked server. See `open_site`."""

    harness: AppHarness
    server: Gunicorn
    key: str = field(repr=False)
    """An API key of acme that every worker has cached."""
    owner: dict[str, str] = field(repr=False)
    """The credential headers of Alice, the owner of acme."""
    given: dict[str, str] = field(repr=False)
    """The values that attacks refer to by name."""

    def unused_keys(self) -> Iterator[str]:
        """New API keys of acme that were never used."""
        services = self.harness.services
        record = services.directory.read("acme")
        assert record is not None
        while True:
            issued = [services.issuer.issue(TokenKind.API_KEY, "acme") for _ in range(BATCH)]
            with services.registry.writing(record.tenant) as session:
                for key in issued:
                    api_keys.issue(session, "unused", key, None, BENCH)
            yield from (key.text for key in issued)


@contextmanager
def open_site(harness: AppHarness, folder: Path) -> Iterator[Site]:
    """Start the server on a free port. It writes its files to `folder`."""
    port = free_port()
    hub = f"http://localhost:{port}"
    scratch = folder / "tmp"
    scratch.mkdir()
    environ = {
        **harness.environ,
        "KATAVEN_HUB_URL": hub,
        "KATAVEN_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "TMPDIR": str(scratch),
        "THREADS": str(THREADS),
        "MAX_REQUESTS": "0",
    }
    alice = harness.user(ALICE)
    key = harness.new_key("acme")
    with Gunicorn(environ, folder / "log", WORKERS, "wsgi:app", port=port) as server:
        given = {"key": key, "charlie": harness.issuer.token(CHARLIE), "hub": urlsplit(hub).netloc, "origin": ORIGIN}
        owner = bearer(harness.issuer.token(ALICE), "acme")
        with redirect_stderr(StringIO()):  # these log lines are not the server's
            given |= _create_resources(alice)
        yield Site(harness, server, key, owner, given)


def _create_resources(alice: Caller) -> dict[str, str]:
    """Create ten agents. The widget of the last one is enabled, with a widget key for one page."""
    for number in range(AGENTS):
        agent = {"name": f"Agent {number}", "status": "active", "greeting_message": "Good day."}
        created = alice.post("/v1/agents", {**agent, "system_prompt": "x" * 40})
        assert created.status_code == 201, created.text
    agent_id = created.get_json()["id"]
    on = {"widget_enabled": True, "auth_mode": "both"}
    assert alice.patch(f"/v1/agents/{agent_id}/widget-settings", on).status_code == 200
    widget_key = alice.post(
        "/v1/widget-keys", {"name": "Site", "domain_allowlist": [urlsplit(ORIGIN).hostname], "agent_id": None}
    )
    assert widget_key.status_code == 201, widget_key.text
    return {"widget_key": widget_key.get_json()["key"], "agent": agent_id}
