"""The OIDC client: its requests, and the responses that it accepts or rejects."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote_plus, urlsplit

import pytest

from kataven.dev.issuer.tokens import at_hash
from kataven.hub.provider import Client, Provider, ProviderUnavailable, RefreshFailed
from kataven.hub.sessions import SignedInUser, SignIn
from kataven.hub.sign_in_failure import Reason, SignInFailed
from kataven.identity.jwks import JwksClient
from kataven.identity.jwt import JwtVerifier
from kataven.identity.jwt_use import IdTokens
from tests.support.clock import Clock
from tests.support.jose import Signer, ec_signer, ed_signer, rsa_signer
from tests.support.key_server import ISSUER, JWKS_URL, KeyServer, good_claims

NOW = 1_800_000_000
HUB = "kataven-hub"
SIGN_IN = SignIn("a state", "a nonce", "v" * 64, "acme", "/")
ANSWER = {"state": "a state", "code": "a code", "iss": ISSUER}
SIGNERS = (rsa_signer(), rsa_signer().named("pss").using("PS256"), ec_signer(), ed_signer())


@dataclass
class TokenEndpoint:
    """Responds to every request with `tokens`, and records the requests."""

    url: str = ""
    tokens: dict[str, Any] = field(default_factory=dict)
    status: int = 200
    sent: list[tuple[str | None, dict[str, str]]] = field(default_factory=list)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"])).decode()
        self.sent.append((request.headers["Authorization"], dict(parse_qsl(body))))
        said = json.dumps(self.tokens).encode()
        request.send_response(self.status)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(said)))
        request.end_headers()
        request.wfile.write(said)


@pytest.fixture(scope="module")
def running_endpoint() -> Iterator[TokenEndpoint]:
    endpoint = TokenEndpoint()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            endpoint.answer(self)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        endpoint.url = f"http://127.0.0.1:{server.server_address[1]}/token"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield endpoint
        server.shutdown()
        thread.join()


@pytest.fixture
def endpoint(running_endpoint: TokenEndpoint) -> TokenEndpoint:
    running_endpoint.tokens, running_endpoint.status, running_endpoint.sent = issued(), 200, []
    return running_endpoint


def provider(endpoint: TokenEndpoint, secret: str | None = None, scope: str = "openid", **metadata: object) -> Provider:
    server = KeyServer(*(signer.jwk() for signer in SIGNERS))
    server.discovery(
        issuer=ISSUER,
        jwks_uri=JWKS_URL,
        authorization_endpoint=f"{ISSUER}/authorize",
        token_endpoint=endpoint.url,
        **metadata,
    )
    keys, clock = JwksClient(ISSUER, server, clock=Clock()), Clock(NOW)
    return Provider(
        ISSUER,
        Client(HUB, secret, "https://hub.example/auth/callback", scope),
        JwtVerifier(keys, ISSUER, HUB, clock, IdTokens(HUB)),
        JwtVerifier(keys, ISSUER, "kataven", clock),
        server,
        allow_loopback_http=True,
        clock=Clock(),
    )


def issued(
    signer: Signer = SIGNERS[2],
    access: Mapping[str, object] | None = None,
    identity: Mapping[str, object] | None = None,
    **members: object,
) -> dict[str, Any]:
    """A valid response of the token endpoint. None removes a member."""
    access_token = signer.token(good_claims(NOW, **(access or {})))
    said = {"jti": None, "azp": HUB, "nonce": "a nonce", "at_hash": at_hash(access_token), "name": "Alice A."}
    id_token = signer.token(good_claims(NOW, **{**said, **(identity or {})}))
    tokens = {"access_token": access_token, "id_token": id_token, "token_type": "Bearer", "refresh_token": "r1"}
    return {name: value for name, value in {**tokens, **members}.items() if value is not None}


def failure(endpoint: TokenEndpoint, answer: Mapping[str, str] = ANSWER, **metadata: object) -> SignInFailed:
    with pytest.raises(SignInFailed) as raised:
        provider(endpoint, **metadata).finish(SIGN_IN, answer)
    return raised.value


# Sign-in


@pytest.mark.parametrize("signer", SIGNERS[:3], ids=lambda signer: signer.algorithm)
def test_valid_response_returns_the_user(endpoint: TokenEndpoint, signer: Signer) -> None:
    endpoint.tokens = issued(signer)
    person = provider(endpoint).finish(SIGN_IN, ANSWER)
    assert person == SignedInUser("alice", "Alice A.", endpoint.tokens["access_token"], "a nonce", "r1")
    ((authorization, form),) = endpoint.sent
    assert authorization is None
    assert form == {
        "grant_type": "authorization_code",
        "client_id": HUB,
        "code": "a code",
        "code_verifier": "v" * 64,
        "redirect_uri": "https://hub.example/auth/callback",
    }


@pytest.mark.parametrize(
    "identity",
    [
        {"azp": None, "aud": [HUB, "kataven", "another"]},  # OpenID Connect Core, errata 2
        {"azp": None, "aud": HUB},
        {"at_hash": None},
    ],
    ids=str,
)
def test_optional_id_token_claims_may_be_missing(endpoint: TokenEndpoint, identity: dict[str, object]) -> None:
    endpoint.tokens = issued(identity=identity)
    assert provider(endpoint).finish(SIGN_IN, ANSWER).subject == "alice"


@pytest.mark.parametrize(
    ("changes", "reason", "check"),
    [
        ({"id_token": None}, Reason.TOKEN_MISSING, "id_token"),
        ({"access_token": None}, Reason.TOKEN_MISSING, "access_token"),
        ({"id_token": "not a token"}, Reason.ID_TOKEN, "malformed_token"),
        ({"identity": {"aud": ["another"]}}, Reason.ID_TOKEN, "audience"),
        ({"identity": {"azp": "another"}}, Reason.ID_TOKEN, "azp"),
        ({"identity": {"exp": NOW - 60}}, Reason.ID_TOKEN, "expired"),
        ({"identity": {"nonce": "another"}}, Reason.NONCE, None),
        ({"identity": {"nonce": None}}, Reason.NONCE, None),
        ({"identity": {"nonce": ["a nonce"]}}, Reason.NONCE, None),
        ({"identity": {"at_hash": "another"}}, Reason.AT_HASH, None),
        ({"access_token": "opaque-4711", "identity": {"at_hash": None}}, Reason.OPAQUE_ACCESS_TOKEN, None),
        ({"access_token": "öpaque", "identity": {"at_hash": None}}, Reason.OPAQUE_ACCESS_TOKEN, None),
        ({"access": {"padding": "x" * 8000}}, Reason.ACCESS_TOKEN_TOO_LONG, "bytes"),
        ({"access": {"aud": [HUB]}}, Reason.ACCESS_TOKEN, "audience"),
        ({"access": {"nonce": "a nonce"}}, Reason.ACCESS_TOKEN, "id_token"),
        ({"access": {"jti": None}}, Reason.ACCESS_TOKEN, "no_jti"),
        ({"access": {"sub": "mallory"}}, Reason.OTHER_PERSON, "access token"),
    ],
    ids=str,
)
def test_invalid_response_is_rejected_with_its_reason(
    endpoint: TokenEndpoint, changes: dict[str, Any], reason: Reason, check: str | None
) -> None:
    endpoint.tokens = issued(**changes)
    refused = failure(endpoint)
    assert refused.reason is reason
    assert (check or "") in (refused.check or "")
    said = json.dumps([refused.for_log(), str(refused), refused.advice])
    for name in ("access_token", "id_token"):
        assert endpoint.tokens.get(name, "nothing") not in said


def test_access_token_sent_as_id_token_is_rejected(endpoint: TokenEndpoint) -> None:
    access_token = ec_signer().token(good_claims(NOW, nonce="a nonce"), typ="at+jwt")
    endpoint.tokens = issued(id_token=access_token)
    refused = failure(endpoint)
    assert (refused.reason, refused.check) == (Reason.ID_TOKEN, "access_token")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({**ANSWER, "state": "another"}, Reason.STATE),
        ({"code": "a code", "iss": ISSUER}, Reason.STATE),
        ({**ANSWER, "iss": "https://evil.example"}, Reason.ISSUER),
        ({"state": "a state", "iss": ISSUER}, Reason.NO_CODE),
        ({"state": "a state", "error": "access_denied"}, Reason.DENIED),
        ({"state": "a state", "error": "invalid_scope"}, Reason.REFUSED),
    ],
    ids=str,
)
def test_response_without_a_code_is_rejected_before_the_token_request(
    endpoint: TokenEndpoint, answer: dict[str, str], reason: Reason
) -> None:
    assert failure(endpoint, answer).reason is reason
    assert endpoint.sent == []


def test_iss_parameter_is_required_if_the_issuer_announces_it(endpoint: TokenEndpoint) -> None:
    unnamed = {"state": "a state", "code": "a code"}
    promise = {"authorization_response_iss_parameter_supported": True}
    assert failure(endpoint, unnamed, **promise).reason is Reason.ISSUER


@pytest.mark.parametrize(
    ("error", "reason", "advice"),
    [
        ("invalid_client", Reason.CLIENT_REFUSED, "KATAVEN_HUB_CLIENT_SECRET"),
        ("invalid_grant", Reason.TOKENS_REFUSED, "/auth/callback"),
        ("unauthorized_client", Reason.TOKENS_REFUSED, "authorization code"),
        ("unheard_of", Reason.TOKENS_REFUSED, "The Hub's log"),
    ],
)
def test_token_endpoint_error_is_kept_for_the_log(
    endpoint: TokenEndpoint, error: str, reason: Reason, advice: str
) -> None:
    endpoint.status, endpoint.tokens = 400, {"error": error, "error_description": "In plain words."}
    refused = failure(endpoint)
    assert (refused.reason, refused.error, refused.description) == (reason, error, "In plain words.")
    assert refused.advice is not None
    assert advice in refused.advice


def test_non_json_token_response_counts_as_unavailable_issuer(endpoint: TokenEndpoint) -> None:
    endpoint.status = 502
    with pytest.raises(ProviderUnavailable):
        provider(endpoint).finish(SIGN_IN, ANSWER)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("Pushed Authorization Request must be used", "Pushed Authorization Request must be used"),
        ("line one\nlevel=error\x1b[31m\u202e", "line one?level=error?[31m?"),
        ("no user alice@acme.example here", "no user [redacted] here"),
        ("code " + "x" * 43 + "-" * 6, "code [redacted]"),
        ("token eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln", "token [redacted]"),
        ("word " * 100, ("word " * 100)[:200]),
        ("", None),
        (None, None),
        (["a list"], None),
    ],
)
def test_error_description_is_redacted_and_truncated(said: object, kept: str | None) -> None:
    assert SignInFailed(Reason.REFUSED, error="invalid_request", description=said).description == kept


@pytest.mark.parametrize("error", ["<script>", "a b", "x" * 65, "", 1, None, "über"])
def test_malformed_error_code_is_dropped(error: object) -> None:
    assert SignInFailed(Reason.REFUSED, error=error).error is None


# Requests


def test_scope_placeholder_is_replaced_by_the_organisation(endpoint: TokenEndpoint) -> None:
    asking = provider(endpoint, scope="openid urn:zitadel:iam:org:roles:id:{org_id} profile")

    def scope(org_id: str | None) -> str:
        url, _ = asking.start("acme", "/", org_id)
        return dict(parse_qsl(urlsplit(url).query))["scope"]

    assert scope("4711") == "openid urn:zitadel:iam:org:roles:id:4711 profile"
    assert scope(None) == "openid profile"


@pytest.mark.parametrize("secret", ["plain", "a%41b", "a+b", "a:b", "a/b&c=d", "a b", "zoë", "%"])
def test_client_secret_with_special_characters_is_form_encoded(endpoint: TokenEndpoint, secret: str) -> None:
    provider(endpoint, secret).finish(SIGN_IN, ANSWER)
    ((authorization, form),) = endpoint.sent
    assert authorization is not None
    scheme, _, encoded = authorization.partition(" ")
    # RFC 6749, section 2.3.1, as the issuer decodes it: split at the colon, then decode each part.
    client_id, _, arrived = base64.b64decode(encoded).decode("ascii").partition(":")
    assert (scheme, unquote_plus(client_id), unquote_plus(arrived)) == ("Basic", HUB, secret)
    assert "client_secret" not in form


# Refresh


ALICE = SignedInUser("alice", "Alice A.", "the old one", "a nonce", "r1")


def test_refresh_request_has_no_scope(endpoint: TokenEndpoint) -> None:
    provider(endpoint, scope="openid profile offline_access").refresh(ALICE)
    assert endpoint.sent == [(None, {"grant_type": "refresh_token", "refresh_token": "r1", "client_id": HUB})]


@pytest.mark.parametrize(
    "changes", [{}, {"id_token": None}, {"identity": {"nonce": None}}, {"identity": {"azp": None}}], ids=str
)
def test_refresh_for_the_same_user_is_accepted(endpoint: TokenEndpoint, changes: dict[str, Any]) -> None:
    endpoint.tokens = issued(**changes, refresh_token="r2")
    renewed = provider(endpoint).refresh(ALICE)
    assert renewed == SignedInUser("alice", "Alice A.", endpoint.tokens["access_token"], "a nonce", "r2")


def test_refresh_token_is_kept_if_not_rotated(endpoint: TokenEndpoint) -> None:
    endpoint.tokens = issued(refresh_token=None)
    assert provider(endpoint).refresh(ALICE).refresh_token == "r1"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"identity": {"sub": "mallory"}}, Reason.OTHER_PERSON),
        ({"access": {"sub": "mallory"}}, Reason.OTHER_PERSON),
        ({"access": {"sub": "mallory"}, "identity": {"sub": "mallory"}}, Reason.OTHER_PERSON),
        ({"access": {"sub": "mallory"}, "id_token": None}, Reason.OTHER_PERSON),
        ({"identity": {"iss": "https://evil.example"}}, Reason.ID_TOKEN),
        ({"identity": {"aud": ["another"]}}, Reason.ID_TOKEN),
        ({"identity": {"nonce": "another"}}, Reason.NONCE),
        ({"identity": {"at_hash": "another"}}, Reason.AT_HASH),
        ({"id_token": "junk"}, Reason.ID_TOKEN),
        ({"id_token": 4711}, Reason.ID_TOKEN),
        ({"access_token": "opaque", "id_token": None}, Reason.OPAQUE_ACCESS_TOKEN),
        ({"access_token": None}, Reason.TOKEN_MISSING),
    ],
    ids=str,
)
def test_invalid_refresh_response_fails(endpoint: TokenEndpoint, changes: dict[str, Any], reason: Reason) -> None:
    endpoint.tokens = issued(**changes)
    with pytest.raises(RefreshFailed) as gone:
        provider(endpoint).refresh(ALICE)
    assert gone.value.failure is not None
    assert gone.value.failure.reason is reason


def test_forged_id_token_in_a_refresh_is_rejected(endpoint: TokenEndpoint) -> None:
    forged = ec_signer("forger").named("ec-1").token(good_claims(NOW, nonce="a nonce"))
    endpoint.tokens = issued(id_token=forged)
    with pytest.raises(RefreshFailed):
        provider(endpoint).refresh(ALICE)


# Sign-out


def test_sign_out_url_contains_no_token(endpoint: TokenEndpoint) -> None:
    leaving = provider(endpoint, end_session_endpoint=f"{ISSUER}/end?ui=1")
    url = leaving.sign_out_url("https://hub.example/signed-out")
    assert url is not None
    assert url.startswith(f"{ISSUER}/end?ui=1&")
    query = dict(parse_qsl(urlsplit(url).query))
    assert query == {"ui": "1", "client_id": HUB, "post_logout_redirect_uri": "https://hub.example/signed-out"}
    assert provider(endpoint).sign_out_url("https://hub.example/signed-out") is None
