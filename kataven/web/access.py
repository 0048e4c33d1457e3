"""Declares which callers may use a route. A route without a declaration rejects every request; a test checks all
routes."""

from __future__ import annotations

from dataclasses import dataclass

from kataven.identity.principal import CredentialKind, Principal, Role


class Forbidden(Exception):
    """Raised when the caller has access to the account, but not to this operation. The message is written for
    callers."""


class InsufficientScope(Exception):
    """Raised when the API key lacks the scope that the operation requires (RFC 6750, section 3.1). The message is
    written for callers."""

    def __init__(self, scope: str | None) -> None:
        super().__init__(
            "This operation requires an API key with full access."
            if scope is None
            else f"This operation requires the scope `{scope}`, which this API key does not have. Scopes are set when "
            "a key is created."
        )
        self.scope = scope


@dataclass(frozen=True, slots=True)
class Access:
    """The callers that an operation accepts: API keys if `keys` is true, and JWTs with one of `roles`."""

    public: bool = False
    by_address: bool = False
    """Whether a public route has a budget per client address. Malformed requests are rejected before it is spent."""
    keys: bool = False
    roles: frozenset[Role] = frozenset()
    scoped: bool = True
    """Whether an API key needs a scope. False for operations that every valid key may perform."""
    scope: str | None = None
    """The scope that an API key needs, for a view of another application. Operations of the API derive theirs."""

    def check(self, principal: Principal, scope: str | None = None) -> None:
        """`scope` is the scope that an API key needs, by default that of this declaration. An API key with scopes is
        rejected if there is none. Raises Forbidden or InsufficientScope."""
        if principal.kind is CredentialKind.API_KEY:
            if not self.keys:
                raise Forbidden("API keys can't perform this operation. Sign in and use a JWT.")
            if principal.scopes is not None and self.scoped:
                needed = scope or self.scope
                if needed not in principal.scopes:
                    raise InsufficientScope(needed)
        elif not self.roles:
            raise Forbidden("This operation requires an API key. Call it from your server.")
        elif principal.role not in self.roles:
            roles = " or ".join(sorted(self.roles))
            raise Forbidden(f"This operation requires the role {roles}. Your role is {principal.role}.")


_ALL_ROLES = frozenset({Role.OWNER, Role.ADMIN, Role.MEMBER})
_MANAGERS = frozenset({Role.OWNER, Role.ADMIN})

PUBLIC = Access(public=True)
"""For probes and documentation."""
PUBLIC_BY_ADDRESS = Access(public=True, by_address=True)
"""For operations without a credential that cost a lookup."""
KEYS_ONLY = Access(keys=True)
"""For operations that a customer's server performs on behalf of its users."""
READ = Access(keys=True, roles=_ALL_ROLES)
ANY_CALLER = Access(keys=True, roles=_ALL_ROLES, scoped=False)
"""For operations about the caller itself."""
WRITE = Access(keys=True, roles=_MANAGERS)
MANAGE = Access(keys=False, roles=_MANAGERS)
"""For operations that an API key must not perform: create keys, revoke keys, read the audit log."""
