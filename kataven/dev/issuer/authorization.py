"""Reads an authorization request (OpenID Connect Core, section 3.1.2.1). Only the code flow with PKCE is supported."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlencode, urlsplit

from werkzeug.datastructures import MultiDict

from kataven import loopback
from kataven.dev.issuer.tokens import CLIENT_ID

CALLBACK_PATH = "/auth/callback"
_S256_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")


class UntrustedRequest(Exception):
    """Raised if client or redirect URI are wrong. The message is for the user, because a redirect would be unsafe."""


class RefusedRequest(Exception):
    """Raised with `error` (RFC 6749, section 4.1.2.1), which goes to the client's redirect URI."""

    def __init__(self, error: str, detail: str) -> None:
        super().__init__(detail)
        self.error = error


def require_trusted(parameters: MultiDict[str, str]) -> None:
    """Raise UntrustedRequest unless the client is known and its redirect URI is on this machine."""
    redirect_uri = parameters.get("redirect_uri", "")
    if parameters.get("client_id") != CLIENT_ID:
        raise UntrustedRequest(f"Set client_id to {CLIENT_ID}, the only client of this issuer.")
    if not is_local_url(redirect_uri) or urlsplit(redirect_uri).path != CALLBACK_PATH:
        raise UntrustedRequest(f"Set redirect_uri to http://localhost:<port>{CALLBACK_PATH}, on any loopback name.")


def require_supported(parameters: MultiDict[str, str]) -> None:
    """Raise RefusedRequest unless this is a request for a code, with PKCE, that a user can approve."""
    if any(len(values) > 1 for _, values in parameters.lists()):
        raise RefusedRequest("invalid_request", "Send each parameter once.")
    if parameters.get("response_type") != "code":
        raise RefusedRequest("unsupported_response_type", "Set response_type to code.")
    if "openid" not in parameters.get("scope", "").split(" "):
        raise RefusedRequest("invalid_scope", "Add openid to scope.")
    challenge = parameters.get("code_challenge", "")
    if parameters.get("code_challenge_method") != "S256" or _S256_CHALLENGE.fullmatch(challenge) is None:
        raise RefusedRequest("invalid_request", "Send a code_challenge with code_challenge_method S256.")
    if parameters.get("prompt") == "none":
        raise RefusedRequest("login_required", "This issuer has no sign-in sessions; omit prompt=none.")


def is_local_url(url: str) -> bool:
    """Whether a browser that follows `url` stays on this machine (RFC 6761, section 6.3, for names under localhost)."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port  # raises ValueError unless it is a number
    except ValueError:
        return False
    plain = url.isascii() and url.isprintable() and not any(sign in url for sign in "@\\ #")
    local = host in loopback.ADDRESSES or loopback.is_localhost(host, subdomains=True)
    return plain and parts.scheme == "http" and local


def with_query(url: str, added: Mapping[str, str], state: str | None) -> str:
    """`url` with `added` in its query, and with the client's `state` if it sent one."""
    query = urlencode({**added, **({} if state is None else {"state": state})})
    return f"{url}{'&' if '?' in url else '?'}{query}" if query else url
