"""The OIDC client of the Hub: authorization code with PKCE, token refresh, and sign-out.

Authlib builds the requests (RFC 6749, RFC 7636). `identity.jwt` verifies the tokens. This module compares what binds an
ID token to one sign-in (OpenID Connect Core, section 3.1.3.7).
"""

from __future__ import annotations

import base64
import hmac
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_plus, urlencode

import httpx2
from authlib.common.errors import AuthlibBaseError
from authlib.common.security import generate_token
from authlib.integrations.httpx_client import OAuth2Client
from authlib.oidc.core.util import create_half_hash

from kataven.hub.provider_metadata import SIGN_OUT_ENDPOINT, provider_metadata
from kataven.hub.sessions import SignedInUser, SignIn
from kataven.hub.sign_in_failure import SignInFailed
from kataven.hub.sign_in_reasons import Reason
from kataven.identity import jws
from kataven.identity.discovery import DiscoveryFailed, DiscoveryProblem
from kataven.identity.errors import MalformedToken, Refused
from kataven.identity.issuer_connection import IssuerConnection
from kataven.identity.jwks import Fetcher
from kataven.identity.jwt import JwtVerifier, VerifiedClaims

FRESH_SECONDS = 600
COOLDOWN_SECONDS = 10
"""Time between two attempts to reach an unavailable issuer. Pages don't wait for it in between."""
TIMEOUT_SECONDS = 5.0
VERIFIER_LENGTH = 64
_ORG = "{org_id}"
"""Placeholder in a scope for the account's organisation."""

_log = logging.getLogger(__name__)


class ProviderUnavailable(Exception):
    """The issuer is unavailable, or its discovery document is invalid."""

    def __init__(self, problem: DiscoveryProblem = DiscoveryProblem.UNREACHABLE) -> None:
        super().__init__(problem.value)
        self.problem = problem


class RefreshFailed(Exception):
    """The token can't be refreshed: the issuer refused, or its response failed a check."""

    def __init__(self, failure: SignInFailed | None = None) -> None:
        super().__init__()
        self.failure = failure
        """The reason; None if there was no refresh token."""


@dataclass(frozen=True, slots=True)
class Client:
    """The Hub's client registration at the issuer. Without a secret it is a public client that uses PKCE only."""

    id: str
    secret: str | None = field(repr=False)
    redirect_uri: str
    scope: str


class Provider:
    """One issuer. Thread-safe; documents are fetched on first use. `clock` is monotonic, in seconds."""

    def __init__(
        self,
        issuer: str,
        client: Client,
        id_tokens: JwtVerifier,
        access_tokens: JwtVerifier,
        fetcher: Fetcher,
        *,
        connection: IssuerConnection | None = None,
        allow_loopback_http: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuer = issuer
        self._client = client
        self._id_tokens = id_tokens
        self._access_tokens = access_tokens
        self._fetcher = fetcher
        self._connection = connection or IssuerConnection()
        self._allow_loopback_http = allow_loopback_http
        self._clock = clock
        self._lock = threading.Lock()
        self._metadata: Mapping[str, Any] = {}
        self._problem = DiscoveryProblem.UNREACHABLE
        self._next_fetch_at = -math.inf

    def start(
        self, account: str, next_path: str, org_id: str | None = None, login_hint: str | None = None
    ) -> tuple[str, SignIn]:
        """The authorization URL, and the sign-in in progress to store. Raises ProviderUnavailable.

        `org_id` is the organisation of the account. Without one, scopes with its placeholder are omitted. `login_hint`
        is the e-mail address that the user entered.
        """
        sign_in = SignIn(generate_token(32), generate_token(32), generate_token(VERIFIER_LENGTH), account, next_path)
        with self._oauth() as oauth:
            url, _ = oauth.create_authorization_url(
                self._discovery_document()["authorization_endpoint"],
                state=sign_in.state,
                code_verifier=sign_in.verifier,
                nonce=sign_in.nonce,
                scope=self._scope(org_id),
                **({} if login_hint is None else {"login_hint": login_hint}),
            )
        return str(url), sign_in

    def finish(self, sign_in: SignIn, response: Mapping[str, str]) -> SignedInUser:
        """Verify the issuer's response and return the user.

        Raises SignInFailed, ProviderUnavailable, or VerifierUnavailable if the issuer's keys are unavailable.
        """
        metadata = self._discovery_document()
        if not _equal(response.get("state"), sign_in.state):
            raise SignInFailed(Reason.STATE)
        # RFC 9207: the code of another issuer must not be sent to this one.
        if response.get("iss", self._issuer) != self._issuer or (
            metadata.get("authorization_response_iss_parameter_supported") and "iss" not in response
        ):
            raise SignInFailed(Reason.ISSUER, check="iss")
        if "error" in response:
            reason = Reason.DENIED if response["error"] == "access_denied" else Reason.REFUSED
            raise SignInFailed(reason, error=response["error"], description=response.get("error_description"))
        if "code" not in response:
            raise SignInFailed(Reason.NO_CODE)
        with self._oauth() as oauth:
            tokens = self._request_tokens(
                lambda: oauth.fetch_token(
                    metadata["token_endpoint"],
                    grant_type="authorization_code",
                    code=response["code"],
                    code_verifier=sign_in.verifier,
                )
            )
        id_token = tokens.get("id_token")
        if not isinstance(id_token, str):
            raise SignInFailed(Reason.TOKEN_MISSING, check="id_token")
        access_token = _access_token(tokens)
        claims = self._id_claims(id_token, access_token)
        if not _equal(claims.all.get("nonce"), sign_in.nonce):
            raise SignInFailed(Reason.NONCE, subject=claims.subject)
        self._check_access_token(access_token, claims.subject)
        sid = claims.all.get("sid")
        return SignedInUser(
            claims.subject,
            claims.name,
            access_token,
            sign_in.nonce,
            _refresh_token(tokens),
            sid if isinstance(sid, str) and sid else None,
        )

    def refresh(self, user: SignedInUser) -> SignedInUser:
        """The same user with a new token. Raises RefreshFailed, ProviderUnavailable or VerifierUnavailable."""
        if user.refresh_token is None:
            raise RefreshFailed
        token_endpoint = self._discovery_document()["token_endpoint"]
        try:
            # RFC 6749, section 6: a refresh must not request scopes that were not granted. Without `scope` it gets all
            # granted scopes.
            with self._oauth() as oauth:
                tokens = self._request_tokens(
                    lambda: oauth.refresh_token(token_endpoint, refresh_token=user.refresh_token)
                )
            access_token = _access_token(tokens)
            if tokens.get("id_token") is not None:
                self._check_refreshed(tokens["id_token"], access_token, user)
            self._check_access_token(access_token, user.subject)
        except SignInFailed as failure:
            raise RefreshFailed(failure) from failure
        refresh_token = _refresh_token(tokens) or user.refresh_token
        return SignedInUser(user.subject, user.name, access_token, user.nonce, refresh_token)

    def sign_out_url(self, back_to: str) -> str | None:
        """The issuer's sign-out URL (RP-Initiated Logout 1.0), or None if the issuer has none.

        The URL contains no token, because URLs are kept in browser histories and proxy logs. The issuer identifies
        the browser by its own cookie, and validates the redirect by the client's id.
        """
        try:
            endpoint = self._discovery_document().get(SIGN_OUT_ENDPOINT)
        except ProviderUnavailable:
            return None
        if endpoint is None:
            return None
        query = {"client_id": self._client.id, "post_logout_redirect_uri": back_to}
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}"

    def _id_claims(self, id_token: str, access_token: str) -> VerifiedClaims:
        """The claims of an ID token that was issued with this access token. Raises SignInFailed."""
        try:
            claims = self._id_tokens.claims(id_token)
        except Refused as refusal:
            raise SignInFailed(Reason.ID_TOKEN, check=refusal.rule or refusal.code) from refusal
        at_hash, algorithm = claims.all.get("at_hash"), jws.parse(id_token).header["alg"]
        if at_hash is not None and not _equal(at_hash, create_half_hash(access_token, algorithm).decode()):
            raise SignInFailed(Reason.AT_HASH, subject=claims.subject)
        return claims

    def _check_refreshed(self, id_token: object, access_token: str, user: SignedInUser) -> None:
        """OpenID Connect Core, section 12.2: same issuer, audience and subject, and the same nonce if there is one."""
        if not isinstance(id_token, str):
            raise SignInFailed(Reason.ID_TOKEN, check="no text")
        claims = self._id_claims(id_token, access_token)
        if claims.subject != user.subject:
            raise SignInFailed(Reason.OTHER_PERSON, check="sub of the ID token", subject=claims.subject)
        if "nonce" in claims.all and not _equal(claims.all["nonce"], user.nonce):
            raise SignInFailed(Reason.NONCE, subject=claims.subject)

    def _check_access_token(self, access_token: str, subject: str) -> None:
        """Raises SignInFailed for a token that the API would reject, so that the user sees the reason immediately."""
        if len(access_token) > jws.MAX_TOKEN_BYTES:
            raise SignInFailed(Reason.ACCESS_TOKEN_TOO_LONG, check=f"{len(access_token)} bytes", subject=subject)
        try:
            claims = self._access_tokens.claims(access_token)
        except MalformedToken as refusal:
            raise SignInFailed(Reason.OPAQUE_ACCESS_TOKEN, subject=subject) from refusal
        except Refused as refusal:
            raise SignInFailed(Reason.ACCESS_TOKEN, check=refusal.rule or refusal.code, subject=subject) from refusal
        if claims.subject != subject:
            raise SignInFailed(Reason.OTHER_PERSON, check="sub of the access token", subject=subject)

    def _request_tokens(self, request: Callable[[], Any]) -> Mapping[str, Any]:
        try:
            tokens: Mapping[str, Any] = request()
        except AuthlibBaseError as error:  # RFC 6749, section 5.2: an error response
            reason = Reason.CLIENT_REFUSED if error.error == "invalid_client" else Reason.TOKENS_REFUSED
            raise SignInFailed(reason, error=error.error, description=error.description) from error
        except (httpx2.HTTPError, ValueError) as error:
            _log.warning("token request to the issuer failed: %s", type(error).__name__)
            raise ProviderUnavailable from error
        return tokens

    def _scope(self, org_id: str | None) -> str:
        wanted = (name.replace(_ORG, org_id) if org_id else name for name in self._client.scope.split())
        return " ".join(name for name in wanted if _ORG not in name)

    def _oauth(self) -> OAuth2Client:
        client = self._client
        return OAuth2Client(
            client.id,
            client.secret,
            token_endpoint_auth_method=_form_encoded_basic if client.secret else "none",
            redirect_uri=client.redirect_uri,
            code_challenge_method="S256",
            timeout=TIMEOUT_SECONDS,
            **self._connection.client_options(),
        )

    def _discovery_document(self) -> Mapping[str, Any]:
        """The cached document, fetched again when it is stale. While the issuer is unavailable, the old one is used."""
        with self._lock:
            if self._clock() >= self._next_fetch_at:
                try:
                    self._metadata = provider_metadata(
                        self._issuer, self._fetcher, allow_loopback_http=self._allow_loopback_http
                    )
                    self._next_fetch_at = self._clock() + FRESH_SECONDS
                except DiscoveryFailed as failed:
                    _log.warning(
                        "the issuer's discovery document could not be used: %s",
                        failed,
                        extra={"reason": failed.problem.value, "issuer": self._issuer},
                    )
                    self._problem = failed.problem
                    self._next_fetch_at = self._clock() + COOLDOWN_SECONDS
            if not self._metadata:
                raise ProviderUnavailable(self._problem)
            return self._metadata


def _form_encoded_basic(client: Any, _method: str, uri: str, headers: Any, body: Any) -> tuple[str, Any, Any]:
    """RFC 6749, section 2.3.1: id and secret are form-encoded before they are joined. Authlib doesn't encode them, so
    the issuer decodes a secret with `%` or `+` to a different one."""
    pair = f"{quote_plus(client.client_id)}:{quote_plus(client.client_secret)}"
    headers["Authorization"] = f"Basic {base64.b64encode(pair.encode('ascii')).decode()}"
    return uri, headers, body


def _access_token(tokens: Mapping[str, Any]) -> str:
    access_token = tokens.get("access_token")
    if not isinstance(access_token, str):
        raise SignInFailed(Reason.TOKEN_MISSING, check="access_token")
    if not access_token.isascii():  # RFC 6749, appendix A.12
        raise SignInFailed(Reason.OPAQUE_ACCESS_TOKEN)
    return access_token


def _refresh_token(tokens: Mapping[str, Any]) -> str | None:
    refresh_token = tokens.get("refresh_token")
    return refresh_token if isinstance(refresh_token, str) else None


def _equal(value: object, expected: str) -> bool:
    """Compare in constant time. JSON strings can contain lone surrogates, which `encode` rejects by default."""
    return isinstance(value, str) and hmac.compare_digest(value.encode("utf-8", "surrogatepass"), expected.encode())
