"""The usage of one account that a worker has not written yet: aggregated and bounded.

If there are too many callers or routes, calls are counted without them. If even that does not fit, they are dropped,
and what is dropped is counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from uuid import UUID, uuid4

import orjson

from kataven.identity.principal import CredentialKind, Principal
from kataven.logs import redact
from kataven.ratelimit.decision import Decision
from kataven.usage.agents import family_of
from kataven.usage.observed import Caller, Observed
from kataven.usage.outcomes import CallOutcome, outcome_of
from kataven.usage.policy import UsagePolicy

MAX_ROWS = 2_000
"""Rows by minute, caller, route and outcome, before calls are counted without caller and route."""
MAX_SUMMARY_ROWS = 2_000
"""Further rows by minute and outcome. One row per outcome and minute: enough for hours without the database."""
MAX_ADDRESSES = 50
"""Addresses of one caller within an hour. Calls from further ones are counted under the empty address."""
MAX_ADDRESS_ROWS = 2_000
MAX_LOGGED = 1_000
"""Requests to log."""
MAX_REFUSALS_A_MINUTE = 600
MAX_REFUSALS_OF_CALLER = 120
"""Within a minute, so that one caller leaves room for the others."""
MAX_FIRST_A_MINUTE = 60
"""Successful requests that are logged as the first of their caller, route and address."""
MINUTE, HOUR = 60, 3600
NOBODY = str(UUID(int=0))
"""The caller of calls that are counted without their caller."""
ANY_ROUTE = "*"

RowKey = tuple[int, str, str, str, str]
AddressKey = tuple[int, str, str, str]


@dataclass(frozen=True, slots=True)
class Batch:
    """What is written at once. Written again under the same number, it counts once."""

    writer: str
    sequence: int
    minutes: str
    hours: str
    totals: str
    addresses: str
    callers: str
    log: str
    losses: str
    calls: int
    """How many requests it counts."""
    rows: int
    """How many rows it has, for the bound of all accounts together."""


@dataclass(slots=True)
class _Sample:
    """The requests of the current minute that are logged."""

    minute: int = 0
    refusals: int = 0
    refusals_of: dict[str, int] = field(default_factory=dict)
    successes: int = 0
    first: set[tuple[str, str, str]] = field(default_factory=set)


class PendingUsage:
    """Used by one thread only."""

    def __init__(self, policy: UsagePolicy) -> None:
        self._policy = policy
        self._rows: dict[RowKey, list[Any]] = {}
        self._summary_rows = 0
        self._addresses: dict[AddressKey, list[Any]] = {}
        self._callers: dict[str, list[Any]] = {}
        self._log: list[dict[str, Any]] = []
        self._losses: dict[int, list[int]] = {}
        self._sample = _Sample()
        self._addresses_of: dict[str, set[str]] = {}
        self._addresses_hour = 0
        self.calls = 0
        """How many requests are counted here."""

    @property
    def empty(self) -> bool:
        return not self._rows and not self._losses

    def add(self, observed: Observed, *, room: bool = True) -> bool:
        """Count a request. Returns False if it was dropped: there is no room for another row. Without `room`, only
        rows that exist, or that are the summary of a minute, are counted."""
        at, seconds, who, method, path, status, code, _step, address, agent, _id, _decision = observed
        caller, kind, _name = identified(who)
        outcome, route, family = outcome_of(status), f"{method} {path}", family_of(agent)
        minute = int(at) // MINUTE * MINUTE
        if not self._count((minute, caller, route, outcome, code or ""), kind, seconds, room):
            self.drop(at)
            return False
        if room:
            self._note_caller(caller, [kind, at, address, family, route, outcome, code or ""])
            self._note_address(int(at) // HOUR * HOUR, caller, address, family, at, route)
            self._log_request(observed, minute, caller, outcome, route, family)
        return True

    def drop(self, at: float, calls: int = 1) -> None:
        """Record that requests are in no counter."""
        self._loss(at)[0] += calls

    def _count(self, key: RowKey, kind: str, seconds: float, room: bool) -> bool:
        row = self._rows.get(key)
        if row is None:
            if not room or len(self._rows) - self._summary_rows >= MAX_ROWS:
                key, kind = (key[0], NOBODY, ANY_ROUTE, key[3], ""), "other"
                row = self._rows.get(key)
                if row is None:
                    if self._summary_rows >= MAX_SUMMARY_ROWS:
                        return False
                    self._summary_rows += 1
            if row is None:
                row = self._rows[key] = [kind, 0, 0.0]
        row[1] += 1
        row[2] += seconds
        self.calls += 1
        return True

    def _note_caller(self, caller: str, last: list[Any]) -> None:
        if caller in self._callers or len(self._callers) < MAX_ROWS:
            self._callers[caller] = last

    def _note_address(self, hour: int, caller: str, address: str, family: str, at: float, route: str) -> None:
        if hour > self._addresses_hour or len(self._addresses_of) > MAX_ROWS:
            self._addresses_of.clear()
            self._addresses_hour = max(hour, self._addresses_hour)
        known = self._addresses_of.setdefault(caller, set())
        if address not in known:
            if len(known) >= MAX_ADDRESSES:
                address = ""
            else:
                known.add(address)
        row = self._addresses.get((hour, caller, address, family))
        if row is None:
            if len(self._addresses) >= MAX_ADDRESS_ROWS:
                return
            row = self._addresses[hour, caller, address, family] = [0, at, route]
        row[0] += 1
        row[1:] = at, route

    def _log_request(
        self, observed: Observed, minute: int, caller: str, outcome: CallOutcome, route: str, family: str
    ) -> None:
        at, seconds, who, _method, _path, status, code, step, address, _agent, request_id, decision = observed
        if not self._is_logged(minute, (caller, route, address), outcome):
            return
        if len(self._log) >= MAX_LOGGED:
            self._loss(at)[1] += outcome is not CallOutcome.OK
            return
        caller, kind, name = identified(who)
        self._log.append(
            {
                "id": str(uuid4()),
                "at": at,
                # Clients can choose it, and could send a secret.
                "request_id": redact(request_id),
                "caller": caller,
                "kind": kind,
                "name": name,
                "route": route,
                "status": status,
                "outcome": outcome,
                "code": code or "",
                "step": int(step),
                "milliseconds": round(seconds * 1000, 3),
                "address": address,
                "agent": family,
                "limits": _limits(decision),
            }
        )

    def _is_logged(self, minute: int, first: tuple[str, str, str], outcome: CallOutcome) -> bool:
        sample = self._sample
        if sample.minute != minute:
            sample = self._sample = _Sample(minute)
        if outcome is not CallOutcome.OK:
            sample.refusals += 1
            of_caller = sample.refusals_of[first[0]] = sample.refusals_of.get(first[0], 0) + 1
            if sample.refusals > MAX_REFUSALS_A_MINUTE or of_caller > MAX_REFUSALS_OF_CALLER:
                self._loss(minute)[1] += 1
                return False
            return True
        if not self._policy.successes:
            return False
        is_first = first not in sample.first and len(sample.first) < MAX_FIRST_A_MINUTE
        if is_first:
            sample.first.add(first)
        sample.successes += 1
        return is_first or sample.successes <= self._policy.successes

    def _loss(self, at: float) -> list[int]:
        return self._losses.setdefault(int(at) // HOUR * HOUR, [0, 0])

    def take(self, writer: str, sequence: int) -> Batch:
        """Everything that is pending, as a batch. Nothing is pending afterwards."""
        minutes, hours = self._rows, _by_hour(self._rows)
        batch = Batch(
            writer,
            sequence,
            _rows("minute", minutes),
            _rows("hour", hours),
            _json(
                {
                    "period": period,
                    "start": start,
                    "route": route,
                    "outcome": outcome,
                    "code": code,
                    "calls": calls,
                    "seconds": seconds,
                }
                for (period, start, route, outcome, code), (calls, seconds) in sorted(_totals(minutes, hours).items())
            ),
            _json(
                {
                    "hour": hour,
                    "caller": caller,
                    "address": address,
                    "agent": agent,
                    "calls": calls,
                    "at": at,
                    "route": route,
                }
                for (hour, caller, address, agent), (calls, at, route) in sorted(self._addresses.items())
            ),
            _json(
                {
                    "caller": caller,
                    "kind": kind,
                    "at": at,
                    "address": address,
                    "agent": agent,
                    "route": route,
                    "outcome": outcome,
                    "code": code,
                }
                for caller, (kind, at, address, agent, route, outcome, code) in sorted(self._callers.items())
            ),
            _json(self._log),
            _json({"hour": hour, "calls": calls, "requests": lost} for hour, (calls, lost) in self._losses.items()),
            self.calls,
            self.rows,
        )
        self._rows, self._addresses, self._callers, self._log, self._losses = {}, {}, {}, [], {}
        self._summary_rows = self.calls = 0
        return batch

    @property
    def counters(self) -> int:
        """How many rows are pending that later batches update again."""
        return len(self._rows) + len(self._addresses)

    @property
    def rows(self) -> int:
        """How many rows are pending, for the bound of all accounts together."""
        return len(self._rows) + len(self._addresses) + len(self._log)


def account_of(who: Caller) -> str:
    """The account of a caller."""
    return who.account if isinstance(who, Principal) else who[0]


def identified(who: Caller) -> tuple[str, str, str]:
    """The id, the kind and the name of a caller."""
    if isinstance(who, Principal):
        kind, name = who.kind, who.name
        caller = who.id if kind is CredentialKind.API_KEY else who.person or ""
    else:
        (_, caller, kind), name = who, ""
    # PostgreSQL has no NUL in texts, and the issuer chooses the names of users.
    return _uuid(caller), "api_key" if kind is CredentialKind.API_KEY else "user", name.replace("\0", "")


@lru_cache(maxsize=4096)
def _uuid(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        return NOBODY


def _by_hour(minutes: dict[RowKey, list[Any]]) -> dict[RowKey, list[Any]]:
    hours: dict[RowKey, list[Any]] = {}
    for (minute, *others), (kind, calls, seconds) in minutes.items():
        row = hours.setdefault((minute // HOUR * HOUR, *others), [kind, 0, 0.0])  # type: ignore[arg-type]
        row[1] += calls
        row[2] += seconds
    return hours


def _totals(
    minutes: dict[RowKey, list[Any]], hours: dict[RowKey, list[Any]]
) -> dict[tuple[int, int, str, str, str], list[Any]]:
    totals: dict[tuple[int, int, str, str, str], list[Any]] = {}
    for period, rows in ((MINUTE, minutes), (HOUR, hours)):
        for (start, _caller, route, outcome, code), (_kind, calls, seconds) in rows.items():
            total = totals.setdefault((period, start, route, outcome, code), [0, 0.0])
            total[0] += calls
            total[1] += seconds
    return totals


def _rows(time: str, rows: dict[RowKey, list[Any]]) -> str:
    # In the order of the primary key, so that two workers lock the same rows in the same order.
    return _json(
        {
            time: at,
            "caller": caller,
            "route": route,
            "outcome": outcome,
            "code": code,
            "kind": kind,
            "calls": calls,
            "seconds": seconds,
        }
        for (at, caller, route, outcome, code), (kind, calls, seconds) in sorted(rows.items())
    )


def _limits(decision: Decision | None) -> list[dict[str, Any]]:
    if decision is None:
        return []
    return [
        {
            "limit": status.quota.name,
            "quota": status.quota.limit,
            "left": status.remaining,
            "resets_in": status.reset_seconds,
        }
        for status in decision.quota_statuses
    ]


def _json(rows: Iterable[dict[str, Any]]) -> str:
    return orjson.dumps(list(rows)).decode()
