"""One plausible request for each operation of the API and each page of the Hub, on an account at any served revision.

Rows are written as SQL with the columns of the oldest served revision: a database at that revision has no others, and
one at a newer revision still takes them, since the oldest served code has to write there, too.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import psycopg2
import psycopg2.extensions
from sqlalchemy import make_url

from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.dev.personas import Persona
from kataven.identity.principal import Role
from kataven.identity.token import TokenKind
from kataven.ratelimit.policy import WINDOWS
from kataven.system import accounts
from kataven.system.schema import ACCOUNT_SCHEMA
from kataven.tenancy.server import DatabaseServer
from kataven.tenancy.templates import Templates
from kataven.widget.families import Families
from kataven.widget.user_tokens import UserTokenSubject
from kataven.widget.visitor_tokens import Visitor, VisitorKind, VisitorSession
from tests.support.app_harness import AppHarness, Caller, new_account

ORIGIN = "https://www.acme.com"
AGENT_FORM = {
    "name": "Front desk",
    "category": "custom",
    "status": "active",
    "greeting_mode": "interruptible",
    "llm_model": "gpt-4o",
    "voice_provider": "cartesia",
    "auth_mode": "public",
    "widget_auth_mode": "both",
    "background_audio_volume": "0.5",
}
LIMITS = dict.fromkeys(WINDOWS, "999999") | {"concurrent": "999"}


@dataclass(frozen=True)
class Request:
    """A request. `caller` sends it; None is a visitor's browser."""

    path: str
    caller: Caller | None = None
    body: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Form:
    """A request to a page as the owner of the account or as an operator, and the expected statuses."""

    path: str
    fields: Mapping[str, str] | None = None
    statuses: frozenset[int] = frozenset({200})


class World:
    """An account whose database is at `revision`, with rows for each request."""

    def __init__(self, harness: AppHarness, postgres: EmbeddedPostgres, account: str, revision: str) -> None:
        self.harness = harness
        self.account = account
        self.revision = revision
        self.owner_person = Persona("dora", "Dora", account, Role.OWNER)
        self._postgres = postgres
        new_account(harness.services, account)
        put_at(harness, postgres, account, revision)
        self.owner = harness.user(self.owner_person)
        self.key_id, text = self.api_key()
        self.key = harness.bearer(text)
        self.agent_id = self.agent()
        self.widget_key_id, self.widget_key_text = self.widget_key()

    def agent(self) -> str:
        return self._insert(
            "agents",
            {
                **AGENT_FORM,
                **dict.fromkeys(
                    ("ringing_enabled", "background_audio_enabled", "noise_suppression_enabled"),
                    False,
                ),
                "widget_enabled": True,
            },
        )

    def api_key(self) -> tuple[str, str]:
        issued = self.harness.services.issuer.issue(TokenKind.API_KEY, self.account)
        hashed = {"key_hash": issued.hash.digest, "pepper_id": issued.hash.pepper_id, "hint": issued.hint}
        return self._insert("api_keys", {"name": "CI", **hashed}), issued.text

    def widget_key(self) -> tuple[str, str]:
        issued = self.harness.services.issuer.issue(TokenKind.WIDGET_KEY, self.account)
        hashed = {"key_hash": issued.hash.digest, "pepper_id": issued.hash.pepper_id, "hint": issued.hint}
        return self._insert(
            "widget_keys", {"name": "Site", "domain_allowlist": ["www.acme.com"], **hashed}
        ), issued.text

    def member(self) -> str:
        """The id of a user whom the account has seen, if its database can store users."""
        persona = Persona(f"member-{uuid4()}", "Mia", self.account, Role.MEMBER)
        self.harness.user(persona).get("/v1/me")
        self.harness.services.people_seen.flush()
        return self.harness.services.people.person(persona.subject).id

    def logged_request(self) -> str:
        """The id of a request in the log, if its database has one."""
        request_id = uuid4().hex
        row = {
            **dict.fromkeys(("id", "caller"), str(uuid4())),
            **dict.fromkeys(("name", "code", "agent"), ""),
            "request_id": request_id,
            "kind": "api_key",
            "route": "GET /v1/me",
            "outcome": "ok",
            "status": 200,
            "step": 8,
            "milliseconds": 1.5,
            "address": "192.0.2.1",
        }
        columns, places = ", ".join(row), ", ".join(["%s"] * len(row))
        with connected(self._postgres, self.account) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT to_regclass('request_log')")
            (table,) = cursor.fetchone() or (None,)
            if table is not None:
                insert = f"INSERT INTO request_log (created_at, {columns}) VALUES (now(), {places})"
                cursor.execute(insert, list(row.values()))
        return request_id

    def receipt(self) -> str:
        """The id of a receipt."""
        revoked = self.owner.patch(f"/v1/api-keys/{self.api_key()[0]}", {"disabled": True})
        return str(revoked.get_json()["receipt"]["id"])

    def user_token(self) -> str:
        user = UserTokenSubject(self.key_id, "user-1", "Una", "una@example.com")
        return self.harness.services.widget.create_user_token(self.account, user)

    def refresh_token(self) -> str:
        visitor = Visitor(VisitorKind.GUEST, str(uuid4()))
        visitor_session = VisitorSession(self.account, self.widget_key_id, 0, self.agent_id, ORIGIN, visitor)
        return Families(self.harness.services.widget.store).create(visitor_session)

    def _key(self, kind: TokenKind, table: str, values: Mapping[str, Any]) -> tuple[str, str]:
        issued = self.harness.services.issuer.issue(kind, self.account)
        hashed = {"key_hash": issued.hash.digest, "pepper_id": issued.hash.pepper_id, "hint": issued.hint}
        return self._insert(table, {**values, **hashed}), issued.text

    def _insert(self, table: str, values: Mapping[str, Any]) -> str:
        row_id = str(uuid4())
        row = {"id": row_id, **values, "created_by": "test:walk"}
        columns, places = ", ".join(row), ", ".join(["%s"] * len(row))
        with connected(self._postgres, self.account) as connection, connection.cursor() as cursor:
            cursor.execute(f"INSERT INTO {table} ({columns}) VALUES ({places})", list(row.values()))
        return row_id


@contextmanager
def connected(postgres: EmbeddedPostgres, database: str) -> Iterator[psycopg2.extensions.connection]:
    connection = psycopg2.connect(postgres.url(database).replace("+psycopg2", ""))
    try:
        connection.autocommit = True
        yield connection
    finally:
        connection.close()


def put_at(harness: AppHarness, postgres: EmbeddedPostgres, account: str, revision: str) -> None:
    """Give the account an empty database at `revision`, and record the revision where workers read it."""
    server = DatabaseServer(make_url(postgres.url("postgres")))
    with server.maintenance() as maintenance:
        template = Templates(server, ACCOUNT_SCHEMA).ensure(maintenance, revision)
        maintenance.drop(account)
        maintenance.create(account, template)
    with harness.services.directory.database.writing() as session:
        accounts.read(session, account).schema_revision = revision
    harness.services.revocation.revoke(harness.scope(account))
    harness.services.registry.forget(account)


def prefixes(path: str) -> tuple[str, ...]:
    """The prefixes of the canonical path and its aliases."""
    if path.startswith("/v1/"):
        return "", "/api", "/hub-api/api"
    return ("", "/hub-api") if path.startswith("/api/") else ("",)


AGENT = {"name": "Front desk", "status": "active"}
WIDGET_KEY = {"name": "Site", "domain_allowlist": ["www.acme.com"]}

REQUESTS: dict[tuple[str, str], Callable[[World], Request]] = {
    ("GET", "/v1/me"): lambda w: Request("/v1/me", w.key),
    ("GET", "/v1/verify"): lambda w: Request("/v1/verify", w.key),
    ("GET", "/v1/agents"): lambda w: Request("/v1/agents", w.key),
    ("POST", "/v1/agents"): lambda w: Request("/v1/agents", w.key, AGENT),
    ("GET", "/v1/agents/<agent_id>"): lambda w: Request(f"/v1/agents/{w.agent_id}", w.key),
    ("PATCH", "/v1/agents/<agent_id>"): lambda w: Request(f"/v1/agents/{w.agent_id}", w.key, {"description": "x"}),
    ("DELETE", "/v1/agents/<agent_id>"): lambda w: Request(f"/v1/agents/{w.agent()}", w.owner),
    ("GET", "/v1/agents/<agent_id>/widget-settings"): lambda w: Request(
        f"/v1/agents/{w.agent_id}/widget-settings", w.key
    ),
    ("PATCH", "/v1/agents/<agent_id>/widget-settings"): lambda w: Request(
        f"/v1/agents/{w.agent_id}/widget-settings", w.key, {"widget_enabled": True}
    ),
    ("GET", "/v1/api-keys"): lambda w: Request("/v1/api-keys", w.key),
    ("POST", "/v1/api-keys"): lambda w: Request("/v1/api-keys", w.owner, {"name": "CI", "expiry": "30d"}),
    ("POST", "/v1/api-keys/bulk"): lambda w: Request(
        "/v1/api-keys/bulk", w.owner, {"action": "revoke", "ids": [w.api_key()[0]]}
    ),
    ("PATCH", "/v1/api-keys/<key_id>"): lambda w: Request(
        f"/v1/api-keys/{w.api_key()[0]}", w.owner, {"name": "Ended", "disabled": True}
    ),
    ("POST", "/v1/api-keys/<key_id>/rotate"): lambda w: Request(f"/v1/api-keys/{w.api_key()[0]}/rotate", w.owner, {}),
    ("PATCH", "/v1/api-keys/<key_id>/former-secret"): lambda w: Request(
        f"/v1/api-keys/{w.api_key()[0]}/former-secret", w.owner, {"ends_in_seconds": 0}
    ),
    ("DELETE", "/v1/api-keys/<key_id>"): lambda w: Request(f"/v1/api-keys/{w.api_key()[0]}", w.owner),
    ("GET", "/v1/widget-keys"): lambda w: Request("/v1/widget-keys", w.key),
    ("POST", "/v1/widget-keys"): lambda w: Request("/v1/widget-keys", w.key, WIDGET_KEY),
    ("GET", "/v1/widget-keys/<key_id>"): lambda w: Request(f"/v1/widget-keys/{w.widget_key_id}", w.key),
    ("PATCH", "/v1/widget-keys/<key_id>"): lambda w: Request(
        f"/v1/widget-keys/{w.widget_key()[0]}", w.owner, {"name": "Ended", "disabled": True}
    ),
    ("DELETE", "/v1/widget-keys/<key_id>"): lambda w: Request(f"/v1/widget-keys/{w.widget_key()[0]}", w.owner),
    ("GET", "/v1/widget-settings"): lambda w: Request("/v1/widget-settings", w.key),
    ("PATCH", "/v1/widget-settings"): lambda w: Request("/v1/widget-settings", w.key, {"title": "Acme"}),
    ("GET", "/v1/people"): lambda w: Request("/v1/people", w.owner),
    ("POST", "/v1/people/<person_id>/end-sessions"): lambda w: Request(
        f"/v1/people/{w.member()}/end-sessions", w.owner
    ),
    ("PUT", "/v1/people/<person_id>/block"): lambda w: Request(f"/v1/people/{w.member()}/block", w.owner, {}),
    ("DELETE", "/v1/people/<person_id>/block"): lambda w: Request(f"/v1/people/{w.member()}/block", w.owner),
    ("GET", "/v1/usage"): lambda w: Request("/v1/usage?group_by=caller", w.key),
    ("GET", "/v1/requests"): lambda w: Request(f"/v1/requests?outcome=ok&limit={len(w.logged_request())}", w.key),
    ("GET", "/v1/requests/<string:request>"): lambda w: Request(f"/v1/requests/{w.logged_request()}", w.key),
    ("GET", "/v1/api-keys/<key_id>/usage"): lambda w: Request(f"/v1/api-keys/{w.key_id}/usage", w.key),
    ("POST", "/v1/api-keys/<key_id>/revoke-preview"): lambda w: Request(
        f"/v1/api-keys/{w.key_id}/revoke-preview", w.owner
    ),
    ("GET", "/v1/receipts/<receipt_id>"): lambda w: Request(f"/v1/receipts/{w.receipt()}", w.owner),
    ("GET", "/v1/audit-events"): lambda w: Request("/v1/audit-events", w.owner),
    ("GET", "/v1/widget/config"): lambda w: Request(
        f"/v1/widget/config?client_key={w.widget_key_text}&agent_id={w.agent_id}"
    ),
    ("POST", "/v1/widget/auth/guest"): lambda w: Request(
        "/v1/widget/auth/guest", None, {"client_key": w.widget_key_text, "agent_id": w.agent_id}
    ),
    ("POST", "/v1/widget/auth/user-token"): lambda w: Request(
        "/v1/widget/auth/user-token", w.key, {"external_user_id": "user-1"}
    ),
    ("POST", "/v1/widget/auth/exchange"): lambda w: Request(
        "/v1/widget/auth/exchange",
        None,
        {"client_key": w.widget_key_text, "agent_id": w.agent_id, "user_token": w.user_token()},
    ),
    ("POST", "/v1/widget/auth/refresh"): lambda w: Request(
        "/v1/widget/auth/refresh", None, {"refresh_token": w.refresh_token()}
    ),
    ("GET", "/v1/widget/jwks.json"): lambda _: Request("/v1/widget/jwks.json"),
    ("GET", "/api/accounts"): lambda _: Request("/api/accounts"),
    ("GET", "/api/accounts/validate/<string:account>"): lambda w: Request(f"/api/accounts/validate/{w.account}"),
    **{
        ("GET", path): lambda _, path=path: Request(path)  # type: ignore[misc]
        for path in (
            *(
                "/",
                "/widget.js",
                "/v1/openapi.json",
                "/v1/openapi-operators.json",
                "/docs",
                "/docs/errors",
                "/docs/style.css",
                "/docs/script.js",
            ),
            *("/healthz", "/readyz", "/metrics", "/.well-known/security.txt"),
        )
    },
}
"""Each operation by its method and declared path."""

SEEN, DONE = frozenset({200}), frozenset({303})
KEY_FORM = {"name": "Site", "domain_allowlist": "www.acme.com", "agent_id": ""}
_NUMBERS = itertools.count()
WIDGET_KEYS = "/settings/widget-keys"
API_KEY, API_KEY_NEW = "/settings/api-keys/<key_id>", "/settings/api-keys/new"
API_KEY_BULK = "/settings/api-keys/bulk"
CONSOLE_ACCOUNT = "/console/accounts/<account>"

PAGES: dict[tuple[str, str], Callable[[World], Form]] = {
    ("GET", "/accounts"): lambda _: Form("/accounts"),
    ("POST", "/accounts"): lambda w: Form("/accounts", {"account": w.account}, DONE),
    ("GET", "/"): lambda _: Form("/"),
    ("GET", "/agents"): lambda _: Form("/agents"),
    ("GET", "/agents/new"): lambda _: Form("/agents/new"),
    ("POST", "/agents/new"): lambda _: Form("/agents/new", AGENT_FORM, DONE),
    ("GET", "/agents/<agent_id>"): lambda w: Form(f"/agents/{w.agent_id}"),
    ("POST", "/agents/<agent_id>"): lambda w: Form(f"/agents/{w.agent_id}", AGENT_FORM, DONE),
    ("POST", "/agents/<agent_id>/delete"): lambda w: Form(f"/agents/{w.agent()}/delete", {}, DONE),
    ("GET", "/settings/api-keys"): lambda _: Form("/settings/api-keys"),
    ("GET", API_KEY_NEW): lambda _: Form(API_KEY_NEW),
    ("POST", API_KEY_NEW): lambda _: Form(
        API_KEY_NEW, {"name": "CI", "expiry": "30d", "form_id": uuid4().hex}, frozenset({201})
    ),
    ("GET", API_KEY_BULK): lambda w: Form(f"{API_KEY_BULK}?action=revoke&ids={w.api_key()[0]}"),
    ("POST", API_KEY_BULK): lambda w: Form(API_KEY_BULK, {"action": "revoke", "keys": w.api_key()[0]}, DONE),
    ("GET", API_KEY): lambda w: Form(f"/settings/api-keys/{w.api_key()[0]}"),
    **{
        ("GET", f"{API_KEY}/{page}"): lambda w, page=page: Form(  # type: ignore[misc]
            f"/settings/api-keys/{w.api_key()[0]}/{page}"
        )
        for page in ("edit", "scopes", "rotate", "revoke")
    },
    **{
        ("POST", f"{API_KEY}/{form}"): lambda w, form=form, fields=fields, statuses=statuses: Form(  # type: ignore[misc]
            f"/settings/api-keys/{w.api_key()[0]}/{form}", {"form_id": uuid4().hex, **fields}, statuses
        )
        for form, fields, statuses in (
            ("edit", {"name": "CI", "allowed_addresses": ""}, DONE),
            ("scopes", {"scope.agents:read": "on"}, DONE),
            ("rotate", {"grace": "60"}, frozenset({201, 409})),
            ("former-secret", {"ends_in": "0"}, DONE),
            ("pause", {}, DONE),
            ("resume", {}, DONE),
            ("revoke", {}, DONE),
        )
    },
    ("GET", WIDGET_KEYS): lambda _: Form(WIDGET_KEYS),
    ("POST", WIDGET_KEYS): lambda _: Form(WIDGET_KEYS, {**KEY_FORM, "form_id": uuid4().hex}, frozenset({201})),
    ("POST", f"{WIDGET_KEYS}/explain"): lambda _: Form(f"{WIDGET_KEYS}/explain", {"entries": "acme.com"}, SEEN),
    ("GET", f"{WIDGET_KEYS}/<key_id>"): lambda w: Form(f"{WIDGET_KEYS}/{w.widget_key_id}"),
    ("POST", f"{WIDGET_KEYS}/<key_id>"): lambda w: Form(f"{WIDGET_KEYS}/{w.widget_key()[0]}", KEY_FORM, DONE),
    ("POST", f"{WIDGET_KEYS}/<key_id>/disable"): lambda w: Form(f"{WIDGET_KEYS}/{w.widget_key()[0]}/disable", {}, DONE),
    ("POST", f"{WIDGET_KEYS}/<key_id>/enable"): lambda w: Form(f"{WIDGET_KEYS}/{w.widget_key()[0]}/enable", {}, DONE),
    ("POST", f"{WIDGET_KEYS}/<key_id>/remove"): lambda w: Form(f"{WIDGET_KEYS}/{w.widget_key()[0]}/remove", {}, DONE),
    ("GET", "/widget"): lambda _: Form("/widget"),
    ("GET", "/widget/preview"): lambda _: Form("/widget/preview"),
    ("POST", "/widget"): lambda _: Form(
        "/widget", {"title": "Acme", "accent_color": "#1746a2", "position": "bottom-left", "theme": "auto"}, DONE
    ),
    ("GET", "/search"): lambda _: Form("/search?q=a"),
    ("POST", "/search"): lambda _: Form("/search", {"secret": "anything"}),
    ("POST", "/search/suggest"): lambda _: Form("/search/suggest", {"q": "a"}),
    ("GET", "/console/search"): lambda w: Form(f"/console/search?account={w.account}&q=no-such-request"),
    ("POST", "/console/search"): lambda w: Form("/console/search", {"secret": w.api_key()[1]}),
    ("POST", "/console/search/suggest"): lambda _: Form("/console/search/suggest", {"q": "a"}),
    ("GET", "/audit-log"): lambda _: Form("/audit-log?target=CI&from=2026-01-01"),
    ("POST", "/audit-log/export"): lambda _: Form("/audit-log/export", {"format": "csv"}, SEEN),
    ("GET", "/people"): lambda _: Form("/people"),
    ("GET", "/receipts/<receipt_id>"): lambda w: Form(f"/receipts/{w.receipt()}"),
    ("GET", "/receipts/<receipt_id>/json"): lambda w: Form(f"/receipts/{w.receipt()}/json"),
    ("GET", "/requests"): lambda _: Form("/requests?caller=server&outcome=limited"),
    ("GET", "/requests/<given>"): lambda _: Form(f"/requests/{uuid4().hex}", statuses=frozenset({200, 404})),
    **{
        ("POST", f"/people/<person_id>/{verb}"): lambda w, verb=verb: Form(  # type: ignore[misc]
            f"/people/{w.member()}/{verb}", {}, DONE
        )
        for verb in ("end-sessions", "block", "lift")
    },
    ("GET", "/console/people"): lambda _: Form("/console/people"),
    ("POST", "/console/people/end"): lambda w: Form("/console/people/end", {"sub": f"of-{w.account}"}, DONE),
    ("GET", f"{CONSOLE_ACCOUNT}/people"): lambda w: Form(f"/console/accounts/{w.account}/people"),
    **{
        ("POST", f"{CONSOLE_ACCOUNT}/people/<person_id>/{verb}"): lambda w, verb=verb: Form(  # type: ignore[misc]
            f"/console/accounts/{w.account}/people/{w.member()}/{verb}", {}, DONE
        )
        for verb in ("end-sessions", "block", "lift")
    },
    ("GET", "/sessions"): lambda _: Form("/sessions"),
    ("POST", "/sessions/<session>/end"): lambda _: Form(f"/sessions/{'0' * 64}/end", {}, DONE),
    ("GET", "/docs/session"): lambda _: Form("/docs/session"),
    ("POST", "/docs/session/token"): lambda _: Form("/docs/session/token", {}, SEEN),
    # Without a token; tests/hub/test_try_it.py has the rest.
    ("POST", "/docs/try"): lambda _: Form("/docs/try", {"operation": "getMe"}, frozenset({403})),
    ("GET", "/console"): lambda _: Form("/console"),
    ("GET", "/console/new-account"): lambda _: Form("/console/new-account"),
    ("POST", "/console/new-account"): lambda w: Form(
        "/console/new-account", {"account": f"made-{next(_NUMBERS)}", "name": "Made"}, DONE
    ),
    ("GET", CONSOLE_ACCOUNT): lambda w: Form(f"/console/accounts/{w.account}"),
    ("POST", f"{CONSOLE_ACCOUNT}/limits"): lambda w: Form(f"/console/accounts/{w.account}/limits", LIMITS, DONE),
    ("POST", f"{CONSOLE_ACCOUNT}/raise"): lambda w: Form(
        f"/console/accounts/{w.account}/raise", {"raised_concurrent": "1000000", "hours": "1"}, DONE
    ),
    ("POST", f"{CONSOLE_ACCOUNT}/end-raise"): lambda w: Form(f"/console/accounts/{w.account}/end-raise", {}, DONE),
    ("POST", f"{CONSOLE_ACCOUNT}/policy"): lambda w: Form(
        f"/console/accounts/{w.account}/policy", {"max_days": "3650", "existing": "on"}, DONE
    ),
    ("GET", f"{CONSOLE_ACCOUNT}/keys"): lambda w: Form(f"/console/accounts/{w.account}/keys?q=CI&status=active"),
    ("POST", f"{CONSOLE_ACCOUNT}/keys"): lambda w: Form(
        f"/console/accounts/{w.account}/keys",
        {"name": "CI", "expiry": "30d", "form_id": uuid4().hex},
        frozenset({201}),
    ),
    ("GET", f"{CONSOLE_ACCOUNT}/keys/<key_id>"): lambda w: Form(f"/console/accounts/{w.account}/keys/{w.api_key()[0]}"),
    **{
        ("POST", f"{CONSOLE_ACCOUNT}/keys/<key_id>/{verb}"): lambda w, verb=verb: Form(  # type: ignore[misc]
            f"/console/accounts/{w.account}/keys/{w.api_key()[0]}/{verb}", {}, DONE
        )
        for verb in ("pause", "resume")
    },
    ("POST", f"{CONSOLE_ACCOUNT}/keys/<key_id>/revoke"): lambda w: Form(
        f"/console/accounts/{w.account}/keys/{w.api_key()[0]}/revoke", {}, DONE
    ),
    ("POST", f"{CONSOLE_ACCOUNT}/suspend"): lambda w: Form(
        f"/console/accounts/{w.account}/suspend", {"confirm": w.account}, DONE
    ),
    ("POST", f"{CONSOLE_ACCOUNT}/resume"): lambda w: Form(f"/console/accounts/{w.account}/resume", {}, DONE),
    ("POST", f"{CONSOLE_ACCOUNT}/archive"): lambda w: Form(
        f"/console/accounts/{w.account}/archive", {"confirm": w.account}, DONE
    ),
    ("POST", f"{CONSOLE_ACCOUNT}/restore"): lambda w: Form(f"/console/accounts/{w.account}/restore", {}, DONE),
    ("GET", "/console/migrations"): lambda w: Form(f"/console/migrations?q={w.account}&check=1"),
    ("GET", "/console/migrations/run"): lambda _: Form("/console/migrations/run"),
    # A run needs a process of its own; without the confirmation the page says what is missing.
    ("POST", "/console/migrations"): lambda w: Form(
        "/console/migrations",
        {"account": w.account, "jobs": "1", "canaries": "1", "max_failures": "5"},
        frozenset({400}),
    ),
    ("GET", "/console/health"): lambda _: Form("/console/health"),
    # There is no API that listens here.
    ("POST", "/console/health/measure"): lambda _: Form("/console/health/measure", {}, frozenset({409})),
    ("GET", "/console/wall"): lambda _: Form("/console/wall"),
    ("GET", "/console/trail"): lambda _: Form("/console/trail?from=2026-01-01"),
    ("POST", "/console/trail/export"): lambda _: Form("/console/trail/export", {"format": "ndjson"}, SEEN),
    ("GET", "/sign-in"): lambda _: Form("/sign-in", None, DONE),
    ("POST", "/sign-in"): lambda w: Form("/sign-in", {"account": w.account}, DONE),
    ("GET", "/auth/callback"): lambda _: Form("/auth/callback", None, frozenset({303, 400})),
    ("GET", "/signed-out"): lambda _: Form("/signed-out"),
    # What was typed before a session ended is kept for a while; here nothing was.
    ("GET", "/sent/<place>"): lambda _: Form("/sent/1", None, frozenset({303, 404})),
    ("GET", "/help/sign-in"): lambda _: Form("/help/sign-in"),
    # A page that leads to the issuer, not a redirect.
    ("POST", "/auth/backchannel-logout"): lambda _: Form("/auth/backchannel-logout", {}, frozenset({400})),
    ("POST", "/sign-out"): lambda _: Form("/sign-out", {}, SEEN),
    ("POST", "/theme"): lambda _: Form("/theme", {}, DONE),
    # After the sign-out: the sessions of Alice's other browsers must not end.
    ("POST", "/sessions/end-all"): lambda _: Form("/sessions/end-all", {}, DONE),
}
"""Each page by its method and declared path, in an order in which one visitor can open them all."""
