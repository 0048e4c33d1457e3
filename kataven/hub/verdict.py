"""The verdict of the overview: whether all is well in the last 24 hours, with the figures that it is based on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from kataven.account.key_listing import Hygiene, KeyCounts
from kataven.hub.formatting import pluralize
from kataven.ratelimit.decision import QuotaStatus
from kataven.usage.outcomes import CallOutcome

NEARLY_USED: Final = 0.9
"""The part of a limit from which it is reported."""
MANY_REFUSED: Final = 0.5
"""The part of all requests from which refused ones are reported. A few wrong keys are normal."""
LEAST_REFUSED: Final = 20
KEYS_PAGE: Final = "/settings/api-keys"
REQUESTS_PAGE: Final = "/requests"


class UsageState(StrEnum):
    """Whether the usage of an account is known."""

    KNOWN = "known"
    DISABLED = "disabled"
    """The operator disabled the recording of usage."""
    BEHIND = "behind"
    """The account's database has no tables of usage yet."""


class AccountSeverity(StrEnum):
    """How bad a finding is."""

    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class AccountFinding:
    """One thing that is wrong, and the page that shows it."""

    severity: AccountSeverity
    text: str
    link: str
    path: str


@dataclass(frozen=True, slots=True)
class AccountVerdict:
    """Whether all is well, the figures, and what is wrong: the worst first."""

    severity: AccountSeverity
    title: str
    findings: Sequence[AccountFinding]


def verdict(
    calls: Mapping[CallOutcome, int] | None, keys: KeyCounts, quotas: Sequence[QuotaStatus], usage: UsageState
) -> AccountVerdict:
    """The verdict on an account. `calls` are those of the last 24 hours, by outcome; None if they are unknown."""
    findings = [*_of_calls(calls or {}), *_of_limits(quotas), *_of_keys(keys)]
    findings.sort(key=lambda finding: finding.severity is not AccountSeverity.BAD)
    figures = _figures(calls, usage)
    if findings:
        worst, count = findings[0].severity, pluralize(len(findings), "problem")
        return AccountVerdict(worst, f"{count}. {figures}.", findings)
    if calls is None:
        return AccountVerdict(AccountSeverity.WARNING, f"{figures}.", ())
    return AccountVerdict(AccountSeverity.GOOD, f"All well: {figures[0].lower()}{figures[1:]}.", ())


def _figures(calls: Mapping[CallOutcome, int] | None, usage: UsageState) -> str:
    """`412 requests in the last 24 hours, 3 refused`."""
    if calls is None:
        missing = "is disabled" if usage is UsageState.DISABLED else "starts when the account's database is upgraded"
        return f"Requests can't be counted: the recording of usage {missing}"
    total = sum(calls.values())
    if not total:
        return "No requests in the last 24 hours"
    parts = [
        f"{calls[outcome]:,} {words}"
        for outcome, words in (
            (CallOutcome.FAILED, "failed"),
            (CallOutcome.LIMITED, "rate limited"),
            (CallOutcome.REFUSED, "refused"),
            (CallOutcome.INVALID, "invalid"),
        )
        if calls.get(outcome)
    ]
    return ", ".join([f"{pluralize(total, 'request')} in the last 24 hours", *(parts or ["all accepted"])])


def _of_calls(calls: Mapping[CallOutcome, int]) -> Sequence[AccountFinding]:
    total = sum(calls.values())
    found = []
    if failed := calls.get(CallOutcome.FAILED, 0):
        words = f"{pluralize(failed, 'request')} failed with a server error"
        found.append(_requests(AccountSeverity.BAD, words, CallOutcome.FAILED))
    if limited := calls.get(CallOutcome.LIMITED, 0):
        words = f"{pluralize(limited, 'request')} exceeded a rate limit"
        found.append(_requests(AccountSeverity.WARNING, words, CallOutcome.LIMITED))
    refused = calls.get(CallOutcome.REFUSED, 0)
    if refused >= LEAST_REFUSED and refused >= MANY_REFUSED * total:
        words = f"{refused:,} of {pluralize(total, 'request')} were refused"
        found.append(_requests(AccountSeverity.WARNING, words, CallOutcome.REFUSED))
    return found


def _requests(severity: AccountSeverity, words: str, outcome: CallOutcome) -> AccountFinding:
    return AccountFinding(severity, words, "View these requests", f"{REQUESTS_PAGE}?outcome={outcome}")


def _of_limits(quotas: Sequence[QuotaStatus]) -> Sequence[AccountFinding]:
    """The limits that are used up, or nearly."""
    return [
        AccountFinding(
            AccountSeverity.BAD if one.remaining == 0 else AccountSeverity.WARNING,
            f"The limit of {describe_quota(one)} is {'used up' if one.remaining == 0 else 'nearly used up'}",
            "View limits",
            "#limits",
        )
        for one in quotas
        if one.used >= NEARLY_USED * one.quota.limit
    ]


def describe_quota(status: QuotaStatus) -> str:
    """`60 requests per minute`, or `20 concurrent requests`."""
    words = status.quota.name.replace("-", " ")
    noun = "request" if status.quota.limit == 1 else "requests"
    return (
        f"{status.quota.limit:,} {noun} {words}"
        if words.startswith("per")
        else f"{status.quota.limit:,} {words} {noun}"
    )


def _of_keys(keys: KeyCounts) -> Sequence[AccountFinding]:
    found = []
    if exposed := keys.groups[Hygiene.BROWSER_USE]:
        were = "was" if exposed == 1 else "were"
        words = f"{pluralize(exposed, 'key')} {were} sent by a browser, where visitors can read {_it(exposed)}"
        found.append(AccountFinding(AccountSeverity.BAD, words, "View keys", f"{KEYS_PAGE}?show={Hygiene.BROWSER_USE}"))
    if expiring := keys.expiring[0]:
        words = f"{pluralize(expiring, 'key')} {'expires' if expiring == 1 else 'expire'} within a day"
        path = f"{KEYS_PAGE}?show={Hygiene.EXPIRES_SOON}&sort=expires"
        found.append(AccountFinding(AccountSeverity.WARNING, words, "View keys", path))
    return found


def _it(count: int) -> str:
    return "it" if count == 1 else "them"
