"""Accounts in the system database. They are rows without databases: no list may need a database of an account."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

from sqlalchemy import text

import app as factory
from bench.growth.growth import Growth, Measure, Quantity
from kataven import settings
from kataven.dev.personas import ALICE, OLIVIA, org_id
from kataven.identity.credential import OPERATORS_ACCOUNT
from kataven.web.services import EXTENSION
from tests.hub.hub_browser import HubBrowser
from tests.support.app_harness import AppHarness

HUB_URL = "http://localhost:4711"
TIMES = 5
"""Few: a browser may request 300 pages per minute."""

_ACCOUNTS = """
INSERT INTO accounts (account_id, account_name, database_name, server, status, schema_revision)
SELECT 'bulk-' || lpad(n::text, 5, '0'), (ARRAY['Bank', 'Bakery', 'Clinic'])[1 + n % 3] || ' Number ' || n,
       'bulk-' || lpad(n::text, 5, '0'), 'default', 'active', :revision
FROM generate_series(:first, :last) n
"""


def quantity(harness: AppHarness, opened: ExitStack) -> Quantity:
    """Accounts, as the console, the commands and the API list them."""
    database = harness.services.directory.database
    filled = 2  # acme and globex

    def grow(size: int) -> None:
        nonlocal filled
        with database.writing() as session:
            revision = session.execute(text("SELECT schema_revision FROM accounts WHERE account_id = 'acme'")).scalar()
            session.execute(text(_ACCOUNTS), {"first": filled + 1, "last": size, "revision": revision})
        filled = size
        with database.autocommit() as session:
            session.execute(text("ANALYZE accounts"))

    environ = {
        **harness.environ,
        "KATAVEN_HUB_URL": HUB_URL,
        "KATAVEN_OPERATORS_ORG_ID": org_id(OPERATORS_ACCOUNT),
    }
    hub = factory.create_hub(settings.load(environ))
    hub.extensions[EXTENSION].start()
    opened.callback(hub.extensions[EXTENSION].stop)

    def measures(_: int) -> Sequence[Measure]:
        olivia = HubBrowser(hub, HUB_URL).sign_in(OLIVIA)
        alice = HubBrowser(hub, HUB_URL).sign_in(ALICE)
        run = harness.app.test_cli_runner().invoke

        def command(*words: str) -> None:
            result = run(args=list(words))
            assert result.exit_code == 0, result.output[-500:]

        def page(browser: HubBrowser, path: str) -> None:
            assert browser.get(path).status_code == 200

        console = ("/console", "/console/accounts/acme", "/console/health")
        searches = ("/console?q=bank", "/console?q=bulk-00007")  # a part of a name has no index
        return (
            *(Measure(f"page {path}", partial(page, olivia, path), times=TIMES) for path in console),
            *(Measure(f"page {path}", partial(page, olivia, path), Growth.LINEAR, TIMES) for path in searches),
            Measure("page /console/migrations", partial(page, olivia, "/console/migrations"), times=TIMES),
            Measure("page /console/trail", partial(page, olivia, "/console/trail"), times=TIMES),
            Measure("page /accounts, of a user", partial(page, alice, "/accounts"), times=TIMES),
            Measure("accounts list", partial(command, "accounts", "list"), Growth.LINEAR, times=3),
            Measure("accounts show acme", partial(command, "accounts", "show", "acme"), times=3),
        )

    return Quantity("accounts of an installation", (100, 1_000, 10_000), grow, measures)
