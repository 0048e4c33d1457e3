"""Connections to an issuer behind a private certificate authority and behind a proxy, over real TLS."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from kataven import assembly, settings
from kataven.hub.issuer_check import CheckState, check
from kataven.hub.provider import Client, Provider, ProviderUnavailable
from kataven.hub.sessions import SignIn
from kataven.hub.sign_in_failure import Reason, SignInFailed
from kataven.identity.errors import VerifierUnavailable
from kataven.identity.fetch import FetchFailed, HttpFetcher
from kataven.identity.issuer_connection import IssuerConnection
from kataven.identity.jwks import JwksClient
from kataven.identity.jwt import JwtVerifier
from kataven.identity.jwt_use import IdTokens
from kataven.settings import SettingsError
from tests.support.clock import Clock
from tests.support.tls_issuer import ConnectProxy, TlsIssuer, connect_proxy, tls_issuer
from tests.test_settings import GOOD

PASSWORD = "s3cret%2Fpassword"
HIDDEN_NAME = "login.internal"
"""A name that only the proxy can resolve."""
SIGN_IN = SignIn("a state", "a nonce", "v" * 64, "acme", "/")


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsIssuer]:
    with tls_issuer(tmp_path_factory.mktemp("tls") / "private-ca") as running:
        yield running


@pytest.fixture(scope="module")
def hidden_issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsIssuer]:
    with tls_issuer(tmp_path_factory.mktemp("tls") / "private-ca", HIDDEN_NAME) as running:
        yield running


@pytest.fixture(scope="module")
def proxy(hidden_issuer: TlsIssuer) -> Iterator[ConnectProxy]:
    with connect_proxy("s3cret/password", hidden_issuer.port) as running:
        yield running


def keys_of(issuer: TlsIssuer, connection: IssuerConnection | None, clock: Clock | None = None) -> JwksClient:
    return JwksClient(issuer.url, HttpFetcher(connection), clock=clock or Clock())


def request_tokens(issuer: TlsIssuer, connection: IssuerConnection) -> None:
    """Send a token request. The issuer refuses the code, which shows that it received the request."""
    keys = keys_of(issuer, connection)
    verifier = JwtVerifier(keys, issuer.url, "kataven-hub", Clock(), IdTokens("kataven-hub"))
    client = Client("kataven-hub", None, "https://hub.example.com/auth/callback", "openid")
    provider = Provider(issuer.url, client, verifier, verifier, HttpFetcher(connection), connection=connection)
    provider.finish(SIGN_IN, {"state": "a state", "code": "a code", "iss": issuer.url})


def test_keys_of_an_issuer_with_a_private_authority_require_the_setting(issuer: TlsIssuer) -> None:
    trusting = IssuerConnection(authorities=issuer.ca)
    assert keys_of(issuer, trusting).key(issuer.signer.kid) is not None
    with pytest.raises(VerifierUnavailable):
        keys_of(issuer, None).key(issuer.signer.kid)
    with pytest.raises(FetchFailed, match=r"certificate is not trusted .* set KATAVEN_OIDC_CA"):
        HttpFetcher().get(f"{issuer.url}/keys", timeout_seconds=30)


def test_the_setting_replaces_the_authorities_of_the_system(
    issuer: TlsIssuer, hidden_issuer: TlsIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(issuer.ca))
    with pytest.raises(FetchFailed, match="not trusted"):
        HttpFetcher(IssuerConnection(hidden_issuer.ca)).get(f"{issuer.url}/keys", timeout_seconds=30)


def test_host_name_is_verified_with_a_private_authority(issuer: TlsIssuer) -> None:
    with pytest.raises(FetchFailed, match="not trusted"):
        HttpFetcher(IssuerConnection(issuer.ca)).get(f"https://127.0.0.1:{issuer.port}/keys", timeout_seconds=30)


def test_token_requests_of_the_hub_use_the_setting(issuer: TlsIssuer) -> None:
    with pytest.raises(SignInFailed) as failed:
        request_tokens(issuer, IssuerConnection(issuer.ca))
    assert failed.value.reason is Reason.TOKENS_REFUSED
    assert "POST /token" in issuer.requests
    with pytest.raises(ProviderUnavailable):
        request_tokens(issuer, IssuerConnection())


def test_all_requests_go_through_the_proxy(
    hidden_issuer: TlsIssuer, proxy: ConnectProxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    connection = IssuerConnection(hidden_issuer.ca, proxy.url(PASSWORD))
    assert keys_of(hidden_issuer, connection).key(hidden_issuer.signer.kid) is not None
    with pytest.raises(SignInFailed):
        request_tokens(hidden_issuer, connection)
    states = [one.state for one in check(hidden_issuer.url, HttpFetcher(connection), has_secret=False)]
    assert CheckState.FAILS not in states
    assert set(proxy.targets) == {f"{HIDDEN_NAME}:{hidden_issuer.port}"}
    assert "s3cret" not in caplog.text
    assert "s3cret" not in repr(connection)


def test_wrong_password_of_the_proxy_is_reported_without_the_password(
    hidden_issuer: TlsIssuer, proxy: ConnectProxy
) -> None:
    fetcher = HttpFetcher(IssuerConnection(hidden_issuer.ca, proxy.url("wr0ng")))
    with pytest.raises(FetchFailed, match="ProxyError: 407") as failed:
        fetcher.get(f"{hidden_issuer.url}/keys", timeout_seconds=30)
    (finding,) = check(hidden_issuer.url, fetcher, has_secret=False)
    assert finding.words.startswith("The proxy refused the connection: 407")
    assert "wr0ng" not in str(failed.value) + finding.words


def test_proxy_of_the_environment_is_not_used(
    issuer: TlsIssuer, proxy: ConnectProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    assert keys_of(issuer, IssuerConnection(issuer.ca)).key(issuer.signer.kid) is not None


def test_status_reports_the_fetches_without_a_fetch(issuer: TlsIssuer) -> None:
    clock = Clock()
    keys = keys_of(issuer, IssuerConnection(issuer.ca), clock)
    before = len(issuer.requests)
    assert (keys.status().attempted_ago, keys.status().succeeded_ago, keys.status().failure) == (None, None, None)
    assert len(issuer.requests) == before
    keys.key(issuer.signer.kid)
    clock.advance(7)
    assert (keys.status().attempted_ago, keys.status().succeeded_ago, keys.status().failure) == (7, 7, None)


def test_settings_select_the_connection(issuer: TlsIssuer) -> None:
    environ = {**GOOD, "KATAVEN_OIDC_CA": str(issuer.ca), "KATAVEN_OIDC_PROXY": f"http://hub:{PASSWORD}@proxy:3128"}
    loaded = settings.load(environ)
    assert assembly.issuer_connection(loaded) == IssuerConnection(issuer.ca, f"http://hub:{PASSWORD}@proxy:3128")
    assert "s3cret" not in repr(loaded)
    assert assembly.issuer_connection(settings.load(GOOD)) == IssuerConnection()


def test_unusable_authority_file_stops_the_process_with_the_fix(issuer: TlsIssuer, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    (tmp_path / "key.pem").write_bytes(issuer.ca.with_name("localhost.key").read_bytes())
    for file, why in (
        (tmp_path / "empty.pem", "no usable PEM certificate"),
        (tmp_path / "key.pem", "no usable PEM certificate"),
        (tmp_path / "missing.pem", "No such file"),
        (tmp_path, "Is a directory"),
    ):
        with pytest.raises(SettingsError) as refused:
            settings.load({**GOOD, "KATAVEN_OIDC_CA": str(file)})
        (problem,) = refused.value.problems
        assert problem.startswith("KATAVEN_OIDC_CA: is not a PEM file with the certificates")
        assert why in problem


@pytest.mark.parametrize(
    "url",
    [
        "proxy:3128",
        "socks5://hub:s3cret@proxy",
        "http://",
        "http://proxy:port",
        "http://proxy/path",
        "http://hub:s3cret#@proxy",
        "http://hub:s3 cret@proxy",
    ],
)
def test_unusable_proxy_url_stops_the_process_without_being_repeated(url: str) -> None:
    with pytest.raises(SettingsError) as refused:
        settings.load({**GOOD, "KATAVEN_OIDC_PROXY": url})
    (problem,) = refused.value.problems
    assert problem.startswith("KATAVEN_OIDC_PROXY: must be the http or https URL of a proxy")
    assert "s3" not in problem
