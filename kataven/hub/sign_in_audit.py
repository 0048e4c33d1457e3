"""Records sign-ins and sign-outs: in the log, as a metric, and in the account's audit log.

An account's audit log contains only users with a role in it. Failed sign-ins are recorded only in the log and as a
metric, so that unauthenticated clients can't fill a database.
"""

from __future__ import annotations

import logging

from sqlalchemy.exc import SQLAlchemyError

from kataven.account import audit
from kataven.account.audit import Actor
from kataven.hub.page_blueprint import HubRequest
from kataven.hub.provider import RefreshFailed
from kataven.hub.sessions import SignedInUser
from kataven.hub.sign_in_failure import SignInFailed
from kataven.hub.sign_in_reasons import Reason
from kataven.identity.credential import OPERATORS_ACCOUNT
from kataven.identity.grants import RoleGap
from kataven.system import operators
from kataven.system.errors import SystemDatabaseUnavailable
from kataven.tenancy.errors import TenancyError
from kataven.web.metrics import Metrics

SIGNED_IN, SIGNED_OUT, NOT_RENEWED = "signed_in", "signed_out", "not_renewed"

_log = logging.getLogger(__name__)


def install(metrics: Metrics) -> None:
    """Create every time series at 0, so that `increase()` counts the first event."""
    for outcome in (SIGNED_IN, SIGNED_OUT, NOT_RENEWED, *Reason):
        metrics.sign_ins.labels(str(outcome))


def signed_in(hub_request: HubRequest, user: SignedInUser, account: str | None, gap: RoleGap | None) -> str | None:
    """Record a sign-in. Returns the account whose audit log contains it. Without an account, only the log contains it.

    With a `gap`, the user has no role in the account. The sign-in is then not in its audit log, and the log contains
    the reason.
    """
    hub_request.services.metrics.sign_ins.labels(SIGNED_IN).inc()
    fields = {"account": account, "sub": user.subject}
    _log.info("signed in", extra=fields if gap is None else {**fields, "reason": gap.value})
    if account is None or gap is not None:
        return None
    return account if _recorded(hub_request, user, account, SIGNED_IN) else None


def signed_out(hub_request: HubRequest, user: SignedInUser, recorded_in: str | None) -> None:
    """Record a sign-out."""
    hub_request.services.metrics.sign_ins.labels(SIGNED_OUT).inc()
    _log.info("signed out", extra={"account": recorded_in, "sub": user.subject})
    if recorded_in is not None:
        _recorded(hub_request, user, recorded_in, SIGNED_OUT)


def failed(hub_request: HubRequest, failure: SignInFailed) -> None:
    """Record a failed sign-in."""
    hub_request.services.metrics.sign_ins.labels(failure.reason.value).inc()
    _log.warning("sign-in refused", extra=failure.for_log())


def not_renewed(hub_request: HubRequest, user: SignedInUser, failed: RefreshFailed) -> None:
    """Record that a session ended because its token expired and could not be renewed."""
    hub_request.services.metrics.sign_ins.labels(NOT_RENEWED).inc()
    known = {"reason": "no_refresh_token"} if failed.failure is None else failed.failure.for_log()
    _log.warning("session ended: token not renewed", extra={**known, "sub": user.subject})


def _recorded(hub_request: HubRequest, user: SignedInUser, account: str, what: str) -> bool:
    """Whether the event was written. A database outage must not prevent a sign-in. The log line is always written."""
    try:
        if account == OPERATORS_ACCOUNT:
            detail = {"address": hub_request.address, "request_id": hub_request.request_id}
            with hub_request.services.directory.database.writing() as session:
                operators.record(session, f"jwt:{user.subject}", f"operator.{what}", None, detail)
            return True
        record = hub_request.services.directory.find(account)
        if record is None:
            return False
        actor = Actor(f"jwt:{user.subject}", user.name, hub_request.request_id, hub_request.address)
        with hub_request.services.registry.writing(record.tenant) as session:
            audit.record(session, actor, f"person.{what}")
    except (TenancyError, SystemDatabaseUnavailable, SQLAlchemyError) as error:
        fields = {"account": account, "what": what, "why": type(error).__name__}
        _log.warning("not recorded in the audit log", extra=fields)
        return False
    return True
