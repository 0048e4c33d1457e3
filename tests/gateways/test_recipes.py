"""The files of `deploy/gateways/`, run by the real programs in front of a real API, with real requests."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import httpx2
import pytest
from sqlalchemy import create_engine, text

from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.dev.personas import ALICE, BOB
from kataven.identity.token import TokenKind, generate
from tests.support import gateways
from tests.support.app_harness import AppHarness, new_account
from tests.support.gateways import NAMES, RECIPES, Backend, Gateway, Received, Switch
from tests.support.gunicorn import CHECKOUT, Gunicorn

pytestmark = pytest.mark.programs

IDENTITY = ("x-kataven-account", "x-kataven-principal", "x-kataven-key-id", "x-kataven-role", "x-kataven-scopes")
CLIENT = "127.0.0.9"


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    with Backend() as running:
        yield running


@pytest.fixture(scope="module")
def api(harness: AppHarness, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    environ = {**harness.environ, "KATAVEN_TRUSTED_PROXIES": "1"}
    with Gunicorn(environ, tmp_path_factory.mktemp("api") / "log") as running:
        yield running


@pytest.fixture(scope="module")
def switch(api: Gunicorn) -> Iterator[Switch]:
    with Switch(api.host, api.port) as relay:
        yield relay


@pytest.fixture(scope="module", params=NAMES)
def gateway(
    request: pytest.FixtureRequest, switch: Switch, backend: Backend, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp(request.param)
    with Gateway(request.param, folder, f"127.0.0.1:{switch.port}", backend.address) as running:
        yield running


class Site:
    """Sends requests through the gateway, from the address 127.0.0.9, and reads what reached the backend."""

    def __init__(self, client: httpx2.Client, backend: Backend) -> None:
        self._client = client
        self._received = backend.received

    def send(
        self,
        token: str | None = None,
        method: str = "GET",
        path: str = "/orders/17",
        *,
        headers: dict[str, str] | None = None,
        content: bytes | None = None,
    ) -> tuple[httpx2.Response, list[Received]]:
        before = len(self._received)
        given = {} if token is None else {"Authorization": f"Bearer {token}"}
        response = self._client.request(method, path, headers={**given, **(headers or {})}, content=content)
        return response, self._received[before:]

    def refused(self, token: str | None = None, **options: object) -> tuple[int, str]:
        """The status and code of a refusal. The backend received nothing."""
        response, received = self.send(token, **options)  # type: ignore[arg-type]
        assert received == []
        assert response.headers["content-type"].startswith("application/problem+json")
        assert response.json()["status"] == response.status_code
        return response.status_code, response.json()["code"]


@pytest.fixture
def site(gateway: Gateway, backend: Backend) -> Iterator[Site]:
    transport = httpx2.HTTPTransport(local_address=CLIENT)
    with httpx2.Client(base_url=gateway.url, transport=transport, timeout=30, trust_env=False) as client:
        yield Site(client, backend)


def test_valid_key_reaches_the_backend_with_its_identity_and_without_the_key(harness: AppHarness, site: Site) -> None:
    key = harness.new_key("acme")
    response, [request] = site.send(key, path="/orders/17?cost=0&account=globex")
    assert (response.status_code, response.text) == (200, "from the backend")
    assert (request.method, request.path) == ("GET", "/orders/17?cost=0&account=globex")
    assert request.headers["x-kataven-account"] == "acme"
    assert request.headers["x-kataven-principal"] == f"api_key:{request.headers['x-kataven-key-id']}"
    assert not request.headers.get("x-kataven-role")
    assert key not in str(request.headers)


def test_user_reaches_the_backend_with_role(harness: AppHarness, site: Site) -> None:
    _, [request] = site.send(harness.issuer.token(BOB), headers={"X-Account-ID": "acme"})
    assert request.headers["x-kataven-principal"] == f"jwt:{BOB.subject}"
    assert request.headers["x-kataven-role"] == "member"
    assert not request.headers.get("x-kataven-key-id")


@pytest.mark.parametrize("spelling", ["X-Kataven-", "x_kataven_", "X-Kataven_"])
def test_identity_headers_of_the_client_never_reach_the_backend(harness: AppHarness, site: Site, spelling: str) -> None:
    dash = "_" if spelling.endswith("_") else "-"
    forged = {f"{spelling}{name.replace('-', dash)}": "globex" for name in ("Account", "Role", "Key-Id", "Principal")}
    response, [request] = site.send(harness.new_key("acme"), headers={**forged, "X-Kataven-Scopes": "globex"})
    assert response.status_code == 200
    assert "globex" not in str(request.headers)
    assert request.headers["x-kataven-account"] == "acme"
    _, [request] = site.send(
        harness.issuer.token(BOB), headers={**forged, "X-Account-ID": "acme", "X-Kataven-Scopes": "globex"}
    )
    assert "globex" not in str(request.headers)


def test_bad_credentials_are_401_with_a_challenge_and_the_problem(harness: AppHarness, site: Site) -> None:
    assert site.refused() == (401, "missing_credential")
    assert site.refused(harness.new_key("acme")[:-1]) == (401, "malformed_token")
    assert site.refused("junk") == (401, "malformed_token")
    unknown = generate(TokenKind.API_KEY, "acme").text
    assert site.refused(unknown) == (401, "invalid_credential")
    response, _ = site.send(unknown)
    assert response.headers.get_list("www-authenticate") == ['Bearer realm="kataven", error="invalid_token"']
    assert "no-store" in response.headers["cache-control"]


def test_user_of_another_account_is_403(harness: AppHarness, site: Site) -> None:
    token = harness.issuer.token(ALICE)
    assert site.refused(token, headers={"X-Account-ID": "globex"}) == (403, "account_mismatch")
    assert site.refused(token) == (403, "missing_account")


def test_revoked_key_is_refused_on_the_next_request_after_the_receipt(
    harness: AppHarness, api: Gunicorn, site: Site
) -> None:
    with api.client(harness.issuer.token(ALICE), "acme") as alice:
        made = alice.post("/v1/api-keys", json={"name": "gateway", "expiry": "30d"}).json()
        for _ in range(4):  # both workers
            assert site.send(made["key"])[0].status_code == 200
        receipt = alice.delete(f"/v1/api-keys/{made['id']}")
        assert receipt.status_code == 200
        for _ in range(4):
            assert site.refused(made["key"]) == (403, "revoked_credential")


def test_over_the_limit_is_429_with_retry_after(harness: AppHarness, gateway: Gateway, site: Site) -> None:
    account = f"limited-{gateway.name}"
    new_account(harness.services, account)
    harness.set_limits(account, per_minute=7)
    key = harness.new_key(account)
    response, [_] = site.send(key, path="/reports/yearly")  # costs 5
    assert '"per-minute";r=2' in response.headers.get("ratelimit", '"per-minute";r=2')
    assert site.refused(key, path="/reports/yearly") == (429, "rate_limited")
    assert [site.send(key)[0].status_code for _ in range(3)] == [200, 200, 429]
    response, _ = site.send(key)
    assert 1 <= int(response.headers["retry-after"]) <= 60
    assert '"per-minute";r=0' in response.headers["ratelimit"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_bodies_reach_the_backend_once_and_unchanged(harness: AppHarness, site: Site, method: str) -> None:
    body = b"0123456789abcdef" * 131_072  # 2 MiB: more than Kataven accepts, and more than gateways buffer
    response, [request] = site.send(harness.new_key("acme"), method, content=body)
    assert (response.status_code, request.method, request.body) == (200, method, body)
    assert site.refused("junk", method=method, content=b"small") == (401, "malformed_token")


def test_options_requires_a_credential(harness: AppHarness, site: Site) -> None:
    # The API itself answers OPTIONS without one. A gateway that passes the method on must not take this as permission.
    assert site.refused(method="OPTIONS") == (401, "missing_credential")
    response, [request] = site.send(harness.new_key("acme"), "OPTIONS")
    assert (response.status_code, request.method) == (200, "OPTIONS")


def raw(gateway: Gateway, path: str, token: str | None = None) -> int:
    """The status of a request whose path is sent exactly as given, which HTTP clients don't do."""
    credential = "" if token is None else f"Authorization: Bearer {token}\r\n"
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=30) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n{credential}Connection: close\r\n\r\n".encode())
        return int(connection.makefile("rb").readline().split()[1])


@pytest.mark.parametrize(
    "path",
    [
        "/../../../healthz",
        "/orders/../../../../healthz",
        "/..%2f..%2f..%2fhealthz",
        "/%2e%2e/%2e%2e/%2e%2e/healthz",
        "//healthz",
        "/?/../../../healthz",
        ";cost=0/healthz",
        "*",
    ],
)
def test_no_path_avoids_the_check(gateway: Gateway, backend: Backend, path: str) -> None:
    before = len(backend.received)
    assert raw(gateway, path) in {301, 307, 308, 400, 401, 404}
    assert len(backend.received) == before


@pytest.mark.parametrize("path", ["/%72eports/x", "/orders/../reports/x", "/./reports/x"])
def test_spelling_of_a_path_does_not_change_its_cost(
    harness: AppHarness, gateway: Gateway, backend: Backend, path: str
) -> None:
    account = f"spelling-{gateway.name}"
    if harness.services.directory.read(account) is None:
        new_account(harness.services, account)
        harness.set_limits(account, per_minute=4)
    # 5 units exceed the limit; 1 unit would be accepted.
    status = raw(gateway, path, harness.new_key(account))
    assert status in {301, 307, 308, 400, 404, 429}


def test_conditions_cookies_and_large_headers_of_the_client_do_not_affect_the_check(
    harness: AppHarness, site: Site
) -> None:
    headers = {"If-Match": '"other"', "If-None-Match": "*", "Range": "bytes=0-1", "Cookie": "c=" + "x" * 6_000}
    response, [request] = site.send(harness.new_key("acme"), headers=headers)
    assert (response.status_code, request.headers["if-match"]) == (200, '"other"')


def test_kataven_sees_the_client_and_not_the_gateway(
    harness: AppHarness, api: Gunicorn, site: Site, gateway: Gateway
) -> None:
    lines = len(api.log.read_text().splitlines())
    site.send("junk", headers={"X-Forwarded-For": "203.0.113.66"})
    logged = [json.loads(line) for line in api.log.read_text().splitlines()[lines:] if '"/v1/verify"' in line]
    assert [line["address"] for line in logged] == [CLIENT]


def test_unreachable_kataven_is_503_and_never_200(
    harness: AppHarness, site: Site, switch: Switch, gateway: Gateway
) -> None:
    key = harness.new_key("acme")
    assert site.send(key)[0].status_code == 200
    with switch.turned_off():
        # HAProxy retries for three seconds.
        for token in (key,) if gateway.name == "haproxy" else (key, "junk", None):
            response, received = site.send(token, headers={"X-Kataven-Account": "globex"})
            # Traefik has no setting for this status.
            assert (response.status_code, received) == (500 if gateway.name == "traefik" else 503, [])
            if gateway.name not in {"traefik", "envoy"}:  # they send no body
                assert response.json()["code"] == "unavailable"
                assert response.headers["retry-after"] == "1"
    assert site.send(key)[0].status_code == 200


def test_503_of_kataven_reaches_the_client(
    harness: AppHarness, postgres: EmbeddedPostgres, gateway: Gateway, site: Site
) -> None:
    account = f"lost-{gateway.name}"
    new_account(harness.services, account)
    key = harness.new_key(account)
    harness.services.registry.forget(account)
    engine = create_engine(postgres.url("postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f'DROP DATABASE "{account}" WITH (FORCE)'))
    engine.dispose()
    response, received = site.send(key)
    assert (response.status_code, received) == (503, [])
    if gateway.name != "envoy":  # it replaces every 5xx by its own response
        assert response.json()["code"] == "unavailable"
        assert int(response.headers["retry-after"]) >= 1


def test_errors_of_the_backend_pass_unchanged(harness: AppHarness, site: Site) -> None:
    response, [_] = site.send(harness.new_key("acme"), path="/broken")
    assert (response.status_code, response.text) == (500, "from the backend")


def test_documentation_quotes_every_file() -> None:
    page = (CHECKOUT / "docs" / "gateways.md").read_text()
    files = sorted(path.name for path in RECIPES.iterdir())
    assert len(files) == 7
    for name in files:
        assert f"```{{literalinclude}} ../deploy/gateways/{name}\n" in page
        assert f"[{name}](../deploy/gateways/{name})" in page


@pytest.mark.parametrize(
    ("required", "outcome"), [("yes", pytest.fail.Exception), ("", pytest.skip.Exception)], ids=["ci", "elsewhere"]
)
def test_missing_program_fails_in_ci_and_skips_elsewhere(
    monkeypatch: pytest.MonkeyPatch, required: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setenv("GATEWAY_TESTS", required)
    with pytest.raises(outcome, match="no-such-gateway is not installed"):
        gateways.program("no-such-gateway")
