"""The order of checks: each row of the table alone, and each pair of rows, of which the earlier one decides.

A defect changes one part of a request that would otherwise be accepted. For a request with two defects,
docs/authentication.md defines which error the API returns.
"""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from werkzeug.test import TestResponse

from kataven.dev.personas import Persona, org_id
from kataven.identity import token as tokens
from kataven.identity.principal import Role
from kataven.identity.token import TokenKind
from kataven.system import accounts
from kataven.system.models import AccountStatus
from tests.support.app_harness import AppHarness, new_account

PAST = datetime.now(UTC) - timedelta(days=1)
NOWHERE = "/v1/agents/00000000-0000-4000-8000-000000000000"
ALIASES = ("", "/api", "/hub-api/api")
ADDRESSES = ipaddress.ip_network("198.18.0.0/15").hosts()
NUMBERS = itertools.count()


@dataclass
class Draft:
    """A request under construction. Without defects, it is accepted."""

    kind: str
    account: str = "acme"
    columns: dict[str, Any] = field(default_factory=dict)
    claims: dict[str, Any] = field(default_factory=dict)
    role: Role = Role.OWNER
    org_account: str | None = None
    text: str | None = None
    scheme: str = "Bearer"
    header: str | None = None
    method: str = "GET"
    path: str = "/v1/agents"

    def send(self, harness: AppHarness, alias: str = "") -> TestResponse:
        headers = {}
        if self.scheme:
            headers["Authorization"] = f"{self.scheme} {self.text or self._credential(harness)}"
        header = self.header if self.header is not None else (self.account if self.kind == "jwt" else "")
        if header:
            headers["X-Account-ID"] = header
        # Each from another address and of another user, because rejections have a budget per address and per subject.
        return harness.caller().call(
            self.method, alias + self.path, headers=headers, environ_base={"REMOTE_ADDR": str(next(ADDRESSES))}
        )

    def _credential(self, harness: AppHarness) -> str:
        if self.kind == "key":
            return harness.new_key(self.account, **self.columns)
        person = Persona(f"dora{next(NUMBERS)}", "Dora", self.org_account or self.account, self.role)
        return harness.issuer.token(person, claims=self.claims)


@dataclass(frozen=True)
class Defect:
    """A row of the table: `rank` is its position, `part` is what it changes. Two defects of one part can't be
    combined."""

    name: str
    rank: int
    status: int
    code: str
    part: str
    spoil: Callable[[Draft], object]
    kinds: tuple[str, ...] = ("key", "jwt")


def _set(**changes: Any) -> Callable[[Draft], object]:
    return lambda draft: [setattr(draft, name, value) for name, value in changes.items()]


def _token(kind: TokenKind, account: str | None = None) -> Callable[[Draft], object]:
    return lambda draft: setattr(draft, "text", tokens.generate(kind, account or draft.account).text)


DEFECTS = (
    Defect("no Authorization", 1, 401, "missing_credential", "text", _set(scheme="")),
    Defect("not Bearer", 1, 401, "missing_credential", "scheme", _set(scheme="Basic")),
    Defect("malformed", 2, 400, "malformed_token", "text", _set(text="junk")),
    Defect("widget key", 3, 401, "not_a_credential", "text", _token(TokenKind.WIDGET_KEY), ("key",)),
    Defect("no account", 4, 400, "missing_account", "header", _set(header=""), ("jwt",)),
    Defect("invalid account", 5, 400, "invalid_account", "header", _set(header="No Such Name")),
    Defect("reserved by header", 6, 403, "reserved_account", "header", _set(header="kataven-admin")),
    Defect(
        "reserved by prefix", 6, 403, "reserved_account", "text", _token(TokenKind.API_KEY, "kataven-admin"), ("key",)
    ),
    Defect("another's header", 7, 403, "account_mismatch", "header", _set(header="globex"), ("key",)),
    Defect("unknown key", 8, 401, "invalid_credential", "text", _token(TokenKind.API_KEY), ("key",)),
    Defect("unknown account", 8, 401, "invalid_credential", "text", _token(TokenKind.API_KEY, "nobody"), ("key",)),
    Defect(
        "expired key", 8, 401, "expired_credential", "expiry", lambda d: d.columns.update(expires_at=PAST), ("key",)
    ),
    Defect("wrong audience", 8, 401, "invalid_credential", "aud", lambda d: d.claims.update(aud="others"), ("jwt",)),
    Defect(
        "wrong issuer",
        8,
        401,
        "invalid_credential",
        "iss",
        lambda d: d.claims.update(iss="https://x.example"),
        ("jwt",),
    ),
    Defect(
        "expired JWT", 8, 401, "expired_credential", "exp", lambda d: d.claims.update(exp=PAST.timestamp()), ("jwt",)
    ),
    Defect("no grant", 9, 403, "account_mismatch", "org", _set(org_account="globex"), ("jwt",)),
    Defect("unknown account", 9, 403, "account_mismatch", "header", _set(header="nobody"), ("jwt",)),
    Defect(
        "revoked key", 10, 403, "revoked_credential", "ended", lambda d: d.columns.update(disabled_at=PAST), ("key",)
    ),
    Defect("suspended", 11, 403, "account_suspended", "account", _set(account="asleep")),
    Defect("role", 12, 403, "forbidden", "route", _set(role=Role.MEMBER, method="POST"), ("jwt",)),
    Defect("kind", 12, 403, "forbidden", "route", _set(method="POST", path="/v1/api-keys"), ("key",)),
    Defect("over a limit", 13, 429, "rate_limited", "account", _set(account="throttled")),
    Defect("not there", 14, 404, "not_found", "route", _set(path=NOWHERE)),
)

SINGLES = [(kind, defect) for defect in DEFECTS for kind in defect.kinds]
PAIRS = [
    (kind, first, second)
    for first, second in itertools.combinations(DEFECTS, 2)
    for kind in ("key", "jwt")
    if kind in first.kinds
    and kind in second.kinds
    and first.rank < second.rank
    and first.part != second.part
    # The header and the account in the prefix determine the requested account.
    and not ({first.part, second.part} == {"header", "account"} and "another" in first.name)
]


@pytest.fixture(scope="module", autouse=True)
def _special_accounts(harness: AppHarness) -> None:
    """`asleep` is suspended, and `throttled` has used up its limit of one request per day. Created once per
    harness: other modules use them too, and tests between these modules may empty Redis."""
    if harness.services.directory.read("asleep") is None:
        for account in ("asleep", "throttled"):
            new_account(harness.services, account)
        with harness.services.directory.database.writing() as session:
            accounts.move(session, "asleep", AccountStatus.SUSPENDED, AccountStatus.ACTIVE)
        harness.set_limits("throttled", per_day=1)
    assert Draft("key", account="throttled").send(harness).status_code in {200, 429}


@pytest.mark.parametrize("kind", ["key", "jwt"])
@pytest.mark.parametrize("alias", ALIASES)
def test_request_without_a_defect_is_accepted(harness: AppHarness, kind: str, alias: str) -> None:
    assert Draft(kind).send(harness, alias).status_code == 200


@pytest.mark.parametrize(("kind", "defect"), SINGLES, ids=lambda value: getattr(value, "name", value))
def test_each_defect_returns_the_documented_error_under_every_alias(
    harness: AppHarness, kind: str, defect: Defect
) -> None:
    for alias in ALIASES:
        draft = Draft(kind)
        defect.spoil(draft)
        response = draft.send(harness, alias)
        assert (response.status_code, _code(response)) == (defect.status, defect.code)


@pytest.mark.parametrize(("kind", "first", "second"), PAIRS, ids=lambda value: getattr(value, "name", value))
@pytest.mark.parametrize("reverse", [False, True])
def test_of_two_defects_the_earlier_check_decides(
    harness: AppHarness, kind: str, first: Defect, second: Defect, reverse: bool
) -> None:
    draft = Draft(kind)
    for defect in (second, first) if reverse else (first, second):
        defect.spoil(draft)
    response = draft.send(harness)
    assert (response.status_code, _code(response)) == (first.status, first.code)


def _code(response: TestResponse) -> str:
    assert response.content_type == "application/problem+json"
    body = response.get_json()
    assert body["status"] == response.status_code
    return str(body["code"])


def test_401_has_a_www_authenticate_challenge(harness: AppHarness) -> None:
    # RFC 9110, section 11.6.1; RFC 6750, section 3.1
    assert harness.caller().get("/v1/agents").headers["WWW-Authenticate"] == 'Bearer realm="kataven"'
    unknown = tokens.generate(TokenKind.API_KEY, "acme").text
    challenge = harness.bearer(unknown).get("/v1/agents").headers["WWW-Authenticate"]
    assert challenge == 'Bearer realm="kataven", error="invalid_token"'


def test_role_in_another_organisation_grants_no_access(harness: AppHarness) -> None:
    token = harness.issuer.token(Persona("eve", "Eve", "globex", Role.OWNER))
    assert harness.bearer(token, "globex").get("/v1/me").get_json()["role"] == "owner"
    assert _code(harness.bearer(token, "acme").get("/v1/me")) == "account_mismatch"
    assert org_id("acme") not in str(harness.bearer(token, "acme").get("/v1/me").get_json())
