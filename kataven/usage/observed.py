"""What a request leaves in memory for the usage of its account. The request path does nothing else for it."""

from __future__ import annotations

from typing import TypeAlias

from kataven.identity.principal import CredentialKind, Principal
from kataven.ratelimit.decision import Decision
from kataven.usage.outcomes import RequestStep

Caller: TypeAlias = "Principal | RefusedCaller"

RefusedCaller: TypeAlias = tuple[str, str, CredentialKind]
"""The account, and the id of the key or user, of a credential that was verified and is refused: a revoked key."""

Observed: TypeAlias = tuple[
    float,  # when the request ended, in seconds since the Unix epoch
    float,  # how many seconds it took
    Caller,
    str,  # the method
    str,  # the template of the path
    int,  # the status
    str | None,  # the problem code
    RequestStep,  # the step that decided
    str,  # the client's address
    str,  # the start of the header `User-Agent`
    str,  # the id of the request
    Decision | None,  # of the limits
]
"""A finished request. A plain tuple: a request creates no other object for its usage."""
