"""Authorizes requests for internal information: metrics, the state of dependencies, and the worker of a response.

With KATAVEN_METRICS_TOKEN, requests that present it are accepted. Without it, requests from loopback addresses are
accepted in development, and none in production: there, a loopback peer proves nothing, because requests through any TCP
proxy on the host have that peer address too.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field

from flask import Request

from kataven import loopback

_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-IP")


@dataclass(frozen=True, slots=True)
class InternalAccess:
    """`token` is KATAVEN_METRICS_TOKEN. `trust_loopback` accepts requests from loopback addresses if no token is
    set."""

    token: str | None = field(default=None, repr=False)
    trust_loopback: bool = False

    def allows_bearer(self, request: Request) -> bool:
        """Whether the request is authorized by its bearer token."""
        scheme, _, presented = request.headers.get("Authorization", "").partition(" ")
        return self.allows(request, presented if scheme.lower() == "bearer" else "")

    def allows(self, request: Request, presented: str) -> bool:
        """Whether the request is authorized by `presented`, the token that it sent."""
        if self.token is not None:
            return hmac.compare_digest(presented.encode(), self.token.encode())
        forwarded = any(name in request.headers for name in _FORWARDED)
        return self.trust_loopback and request.remote_addr in loopback.ADDRESSES and not forwarded
