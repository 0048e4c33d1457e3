"""Checks an issuer's published documents for properties that make sign-ins fail: `flask oidc check`.

Fetches the same documents as the Hub and the API, with the same client. Tokens, roles and redirect URIs can be checked
only in a sign-in.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from socket import gaierror
from typing import Any

import httpx2

from kataven.hub.provider_metadata import SIGN_OUT_ENDPOINT, provider_metadata
from kataven.hub.sign_in_reasons import OF_DISCOVERY
from kataven.identity import jws, strict
from kataven.identity.discovery import DiscoveryFailed, DiscoveryProblem
from kataven.identity.fetch import FetchFailed, causes
from kataven.identity.jwk import read_key_set
from kataven.identity.jwks import FETCH_SECONDS, Fetcher
from kataven.identity.trustworthy_url import is_trustworthy_url

ACCEPTED = ", ".join(jws.ALGORITHMS)


class CheckState(StrEnum):
    """The result of one check."""

    WELL = "well"
    NOTE = "note"
    FAILS = "fails"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result for one part of the issuer, and what to change."""

    part: str
    state: CheckState
    words: str


def check(issuer: str, fetcher: Fetcher, *, has_secret: bool, allow_loopback_http: bool = False) -> list[Finding]:
    """Check the discovery document and the keys. Sends two GET requests."""
    try:
        metadata = provider_metadata(issuer, fetcher, allow_loopback_http=allow_loopback_http)
    except DiscoveryFailed as failed:
        return [Finding("discovery", CheckState.FAILS, _of_discovery(failed))]
    return [
        Finding(
            "discovery",
            CheckState.WELL,
            "The discovery document names this issuer and has the required endpoints.",
        ),
        _sign_out(metadata),
        *_requirements(metadata, has_secret=has_secret),
        _algorithms(metadata),
        _keys(metadata.get("jwks_uri"), fetcher, allow_loopback_http=allow_loopback_http),
    ]


def _of_discovery(failed: DiscoveryFailed) -> str:
    if failed.problem is DiscoveryProblem.UNREACHABLE and isinstance(failed.__cause__, FetchFailed):
        return describe_failure(failed.__cause__)
    if failed.problem is DiscoveryProblem.NO_ENDPOINT:
        return f"{OF_DISCOVERY[failed.problem]} {failed}."
    return OF_DISCOVERY[failed.problem]


def describe_failure(failed: FetchFailed) -> str:
    """Why a document could not be fetched, and what to change."""
    for cause in causes(failed):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"The certificate is not trusted: {cause.verify_message}. If a private authority issued it, set "
                "KATAVEN_OIDC_CA to the PEM file of the authority. SSL_CERT_FILE is not read."
            )
        if isinstance(cause, gaierror):
            return (
                "The host name can't be resolved. Check KATAVEN_OIDC_ISSUER and the DNS of this host. If only a proxy "
                "can resolve it, set KATAVEN_OIDC_PROXY."
            )
        if isinstance(cause, httpx2.ProxyError):
            return f"The proxy refused the connection: {cause}. Check the user and password in KATAVEN_OIDC_PROXY."
    if str(failed).startswith("status 3"):
        return f"The issuer returned a redirect ({failed}), and the Hub follows none. Use the URL that it redirects to."
    if str(failed).startswith("status "):
        return f"The response was {failed}. Open <KATAVEN_OIDC_ISSUER>/.well-known/openid-configuration in a browser."
    return (
        f"The issuer is unreachable: {failed}. If this host connects through a proxy, set KATAVEN_OIDC_PROXY. "
        "HTTPS_PROXY is not read."
    )


def _sign_out(metadata: Mapping[str, Any]) -> Finding:
    if SIGN_OUT_ENDPOINT in metadata:
        return Finding("sign-out", CheckState.WELL, "Signing out of the Hub also signs the user out at the issuer.")
    return Finding(
        "sign-out",
        CheckState.NOTE,
        "The document has no `end_session_endpoint`: signing out ends only the session at the Hub. In Auth0, enable "
        "“RP-Initiated Logout End Session Endpoint Discovery” in the tenant's settings.",
    )


def _requirements(metadata: Mapping[str, Any], *, has_secret: bool) -> Iterator[Finding]:
    if metadata.get("require_pushed_authorization_requests") is True:
        yield Finding(
            "requests",
            CheckState.FAILS,
            "Pushed authorization requests are required, and the Hub doesn't send them. Disable the requirement.",
        )
    challenges = metadata.get("code_challenge_methods_supported")
    if isinstance(challenges, list) and "S256" not in challenges:
        yield Finding(
            "requests", CheckState.FAILS, "The issuer doesn't support PKCE with S256, which the Hub requires."
        )
    if "code" not in _texts(metadata.get("response_types_supported", ["code"])):
        yield Finding("requests", CheckState.FAILS, "The issuer doesn't support the response type `code`.")
    methods = _texts(metadata.get("token_endpoint_auth_methods_supported", ["client_secret_basic"]))
    wanted = "client_secret_basic" if has_secret else "none"
    if wanted not in methods:
        prefix = "With" if has_secret else "Without"
        yield Finding(
            "requests",
            CheckState.FAILS if has_secret else CheckState.NOTE,
            f"{prefix} KATAVEN_HUB_CLIENT_SECRET, the Hub uses the method `{wanted}`, which the issuer doesn't list.",
        )


def _algorithms(metadata: Mapping[str, Any]) -> Finding:
    offered = _texts(metadata.get("id_token_signing_alg_values_supported", ["RS256"]))
    usable = [name for name in offered if name in jws.ALGORITHMS]
    if not usable:
        return Finding(
            "algorithms",
            CheckState.FAILS,
            f"The issuer signs with {', '.join(offered)}. Kataven accepts {ACCEPTED}. Enable one of these algorithms.",
        )
    if len(usable) < len(offered):
        others = ", ".join(sorted(set(offered) - set(usable)))
        words = f"Select {', '.join(usable)} for the Hub's application. Tokens signed with {others} are rejected."
        return Finding("algorithms", CheckState.NOTE, words)
    return Finding("algorithms", CheckState.WELL, f"ID tokens are signed with {', '.join(usable)}.")


def _keys(jwks_uri: object, fetcher: Fetcher, *, allow_loopback_http: bool) -> Finding:
    if not isinstance(jwks_uri, str) or not is_trustworthy_url(jwks_uri, allow_loopback_http=allow_loopback_http):
        return Finding("keys", CheckState.FAILS, "The discovery document has no `jwks_uri` with an https URL.")
    try:
        document = strict.json_object(fetcher.get(jwks_uri, timeout_seconds=FETCH_SECONDS))
        usable = read_key_set(document)
    except FetchFailed as failed:
        return Finding("keys", CheckState.FAILS, f"{jwks_uri}: {describe_failure(failed)}")
    except ValueError:
        return Finding("keys", CheckState.FAILS, f"{jwks_uri} is not a JSON Web Key Set.")
    published = len(document["keys"])
    if not usable:
        return Finding(
            "keys",
            CheckState.FAILS,
            f"None of the {published} published keys can be used. Kataven requires a `kid` and RSA keys of 2048 to "
            f"8192 bits, P-256 keys or Ed25519 keys, for {ACCEPTED}.",
        )
    algorithms = sorted({name for key in usable.values() for name in key.algorithms})
    words = f"{len(usable)} of {published} keys can be used, for {', '.join(algorithms)}."
    return Finding("keys", CheckState.WELL if len(usable) == published else CheckState.NOTE, words)


def _texts(value: object) -> list[str]:
    return [entry for entry in value if isinstance(entry, str)] if isinstance(value, Iterable) else []
