"""`flask oidc check`: the findings for valid and misconfigured issuers."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from kataven.hub.issuer_check import CheckState, Finding, check
from kataven.identity.fetch import FetchFailed, HttpFetcher
from tests.commands.test_accounts import flask
from tests.hub import issuers
from tests.support.app_harness import AppHarness
from tests.support.certificates import authority
from tests.support.independent_issuer import IndependentIssuers
from tests.support.jose import ec_signer, rsa_signer
from tests.support.key_server import ISSUER, JWKS_URL, KeyServer

GOOD: dict[str, Any] = {
    "issuer": ISSUER,
    "jwks_uri": JWKS_URL,
    "authorization_endpoint": f"{ISSUER}/authorize",
    "token_endpoint": f"{ISSUER}/token",
    "end_session_endpoint": f"{ISSUER}/end",
    "id_token_signing_alg_values_supported": ["RS256"],
    "token_endpoint_auth_methods_supported": ["none", "client_secret_basic"],
}


def found(server: KeyServer | None = None, *, has_secret: bool = False, **metadata: object) -> list[Finding]:
    """The findings for a valid issuer with changed `metadata`."""
    server = server or KeyServer(rsa_signer().jwk())
    server.discovery(**{name: said for name, said in {**GOOD, **metadata}.items() if said is not None})
    return check(ISSUER, server, has_secret=has_secret)


def test_check_reports_no_failure_for_a_valid_issuer() -> None:
    assert {(one.part, one.state) for one in found()} == {
        ("discovery", CheckState.WELL),
        ("sign-out", CheckState.WELL),
        ("algorithms", CheckState.WELL),
        ("keys", CheckState.WELL),
    }


@pytest.mark.parametrize(
    ("metadata", "part", "state", "words"),
    [
        ({"issuer": f"{ISSUER}/"}, "discovery", CheckState.FAILS, "names another issuer"),
        ({"token_endpoint": None}, "discovery", CheckState.FAILS, "`token_endpoint` is missing"),
        ({"authorization_endpoint": "http://login.example/a"}, "discovery", CheckState.FAILS, "not an https URL"),
        ({"end_session_endpoint": None}, "sign-out", CheckState.NOTE, "ends only the session at the Hub"),
        ({"require_pushed_authorization_requests": True}, "requests", CheckState.FAILS, "Disable the requirement"),
        ({"code_challenge_methods_supported": ["plain"]}, "requests", CheckState.FAILS, "S256"),
        ({"response_types_supported": ["id_token"]}, "requests", CheckState.FAILS, "`code`"),
        ({"token_endpoint_auth_methods_supported": ["private_key_jwt"]}, "requests", CheckState.NOTE, "`none`"),
        (
            {"id_token_signing_alg_values_supported": ["RS512"]},
            "algorithms",
            CheckState.FAILS,
            "RS256, PS256, ES256, EdDSA",
        ),
        ({"id_token_signing_alg_values_supported": ["ES384", "ES256"]}, "algorithms", CheckState.NOTE, "Select ES256"),
        ({"jwks_uri": None}, "keys", CheckState.FAILS, "no `jwks_uri`"),
        ({"jwks_uri": f"{ISSUER}/elsewhere"}, "keys", CheckState.FAILS, "is unreachable"),
    ],
    ids=str,
)
def test_check_names_each_misconfiguration(
    metadata: dict[str, object], part: str, state: CheckState, words: str
) -> None:
    assert [words in one.words for one in found(**metadata) if (one.part, one.state) == (part, state)] == [True]


def test_client_secret_requires_basic_authentication() -> None:
    methods = ["client_secret_post"]
    (one,) = [
        one for one in found(has_secret=True, token_endpoint_auth_methods_supported=methods) if "SECRET" in one.words
    ]
    assert (one.state, "`client_secret_basic`" in one.words) == (CheckState.FAILS, True)


def test_unusable_keys_are_counted() -> None:
    p384 = {**ec_signer().jwk(), "kid": "p384", "crv": "P-384"}
    assert found(KeyServer(p384))[-1].state is CheckState.FAILS
    both = found(KeyServer(p384, rsa_signer().jwk()))[-1]
    assert (both.state, both.words) == (CheckState.NOTE, "1 of 2 keys can be used, for RS256.")


class FailingFetcher:
    """Fails like the real fetcher."""

    def __init__(self, text: str, cause: Exception | None = None) -> None:
        self.text, self.cause = text, cause

    def get(self, _: str, *, timeout_seconds: float) -> bytes:
        raise FetchFailed(self.text) from self.cause


@pytest.mark.parametrize(
    ("text", "cause", "words"),
    [
        ("ConnectError: …", socket.gaierror(-2, "…"), "can't be resolved"),
        ("status 302", None, "Use the URL that it redirects to"),
        ("status 404", None, "status 404"),
        ("no complete response within 5.0 s", None, "no complete response"),
    ],
    ids=str,
)
def test_unreachable_issuer_is_explained(text: str, cause: Exception | None, words: str) -> None:
    (one,) = check(ISSUER, FailingFetcher(text, cause), has_secret=False)
    assert (one.part, one.state) == ("discovery", CheckState.FAILS)
    assert words in one.words


@pytest.fixture
def private_server(tmp_path: Path) -> Iterator[str]:
    """A server with an untrusted certificate."""
    files = authority(tmp_path / "authority").issue("localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)

    class Server(HTTPServer):
        def handle_error(self, *_: object) -> None:
            """The client aborts the handshake, as intended."""

    server = Server(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"https://localhost:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_private_certificate_authority_is_explained(private_server: str) -> None:
    (one,) = check(private_server, HttpFetcher(), has_secret=False)
    assert one.state is CheckState.FAILS
    assert "KATAVEN_OIDC_CA" in one.words


def test_command_prints_all_checks_and_exits_with_1_on_failure(harness: AppHarness) -> None:
    response = flask(harness, "oidc", "check", "--json")
    assert response.exit_code == 0, response.output
    assert {row["part"]: row["state"] for row in json.loads(response.stdout)}["keys"] == "well"
    assert "discovery" in flask(harness, "oidc", "check").stdout


@pytest.mark.node
def test_check_of_an_independent_issuer(independent_issuers: IndependentIssuers) -> None:
    shape = issuers.standard("http://localhost:4712").shape
    issuer = independent_issuers.start(shape)
    states = [one.state for one in check(issuer, HttpFetcher(), has_secret=False, allow_loopback_http=True)]
    assert CheckState.FAILS not in states
    with_par = issuers.standard("http://localhost:4712").but(requires_par=True).shape
    (failing,) = [
        one
        for one in check(independent_issuers.start(with_par), HttpFetcher(), has_secret=False, allow_loopback_http=True)
        if one.state is CheckState.FAILS
    ]
    assert "Pushed authorization requests are required" in failing.words
