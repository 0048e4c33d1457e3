"""Server time of every page of the console with 1,000 accounts and a database server that never responds.

    python -m bench.console

Each page is requested several times in one process, and the slowest request counts. Exit status 1 if a page takes over
300 ms. Run it on an idle machine.
"""

from __future__ import annotations

import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

import app as factory
from bench.harness import shared_harness
from kataven import settings
from kataven.dev.personas import OLIVIA, org_id
from kataven.identity.credential import OPERATORS_ACCOUNT
from kataven.system.schema import ACCOUNT_SCHEMA
from kataven.web.services import EXTENSION
from tests.hub import large
from tests.hub.conftest import HUB_URL
from tests.hub.hub_browser import HubBrowser
from tests.support.app_harness import AppHarness

MOST_MS = 300.0
TIMES = 12
SILENT = "silent"
PAGES = (
    "/console",
    "/console?q=bank",
    "/console?sort=created",
    "/console?sort=requests",
    "/console?sort=connections",
    "/console?q=on-silent",
    "/console/new-account",
    "/console/accounts/acme",
    "/console/accounts/on-silent",
    "/console/health",
    "/console/health?part=live",
    "/console/wall",
    "/console/wall?part=live",
    "/console/migrations",
    "/console/people",
    "/console/trail",
    "/console/trail?actor=jwt:operator-1&from=2026-01-01",
)


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o711)
        with shared_harness(folder) as harness, silent_server(harness):
            return 0 if measure(harness) else 1


def measure(harness: AppHarness) -> bool:
    environ = {**harness.environ, "KATAVEN_HUB_URL": HUB_URL, "KATAVEN_OPERATORS_ORG_ID": org_id(OPERATORS_ACCOUNT)}
    app = factory.create_hub(settings.load(environ))
    app.extensions[EXTENSION].start()
    olivia = HubBrowser(app, HUB_URL).sign_in(OLIVIA)
    passed = True
    try:
        for path in PAGES:
            times = []
            for _ in range(TIMES):
                began = time.perf_counter()
                page = olivia.get(path, headers={"HX-Request": "true"})  # of the session's budget
                times.append((time.perf_counter() - began) * 1000)
                if page.status_code != 200:
                    raise SystemExit(f"{path}: {page.status_code}")
            good = max(times) <= MOST_MS
            passed = passed and good
            median = sorted(times)[TIMES // 2]
            print(
                f"{path:<55} {median:6.0f} ms, slowest {max(times):6.0f} ms{'' if good else '  TOO SLOW'}", flush=True
            )
    finally:
        app.extensions[EXTENSION].stop()
    return passed


@contextmanager
def silent_server(harness: AppHarness) -> Iterator[None]:
    """1,000 accounts, and one more on a server that accepts connections and never responds."""
    engine = create_engine(harness.environ["KATAVEN_DATABASE_URL"], poolclass=NullPool)
    large.fill_system(engine)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"postgresql+psycopg2://nobody@127.0.0.1:{listener.getsockname()[1]}/postgres"
        with engine.begin() as connection:
            connection.execute(
                text("INSERT INTO database_servers (name, url, draining) VALUES (:server, :url, true)"),
                {"server": SILENT, "url": url},
            )
            connection.execute(
                text(
                    "INSERT INTO accounts (account_id, account_name, database_name, server, status, schema_revision)"
                    " VALUES ('on-silent', 'On a silent server', 'on-silent', :server, 'active', :revision)"
                ),
                {"server": SILENT, "revision": ACCOUNT_SCHEMA.head},
            )
        yield


if __name__ == "__main__":
    sys.exit(main())
