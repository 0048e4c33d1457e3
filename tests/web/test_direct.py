"""`/v1/verify` and `/v1/me` are served without Flask.

Each request here is sent with Flask and without it. Both must have the same response, metrics, log line and usage.
"""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask, signals
from werkzeug.test import TestResponse

from kataven.api import me
from kataven.dev.personas import ALICE, BOB
from kataven.identity.errors import MissingCredential, VerifierUnavailable
from kataven.identity.token import TokenKind, generate
from kataven.ratelimit.limiter.admission import redis_prefix
from kataven.revocation.cache import CachingVerifier
from kataven.system import accounts
from kataven.system.models import AccountStatus
from kataven.usage.recorder import UsageRecorder
from kataven.web import direct, pipeline
from kataven.web.direct import DirectRequests
from tests.support.app_harness import AppHarness, Caller, new_account

VERIFY, ME = "/v1/verify", "/v1/me"
ACCOUNT = "direct"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
GIVEN = {"X-Request-ID": "request-0001", "traceparent": TRACE}
COUNTERS = (
    "requests",
    "request_seconds",
    "problems",
    "verifications",
    "gateway_decisions",
    "limited",
    "usage_requests",
)


@dataclass
class Result:
    """What a client sees of a request, and what the request leaves behind."""

    status: str
    headers: list[tuple[str, str]]
    body: bytes
    counted: dict[str, float]
    lines: list[dict[str, Any]]
    usage: list[Any]
    in_flask: bool = field(compare=False)


@dataclass
class BothWays:
    """Sends a request without Flask and then with it."""

    harness: AppHarness
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]
    observed: list[Any]
    flask_requests: list[object]
    key_id: str | None = None
    """A key whose own limits are reset before each request, as the account's are."""

    def send(self, method: str, path: str, headers: Mapping[str, str], **options: Any) -> tuple[Result, Result]:
        """The results without and with Flask. `X-Request-ID` and `traceparent` have fixed values."""
        given = {**GIVEN, **headers}
        without = self._send(method, path, given, options)
        with self.monkeypatch.context() as patch:
            patch.setattr(DirectRequests, "_is_unextended", lambda _: False)
            return without, self._send(method, path, given, options)

    def _send(self, method: str, path: str, headers: Mapping[str, str], options: Mapping[str, Any]) -> Result:
        limiter = self.harness.services.limiter
        for account in (ACCOUNT, "acme"):
            limiter.reset(account)
        if self.key_id is not None:
            limiter.windows.reset(f"key:{{{ACCOUNT}}}:{self.key_id}", [redis_prefix("api")])
        self.capsys.readouterr()
        self.observed.clear()
        self.flask_requests.clear()
        before = self._counters()
        response: TestResponse = self.harness.app.test_client().open(
            path, method=method, headers=dict(headers), **options
        )
        after = self._counters()
        lines = [json.loads(line) for line in self.capsys.readouterr().err.splitlines() if line.startswith("{")]
        return Result(
            response.status,
            list(response.headers),
            response.data,
            {name: value - before.get(name, 0.0) for name, value in after.items() if value != before.get(name, 0.0)},
            # Lines of background threads have no request.
            [
                {name: value for name, value in line.items() if name not in ("at", "ms")}
                for line in lines
                if "request_id" in line
            ],
            [each[2:] for each in self.observed],
            bool(self.flask_requests),
        )

    def _counters(self) -> dict[str, float]:
        found = {}
        for family in self.harness.services.metrics.registry.collect():
            if family.name.removeprefix("kataven_") in COUNTERS:
                for sample in family.samples:
                    # A thread stores usage in the background.
                    in_background = sample.labels.get("outcome") == "stored"
                    if not in_background and not sample.name.endswith(("_created", "_sum", "_bucket")):
                        found[f"{sample.name}{sorted(sample.labels.items())}"] = sample.value
        return found


@pytest.fixture
def both(harness: AppHarness, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> BothWays:
    observed: list[Any] = []
    flask_requests: list[object] = []
    record, declared = UsageRecorder.record, pipeline._declared_operation

    def recorded(self: UsageRecorder, entry: Any) -> None:
        observed.append(entry)
        record(self, entry)

    def in_flask() -> Any:
        flask_requests.append(None)
        return declared()

    harness.caller().get(ME)  # Flask serves the first request
    monkeypatch.setattr(UsageRecorder, "record", recorded)
    monkeypatch.setattr(pipeline, "_declared_operation", in_flask)
    return BothWays(harness, monkeypatch, capsys, observed, flask_requests)


@pytest.fixture(scope="module")
def key(harness: AppHarness) -> str:
    new_account(harness.services, ACCOUNT)
    return harness.new_key(ACCOUNT)


def bearer(text: str, **others: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}", **{name.replace("_", "-"): value for name, value in others.items()}}


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (VERIFY, {}),
        (VERIFY, {"Accept": "*/*", "User-Agent": "curl/8.5.0", "X-Forwarded-For": "203.0.113.9", "Host": "api:8000"}),
        (VERIFY, {"Accept": "application/json"}),
        (VERIFY, {"Accept": "application/json" + " " * 2_000}),
        (VERIFY, {"X-Account-ID": ACCOUNT}),
        (VERIFY, {"If-None-Match": '"x"', "If-Match": "nonsense"}),
        (VERIFY, {"X-Request-ID": "short"}),
        (f"{VERIFY}?cost=5", {}),
        (f"{VERIFY}?cost=0&account={ACCOUNT}&mode=nginx&scope=reports:read", {"Accept": "application/json"}),
        (f"{VERIFY}/envoy;cost=5/orders?cost=9", {}),
        (ME, {}),
        (ME, {"Accept-Encoding": "gzip", "X-API-Key": "other"}),
    ],
)
def test_an_accepted_request_is_the_same_without_flask(
    both: BothWays, key: str, path: str, headers: dict[str, str]
) -> None:
    without, with_flask = both.send("GET", path, bearer(key) | headers)
    if headers.get("X-Request-ID") == "short":  # each has an id of its own
        for result in (without, with_flask):
            result.headers = [(name, "" if name == "X-Request-ID" else value) for name, value in result.headers]
            result.lines = [line | {"request_id": ""} for line in result.lines]
            result.usage = [(*each[:8], "", *each[9:]) for each in result.usage]
    assert (without.status, without.in_flask, with_flask.in_flask) == ("200 OK", False, True)
    assert without == with_flask
    assert without.usage
    assert [line["message"] for line in without.lines] == ["request"]


def test_users_and_other_credential_headers(both: BothWays, harness: AppHarness, key: str) -> None:
    for path in (VERIFY, ME):
        for persona in (ALICE, BOB):
            headers = bearer(harness.issuer.token(persona), X_Account_ID=persona.account, Accept="application/json")
            without, with_flask = both.send("GET", path, headers)
            assert (without.status, without.in_flask) == ("200 OK", False)
            assert without == with_flask
    without, with_flask = both.send("POST", f"{VERIFY}?credential_header=x-api-key", {"X-API-Key": key}, data=b"x" * 99)
    assert (without.status, without.in_flask) == ("200 OK", False)
    assert without == with_flask


def test_key_with_scopes_limits_and_an_expiry(both: BothWays, harness: AppHarness, key: str) -> None:
    soon = datetime.now(UTC) + timedelta(days=3)
    limited = harness.new_key(ACCOUNT, expires_at=soon, scopes=["agents:write"], limits={"per_minute": 7})
    both.key_id = harness.bearer(limited).get(VERIFY).headers["X-Kataven-Key-Id"]
    for path in (VERIFY, ME):
        without, with_flask = both.send("GET", path, bearer(limited, Accept="application/json"))
        expires = [int(dict(result.headers).pop("Kataven-Key-Expires-In")) for result in (without, with_flask)]
        assert abs(expires[0] - expires[1]) <= 60
        for result in (without, with_flask):
            result.headers = [(n, "" if n == "Kataven-Key-Expires-In" else value) for n, value in result.headers]
        assert (without.status, without.in_flask) == ("200 OK", False)
        assert without == with_flask
        assert '"key-per-minute";r=6' in dict(without.headers)["RateLimit"]


def test_large_body_is_created_in_flask_and_counted_once(both: BothWays, harness: AppHarness, key: str) -> None:
    scopes = sorted(f"a-rather-long-name-of-a-resource-{number}:read" for number in range(40))
    wide = harness.new_key(ACCOUNT, scopes=scopes)
    for headers in ({}, {"Accept-Encoding": "gzip"}):
        without, with_flask = both.send("GET", ME, bearer(wide) | headers)
        assert without.in_flask
        assert without == with_flask
        assert ("Vary", "Accept-Encoding") in without.headers


@pytest.mark.parametrize("path", [VERIFY, ME, f"{VERIFY}?mode=nginx"])
def test_refusals_are_the_same_and_counted_once(both: BothWays, harness: AppHarness, key: str, path: str) -> None:
    past = datetime.now(UTC) - timedelta(days=1)
    scoped = harness.new_key(ACCOUNT, scopes=["agents:read"])
    distant = harness.new_key(ACCOUNT, allowed_addresses=["192.0.2.0/24"])
    for headers in (
        {},
        {"X-API-Key": key},
        {"Authorization": "Basic eDp4"},
        bearer("junk"),
        bearer(key[:-1]),
        bearer(generate(TokenKind.API_KEY, ACCOUNT).text),
        bearer(generate(TokenKind.WIDGET_KEY, ACCOUNT).text),
        bearer(generate(TokenKind.API_KEY, "kataven-admin").text),
        bearer(harness.new_key(ACCOUNT, expires_at=past)),
        bearer(harness.new_key(ACCOUNT, disabled_at=past)),
        bearer(key, X_Account_ID="acme"),
        bearer(key, X_Account_ID="No Such"),
        bearer(key, Origin="https://example.com"),
        bearer(key, Accept="text/plain", X_Account_ID="acme"),
        bearer(distant),
        bearer(harness.issuer.token(ALICE)),
        bearer(harness.issuer.token(ALICE), X_Account_ID="globex"),
    ):
        without, with_flask = both.send("GET", path, headers)
        assert not without.status.startswith("200"), headers
        assert without == with_flask
    assert both.send("GET", path, bearer(scoped))[0].status == "200 OK"


@pytest.mark.parametrize(
    "query", ["cost=x", "cost=1&cost=2", "unknown=1", "account=kataven-admin", "scope=reports:read"]
)
def test_parameters_that_refuse_the_request(both: BothWays, harness: AppHarness, key: str, query: str) -> None:
    scoped = harness.new_key(ACCOUNT, scopes=["agents:read"])
    for path in (f"{VERIFY}?{query}", f"{VERIFY}?{query}&mode=nginx"):
        without, with_flask = both.send("GET", path, bearer(scoped))
        assert not without.status.startswith("200")
        assert without == with_flask


def test_limits_refuse_the_same(both: BothWays, harness: AppHarness, key: str) -> None:
    limited = harness.new_key(ACCOUNT, limits={"per_minute": 3})
    without, with_flask = both.send("GET", f"{VERIFY}?cost=4", bearer(limited))
    assert without.status == "429 TOO MANY REQUESTS"
    assert without == with_flask
    assert "Retry-After" in dict(without.headers)


def test_suspended_account(both: BothWays, harness: AppHarness) -> None:
    new_account(harness.services, "direct-suspended")
    suspended = harness.new_key("direct-suspended")
    with harness.services.directory.database.writing() as session:
        accounts.move(session, "direct-suspended", AccountStatus.SUSPENDED, AccountStatus.ACTIVE)
    for path in (VERIFY, ME):
        without, with_flask = both.send("GET", path, bearer(suspended))
        assert '"code":"account_suspended"' in without.body.decode()
        assert without == with_flask


@pytest.mark.parametrize("error", [VerifierUnavailable("The auth-service is unavailable."), RuntimeError("a defect")])
def test_failures_have_the_same_response(both: BothWays, key: str, error: Exception) -> None:
    def fail(*_: object) -> None:
        raise error

    both.monkeypatch.setattr(CachingVerifier, "verify", fail)
    for path in (VERIFY, ME):
        without, with_flask = both.send("GET", path, bearer(key))
        assert without.status.startswith("50")
        for result in (without, with_flask):
            for line in result.lines:
                line.pop("traceback", None)
        assert without == with_flask


def test_defect_after_the_limits_is_counted_once(both: BothWays, key: str) -> None:
    def fail(*_: object) -> dict[str, Any]:
        raise RuntimeError("a defect")

    both.monkeypatch.setattr(me, "_caller", fail)
    without, with_flask = both.send("GET", ME, bearer(key))
    assert without.status == "500 INTERNAL SERVER ERROR"
    for result in (without, with_flask):
        for line in result.lines:
            line.pop("traceback", None)
    assert without == with_flask
    assert '"per-minute";r=999999' in dict(without.headers)["RateLimit"]


def test_refusals_leave_no_garbage(harness: AppHarness) -> None:
    def refusals() -> int:
        return sum(isinstance(each, MissingCredential) for each in gc.get_objects())

    harness.caller().get(VERIFY)
    gc.collect()
    gc.disable()
    try:
        before = refusals()
        for _ in range(3):
            assert harness.caller().get(VERIFY).status_code == 401
        assert refusals() == before
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("HEAD", VERIFY, {}),
        ("HEAD", ME, {}),
        ("OPTIONS", ME, {}),
        ("POST", ME, {}),
        ("GET", f"/api{VERIFY}", {}),
        ("GET", f"/api{ME}", {}),
        ("GET", f"{ME}?x=1", {}),
        ("GET", f"{ME}/", {}),
        ("GET", ME, {"If-Match": '"x"'}),
        ("GET", ME, {"If-Match": "x"}),
        ("GET", ME, {"If-None-Match": "*"}),
        ("GET", VERIFY, {"X-Kataven-Measure": "any"}),
        *(("GET", path, {"Host": host}) for path in (VERIFY, ME) for host in ("a_b", "[::1]:80", "a:b", "a b", "ä")),
    ],
)
def test_unusual_requests_are_served_by_flask(
    both: BothWays, key: str, method: str, path: str, headers: dict[str, str]
) -> None:
    given = dict(headers)
    options: dict[str, Any] = {}
    if "Host" in given:
        options["environ_overrides"] = {"HTTP_HOST": given.pop("Host")}
    without, with_flask = both.send(method, path, bearer(key) | given, **options)
    assert without.in_flask or not with_flask.in_flask
    assert without == with_flask


def test_slot_is_released_with_the_response(harness: AppHarness) -> None:
    new_account(harness.services, "direct-slots")
    harness.set_limits("direct-slots", concurrent=1)
    caller: Caller = harness.bearer(harness.new_key("direct-slots"))
    for path in (VERIFY, ME, VERIFY, ME):
        response = caller.get(path)
        assert response.status_code == 200
        assert '"concurrent";r=0' in response.headers["RateLimit"]


def extended(harness: AppHarness, extend: Callable[[Flask], object]) -> DirectRequests:
    app = Flask("kataven-api")
    app.add_url_rule(ME, "me.read_me", harness.app.view_functions["me.read_me"])
    requests = DirectRequests(app, harness.services, "http://x", {"me.read_me": me.describe})
    app.before_request(pipeline.open_context)
    extend(app)
    return requests


@pytest.mark.parametrize(
    ("extend", "served"),
    [
        (lambda app: None, True),
        (lambda app: app.before_request(lambda: None), False),
        (lambda app: app.after_request(lambda response: response), False),
        (lambda app: app.teardown_request([].append), False),
        (lambda app: app.teardown_appcontext(lambda error: None), False),
        (lambda app: app.view_functions.update({"me.read_me": lambda: ""}), False),
    ],
    ids=["none", "before", "after", "written in C", "teardown of the context", "view"],
)
def test_hooks_and_views_of_other_packages_run(
    harness: AppHarness, extend: Callable[[Flask], object], served: bool
) -> None:
    requests = extended(harness, extend)
    assert not requests._is_unextended(), "Flask serves the first request, and accepts no hooks after it"
    assert requests._is_unextended() == served


def test_receivers_of_signals_run(harness: AppHarness) -> None:
    requests = extended(harness, lambda app: None)
    requests._is_unextended()
    with signals.request_started.connected_to(lambda sender: None):
        assert not requests._is_unextended()
    assert requests._is_unextended()


def test_hook_after_the_first_request_is_refused_by_flask(harness: AppHarness) -> None:
    assert harness.caller().get(ME).status_code == 401
    with pytest.raises(AssertionError, match="already handled its first request"):
        harness.app.before_request(lambda: None)


def test_an_endpoint_without_an_operation_is_an_error(harness: AppHarness) -> None:
    with pytest.raises(ValueError, match=r"me\.unknown"):
        direct.DirectRequests(harness.app, harness.services, "http://x", {"me.unknown": me.describe})


def test_ids_of_the_request_are_in_its_log_line_only(both: BothWays, key: str) -> None:
    without, _ = both.send("GET", VERIFY, bearer(key))
    (line,) = without.lines
    assert (line["request_id"], line["trace_id"]) == ("request-0001", TRACE[3:35])
    assert re.fullmatch(r"api_key:[0-9a-f-]{36}", line["principal"])
