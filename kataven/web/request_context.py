"""The state of one request: `flask.g.kataven`, the only attribute of `flask.g`.

A handler can't choose a tenant: `context.reading()` and `context.writing()` open the database of the caller's account.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from flask import g

from kataven.account.audit import Actor
from kataven.account.idempotency import Attempt
from kataven.identity.principal import Principal
from kataven.ratelimit.budget import AddressBudgetKind
from kataven.ratelimit.decision import Decision, QuotaStatus
from kataven.ratelimit.limiter import Admission, LimitExceeded
from kataven.system.directory import AccountRecord
from kataven.tenancy.serving.rows import RowQuery, Rows
from kataven.tenancy.serving.session import TenantSession
from kataven.usage.observed import RefusedCaller
from kataven.web.services import Services


@dataclass(slots=True)
class AuthContext:
    """The authenticated caller, and the account that the request accesses."""

    principal: Principal
    account: AccountRecord
    admission: Admission | None = None


@dataclass(frozen=True, slots=True)
class GatewayRequest:
    """The parameters of a request to `/v1/verify`, which the operator of a gateway configures."""

    cost: int = 1
    """Units of each limit."""
    account: str | None = None
    """The only account whose credentials are accepted."""
    credential_header: str = "Authorization"
    nginx: bool = False
    """Whether the response must have a status that nginx understands."""
    scope: str | None = None
    """The scope that an API key needs."""


@dataclass(slots=True)
class RequestContext:
    """What the steps of the pipeline and the handler know about one request."""

    services: Services
    request_id: str
    address: str
    """The trusted client address."""
    started: float = field(default_factory=time.perf_counter)
    admitted: AuthContext | None = None
    named: str | None = None
    """The requested account, for the access log; also set when access is denied."""
    known: Principal | None = None
    """The verified caller, for the access log; also set when access is denied."""
    refused: RefusedCaller | None = None
    """The key or user whose credential was refused, if that was verified."""
    decision: Decision | None = None
    """The decision of the limits, also if it refused the request."""
    attempt: Attempt | None = None
    """The idempotency key of the request, if it has one and the operation supports it."""
    gateway: GatewayRequest | None = None
    """On `/v1/verify`: the gateway's parameters."""
    problem: str | None = None
    """The problem code of the response, if any, for the access log."""

    @property
    def principal(self) -> Principal:
        """The caller. Available only on routes that require a credential."""
        return self._authenticated().principal

    @property
    def account(self) -> AccountRecord:
        """The account that the request accesses. Available only on routes that require a credential."""
        return self._authenticated().account

    @property
    def actor(self) -> Actor:
        """The caller, as audit logs record it."""
        return Actor(self.principal.label, self.principal.name, self.request_id, self.address)

    def reading(self) -> AbstractContextManager[TenantSession]:
        """A session on the account's database with AUTOCOMMIT, which saves two round trips. Raises TenancyError."""
        return self.services.registry.reading(self.account.tenant)

    def rows(self, query: RowQuery, values: Mapping[str, Any]) -> Rows:
        """The rows of a compiled SELECT, without a session. Raises TenancyError."""
        return self.services.registry.rows(self.account.tenant, query, values)

    def writing(self) -> AbstractContextManager[TenantSession]:
        """A session in one transaction, committed at the end of the block, or rolled back on an exception. Raises
        TenancyError."""
        return self.services.registry.writing(self.account.tenant)

    def spend(self, kind: AddressBudgetKind) -> None:
        """Count this request against a budget of the client's address. Raises LimitExceeded if the budget is
        exhausted."""
        decision = self.services.limiter.addresses.spend(self.address, kind)
        if not decision.admitted:
            raise LimitExceeded(decision)

    def require(self, kind: AddressBudgetKind) -> None:
        """Raises LimitExceeded if a budget of the client's address is exhausted. Does not count the request."""
        decision = self.services.limiter.addresses.exhausted(self.address, kind)
        if decision is not None:
            raise LimitExceeded(decision)

    def record(self, kind: AddressBudgetKind) -> None:
        """Count this request against a budget of the client's address. Never raises: the request is rejected
        already."""
        self.services.limiter.addresses.spend(self.address, kind)

    @property
    def quota_statuses(self) -> tuple[QuotaStatus, ...]:
        """Every limit of the caller with its remaining quota, after this request."""
        admission = self._authenticated().admission
        return () if admission is None else admission.quota_statuses

    def _authenticated(self) -> AuthContext:
        if self.admitted is None:
            raise RuntimeError("the request is not authenticated: public routes have no principal and no account")
        return self.admitted


def current_context() -> RequestContext:
    context: RequestContext = g.kataven
    return context


_address: ContextVar[str | None] = ContextVar("kataven_client_address", default=None)


def client_address() -> str | None:
    """The trusted client address of the request that this thread handles; None outside a request, such as in a
    command."""
    return _address.get()


def set_client_address(address: str | None) -> None:
    """Set the address at the start of a request, and None at its end."""
    _address.set(address)
