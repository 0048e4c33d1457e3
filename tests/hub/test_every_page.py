"""Access and cost of every page of the Hub, in a small and in a large account.

The number of queries to PostgreSQL and Redis must not grow with the number of rows. A page has at most 50 rows.
"""

from __future__ import annotations

import gzip
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis.connection
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.pool import NullPool

import app as factory
from kataven import settings
from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.dev.personas import ALICE, BOB, OLIVIA, Persona, org_id
from kataven.hub.page_blueprint import ANONYMOUS, MANAGERS, MEMBERS, OPERATORS, SIGNED_IN, PageAccess, access_of
from kataven.hub.pages_app import PAGES, STATIC
from kataven.hub.session_middleware import EXTENSION
from kataven.identity.credential import OPERATORS_ACCOUNT
from kataven.operations import account_creation
from kataven.ratelimit import redis_socket as ratelimit_connection
from kataven.web.compression import LEVEL
from kataven.web.services import EXTENSION as SERVICES
from tests.hub import large
from tests.hub.conftest import HUB_URL, Hub
from tests.hub.hub_browser import HubBrowser
from tests.hub.test_agents import FORM as AGENT
from tests.support.app_harness import AppHarness

ACCOUNT = "every-page"
LOG_REQUEST = """
INSERT INTO request_log (id, created_at, request_id, caller, kind, name, route, status, outcome, code, step,
                         milliseconds, address, agent)
VALUES (gen_random_uuid(), now(), 'example', gen_random_uuid(), 'api_key', 'Server', 'GET /v1/agents', 429, 'limited',
        'rate_limited', 6, 1, '192.0.2.1', 'curl') RETURNING id
"""
RECORD_RECEIPT = """
INSERT INTO audit_events (id, actor, actor_name, action, target, detail)
VALUES (gen_random_uuid(), 'jwt:alice', 'Alice', 'api_key.revoked', gen_random_uuid()::text,
        '{"name": "Server", "receipt": {"workers": 1, "acknowledged": 1, "ms": 2}}') RETURNING id
"""
EXTRA = 4
"""Additional queries that are allowed because a cache entry has expired."""
MAX_STATEMENTS, MAX_REDIS_CALLS, MAX_BYTES = 12, 6, 80_000

KEY_PAGES = ("edit", "scopes", "rotate", "revoke")
EXAMPLES = {
    "/": "/",
    "/accounts": "/accounts",
    "/agents": "/agents",
    "/agents/new": "/agents/new",
    "/agents/<agent_id>": "/agents/{agent}",
    "/audit-log": "/audit-log",
    "/auth/callback": "/auth/callback",
    "/console": "/console",
    "/console/new-account": "/console/new-account",
    "/docs/session": "/docs/session",
    "/help/sign-in": "/help/sign-in",
    "/search": "/search",
    "/sent/<place>": "/sent/1",
    "/console/accounts/<account>": f"/console/accounts/{ACCOUNT}",
    "/console/accounts/<account>/keys": f"/console/accounts/{ACCOUNT}/keys",
    "/console/accounts/<account>/keys/<key_id>": f"/console/accounts/{ACCOUNT}/keys/{{key}}",
    "/console/accounts/<account>/people": f"/console/accounts/{ACCOUNT}/people",
    "/console/health": "/console/health",
    "/console/migrations": "/console/migrations",
    "/console/migrations/run": "/console/migrations/run",
    "/console/people": "/console/people",
    "/console/search": "/console/search",
    "/console/trail": "/console/trail",
    "/console/wall": "/console/wall",
    "/people": "/people",
    "/receipts/<receipt_id>": "/receipts/{receipt}",
    "/receipts/<receipt_id>/json": "/receipts/{receipt}/json",
    "/requests": "/requests",
    "/requests/<given>": "/requests/{request}",
    "/sessions": "/sessions",
    "/settings/api-keys": "/settings/api-keys",
    "/settings/api-keys/new": "/settings/api-keys/new",
    "/settings/api-keys/bulk": "/settings/api-keys/bulk?action=revoke&ids={key}",
    "/settings/api-keys/<key_id>": "/settings/api-keys/{key}",
    **{f"/settings/api-keys/<key_id>/{page}": f"/settings/api-keys/{{key}}/{page}" for page in KEY_PAGES},
    "/settings/widget-keys": "/settings/widget-keys",
    "/settings/widget-keys/<key_id>": "/settings/widget-keys/{widget_key}",
    "/sign-in": "/sign-in",
    "/signed-out": "/signed-out",
    "/widget": "/widget",
    "/widget/preview": "/widget/preview",
}
"""An example path for each page of the URL map. A new page needs an entry."""
MORE = (
    "/audit-log?action=api_key&actor=alice&target=Server",
    "/console?q=bank",
    "/console?sort=requests",
    "/console/wall?part=live",
    "/console/health?part=live",
    "/console?sort=connections&status=active",
    "/console?sort=created",
    f"/console/accounts/{ACCOUNT}/keys?q=server&status=active",
    "/console/trail?q=bulk&actor=jwt:operator-1",
    "/console/migrations?q=bank",
    "/requests?caller=server&outcome=limited&route=GET+/v1/agents&address=203.0.113.1&since=2026-01-01T00:00",
    "/console/search?q=bank",
    f"/console/search?account={ACCOUNT}&q=no-such-request",
    "/search?q=server",
    "/settings/api-keys?q=server&show=never_used&sort=name",
)
"""The same pages with filters."""
CONTENT = {
    "/console/accounts/<account>/keys",
    "/console/accounts/<account>/keys/<key_id>",
    "/console/accounts/<account>/people",
}
"""Pages of the console that show an account's own data."""
OTHERWISE = {"/sign-in": {200, 303}, "/auth/callback": {303, 400}, "/sent/<place>": {303}}
"""Pages that redirect regardless of the role."""
PEOPLE = {"owner": ALICE, "member": BOB, "operator": OLIVIA}


@dataclass
class Cost:
    """The queries of one request, on its thread."""

    status: int = 0
    bytes: int = 0
    gzipped: int = 0
    assets: frozenset[str] = frozenset()
    """The static files that the page loads."""
    statements: list[str] = field(default_factory=list)
    databases: set[str] = field(default_factory=set)
    """The databases that the request used."""
    redis_calls: int = 0


@contextmanager
def counting_queries() -> Iterator[Cost]:
    """Count the queries of this thread: SQL statements, and Redis round trips."""
    cost, thread = Cost(), threading.get_ident()

    def statement(connection: Any, _cursor: Any, words: str, *_: Any) -> None:
        if threading.get_ident() == thread:
            cost.statements.append(words)
            cost.databases.add(connection.engine.url.database)

    def counting(send: Any) -> Any:
        def counted_send(*arguments: Any, **options: Any) -> Any:
            cost.redis_calls += threading.get_ident() == thread
            return send(*arguments, **options)

        return counted_send

    event.listen(Engine, "before_cursor_execute", statement)
    try:
        with pytest.MonkeyPatch.context() as patch:
            general, ours = redis.connection.AbstractConnection, ratelimit_connection.RedisSocket
            patch.setattr(general, "send_packed_command", counting(general.send_packed_command))
            patch.setattr(ours, "send", counting(ours.send))
            yield cost
    finally:
        event.remove(Engine, "before_cursor_execute", statement)


MAX_WEIGHT, MAX_REQUESTS = 30_000, 5
"""Of a page with everything that it loads, gzipped."""
HTMX = "htmx.min.js"
"""Not counted: it is loaded by pages that refresh themselves only, once a year."""

PageCosts = Mapping[tuple[str, str, str], Cost]
"""The cost of each page, by rule, path and role."""


@dataclass(frozen=True)
class WalkResults:
    hub: Hub
    small: PageCosts
    large: PageCosts


@pytest.fixture(scope="module")
def hub(harness: AppHarness, postgres: EmbeddedPostgres) -> Iterator[Hub]:
    """A Hub with a separate system database and one account."""
    environ = {
        **harness.environ,
        "KATAVEN_DATABASE_URL": postgres.url("kataven_every_page"),
        "KATAVEN_HUB_URL": HUB_URL,
        "KATAVEN_OPERATORS_ORG_ID": org_id(OPERATORS_ACCOUNT),
    }
    configured = settings.load(environ)
    account_creation.prepare_system(configured.database_url.get_secret_value())
    app = factory.create_hub(configured)
    services = app.extensions[SERVICES]
    new = account_creation.NewAccount(ACCOUNT, "Every page", org_id(ALICE.account))
    account_creation.create(services.directory.database, new, actor="test")
    services.start()
    pages = app.extensions[PAGES]
    yield Hub(app, pages, pages.extensions[EXTENSION])
    services.stop()


@pytest.fixture(scope="module")
def results(hub: Hub, postgres: EmbeddedPostgres) -> WalkResults:
    """Request every page in every role, before and after filling the account and the system database."""
    browsers = {role: _signed_in(hub, person) for role, person in PEOPLE.items()}
    places = _places(browsers["owner"], create_engine(postgres.url(ACCOUNT), poolclass=NullPool))
    small = _walk(browsers, places)
    for database, fill in ((ACCOUNT, large.fill_account), ("kataven_every_page", large.fill_system)):
        fill(create_engine(postgres.url(database), poolclass=NullPool))
    return WalkResults(hub, small, _walk(browsers, places))


def _walk(browsers: Mapping[str, HubBrowser], places: Sequence[tuple[str, str]]) -> PageCosts:
    return {(rule, path, role): _seen(browser, path) for rule, path in places for role, browser in browsers.items()}


def _signed_in(hub: Hub, person: Persona) -> HubBrowser:
    return hub.signed_in(person, OPERATORS_ACCOUNT if person is OLIVIA else ACCOUNT)


def _places(owner: HubBrowser, engine: Engine) -> list[tuple[str, str]]:
    """The rule of each page, with example paths."""
    with engine.begin() as connection:
        request, receipt = (connection.execute(text(one)).scalar_one() for one in (LOG_REQUEST, RECORD_RECEIPT))
    owner.get("/agents/new")
    agent = owner.post("/agents/new", AGENT).location.rpartition("/")[2]
    owner.get("/settings/widget-keys")
    made = owner.post("/settings/widget-keys", {"name": "Shop", "domain_allowlist": "shop.example", "agent_id": agent})
    widget_key = made.text.partition("/settings/widget-keys/")[2][:36]
    owner.get("/settings/api-keys/new")
    owner.post("/settings/api-keys/new", {"name": "Server", "expiry": "30d"})
    key = owner.get("/settings/api-keys").text.partition('id="key-')[2][:36]
    places = [
        *EXAMPLES.items(),
        *((path.partition("?")[0].replace(f"/{ACCOUNT}/", "/<account>/"), path) for path in MORE),
    ]
    return [
        (rule, path.format(agent=agent, key=key, widget_key=widget_key, request=request, receipt=receipt))
        for rule, path in places
    ]


def _seen(browser: HubBrowser, path: str) -> Cost:
    browser.get(path)  # fills the caches
    with counting_queries() as cost:
        page = browser.get(path)
    cost.status, cost.bytes = page.status_code, len(page.data)
    cost.gzipped = len(gzip.compress(page.data, LEVEL))
    cost.assets = frozenset(re.findall(r'(?:href|src)="/static/([\w.]+)', page.text))
    return cost


def rules(hub: Hub) -> dict[str, PageAccess]:
    """The declared access of each page."""
    found = {}
    for rule in hub.pages.url_map.iter_rules():
        who = access_of(hub.pages.view_functions[rule.endpoint])
        if "GET" in (rule.methods or set()) and who is not None:
            found[rule.rule] = who
    return found


def test_every_page_has_an_example(hub: Hub) -> None:
    assert set(rules(hub)) == set(EXAMPLES)


def test_every_page_is_accessible_to_the_declared_roles_only(results: WalkResults) -> None:
    may = {
        ANONYMOUS: {"owner", "member", "operator"},
        SIGNED_IN: {"owner", "member", "operator"},
        MEMBERS: {"owner", "member"},
        MANAGERS: {"owner"},
        OPERATORS: {"operator"},
    }
    declared = rules(results.hub)
    wrong = []
    for (rule, path, role), cost in results.large.items():
        who = declared[rule]
        # Operators have no account and are redirected to the account list.
        refused = 303 if role == "operator" and who in {MEMBERS, MANAGERS} else 403
        expected = OTHERWISE.get(rule, {200 if role in may[who] else refused})
        if cost.status not in expected:
            wrong.append((path, role, cost.status, expected))
    assert wrong == []


def test_console_pages_use_no_database_of_an_account(results: WalkResults) -> None:
    """An unresponsive database server must not delay the console. Pages of an account's content read its database."""
    declared = rules(results.hub)
    system = "kataven_every_page"
    elsewhere = {
        path: sorted(cost.databases - {system})
        for (rule, path, role), cost in results.large.items()
        if role == "operator"
        and declared[rule] == OPERATORS
        and rule not in CONTENT
        and cost.databases - {system}
        and not path.startswith("/console/search?account=")  # a request of one account
    }
    assert elsewhere == {}


def test_number_of_queries_is_independent_of_the_number_of_rows(results: WalkResults) -> None:
    """One query per row would add 50 queries."""
    more = []
    for page, cost in results.large.items():
        small = results.small[page]
        if len(cost.statements) > len(small.statements) + EXTRA or cost.redis_calls > small.redis_calls + EXTRA:
            more.append((page, len(small.statements), len(cost.statements), small.redis_calls, cost.redis_calls))
    assert more == []


def test_queries_and_size_of_each_page_are_bounded(results: WalkResults) -> None:
    beyond = [
        (page, len(cost.statements), cost.redis_calls, cost.bytes)
        for page, cost in results.large.items()
        if len(cost.statements) > MAX_STATEMENTS or cost.redis_calls > MAX_REDIS_CALLS or cost.bytes > MAX_BYTES
    ]
    assert beyond == []


def test_every_page_is_light(results: WalkResults) -> None:
    """On a first visit: the page, its style sheet, script and icons. Later, browsers have everything but the page."""
    sizes = {path.name: len(gzip.compress(path.read_bytes(), LEVEL)) for path in STATIC.iterdir()}
    heavy = []
    for page, cost in results.large.items():
        weight = cost.gzipped + sum(sizes[name] for name in cost.assets if name != HTMX)
        if weight > MAX_WEIGHT or 1 + len(cost.assets) > MAX_REQUESTS:
            heavy.append((page, weight, sorted(cost.assets)))
    assert heavy == []
    assert {"hub.css", "hub.js", "icons.svg"} <= results.large["/", "/", "owner"].assets


def test_large_account_fills_every_list(results: WalkResults) -> None:
    """A precondition of the tests above."""
    lists = {
        "/requests": "member",
        "/settings/api-keys": "owner",
        "/agents": "owner",
        "/settings/widget-keys": "owner",
        "/audit-log": "owner",
    }
    lists |= {"/console": "operator", "/console/migrations": "operator", "/console/trail": "operator"}
    lists |= {f"/console/accounts/{ACCOUNT}/keys": "operator"}
    for path, role in lists.items():
        rule = path.replace(f"/{ACCOUNT}/", "/<account>/")
        assert results.large[rule, path, role].bytes > results.small[rule, path, role].bytes + 50 * 100, path
