"""Declares which callers may use a view of an application that embeds Kataven: `@requires(…)` and `@public`.

    @app.get("/notes")
    @requires(keys=True, roles=("owner", "admin", "member"), scope="notes:read")
    def list_notes(): ...

The declaration is an attribute of the view, which the extension and the middleware read before the view runs. A view
without a declaration is rejected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, TypeVar

from kataven.identity import scopes
from kataven.identity.principal import Role
from kataven.web.access import KEYS_ONLY, MANAGE, PUBLIC, READ, WRITE, Access, Forbidden
from kataven.web.operation import operation_of

__all__ = ["KEYS_ONLY", "MANAGE", "READ", "WRITE", "Access", "declared_access", "public", "requires", "undeclared"]

View = TypeVar("View", bound=Callable[..., Any])

_ATTRIBUTE = "kataven_access"
_ROLES = (Role.OWNER, Role.ADMIN, Role.MEMBER)


class UndeclaredRoutes(Exception):
    """Raised at startup when routes declare no access. Names each route and the fix, with a hint for special routes."""

    def __init__(self, routes: Iterable[str], hint: str = "") -> None:
        self.routes = tuple(sorted(routes))
        listed = "".join(f"\n  {route}" for route in self.routes)
        super().__init__(
            f"These routes declare no access. Decorate each view with @requires(...) or @public:{listed}"
            + (f"\n{hint}" if hint else "")
        )


def requires(
    access: Access | None = None, *, keys: bool = False, roles: Iterable[Role | str] = (), scope: str | None = None
) -> Callable[[View], View]:
    """A decorator: the view accepts API keys if `keys` is true, and users with one of `roles`.

    `access` is one of READ, WRITE, MANAGE and KEYS_ONLY instead. Nothing is accepted by default. `scope` is the scope
    that an API key needs: a key with scopes is rejected by a view without one. Raises ValueError if no caller is named,
    or for an unknown role or an invalid scope.
    """
    declared = access if access is not None else Access(keys=keys, roles=_checked(roles))
    if scope is not None:
        if not declared.keys:
            raise ValueError("requires: `scope` is for API keys, which this view does not accept")
        declared = replace(declared, scope=scopes.checked(scope))
    if access is not None and (keys or roles):
        raise ValueError("requires: pass either an Access or `keys` and `roles`, not both")
    if not declared.public and not declared.keys and not declared.roles:
        raise ValueError("requires: name the callers, such as keys=True or roles=('owner', 'admin')")

    def declare(view: View) -> View:
        setattr(view, _ATTRIBUTE, declared)
        return view

    return declare


def public(view: View) -> View:
    """A decorator: the view requires no credential. Its requests have no principal and no account."""
    setattr(view, _ATTRIBUTE, PUBLIC)
    return view


def declared_access(view: Any, method: str) -> Access | None:
    """The declaration of a view, or of the method of a class-based view; None if it declares none."""
    operation = operation_of(view)
    if operation is not None:
        return replace(operation.access, scope=operation.scope)
    found: Access | None = getattr(view, _ATTRIBUTE, None)
    if found is not None:
        return found
    handlers = getattr(view, "view_class", view if isinstance(view, type) else None)
    of_method: Access | None = getattr(_handler(handlers, method), _ATTRIBUTE, None)
    return of_method


def undeclared(route: str) -> Forbidden:
    """The refusal of a route without a declaration."""
    return Forbidden(
        f"The route {route} declares no access, so all requests are rejected. Decorate its view with @requires(...) or "
        "@public."
    )


def _handler(handlers: Any, method: str) -> Any:
    name = method.lower()
    handler = getattr(handlers, name, None)
    return getattr(handlers, "get", None) if handler is None and name == "head" else handler


def _checked(roles: Iterable[Role | str]) -> frozenset[Role]:
    if isinstance(roles, str):
        raise ValueError(f"requires: roles must be a tuple, such as roles=({roles!r},)")
    known = {str(role): role for role in _ROLES}
    unknown = sorted(str(role) for role in roles if str(role) not in known)
    if unknown:
        raise ValueError(f"requires: unknown role {unknown[0]!r}; the roles are {', '.join(known)}")
    return frozenset(known[str(role)] for role in roles)
