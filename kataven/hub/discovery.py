"""The issuer's discovery document (OpenID Connect Discovery 1.0, section 4), and what can be wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from kataven.identity import strict
from kataven.identity.fetch import FetchFailed
from kataven.identity.jwks import FETCH_SECONDS, Fetcher, is_trustworthy_url

REQUIRED_ENDPOINTS = ("authorization_endpoint", "token_endpoint")
SIGN_OUT_ENDPOINT = "end_session_endpoint"


class DiscoveryProblem(StrEnum):
    """Why the document can't be used."""

    UNREACHABLE = "unreachable"
    NO_DOCUMENT = "no_document"
    OTHER_ISSUER = "other_issuer"
    NO_ENDPOINT = "no_endpoint"


class DiscoveryFailed(Exception):
    """There is no usable document. The text is for the log only."""

    def __init__(self, problem: DiscoveryProblem, detail: str) -> None:
        super().__init__(detail)
        self.problem = problem


def discover(issuer: str, fetcher: Fetcher, *, allow_loopback_http: bool = False) -> Mapping[str, Any]:
    """The document, with an authorization and a token endpoint that can be used. Raises DiscoveryFailed.

    An `end_session_endpoint` that can't be used is left out.
    """

    def trusts(url: object) -> bool:
        return isinstance(url, str) and is_trustworthy_url(url, allow_loopback_http=allow_loopback_http)

    url = f"{issuer.removesuffix('/')}/.well-known/openid-configuration"
    try:
        found = strict.json_object(fetcher.get(url, timeout_seconds=FETCH_SECONDS))
    except FetchFailed as error:
        raise DiscoveryFailed(DiscoveryProblem.UNREACHABLE, str(error)) from error
    except ValueError as error:
        raise DiscoveryFailed(DiscoveryProblem.NO_DOCUMENT, "it is no JSON object") from error
    if found.get("issuer") != issuer:
        raise DiscoveryFailed(DiscoveryProblem.OTHER_ISSUER, "it names another issuer")
    for name in REQUIRED_ENDPOINTS:
        if not trusts(found.get(name)):
            raise DiscoveryFailed(DiscoveryProblem.NO_ENDPOINT, f"`{name}` is missing or not an https URL")
    if not trusts(found.get(SIGN_OUT_ENDPOINT)):
        found.pop(SIGN_OUT_ENDPOINT, None)
    return found
