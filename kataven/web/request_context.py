"""One request under way: the only thing on `flask.g`. A handler can't name a tenant; it has only `call.reading()`."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from flask import g, has_app_context

from kataven.account.audit import Actor
from kataven.identity.principal import Principal
from kataven.ratelimit.budget import AddressBudgetKind
from kataven.ratelimit.decision import QuotaStatus
from kataven.ratelimit.limiter import Admission, LimitExceeded
from kataven.system.directory import AccountRecord
from kataven.tenancy.serving.session import TenantSession
from kataven.web.services import Services


@dataclass(slots=True)
class AuthContext:
    """Who was let in, and to which account."""

    principal: Principal
    account: AccountRecord
    admission: Admission | None = None


@dataclass(slots=True)
class RequestContext:
    """What one request carries from room to room."""

    services: Services
    request_id: str
    address: str
    """The believable client address."""
    started: float = field(default_factory=time.perf_counter)
    admitted: AuthContext | None = None
    named: str | None = None
    """The requested account, for the access log; also set when access is denied."""
    known: Principal | None = None
    """The verified caller, for the access log; also set when access is denied."""
    problem: str | None = None
    """The problem code of the response, if any, for the access log."""

    @property
    def principal(self) -> Principal:
        """Who is calling. Only on routes that require a credential."""
        return self._in().principal

    @property
    def account(self) -> AccountRecord:
        """The account that the caller was let in to."""
        return self._in().account

    @property
    def actor(self) -> Actor:
        """The caller, as audit trails name them."""
        return Actor(self.principal.label, self.principal.name, self.request_id, self.address)

    def reading(self) -> AbstractContextManager[TenantSession]:
        """A session on the account's database in AUTOCOMMIT, which saves two round trips. Raises TenancyError."""
        return self.services.registry.reading(self.account.tenant)

    def writing(self) -> AbstractContextManager[TenantSession]:
        """A session in one transaction: committed at the end of the block, or rolled back. Raises TenancyError."""
        return self.services.registry.writing(self.account.tenant)

    def spend(self, kind: AddressBudgetKind) -> None:
        """Count this request against a budget of its client's address. Raises LimitExceeded."""
        decision = self.services.limiter.addresses.spend(self.address, kind)
        if not decision.admitted:
            raise LimitExceeded(decision)

    def require(self, kind: AddressBudgetKind) -> None:
        """Raises LimitExceeded if the client's address has nothing left of a budget. Counts nothing."""
        decision = self.services.limiter.addresses.exhausted(self.address, kind)
        if decision is not None:
            raise LimitExceeded(decision)

    def note(self, kind: AddressBudgetKind) -> None:
        """Count this request against a budget of its client's address; what is refused already is refused as it is."""
        self.services.limiter.addresses.spend(self.address, kind)

    @property
    def quota_statuses(self) -> tuple[QuotaStatus, ...]:
        """Every limit of the caller and what is left of it, this request counted."""
        admission = self._in().admission
        return () if admission is None else admission.quota_statuses

    def _in(self) -> AuthContext:
        if self.admitted is None:
            raise RuntimeError("nobody was admitted: a public route has no account")
        return self.admitted


def current_context() -> RequestContext:
    """The call of this request."""
    context: RequestContext = g.context
    return context


def client_address() -> str | None:
    """The believable address of this request's client; None outside of a request, as in a command."""
    context: RequestContext | None = g.get("context") if has_app_context() else None
    return None if context is None else context.address
