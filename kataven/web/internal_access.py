"""Who may see how an installation stands: metrics, the state of its dependencies, which worker answered.

With KATAVEN_METRICS_TOKEN: whoever shows it. Without it: in development this machine itself, in production nobody. A
peer address of loopback proves nothing in production: any TCP proxy on the host that adds no header has it too.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field

from flask import Request

_LOOPBACK = frozenset({"127.0.0.1", "::1"})
_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-IP")


@dataclass(frozen=True, slots=True)
class InternalAccess:
    """`token`: KATAVEN_METRICS_TOKEN. `trust_loopback`: whether this machine may look without one."""

    token: str | None = field(default=None, repr=False)
    trust_loopback: bool = False

    def show_bearer(self, request: Request) -> bool:
        """Whether this request may look, with the token as its bearer token."""
        scheme, _, shown = request.headers.get("Authorization", "").partition(" ")
        return self.admit(request, shown if scheme.lower() == "bearer" else "")

    def admit(self, request: Request, shown: str) -> bool:
        """Whether this request may look, with `shown` where the token belongs."""
        if self.token is not None:
            return hmac.compare_digest(shown.encode(), self.token.encode())
        forwarded = any(name in request.headers for name in _FORWARDED)
        return self.trust_loopback and request.remote_addr in _LOOPBACK and not forwarded
