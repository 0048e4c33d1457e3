"""The server that is attacked, and what good clients and strangers have in hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from urllib.parse import urlsplit

from bench.strangers.connection import bearer
from kataven.account import api_keys
from kataven.account.audit import Actor
from kataven.dev.personas import ALICE, CHARLIE
from kataven.identity.token import TokenKind
from tests.support.app_harness import AppHarness, Caller
from tests.support.gunicorn import Gunicorn, free_port

AGENTS = 10
ORIGIN = "https://www.acme.com"
WORKERS, THREADS = 2, 8
BENCH = Actor("bench:strangers", "Bench")
MINTED_AT_ONCE = 100


@dataclass
class Site:
    """See `opened_site`."""

    harness: AppHarness
    server: Gunicorn
    key: str = field(repr=False)
    """Of acme's, known to every worker."""
    owner: dict[str, str] = field(repr=False)
    """The headers that let Alice in, who owns acme."""
    given: dict[str, str] = field(repr=False)
    """What attacks ask for by name."""

    def unseen_keys(self) -> Iterator[str]:
        """Keys of acme's that nobody has used."""
        services = self.harness.services
        record = services.directory.read("acme")
        assert record is not None
        while True:
            issued = [services.issuer.issue(TokenKind.API_KEY, "acme") for _ in range(MINTED_AT_ONCE)]
            with services.registry.writing(record.tenant) as session:
                for key in issued:
                    api_keys.issue(session, "unseen", key, None, BENCH)
            yield from (key.text for key in issued)


@contextmanager
def opened_site(harness: AppHarness, folder: Path) -> Iterator[Site]:
    """The server on a free port, with everything that it writes in `folder`."""
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
    alice = harness.person(ALICE)
    key = harness.new_key("acme")
    with Gunicorn(environ, folder / "log", WORKERS, "wsgi:app", port=port) as server:
        given = {"key": key, "charlie": harness.issuer.token(CHARLIE), "hub": urlsplit(hub).netloc, "origin": ORIGIN}
        owner = bearer(harness.issuer.token(ALICE), "acme")
        with redirect_stderr(StringIO()):  # its lines in the log are not the server's
            given |= _furnished(alice)
        yield Site(harness, server, key, owner, given)


def _furnished(alice: Caller) -> dict[str, str]:
    """Ten agents to list, the last of which takes guests on a page with a widget key."""
    for number in range(AGENTS):
        agent = {"name": f"Agent {number}", "status": "active", "greeting_message": "Good day."}
        made = alice.post("/v1/agents", {**agent, "system_prompt": "x" * 40})
        assert made.status_code == 201, made.text
    agent_id = made.get_json()["id"]
    on = {"widget_enabled": True, "auth_mode": "both"}
    assert alice.patch(f"/v1/agents/{agent_id}/widget-settings", on).status_code == 200
    widget_key = alice.post(
        "/v1/widget-keys", {"name": "Site", "domain_allowlist": [urlsplit(ORIGIN).hostname], "agent_id": None}
    )
    assert widget_key.status_code == 201, widget_key.text
    return {"widget_key": widget_key.get_json()["key"], "agent": agent_id}
