"""Fetches and validates an issuer's discovery document (OpenID Connect Discovery 1.0, section 4)."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

from kataven.identity import strict
from kataven.identity.fetch import FetchFailed

if TYPE_CHECKING:
    from kataven.identity.jwks import Fetcher


class DiscoveryProblem(StrEnum):
    """Why a discovery document can't be used."""

    UNREACHABLE = "unreachable"
    NO_DOCUMENT = "no_document"
    OTHER_ISSUER = "other_issuer"
    NO_ENDPOINT = "no_endpoint"


class DiscoveryFailed(ValueError):
    """The document could not be fetched or is invalid. The text is for the log only."""

    def __init__(self, problem: DiscoveryProblem, detail: str) -> None:
        super().__init__(detail)
        self.problem = problem


def fetch_document(issuer: str, fetcher: Fetcher, *, timeout_seconds: float) -> dict[str, Any]:
    """The discovery document of `issuer`. Its URLs are not validated. Raises DiscoveryFailed."""
    # Section 4.1: a slash at the end of the issuer is removed before the path is appended.
    url = f"{issuer.removesuffix('/')}/.well-known/openid-configuration"
    try:
        document = strict.json_object(fetcher.get(url, timeout_seconds=timeout_seconds))
    except FetchFailed as error:
        raise DiscoveryFailed(DiscoveryProblem.UNREACHABLE, str(error)) from error
    except ValueError as error:
        raise DiscoveryFailed(DiscoveryProblem.NO_DOCUMENT, "the discovery document is not a JSON object") from error
    # Section 4.3: the issuer must be identical, or a document could name the keys of another issuer.
    if document.get("issuer") != issuer:
        raise DiscoveryFailed(DiscoveryProblem.OTHER_ISSUER, "the discovery document names another issuer")
    return document
