"""Reading an authorization request (OpenID Connect Core, section 3.1.2.1): code with PKCE, nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from werkzeug.datastructures import MultiDict

from kataven.dev.issuer.codes import Grant
from kataven.dev.issuer.tokens import CLIENT_ID
from kataven.dev.personas import Persona

CALLBACK_PATH = "/auth/callback"
_S256_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")


class UntrustedRequest(Exception):
    """Raised when client or redirect URI are wrong: nothing may be sent back there, so the person is told."""


class RefusedRequest(Exception):
    """Raised when the client is to be told, by `error` (RFC 6749, section 4.1.2.1) at its own redirect URI."""

    def __init__(self, error: str, detail: str, location: str) -> None:
        super().__init__(detail)
        self.location = location
        """Where to send the browser, the error included."""


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """A request that may be answered with a code."""

    client_id: str
    redirect_uri: str
    scope: str
    challenge: str
    nonce: str | None
    state: str | None

    def grant_to(self, person: Persona, scope: str) -> Grant:
        return Grant(person, self.client_id, self.redirect_uri, scope, self.nonce, self.challenge)

    def location(self, answer: Mapping[str, str]) -> str:
        """The redirect URI with the answer, and with the client's own state."""
        return with_query(self.redirect_uri, answer, self.state)


def read_request(parameters: MultiDict[str, str], issuer_url: str) -> AuthorizationRequest:
    """Raises UntrustedRequest or RefusedRequest."""
    redirect_uri = parameters.get("redirect_uri", "")
    if parameters.get("client_id") != CLIENT_ID:
        raise UntrustedRequest(f"The only client here is {CLIENT_ID}.")
    if not is_local_url(redirect_uri) or urlsplit(redirect_uri).path != CALLBACK_PATH:
        raise UntrustedRequest(f"A redirect URI here is http://localhost:<port>{CALLBACK_PATH}, on any loopback name.")

    def refuse(error: str, detail: str) -> RefusedRequest:
        answer = {"error": error, "error_description": detail, "iss": issuer_url}
        return RefusedRequest(error, detail, with_query(redirect_uri, answer, parameters.get("state")))

    if any(len(values) > 1 for _, values in parameters.lists()):
        raise refuse("invalid_request", "A parameter is repeated.")
    if parameters.get("response_type") != "code":
        raise refuse("unsupported_response_type", "The response_type here is code.")
    if "openid" not in parameters.get("scope", "").split(" "):
        raise refuse("invalid_scope", "The scope must contain openid.")
    challenge = parameters.get("code_challenge", "")
    if parameters.get("code_challenge_method") != "S256" or _S256_CHALLENGE.fullmatch(challenge) is None:
        raise refuse("invalid_request", "PKCE with S256 is required.")
    if parameters.get("prompt") == "none":
        raise refuse("login_required", "Nobody stays signed in here.")
    return AuthorizationRequest(
        CLIENT_ID, redirect_uri, parameters["scope"], challenge, parameters.get("nonce"), parameters.get("state")
    )


def is_local_url(url: str) -> bool:
    """Whether a browser that follows `url` stays on this machine (RFC 6761, section 6.3, for names under localhost)."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port  # raises ValueError for one that is no number
    except ValueError:
        return False
    plain = url.isascii() and url.isprintable() and not any(sign in url for sign in "@\\ #")
    return plain and parts.scheme == "http" and (host in {"127.0.0.1", "::1"} or f".{host}".endswith(".localhost"))


def with_query(url: str, answer: Mapping[str, str], state: str | None) -> str:
    """`url` with an answer in its query, and with the client's own state if it sent one."""
    query = urlencode({**answer, **({} if state is None else {"state": state})})
    return f"{url}{'&' if '?' in url else '?'}{query}" if query else url
