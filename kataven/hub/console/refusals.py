"""Why an account's requests are refused with 429: which limit, whose requests, and what to raise it to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kataven.hub.page_blueprint import HubRequest
from kataven.hub.server_watch import ServerState
from kataven.hub.session_middleware import hub_services
from kataven.identity.errors import VerifierUnavailable
from kataven.operations.operator import Operator
from kataven.ratelimit.decision import QuotaStatus
from kataven.ratelimit.policy import LIMIT_FIELDS, MAX_LIMIT, WINDOWS
from kataven.system.directory import AccountRecord
from kataven.tenancy.errors import SchemaMismatch, TenancyError
from kataven.usage import limited
from kataven.usage.limited import AccountRefusals, LimitRefusals

AT_LIMIT = 0.9
"""The share of a limit from which it is marked."""


@dataclass(frozen=True, slots=True)
class AccountLimitRow:
    """A limit of the account, how much of it is used, and what it refused."""

    field: str
    label: str
    own: int
    effective: int
    """During a raise it is higher than `own`."""
    used: int | None
    """None if Redis is unavailable."""
    refused: LimitRefusals | None
    suggested: int | None
    """A value to raise it to, if it refused requests, or if a shorter window is raised above it."""

    @property
    def near(self) -> bool:
        return self.used is not None and self.used >= AT_LIMIT * self.effective


@dataclass(frozen=True, slots=True)
class Refusals:
    """What is known about refused requests. `problem` says why nothing is."""

    found: AccountRefusals | None
    problem: str | None = None

    @property
    def of_keys(self) -> Sequence[LimitRefusals]:
        """Limits of single keys. A raise of the account's limits does not change them."""
        return [] if self.found is None else [one for one in self.found.limits if one.limit.startswith("key-")]


def read(hub_request: HubRequest, record: AccountRecord, server: str, state: ServerState) -> Refusals:
    """The refusals of the last 24 hours, from the account's database. Never waits for an unresponsive server."""
    if state.responds is False:
        return Refusals(None, f"Not available: server {server} is not responding.")
    operator, account = Operator(hub_request.operator_label, hub_request.services), record.account
    found = hub_services().reads.read(f"refusals:{account}", _reader(operator, account))
    if found is None:
        return Refusals(None, "Not available yet: the account's database has not responded. Reload to try again.")
    return found


def _reader(operator: Operator, account: str) -> Callable[[], Refusals]:
    def read() -> Refusals:
        try:
            with operator.sessions.reading(account) as session:
                return Refusals(limited.refusals(session))
        except SchemaMismatch as error:
            have = error.have or "no revision"
            return Refusals(None, f"Not available: the database is at {have}, which has no usage. Migrate the account.")
        except (TenancyError, VerifierUnavailable):
            return Refusals(None, "Not available: the account's database is unavailable.")

    return read


def rows(
    record: AccountRecord, used: Sequence[QuotaStatus] | None, found: AccountRefusals | None
) -> list[AccountLimitRow]:
    """The limits of the account, in the order of `LIMIT_FIELDS`."""
    refused = {one.limit: one for one in found.limits} if found else {}
    counts = {status.quota.name: status.used for status in used or ()}
    suggested: dict[str, int] = {}
    for limit in LIMIT_FIELDS:
        effective, least = getattr(record.limits, limit.field), 0
        if limit.field in WINDOWS:  # a longer window must not be lower than a shorter one
            least = max((suggested.get(name, 0) for name in WINDOWS), default=0)
        if limit.quota in refused:
            suggested[limit.field] = max(least, nice(2 * effective))
        elif least > effective:
            suggested[limit.field] = least
    return [
        AccountLimitRow(
            limit.field,
            limit.label,
            getattr(record.base_limits, limit.field),
            getattr(record.limits, limit.field),
            counts.get(limit.quota),
            refused.get(limit.quota),
            suggested.get(limit.field),
        )
        for limit in LIMIT_FIELDS
    ]


def nice(value: int) -> int:
    """`value`, rounded up to two significant digits: 1,234 becomes 1,300."""
    step = int(10 ** max(0, len(str(value)) - 2))
    return min(MAX_LIMIT, -(-value // step) * step)
