"""The endpoints of an issuer that the Hub uses, from the issuer's discovery document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kataven.identity.discovery import DiscoveryFailed, DiscoveryProblem, fetch_document
from kataven.identity.jwks import FETCH_SECONDS, Fetcher
from kataven.identity.trustworthy_url import is_trustworthy_url

REQUIRED_ENDPOINTS = ("authorization_endpoint", "token_endpoint")
SIGN_OUT_ENDPOINT = "end_session_endpoint"


def provider_metadata(issuer: str, fetcher: Fetcher, *, allow_loopback_http: bool = False) -> Mapping[str, Any]:
    """The discovery document, with valid authorization and token endpoints. Raises DiscoveryFailed.

    An invalid `end_session_endpoint` is removed.
    """

    def is_valid(url: object) -> bool:
        return isinstance(url, str) and is_trustworthy_url(url, allow_loopback_http=allow_loopback_http)

    document = fetch_document(issuer, fetcher, timeout_seconds=FETCH_SECONDS)
    for name in REQUIRED_ENDPOINTS:
        if not is_valid(document.get(name)):
            raise DiscoveryFailed(DiscoveryProblem.NO_ENDPOINT, f"`{name}` is missing or not an https URL")
    if not is_valid(document.get(SIGN_OUT_ENDPOINT)):
        document.pop(SIGN_OUT_ENDPOINT, None)
    return document
