"""The issuer, as the Hub talks to it: authorization code with PKCE, refreshing, and signing out.

Authlib builds the requests (RFC 6749, RFC 7636) and checks what an ID token has to say beyond a JWT (OpenID Connect
Core, section 3.1.3.7); signature, issuer, audience and times are checked by `identity.jwt`, like every token's.
"""

from __future__ import annotations

import hmac
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import httpx2
from authlib.common.errors import AuthlibBaseError
from authlib.common.security import generate_token
from authlib.integrations.httpx_client import OAuth2Client
from authlib.oidc.core import CodeIDToken
from joserfc.errors import JoseError

from kataven.hub.sessions import Person, SignIn
from kataven.identity import jws, strict
from kataven.identity.errors import Refused
from kataven.identity.fetch import FetchFailed
from kataven.identity.jwks import FETCH_SECONDS, Fetcher, is_trustworthy_url
from kataven.identity.jwt import JwtVerifier

FRESH_SECONDS = 600
COOLDOWN_SECONDS = 10
"""Between two attempts to reach an issuer that is down: meanwhile pages don't wait for it."""
TIMEOUT_SECONDS = 5.0
VERIFIER_LENGTH = 64
_ENDPOINTS = ("authorization_endpoint", "token_endpoint")

_log = logging.getLogger(__name__)


class ProviderUnavailable(Exception):
    """The issuer can't be reached, or says what can't be used."""


class SignInFailed(Exception):
    """The issuer's answer is none that a session may begin with. Its text may be shown."""


class GrantGone(Exception):
    """The issuer gives no new token for this person: signed out there, removed, or too long ago."""


@dataclass(frozen=True, slots=True)
class Client:
    """The Hub as the issuer knows it. Without a secret it is a public client, for which PKCE stands in."""

    id: str
    secret: str | None = field(repr=False)
    redirect_uri: str
    scope: str


class Provider:
    """One issuer. Threads share it; nothing is fetched before it is needed. `clock` is monotonic, in seconds."""

    def __init__(
        self,
        issuer: str,
        client: Client,
        id_tokens: JwtVerifier,
        fetcher: Fetcher,
        *,
        allow_loopback_http: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuer = issuer
        self._client = client
        self._id_tokens = id_tokens
        self._fetcher = fetcher
        self._allow_loopback_http = allow_loopback_http
        self._clock = clock
        self._lock = threading.Lock()
        self._metadata: Mapping[str, Any] = {}
        self._ask_again_at = -math.inf

    def origins(self) -> list[str]:
        """Where browsers are sent to sign in and out; none while the issuer was never reached."""
        try:
            metadata = self._discovered()
        except ProviderUnavailable:
            return []
        urls = [httpx2.URL(metadata[name]) for name in (*_ENDPOINTS[:1], "end_session_endpoint") if name in metadata]
        return sorted({f"{url.scheme}://{url.netloc.decode()}" for url in urls})

    def begin(self, account: str, next_path: str, hint: str | None = None) -> tuple[str, SignIn]:
        """Where to send the browser, and what to remember of it. Raises ProviderUnavailable."""
        sign_in = SignIn(generate_token(32), generate_token(32), generate_token(VERIFIER_LENGTH), account, next_path)
        with self._oauth() as oauth:
            url, _ = oauth.create_authorization_url(
                self._discovered()["authorization_endpoint"],
                state=sign_in.state,
                code_verifier=sign_in.verifier,
                nonce=sign_in.nonce,
                **({} if hint is None else {"login_hint": hint}),
            )
        return str(url), sign_in

    def finish(self, sign_in: SignIn, answer: Mapping[str, str]) -> Person:
        """Who it is, from what the issuer sent the browser back with. Raises SignInFailed or ProviderUnavailable."""
        metadata = self._discovered()
        if not hmac.compare_digest(answer.get("state", "").encode(), sign_in.state.encode()):
            raise SignInFailed("This sign-in was not begun here, or a later one has taken its place.")
        # RFC 9207: an answer of another issuer must not be taken to this one.
        if answer.get("iss", self._issuer) != self._issuer or (
            metadata.get("authorization_response_iss_parameter_supported") and "iss" not in answer
        ):
            raise SignInFailed("The answer comes from another issuer.")
        if "error" in answer or "code" not in answer:
            raise SignInFailed("You were not signed in. Nothing has changed; you can try again.")
        with self._oauth() as oauth:
            tokens = self._ask(
                lambda: oauth.fetch_token(
                    metadata["token_endpoint"],
                    grant_type="authorization_code",
                    code=answer["code"],
                    code_verifier=sign_in.verifier,
                )
            )
        return self._person(tokens, sign_in.nonce)

    def refresh(self, person: Person) -> Person:
        """The same person with a new token. Raises GrantGone or ProviderUnavailable."""
        if person.refresh_token is None:
            raise GrantGone
        token_endpoint = self._discovered()["token_endpoint"]
        with self._oauth() as oauth:
            try:
                tokens = self._ask(lambda: oauth.refresh_token(token_endpoint, refresh_token=person.refresh_token))
            except SignInFailed as error:
                raise GrantGone from error
        access_token = tokens.get("access_token")
        if not isinstance(access_token, str):
            raise GrantGone
        return Person(
            person.subject,
            person.name,
            access_token,
            tokens.get("id_token") or person.id_token,
            tokens.get("refresh_token") or person.refresh_token,
        )

    def sign_out_url(self, id_token: str, back_to: str) -> str | None:
        """Where the browser signs out at the issuer too (RP-Initiated Logout 1.0); None if it can't there."""
        try:
            endpoint = self._discovered().get("end_session_endpoint")
        except ProviderUnavailable:
            return None
        if endpoint is None:
            return None
        query = {"id_token_hint": id_token, "client_id": self._client.id, "post_logout_redirect_uri": back_to}
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}"

    def _person(self, tokens: Mapping[str, Any], nonce: str) -> Person:
        id_token, access_token = tokens.get("id_token"), tokens.get("access_token")
        if not isinstance(id_token, str) or not isinstance(access_token, str):
            raise SignInFailed("The issuer's answer lacks a token.")
        try:
            claims = self._id_tokens.claims(id_token)
            expected = {"nonce": nonce, "client_id": self._client.id, "access_token": access_token}
            CodeIDToken(claims.all, jws.parse(id_token).header, {}, expected).validate(leeway=30)
        except (Refused, JoseError) as error:
            raise SignInFailed("The issuer's answer does not hold.") from error
        refresh_token = tokens.get("refresh_token")
        return Person(
            claims.subject,
            claims.name,
            access_token,
            id_token,
            refresh_token if isinstance(refresh_token, str) else None,
        )

    def _ask(self, request: Callable[[], Any]) -> Mapping[str, Any]:
        try:
            tokens: Mapping[str, Any] = request()
        except AuthlibBaseError as error:  # RFC 6749, section 5.2: it said no
            raise SignInFailed("The issuer did not confirm this sign-in. You can try again.") from error
        except (httpx2.HTTPError, ValueError) as error:
            raise ProviderUnavailable from error
        return tokens

    def _oauth(self) -> OAuth2Client:
        client = self._client
        return OAuth2Client(
            client.id,
            client.secret,
            token_endpoint_auth_method="client_secret_basic" if client.secret else "none",
            scope=client.scope,
            redirect_uri=client.redirect_uri,
            code_challenge_method="S256",
            timeout=TIMEOUT_SECONDS,
            trust_env=False,
            follow_redirects=False,
        )

    def _discovered(self) -> Mapping[str, Any]:
        """OpenID Connect Discovery, section 4. An older document is used as long as the issuer can't be reached."""
        with self._lock:
            if self._clock() >= self._ask_again_at:
                try:
                    self._metadata = self._download()
                    self._ask_again_at = self._clock() + FRESH_SECONDS
                except (FetchFailed, ValueError) as error:
                    _log.warning("the issuer's discovery document could not be used: %s", error)
                    self._ask_again_at = self._clock() + COOLDOWN_SECONDS
            if not self._metadata:
                raise ProviderUnavailable
            return self._metadata

    def _download(self) -> Mapping[str, Any]:
        url = f"{self._issuer.removesuffix('/')}/.well-known/openid-configuration"
        found = strict.json_object(self._fetcher.get(url, timeout_seconds=FETCH_SECONDS))
        if found.get("issuer") != self._issuer:
            raise ValueError("it names another issuer")
        if not all(isinstance(found.get(name), str) and self._trusts(found[name]) for name in _ENDPOINTS):
            raise ValueError("it lacks an endpoint")
        if not self._trusts(str(found.get("end_session_endpoint", ""))):
            found.pop("end_session_endpoint", None)
        return found

    def _trusts(self, url: str) -> bool:
        return is_trustworthy_url(url, allow_loopback_http=self._allow_loopback_http)
