"""Who may use a route. A route that declares nothing is refused to everybody; a test walks the URL map."""

from __future__ import annotations

from dataclasses import dataclass

from kataven.identity.principal import CredentialKind, Principal, Role


class Forbidden(Exception):
    """The caller is known and let in to the account, but not to this."""


@dataclass(frozen=True, slots=True)
class Access:
    """`roles` are the JWT roles that may pass; `keys` says whether an API key may."""

    public: bool = False
    by_address: bool = False
    """Whether a public route has a budget for each client address. What is malformed is refused before it is spent."""
    keys: bool = False
    roles: frozenset[Role] = frozenset()

    def check(self, principal: Principal) -> None:
        """Raises Forbidden."""
        if principal.kind is CredentialKind.API_KEY:
            if not self.keys:
                raise Forbidden("API keys can't do this. Sign in and use a JWT.")
        elif not self.roles:
            raise Forbidden("Only API keys can do this: it is for servers.")
        elif principal.role not in self.roles:
            needed = " or ".join(sorted(self.roles))
            raise Forbidden(f"This needs the role {needed}; yours is {principal.role}.")


_EVERYONE = frozenset({Role.OWNER, Role.ADMIN, Role.MEMBER})
_MANAGERS = frozenset({Role.OWNER, Role.ADMIN})

PUBLIC = Access(public=True)
"""For what load balancers and readers ask for."""
PUBLIC_BY_ADDRESS = Access(public=True, by_address=True)
"""For what strangers can ask for and what costs us a look-up."""
KEYS_ONLY = Access(keys=True)
"""For what a customer's server does on behalf of its own users."""
READ = Access(keys=True, roles=_EVERYONE)
WRITE = Access(keys=True, roles=_MANAGERS)
MANAGE = Access(keys=False, roles=_MANAGERS)
"""For what a key must not do: make keys, end keys, read who did what."""
