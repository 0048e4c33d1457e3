"""The result of a check."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ResultState(StrEnum):
    """`failed`: requests fail, or a guarantee does not hold. `warning`: it works, and should be changed."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What one check found, and what to do about it. Contains no secret."""

    check: str
    state: ResultState
    found: str
    fix: str = ""


def ok(check: str, found: str) -> CheckResult:
    return CheckResult(check, ResultState.OK, found)


def warning(check: str, found: str, fix: str) -> CheckResult:
    return CheckResult(check, ResultState.WARNING, found, fix)


def failed(check: str, found: str, fix: str) -> CheckResult:
    return CheckResult(check, ResultState.FAILED, found, fix)


MAX_CLOCK_SECONDS = 2.0


def clock(check: str, difference_seconds: float) -> CheckResult:
    """A clock that differs from this machine's. Leases use monotonic clocks, so revocation does not depend on it."""
    found = f"clock differs by {abs(difference_seconds):.1f} s from this machine's"
    if abs(difference_seconds) <= MAX_CLOCK_SECONDS:
        return ok(check, found)
    return warning(
        check, found, "Run an NTP client on both machines. Expiry times of keys and JWTs depend on the clocks."
    )
