"""Raise an account's rate limits for some hours, and end a raise early."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, timedelta
from typing import Any

from kataven.account import audit
from kataven.identity.errors import VerifierUnavailable
from kataven.operations.operator import Operator
from kataven.revocation.target import RevocationTarget
from kataven.system import limit_raises, operators
from kataven.system.limit_raises import LimitRaise
from kataven.tenancy.errors import TenancyError

log = logging.getLogger(__name__)

MAX_HOURS = 7 * 24
RAISED, ENDED = "account.limits_raised", "account.limit_raise_ended"
"""Actions in the operator audit log."""


def read(operator: Operator, account: str) -> LimitRaise | None:
    """The current raise of an account."""
    with operator.system.reading() as session:
        return limit_raises.read(session, account)


def raise_limits(operator: Operator, account: str, values: Mapping[str, int], hours: int) -> tuple[LimitRaise, bool]:
    """Raise limits for some hours. Every worker applies them within a second, and they end by themselves.

    Returns the raise, and whether the account's audit log has an event of it: not if its database is unavailable. The
    operator audit log always has one. Raises NoSuchAccount, NotARaise, ContradictoryLimits or SystemSchemaBehind.
    """
    with operator.system.writing() as session:
        raised = limit_raises.raise_for(session, account, values, timedelta(hours=hours))
        detail = {**values, "until": raised.ends_at.astimezone(UTC).isoformat(timespec="seconds")}
        operators.record(session, operator.name, RAISED, account, detail)
    operator.services.revocation.announce(RevocationTarget(account))
    return raised, _record(operator, account, "limits.raised", detail)


def end(operator: Operator, account: str) -> tuple[LimitRaise | None, bool]:
    """End a raise early. Returns it, or None if there was none, and whether the account's audit log has the event.

    Raises NoSuchAccount or SystemSchemaBehind.
    """
    with operator.system.writing() as session:
        ended = limit_raises.end(session, account)
        if ended is not None:
            operators.record(session, operator.name, ENDED, account, dict(ended.values))
    if ended is None:
        return None, True
    operator.services.revocation.announce(RevocationTarget(account))
    return ended, _record(operator, account, "limits.raise_ended", dict(ended.values))


def _record(operator: Operator, account: str, action: str, detail: Mapping[str, Any]) -> bool:
    """The raise is in effect already, and must not fail because the account's database is unavailable."""
    try:
        with operator.sessions.writing(account) as session:
            audit.record(session, operator.actor, action, detail=detail)
    except (TenancyError, VerifierUnavailable) as error:
        log.warning(
            "raise of limits not in the account's audit log",
            extra={"account": account, "action": action, "error": type(error).__name__},
        )
        return False
    return True
