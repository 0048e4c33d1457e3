"""Read and change the rate limits of an account."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kataven.operations.operator import Operator
from kataven.ratelimit.policy import Limits
from kataven.revocation.target import RevocationTarget
from kataven.system import limits, operators


def read(operator: Operator, account: str) -> Limits:
    """The account's own limits, without a temporary raise. Raises NoSuchAccount."""
    return operator.read_account(account).base_limits


def change(
    operator: Operator,
    account: str,
    changes: Mapping[str, int],
    condition: Callable[[Limits], None] | None = None,
) -> Limits:
    """Change the given limits and keep the others. Every worker applies the new limits within a second.

    `condition` is called with the current limits once the account's row is locked. Raises what it raises, and
    NoSuchAccount, ContradictoryLimits, or ValueError if a value is outside the range of limits.
    """
    with operator.system.writing() as session:
        changed = limits.change(session, account, changes, condition)
        operators.record(session, operator.name, "account.limits_changed", account, changes)
    operator.services.revocation.announce(RevocationTarget(account))
    return changed
